"""`chromasync selftest`: several real processes keep small collections identical, and prove it.

It runs on the configured servers and store. With nothing configured, it starts its own. At the end
it removes everything that it created.
"""

from __future__ import annotations

from chromasync.lab.selftest.report import SelftestReport
from chromasync.lab.selftest.story import run_selftest

__all__ = ["SelftestReport", "run_selftest"]

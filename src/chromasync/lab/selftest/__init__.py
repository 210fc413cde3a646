"""`chromasync selftest`: several real processes keep small collections identical, and prove it.

It runs against the configured servers and store, or on servers that it starts itself when nothing
is configured, and takes away whatever it made.
"""

from __future__ import annotations

from chromasync.lab.selftest.report import SelftestReport
from chromasync.lab.selftest.story import run_selftest

__all__ = ["SelftestReport", "run_selftest"]

"""The version check of servers: servers older than 0.6.3 cannot be mirrored."""

from __future__ import annotations

import re

OLDEST = "0.6.3"
VERSION_PATHS = ("/api/v2/version", "/api/v1/version")
"""Paths that return a server's version; the oldest servers have only the second."""


def is_too_old(version: object) -> bool:
    """Whether a server that reports this version is too old to be mirrored.

    Every Chroma 1.x reports 1.0.0, and other software may report anything.
    """
    numbers = _numbers(version)
    return numbers is not None and numbers < (_numbers(OLDEST) or ())


def _numbers(version: object) -> tuple[int, ...] | None:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return None if found is None else tuple(map(int, found.groups()))

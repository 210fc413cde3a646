"""How old a server is: what is older than 0.6.3 cannot be mirrored, and is told so at once."""

from __future__ import annotations

import re

OLDEST = "0.6.3"
VERSION_PATHS = ("/api/v2/version", "/api/v1/version")
"""Where a server says what it calls itself; the oldest know only the second."""


def is_too_old(version: object) -> bool:
    """Whether a server that calls itself this is older than any that can be mirrored.

    Every Chroma 1.x calls itself 1.0.0, and other software may answer anything.
    """
    numbers = _numbers(version)
    return numbers is not None and numbers < (_numbers(OLDEST) or ())


def _numbers(version: object) -> tuple[int, ...] | None:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return None if found is None else tuple(map(int, found.groups()))

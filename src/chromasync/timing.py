"""Durations on the monotonic clock, and the tolerance for the wall clock."""

from __future__ import annotations

import time
from typing import Self

STEP_SECONDS = 1.0
"""A smaller difference is no clock jump; "as of" is not more exact than this."""


class Stopwatch:
    """Adds up the time spent inside `with` blocks; `seconds` is the sum."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.monotonic() - self._began

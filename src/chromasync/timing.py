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


class Phases:
    """Adds up the time of phases that follow each other; each phase ends when another begins."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._present = ""
        self._began = 0.0

    def begin(self, name: str) -> None:
        """End the present phase, and begin or continue the phase `name`."""
        self._seconds = self.seconds
        self._present, self._began = name, time.monotonic()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far, those of the present phase included."""
        found = dict(self._seconds)
        if self._present:
            lasted = time.monotonic() - self._began
            found[self._present] = found.get(self._present, 0.0) + lasted
        return found

"""The task id at which a claim starts, so that it does not scan dead index entries each time.

A claim reads the index of pending tasks in the order of their ids. While a transaction keeps an old
snapshot open, PostgreSQL cannot remove the index entries of tasks that were claimed since. A claim
from the beginning would scan all of them. So a claim starts behind the previous one. Every
WHOLE_SECONDS it starts at the beginning, because retried and released tasks have low ids.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

WHOLE_SECONDS = 2.0
"""Interval of claims from the beginning."""


class ClaimFloor:
    """The id behind which claims of one process start; a hint that its threads share."""

    def __init__(self) -> None:
        self._floor = 0
        self._whole_at = 0.0
        self._busy = False

    def tries(self) -> Iterator[int]:
        """The ids behind which to look, in turn; 0 means from the beginning."""
        if time.monotonic() < self._whole_at:
            yield self._floor
            if not self._busy:
                return
        self._whole_at = time.monotonic() + WHOLE_SECONDS
        yield 0

    def found(self, task_id: int) -> None:
        """Note that `task_id` was the first available task."""
        self._floor = task_id
        self._busy = True

    def found_nothing(self, newest_id: int) -> None:
        """Note that no task up to the newest one was available."""
        self._floor = newest_id
        self._busy = False

    def look_again(self, in_seconds: float = 0.0) -> None:
        """Look from the beginning in so many seconds: a task below the floor is available then."""
        self._whole_at = min(self._whole_at, time.monotonic() + in_seconds)

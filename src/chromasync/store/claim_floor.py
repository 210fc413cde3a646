"""From which task on a claim looks, so that it does not step over the dead again and again.

A claim reads the index of pending tasks in the order of their ids. While anyone keeps an old
snapshot open, PostgreSQL cannot clear away the entries of tasks that were claimed since, and each
claim from the beginning would step over all of them. So a claim begins behind the one before, and
only now and then at the very beginning, where retried and released tasks lie.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

WHOLE_SECONDS = 2.0
"""So often a claim looks at everything, whatever is known."""


class ClaimFloor:
    """Where the claims of one process begin; shared by its threads, and only a hint."""

    def __init__(self) -> None:
        self._floor = 0
        self._whole_at = 0.0
        self._busy = False

    def tries(self) -> Iterator[int]:
        """Ids behind which to look, one after the other; 0 means at everything."""
        if time.monotonic() < self._whole_at:
            yield self._floor
            if not self._busy:
                return
        self._whole_at = time.monotonic() + WHOLE_SECONDS
        yield 0

    def found(self, task_id: int) -> None:
        """The task `task_id` was the first that could be had."""
        self._floor = task_id
        self._busy = True

    def found_nothing(self, newest_id: int) -> None:
        """Nothing could be had, up to the newest task that there is."""
        self._floor = newest_id
        self._busy = False

    def look_again(self, in_seconds: float = 0.0) -> None:
        """A task behind the floor can be had in so many seconds."""
        self._whole_at = min(self._whole_at, time.monotonic() + in_seconds)

"""Polls the queue while the leader waits for tasks, more often the cheaper that is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from chromasync.lease import monotonic
from chromasync.model import TaskCounts

WAIT_SECONDS = 0.25
WATCH_SHARE = 10
"""The pause between two looks at the queue, in units of the time that a look takes."""
LONGEST_WAIT_SECONDS = 5.0
STALL_SECONDS = 30.0
"""Time without progress after which the cycle checks whether the servers answer."""

T = TypeVar("T")


class QueueWatch:
    """Polls the queue, more often the cheaper that is."""

    def __init__(self) -> None:
        self._cost = 0.0
        self._finished = -1
        self._progress_at = monotonic()

    def look(self, ask: Callable[[], TaskCounts]) -> TaskCounts:
        """Read the counts, and measure how long that takes."""
        self._cost = 0.0
        counts = self.timed(ask)
        finished = counts.completed + counts.failed
        if finished != self._finished:
            self._finished, self._progress_at = finished, monotonic()
        return counts

    def timed(self, ask: Callable[[], T]) -> T:
        """The result of `ask`; its time is added to this look."""
        began = monotonic()
        try:
            return ask()
        finally:
            self._cost += monotonic() - began

    def is_stalled(self, counts: TaskCounts) -> bool:
        """Whether no task ended for `STALL_SECONDS`; true once per such period."""
        stalled = counts.live > 0 and monotonic() - self._progress_at > STALL_SECONDS
        if stalled:
            self._progress_at = monotonic()
        return stalled

    def wait(self, progressed: threading.Event) -> None:
        """Wait until a task of this process ends, or a while: other processes send no signal."""
        pause = min(WATCH_SHARE * self._cost, LONGEST_WAIT_SECONDS)
        time.sleep(pause)
        progressed.wait(max(0.0, WAIT_SECONDS - pause))
        progressed.clear()

"""The shared state of a pool's threads: which are busy, and whether a thread may begin.

A thread is *busy* from the moment at which it may claim until it no longer holds a task. No thread
becomes busy while the pool

    is recalled    until `recall` is called with False
    backs off      for BACKOFF_SECONDS after an error, twice as long each time, until it recovers
    is stopping    permanently

Busy threads go on in all three states. An operator's pause (`steering`) is a different mechanism.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from chromasync.errors import ChromasyncError
from chromasync.lease import monotonic

BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 60.0


class State:
    """The state of one pool. Thread-safe: one condition, used only here, guards all of it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: dict[int, int | None] = {}
        self._recalled = False
        self._stopping = False
        self._backing_off_until = 0.0
        self._next_backoff = BACKOFF_SECONDS
        self._trouble: ChromasyncError | None = None

    @property
    def stopping(self) -> bool:
        """Whether the pool is stopping, so that no thread begins."""
        with self._changed:
            return self._stopping

    @property
    def trouble(self) -> ChromasyncError | None:
        """The error of the last backoff; None if the pool has recovered since."""
        with self._changed:
            return self._trouble

    @property
    def is_busy(self) -> bool:
        """Whether any thread is busy."""
        with self._changed:
            return bool(self._busy)

    def task_at_hand(self) -> int | None:
        """The id of one held task, the same while it is held; None if there is none."""
        with self._changed:
            return next((task_id for task_id in self._busy.values() if task_id is not None), None)

    def stop(self) -> bool:
        """Let no thread begin any more; returns whether this is the first call."""
        with self._changed:
            is_first, self._stopping = not self._stopping, True
            self._changed.notify_all()
            return is_first

    def recall(self, *, recalled: bool) -> None:
        """Let no thread begin until this is called again with False."""
        with self._changed:
            self._recalled = recalled

    def begin(self, number: int, may_join: Callable[[], bool]) -> bool:
        """Make a thread busy if the state allows it, and beside busy threads if `may_join` does."""
        with self._changed:
            if self._stopping or self._recalled or monotonic() < self._backing_off_until:
                return False
            if self._busy and not may_join():
                return False
            self._busy[number] = None
            return True

    def has_claimed(self, number: int, task_id: int) -> None:
        """Store which task a busy thread holds."""
        with self._changed:
            self._busy[number] = task_id

    def end(self, number: int) -> None:
        """Mark a thread as no longer busy."""
        with self._changed:
            self._busy.pop(number, None)

    def back_off(self, error: ChromasyncError) -> None:
        """Let no thread begin for the present backoff, which doubles each time."""
        with self._changed:
            if monotonic() >= self._backing_off_until:
                self._backing_off_until = monotonic() + self._next_backoff
                self._next_backoff = min(2 * self._next_backoff, LONGEST_BACKOFF_SECONDS)
            self._trouble = error

    def recover(self) -> None:
        """Clear the error and the backoff: threads may begin at once."""
        with self._changed:
            self._trouble = None
            self._backing_off_until = 0.0
            self._next_backoff = BACKOFF_SECONDS

    def notify(self) -> None:
        """Wake idle threads."""
        with self._changed:
            self._changed.notify_all()

    def idle(self, seconds: float) -> None:
        """Wait until `notify` is called, for so many seconds at most."""
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)

"""What the threads of a pool agree on: who is busy, and whether anyone may begin.

A thread is *busy* from the moment at which it may claim until its task is out of its hands. No
thread becomes busy while the pool

    is recalled    until `recall` says that this is over
    backs off      for BACKOFF_SECONDS after trouble, twice as long each time, until it recovers
    is stopping    for good

Those that are busy already go on. An operator's pause is none of these.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from chromasync.errors import ChromasyncError
from chromasync.lease import monotonic

BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 60.0


class State:
    """The state of one pool. Thread-safe: one condition guards all of it, held here alone."""

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
        """Whether no thread begins any more."""
        with self._changed:
            return self._stopping

    @property
    def trouble(self) -> ChromasyncError | None:
        """Why the pool backed off last; None when it has recovered since."""
        with self._changed:
            return self._trouble

    @property
    def is_busy(self) -> bool:
        """Whether any thread is busy."""
        with self._changed:
            return bool(self._busy)

    def task_at_hand(self) -> int | None:
        """One of the tasks at hand, the same one while it lasts; None when there is none."""
        with self._changed:
            return next((task_id for task_id in self._busy.values() if task_id is not None), None)

    def stop(self) -> bool:
        """Let no thread begin any more; whether this is the first time."""
        with self._changed:
            is_first, self._stopping = not self._stopping, True
            self._changed.notify_all()
            return is_first

    def recall(self, *, recalled: bool) -> None:
        """Let no thread begin until this is called again with False."""
        with self._changed:
            self._recalled = recalled

    def begin(self, number: int, may_join: Callable[[], bool]) -> bool:
        """Make a thread busy if that may be; beside others it must be that it `may_join` them."""
        with self._changed:
            if self._stopping or self._recalled or monotonic() < self._backing_off_until:
                return False
            if self._busy and not may_join():
                return False
            self._busy[number] = None
            return True

    def has_claimed(self, number: int, task_id: int) -> None:
        """Note which task a busy thread has at hand."""
        with self._changed:
            self._busy[number] = task_id

    def end(self, number: int) -> None:
        """A thread is busy no more."""
        with self._changed:
            self._busy.pop(number, None)

    def back_off(self, error: ChromasyncError) -> None:
        """Let no thread begin for a while, longer each time."""
        with self._changed:
            if monotonic() >= self._backing_off_until:
                self._backing_off_until = monotonic() + self._next_backoff
                self._next_backoff = min(2 * self._next_backoff, LONGEST_BACKOFF_SECONDS)
            self._trouble = error

    def recover(self) -> None:
        """Forget the trouble: threads may begin again at once."""
        with self._changed:
            self._trouble = None
            self._backing_off_until = 0.0
            self._next_backoff = BACKOFF_SECONDS

    def notify(self) -> None:
        """Let idle threads look again."""
        with self._changed:
            self._changed.notify_all()

    def idle(self, seconds: float) -> None:
        """Wait for so long at most, or until there is something to look at."""
        with self._changed:
            if not self._stopping:
                self._changed.wait(seconds)

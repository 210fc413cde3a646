"""One look at the store for all who watch: at most one snapshot in a while, shared by everybody."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from chromasync.errors import ChromasyncError
from chromasync.reports import StatusSnapshot
from chromasync.web.sums import CycleSums

LOOK_SECONDS = 1.0
"""Shortest time between two snapshots, however many tabs and scrapes there are."""


@dataclass(frozen=True, slots=True)
class Latest:
    """What was seen last.

    Attributes:
        snapshot: the newest snapshot; None if the store could never be read.
        seen_at: the monotonic time of the snapshot.
        error: why the store could not be read just now; None if it could.
    """

    snapshot: StatusSnapshot | None
    seen_at: float
    error: ChromasyncError | None = None

    @property
    def age_seconds(self) -> float:
        """Seconds since the snapshot was taken."""
        return max(0.0, time.monotonic() - self.seen_at)

    @property
    def lag_seconds(self) -> float | None:
        """The lag now: it also grows while the store cannot be read. None while it is unknown."""
        lag = None if self.snapshot is None else self.snapshot.lag_seconds
        return None if lag is None else max(0.0, lag) + self.age_seconds

    @property
    def now(self) -> datetime | None:
        """The store's time now; None if the store could never be read."""
        if self.snapshot is None:
            return None
        return self.snapshot.taken_at + timedelta(seconds=self.age_seconds)


class SnapshotCache:
    """Looks at the store for everybody; safe to use from many threads.

    Args:
        take: reads a snapshot from the store.
        seconds: shortest time between two snapshots.

    Attributes:
        looks: the number of snapshots that were taken, or could not be taken.
        sums: what all processes did since this one began to look.
    """

    def __init__(self, take: Callable[[], StatusSnapshot], seconds: float = LOOK_SECONDS) -> None:
        self._take = take
        self._seconds = seconds
        self._lock = threading.Lock()
        self._next_at = 0.0
        self._latest = Latest(None, 0.0)
        self.looks = 0
        self.sums = CycleSums()

    def look(self) -> Latest:
        """What is to be seen now; everyone who asks within a second gets the same.

        While one look takes long, the others get what was seen before, and its age.
        """
        if not self._lock.acquire(blocking=self._is_first):
            return self._latest
        try:
            if time.monotonic() >= self._next_at:
                self._look_again()
            return self._latest
        finally:
            self._lock.release()

    def forget(self) -> None:
        """Let the next look be a new one, because something was changed just now."""
        self._next_at = 0.0

    @property
    def _is_first(self) -> bool:
        return self._latest.snapshot is None and self._latest.error is None

    def _look_again(self) -> None:
        self.looks += 1
        try:
            snapshot = self._take()
        except ChromasyncError as error:
            self._latest = Latest(self._latest.snapshot, self._latest.seen_at, error)
        else:
            self._latest = Latest(snapshot, time.monotonic())
            self.sums.note(snapshot)
        # from the end of the look: a slow store is asked less often
        self._next_at = time.monotonic() + self._seconds

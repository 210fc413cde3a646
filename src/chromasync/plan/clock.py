"""Decides which stored instants are valid, because the wall clock may jump; pure.

All instants of a store come from its own clock, which is the wall clock of a machine. People, NTP
or a suspend may set that clock forwards or backwards. So

* cycle numbers, never instants, tell which cycle read a chunk;
* an instant in the future is unknown: it was stored while the clock was ahead;
* the clock jumped if any stored instant lies in the future, or if the wall clock and the monotonic
  clock moved differently between two cycles of a process. Then *all* stored instants are unknown,
  because instants in the past may be as wrong as the others.

An unknown instant counts as never: the part is read, checked or walked again, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from chromasync.model import ChunkHead, Mirror
from chromasync.timing import STEP_SECONDS

DRIFT_SHARE = 0.001
"""Share of the elapsed time by which two correct clocks may differ."""

BEFORE_NUMBERS = 0
"""Number for the cycle of a read by an old program, which did not store cycle numbers."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The store's wall clock, read between two instants of this process's monotonic clock."""

    wall: datetime
    before: float
    after: float


def step_between(first: Reading, second: Reading) -> float:
    """Seconds by which the wall clock jumped; negative for backwards, 0.0 within the tolerance."""
    moved = (second.wall - first.wall).total_seconds()
    least, most = second.before - first.after, second.after - first.before
    tolerance = STEP_SECONDS + DRIFT_SHARE * most
    if moved < least - tolerance:
        return moved - least
    if moved > most + tolerance:
        return moved - most
    return 0.0


def is_ahead(stored: datetime | None, now: datetime) -> bool:
    """Whether a stored instant lies in the future, so the clock went back."""
    return stored is not None and (stored - now).total_seconds() > STEP_SECONDS


def known(instant: datetime | None, now: datetime) -> datetime | None:
    """The instant; None if it lies in the future."""
    return None if instant is None or instant > now else instant


@dataclass(frozen=True, slots=True)
class Clock:
    """Stored instants as a cycle would see them, for a caller that may not write.

    Attributes:
        now: the store's time.
        jumped: all instants are unknown.
    """

    now: datetime
    jumped: bool

    def known(self, instant: datetime | None) -> datetime | None:
        """The instant; None if it is unknown."""
        return None if self.jumped else known(instant, self.now)

    def head(self, head: ChunkHead) -> ChunkHead:
        """A chunk's head without unknown instants."""
        read_at = self.known(head.read_at)
        seen = head.with_replica(checked_at=self.known(head.replica.checked_at))
        if read_at == head.read_at:
            return seen
        read_cycle = BEFORE_NUMBERS if head.read_cycle is None else head.read_cycle
        return replace(seen, read_at=read_at, read_cycle=read_cycle)

    def mirror(self, mirror: Mirror) -> Mirror:
        """A mirror without unknown instants."""
        seen = replace(
            mirror,
            replica_walked_at=self.known(mirror.replica_walked_at),
            identical_as_of=self.known(mirror.identical_as_of),
        )
        return seen.with_primary(walked_at=self.known(mirror.primary.walked_at))

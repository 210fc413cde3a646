"""What stored instants are worth, since a wall clock may jump; pure.

All instants of a store are in its own time, which is some machine's wall clock. That one is put
right by people, by NTP or after a suspend, forwards or backwards. So

* which cycle read what is known by cycle numbers, never by instants;
* an instant that is still to come is unknown: it was stored while the clock was ahead;
* when any instant that was stored is still to come, or the wall clock moved otherwise than the
  monotonic one did between two cycles of a process, the clock jumped, and *all* instants that were
  stored before are unknown: those that seem to be past may be as wrong as the others.

What is unknown counts as never: it is read again, checked again, walked again, once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from chromasync.model import ChunkHead, Mirror
from chromasync.timing import STEP_SECONDS

DRIFT_SHARE = 0.001
"""So much of the time that passed may separate two clocks that both run right."""

BEFORE_NUMBERS = 0
"""Stands for the cycle that read a chunk before cycles were noted with it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The store's wall clock, asked between two instants of this process's monotonic clock."""

    wall: datetime
    before: float
    after: float


def step_between(first: Reading, second: Reading) -> float:
    """By how many seconds the wall clock jumped; negative when backwards, 0.0 within tolerance."""
    moved = (second.wall - first.wall).total_seconds()
    least, most = second.before - first.after, second.after - first.before
    tolerance = STEP_SECONDS + DRIFT_SHARE * most
    if moved < least - tolerance:
        return moved - least
    if moved > most + tolerance:
        return moved - most
    return 0.0


def is_ahead(stored: datetime | None, now: datetime) -> bool:
    """Whether something was stored at an instant that is still to come, so the clock went back."""
    return stored is not None and (stored - now).total_seconds() > STEP_SECONDS


def known(instant: datetime | None, now: datetime) -> datetime | None:
    """The instant; None when it is still to come."""
    return None if instant is None or instant > now else instant


@dataclass(frozen=True, slots=True)
class Clock:
    """How one who may not write sees stored instants, as the store keeps them for a cycle.

    Attributes:
        now: the store's time.
        jumped: nothing is known of any instant.
    """

    now: datetime
    jumped: bool

    def known(self, instant: datetime | None) -> datetime | None:
        """The instant; None when it is unknown."""
        return None if self.jumped else known(instant, self.now)

    def head(self, head: ChunkHead) -> ChunkHead:
        """A chunk's head without the instants that are unknown."""
        seen = replace(
            head, read_at=self.known(head.read_at), checked_at=self.known(head.checked_at)
        )
        if seen == head or head.read_at is None or head.read_cycle is not None:
            return seen
        return replace(seen, read_cycle=BEFORE_NUMBERS)

    def mirror(self, mirror: Mirror) -> Mirror:
        """A mirror without the instants that are unknown."""
        return replace(
            mirror,
            walked_at=self.known(mirror.walked_at),
            replica_walked_at=self.known(mirror.replica_walked_at),
            identical_as_of=self.known(mirror.identical_as_of),
        )

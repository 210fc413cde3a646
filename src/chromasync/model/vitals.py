"""What a process of the service knows about itself: its threads, its duty, and its work so far."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the durations of tasks, in seconds."""


class Duty(StrEnum):
    """What a process does now."""

    STARTING = "starting"
    WAITING = "waiting for the lead"
    LEADING = "leading"
    WORKING = "working"
    ENDING = "ending"


@dataclass(frozen=True, slots=True)
class Durations:
    """How long tasks took.

    Attributes:
        counts: the number of tasks up to each of BUCKETS (and above the one before), and of longer
            ones at the end.
        seconds: the sum of all.
    """

    counts: tuple[int, ...] = (0,) * (len(BUCKETS) + 1)
    seconds: float = 0.0

    def with_one(self, seconds: float) -> Durations:
        """These and one more."""
        place = sum(seconds > bound for bound in BUCKETS)
        counts = tuple(count + (at == place) for at, count in enumerate(self.counts))
        return Durations(counts, self.seconds + seconds)


@dataclass(frozen=True, slots=True)
class Vitals:
    """One process at one instant.

    Attributes:
        duty: what it does.
        ended_threads: names of threads that have ended although the process goes on.
        durations: the tasks that it did.
        leases_lost: how many tasks it had to put down because their lease was lost.
    """

    duty: Duty
    ended_threads: tuple[str, ...] = ()
    durations: Durations = Durations()
    leases_lost: int = 0

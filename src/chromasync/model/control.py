"""What operators asked of all processes: the pause in force, and cycles to begin."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ControlRow:
    """The one row that steers every process of a store.

    Attributes:
        paused_at: time when the pause began; None when there is no pause.
        paused_by: who paused, as `user@host`.
        pause_reason: the operator's own words; may be empty.
        paused_until: the end of the pause; None when it lasts until someone resumes.
        wanted_number: the number of the newest request for a cycle; requests count from 1.
        wanted_full: whether a request that no cycle has begun for is for reading everything.
        wanted_at: time of the newest request.
        wanted_by: who sent it, as `user@host`.
        begun_number: the newest request that a cycle has begun for.
        begun_cycle: the cycle that began for it.
    """

    paused_at: datetime | None = None
    paused_by: str | None = None
    pause_reason: str | None = None
    paused_until: datetime | None = None
    wanted_number: int = 0
    wanted_full: bool = False
    wanted_at: datetime | None = None
    wanted_by: str | None = None
    begun_number: int = 0
    begun_cycle: int | None = None

    @property
    def has_request(self) -> bool:
        """Whether a cycle was asked for that has not begun."""
        return self.wanted_number > self.begun_number

    def is_paused(self, now: datetime) -> bool:
        """Whether a pause is in force at `now`, the store's time."""
        if self.paused_at is None:
            return False
        return self.paused_until is None or now < self.paused_until


@dataclass(frozen=True, slots=True)
class Orders:
    """The control row as it was at one instant of the store's clock."""

    row: ControlRow
    at: datetime

    @property
    def paused(self) -> bool:
        """Whether a pause was in force."""
        return self.row.is_paused(self.at)

    @property
    def seconds_left(self) -> float | None:
        """How long the pause in force would last; None without an end."""
        if self.row.paused_until is None:
            return None
        return max(0.0, (self.row.paused_until - self.at).total_seconds())

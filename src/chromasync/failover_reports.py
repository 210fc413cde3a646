"""Reports of the day the primary dies: the result of a promotion."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chromasync.model import Direction, MirrorStatus
from chromasync.reports import FenceReport, VerifyReport, oldest


class PromoteOutcome(StrEnum):
    """How a promotion ended."""

    PROMOTED = "promoted"
    ALREADY = "promoted before"
    NOT_FENCED = "not fenced"
    """Not all that was written to the primary is on the replica; nothing was changed."""
    DIFFERENT = "different"
    """The comparison found differences, so the replica follows again."""


@dataclass(frozen=True, slots=True)
class PromotedCollection:
    """One collection of the replica as it was promoted.

    `identical_as_of` is the instant up to which all changes of the primary are on the replica; None
    if the collection was never copied whole. `held` and `quarantined` are records that the replica
    has, or lacks, for a reason that `status` gives.
    """

    tenant: str
    database: str
    name: str
    status: MirrorStatus
    replica_count: int
    identical_as_of: datetime | None
    held: int = 0
    quarantined: int = 0


@dataclass(frozen=True, slots=True)
class PromoteReport:
    """The result of `promote`.

    `reason` is one sentence; it is empty when the replica was promoted. `waited_seconds` is the
    wait until no process could write to the replica. `fence` and `verify` are the checks of a
    switchover. `warnings` are sentences for people.
    """

    outcome: PromoteOutcome
    direction: Direction
    collections: tuple[PromotedCollection, ...]
    taken_at: datetime
    reason: str = ""
    waited_seconds: float = 0.0
    duration_seconds: float = 0.0
    fence: FenceReport | None = None
    verify: VerifyReport | None = None
    warnings: tuple[str, ...] = ()

    @property
    def identical_as_of(self) -> datetime | None:
        """The oldest instant of all collections; None when one was never copied whole."""
        return oldest(c.identical_as_of for c in self.collections)

    @property
    def exit_code(self) -> int:
        """0 promoted, now or before; 1 differences; otherwise that of the fence."""
        match self.outcome:
            case PromoteOutcome.PROMOTED | PromoteOutcome.ALREADY:
                return 0
            case PromoteOutcome.DIFFERENT:
                return 1
        return 4 if self.fence is None else self.fence.exit_code

"""Reports of the day the primary dies: the results of a promotion and of a restore."""

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
    CANCELLED = "cancelled"
    """A promotion that was interrupted is undone, so the replica follows again."""
    NOT_BEGUN = "nothing to cancel"


@dataclass(frozen=True, slots=True)
class PromotedCollection:
    """One collection of the replica as it was promoted.

    `identical_as_of` is the instant up to which all changes of the primary are on the replica; None
    if the collection was never copied whole. `held` and `quarantined` are records that the replica
    has, or lacks, for a reason that `status` gives. `unsure`: the replica is not as the last cycle
    left it, so the instant is unknown; a warning says why.
    """

    collection_id: str
    tenant: str
    database: str
    name: str
    status: MirrorStatus
    replica_count: int
    identical_as_of: datetime | None
    held: int = 0
    quarantined: int = 0
    unsure: bool = False


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
        """0 promoted or cancelled; 1 differences; otherwise that of the fence."""
        match self.outcome:
            case PromoteOutcome.NOT_FENCED:
                return 4 if self.fence is None else self.fence.exit_code
            case PromoteOutcome.DIFFERENT:
                return 1
        return 0


@dataclass(frozen=True, slots=True)
class RestoredCollection:
    """One collection of the replica and its copy on the new server.

    `records` are the same on both sides. `different` counts missing, extra and changed records, and
    the definition and the answers to `queries` if they differ. `inconclusive` records changed on
    the replica during the comparison.
    """

    tenant: str
    database: str
    name: str
    records: int
    different: int
    inconclusive: int
    queries: int


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """The result of `restore`.

    `url` is the address of the new server, and `replica_url` that of the replica. From `state_file`
    an interrupted restore goes on. `left_out` names the replica's collections that were not to be
    copied. `written` counts the records that this run wrote, in `cycles` cycles. `recorded` tells
    whether the state store knows the copies, so that the new server can be the primary; it does not
    if the replica was promoted. `cycle_code` is the exit code of the last cycle.
    """

    url: str
    replica_url: str
    state_file: str
    collections: tuple[RestoredCollection, ...]
    left_out: tuple[str, ...]
    written: int
    cycles: int
    cycle_code: int
    recorded: bool
    warnings: tuple[str, ...]
    duration_seconds: float

    @property
    def is_identical(self) -> bool:
        """Whether each record was verified, and nothing differs."""
        return not any(c.different or c.inconclusive for c in self.collections)

    @property
    def exit_code(self) -> int:
        """0 identical; otherwise that of the last cycle, or 1."""
        return 0 if self.is_identical else self.cycle_code or 1

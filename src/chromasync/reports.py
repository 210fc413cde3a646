"""What the program tells people: immutable results of a cycle, a plan, a verify, a status.

Every view (text, JSON, progress bar, page) is made from these values and computes nothing itself
beyond layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chromasync.config import SettingLine
from chromasync.model import (
    Capabilities,
    Cycle,
    CycleStatus,
    Hold,
    MirrorStatus,
    OpCounts,
    Quarantined,
    Side,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)


class Outcome(StrEnum):
    """How a cycle ended, in one word; the value is what people read."""

    IDENTICAL = "identical"
    LIMITED = "limited"
    """Equal but for quarantined records or what the replica's server cannot carry."""
    HELD = "held"
    FAILED = "failed"


def oldest(instants: Iterable[datetime | None]) -> datetime | None:
    """The oldest instant; None when any is missing or there are none."""
    given = list(instants)
    known = [instant for instant in given if instant is not None]
    return min(known) if known and len(known) == len(given) else None


@dataclass(frozen=True, slots=True)
class PlacedHold(Hold):
    """A hold with where its collection is; both are empty for one that the primary never had."""

    tenant: str = ""
    database: str = ""

    @property
    def full_name(self) -> str:
        """The name that no other collection has; an id where the place is not known."""
        if not self.tenant:
            return self.collection_id
        return f"{self.tenant}/{self.database}/{self.collection_name}"


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """One collection after a cycle, or as the status shows it.

    `identical_as_of` is None until the first clean cycle; `message` is one sentence for people
    (empty when there is nothing to say).
    """

    collection_id: str
    tenant: str
    database: str
    name: str
    status: MirrorStatus
    primary_count: int
    replica_count: int
    identical_as_of: datetime | None
    counts: OpCounts = OpCounts()
    quarantined: int = 0
    held: int = 0
    message: str = ""


@dataclass(frozen=True, slots=True)
class CycleReport:
    """What one cycle did. `counts` covers all collections."""

    cycle: Cycle
    outcome: Outcome
    collections: tuple[CollectionReport, ...]
    holds: tuple[PlacedHold, ...]
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[str, ...]
    tasks: TaskCounts
    counts: OpCounts
    duration_seconds: float
    identical_as_of: datetime | None

    @property
    def exit_code(self) -> int:
        """0 done; 4 held, quarantined or failed for good."""
        return 0 if self.outcome is Outcome.IDENTICAL else 4


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """Everything at one instant, from the store alone.

    `lag_seconds` is `taken_at` minus the oldest `identical_as_of`; None until every collection
    has one. `reread_seconds` is the time within which every record is read again. `store` is the
    URL of the store, fit to be shown.
    """

    taken_at: datetime
    identical_as_of: datetime | None
    lag_seconds: float | None
    collections: tuple[CollectionReport, ...]
    workers: tuple[WorkerBeat, ...]
    tasks: TaskCounts
    cycles: tuple[Cycle, ...]
    holds: tuple[PlacedHold, ...]
    quarantined: tuple[Quarantined, ...]
    store: str
    reread_seconds: float | None = None

    @property
    def exit_code(self) -> int:
        """0 all collections identical; 4 something is held or failed in one of them; 1 otherwise.

        Nothing is known to be identical when the last cycle failed, or before there was one.
        """
        states = {c.status for c in self.collections}
        if self.holds or states & {MirrorStatus.HELD, MirrorStatus.ERROR}:
            return 4
        last = self.last_ended
        sound = last is not None and last.status is CycleStatus.COMPLETED
        return 0 if sound and states <= {MirrorStatus.IDENTICAL} else 1

    @property
    def last_ended(self) -> Cycle | None:
        """The newest cycle that came to an end of its own: one that was broken off says nothing."""
        ended = (CycleStatus.COMPLETED, CycleStatus.FAILED)
        return next((cycle for cycle in self.cycles if cycle.status in ended), None)

    @property
    def is_deserted(self) -> bool:
        """Whether the newest cycle is open and no process is left that could be at work on it."""
        alive = {WorkerStatus.ACTIVE, WorkerStatus.DRAINING} & {w.status for w in self.workers}
        running = any(cycle.status is CycleStatus.RUNNING for cycle in self.cycles[:1])
        return running and not alive


class PlannedAction(StrEnum):
    """What a cycle would do with a collection as a whole."""

    NONE = "keep"
    CREATE = "create"
    ADOPT = "adopt"
    MODIFY = "modify"
    RENAME = "rename"
    REPLACE = "replace"
    DROP = "drop"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class PlannedCollection:
    """What a cycle would do with one collection; counts are records, `bytes` go to the replica."""

    tenant: str
    database: str
    name: str
    action: PlannedAction
    create: int = 0
    update: int = 0
    delete: int = 0
    same: int = 0
    bytes: int = 0
    held: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a cycle would do. `expected_seconds` comes from rates measured in earlier cycles."""

    collections: tuple[PlannedCollection, ...]
    expected_seconds: float
    bytes: int
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 nothing to do; 1 a cycle would change something; 4 something would be held."""
        if any(c.held for c in self.collections):
            return 4
        busy = any(
            c.create or c.update or c.delete or c.action is not PlannedAction.NONE
            for c in self.collections
        )
        return 1 if busy else 0


class Sigil(StrEnum):
    """What a finding says of the replica: it lacks, has too much, differs, or cannot be told."""

    MISSING = "+"
    EXTRA = "-"
    CHANGED = "*"
    INCONCLUSIVE = "!"


@dataclass(frozen=True, slots=True)
class Finding:
    """One difference; `record_id` is None when it concerns the collection itself."""

    sigil: Sigil
    tenant: str
    database: str
    collection: str
    record_id: str | None
    what: str


@dataclass(frozen=True, slots=True)
class VerifiedCollection:
    """Records of one collection by outcome."""

    tenant: str
    database: str
    name: str
    same: int
    missing: int
    extra: int
    changed: int
    inconclusive: int
    definition_differs: bool


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Outcome of comparing both sides record by record.

    `findings` is cut off at a limit; the counts are complete. `sample_percent` is 100 for all.
    `repair` is the cycle that mended what a first comparison found, as far as it was let.
    """

    collections: tuple[VerifiedCollection, ...]
    findings: tuple[Finding, ...]
    sample_percent: float
    duration_seconds: float
    repaired: bool = False
    warnings: tuple[str, ...] = ()
    repair: CycleReport | None = None

    @property
    def different(self) -> int:
        """Differences of any kind, definitions included."""
        return sum(
            c.missing + c.extra + c.changed + int(c.definition_differs) for c in self.collections
        ) + sum(1 for f in self.findings if f.record_id is None and not f.collection)

    @property
    def inconclusive(self) -> int:
        """Records that changed on the primary while being compared."""
        return sum(c.inconclusive for c in self.collections)

    @property
    def exit_code(self) -> int:
        """0 same; 1 different or some inconclusive; 4 the repair was held or set records aside."""
        if self.repair is not None and (self.repair.holds or self.repair.quarantined):
            return 4
        return 1 if self.different or self.inconclusive else 0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the doctor looked at; `exit_code` is 0 when it is well, else that of its error."""

    name: str
    detail: str
    exit_code: int = 0

    @property
    def ok(self) -> bool:
        """Whether it is well."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class ExaminedServer:
    """A server as the doctor found it; `capabilities` is None when it gave no usable answer."""

    side: Side
    url: str
    capabilities: Capabilities | None


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What the doctor found; `schema_version` is None when the state store could not be opened."""

    version: str
    python_version: str
    role: str
    checks: tuple[Check, ...]
    servers: tuple[ExaminedServer, ...]
    store: str
    schema_version: int | None
    settings: tuple[SettingLine, ...]

    @property
    def exit_code(self) -> int:
        """0 all is well; 3 something is unreachable; 4 something is wrong for good."""
        return max((check.exit_code for check in self.checks), default=0)

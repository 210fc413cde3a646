"""What the program tells people: immutable results of a cycle, a plan, a verify, a status.

Every view (text, JSON, progress bar, page) is made from these values and computes nothing itself
beyond layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from chromasync.config import SettingLine
from chromasync.model import (
    DECISIONS,
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
from chromasync.timing import STEP_SECONDS

CLOCK_SLACK_SECONDS = 1.0
"""How far an instant may lie ahead of now before a clock must have jumped."""


class Outcome(StrEnum):
    """How a cycle ended, in one word; the value is what people read."""

    IDENTICAL = "identical"
    LIMITED = "limited"
    """Equal but for quarantined records or what the replica's server cannot carry."""
    HELD = "held"
    FAILED = "failed"


DECIDE = 6
"""Exit code of a report in which someone must decide which side is right."""


FAULTY = {MirrorStatus.HELD, MirrorStatus.ERROR, MirrorStatus.UNANSWERING}
"""States with which `status` ends with 4."""


def must_decide(holds: Iterable[Hold]) -> bool:
    """Whether one of these is about which side is right, not about how much goes."""
    return any(hold.kind in DECISIONS for hold in holds)


def oldest(instants: Iterable[datetime | None]) -> datetime | None:
    """The oldest instant; None when any is missing or there are none."""
    given = list(instants)
    known = [instant for instant in given if instant is not None]
    return min(known) if known and len(known) == len(given) else None


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
    """What one cycle did. `counts` covers all collections.

    `never_reread`: records that did not move are never read again, whatever is changed in them.
    """

    cycle: Cycle
    outcome: Outcome
    collections: tuple[CollectionReport, ...]
    holds: tuple[Hold, ...]
    quarantined: tuple[Quarantined, ...]
    warnings: tuple[str, ...]
    tasks: TaskCounts
    counts: OpCounts
    duration_seconds: float
    identical_as_of: datetime | None
    never_reread: bool = False

    @property
    def exit_code(self) -> int:
        """0 done; 6 someone must decide; 4 held, quarantined or failed for good."""
        if must_decide(self.holds):
            return DECIDE
        return 0 if self.outcome is Outcome.IDENTICAL else 4


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """Everything at one instant, from the store alone.

    `lag_seconds` is `taken_at` minus the oldest `identical_as_of`; None until every collection
    has one. `reread_seconds` is the time within which every record is read again; None is never.
    `store` is the URL of the store, fit to be shown. `clean_at` is when the newest completed cycle
    began, None when none is known; longer ago than `alert_lag_seconds` is too long. `latest_as_of`
    is the newest instant that a collection names, which may lie ahead where a clock was.
    """

    taken_at: datetime
    identical_as_of: datetime | None
    lag_seconds: float | None
    collections: tuple[CollectionReport, ...]
    workers: tuple[WorkerBeat, ...]
    tasks: TaskCounts
    cycles: tuple[Cycle, ...]
    holds: tuple[Hold, ...]
    quarantined: tuple[Quarantined, ...]
    store: str
    reread_seconds: float | None = None
    clean_at: datetime | None = None
    alert_lag_seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    latest_as_of: datetime | None = None

    @property
    def exit_code(self) -> int:
        """0 all collections identical; 6 someone must decide; 4 held or failed; 1 otherwise.

        Nothing is known to be identical when the last cycle failed, before there was one, or when
        the newest completed one is too long ago or in the future.
        """
        states = {c.status for c in self.collections}
        if must_decide(self.holds):
            return DECIDE
        if self.holds or states & FAULTY:
            return 4
        last = self.last_ended
        sound = last is not None and last.status is CycleStatus.COMPLETED
        return 0 if sound and self.is_fresh and states <= {MirrorStatus.IDENTICAL} else 1

    @property
    def is_fresh(self) -> bool:
        """Whether the newest completed cycle began recently enough; not, when a clock jumped."""
        if self.clean_at is None or self.is_ahead:
            return False
        return (self.taken_at - self.clean_at).total_seconds() <= self.alert_lag_seconds

    @property
    def is_ahead(self) -> bool:
        """Whether an instant that freshness rests on lies in the future: a clock has jumped."""
        latest = self.taken_at + timedelta(seconds=CLOCK_SLACK_SECONDS)
        instants = (self.clean_at, self.identical_as_of, self.latest_as_of)
        return any(at is not None and at > latest for at in instants)

    @property
    def last_ended(self) -> Cycle | None:
        """The newest cycle that came to an end of its own: one that was broken off says nothing."""
        ended = (CycleStatus.COMPLETED, CycleStatus.FAILED)
        return next((cycle for cycle in self.cycles if cycle.status in ended), None)

    @property
    def is_dated_back(self) -> bool:
        """Whether the last cycle ended in the future: since then, the clock went back."""
        ended_at = None if self.last_ended is None else self.last_ended.finished_at
        return ended_at is not None and (ended_at - self.taken_at).total_seconds() > STEP_SECONDS

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
    """What a cycle would do with one collection; counts are records, `bytes` go to the replica.

    `undecided`: nothing would be written there until someone decides which side is right.
    """

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
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What a cycle would do. `expected_seconds` comes from rates measured in earlier cycles.

    `failures` says of what is missing on the primary, a sentence each, that nothing is done there.
    """

    collections: tuple[PlannedCollection, ...]
    expected_seconds: float
    bytes: int
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 nothing to do; 1 a cycle would change something; 4 or 6 something would be held."""
        if any(c.undecided for c in self.collections):
            return DECIDE
        if self.failures or any(c.held for c in self.collections):
            return 4
        return 0 if self.is_idle else 1

    @property
    def is_idle(self) -> bool:
        """Whether a cycle would neither change nor hold anything."""
        return not any(
            c.create or c.update or c.delete or c.held or c.action is not PlannedAction.NONE
            for c in self.collections
        )


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
    """Records of one collection by outcome.

    `overlap` is the share of the nearest records that both sides name, over `queries` queries; None
    when none was asked. `answers_differ`: that is too little, a distance differs, or one side does
    not answer. `unreadable` are those of the inconclusive ones that the primary cannot give.
    """

    tenant: str
    database: str
    name: str
    same: int
    missing: int
    extra: int
    changed: int
    inconclusive: int
    definition_differs: bool
    queries: int = 0
    overlap: float | None = None
    answers_differ: bool = False
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Outcome of comparing both sides record by record.

    `findings` is cut off at a limit; the counts are complete. `sample_percent` is 100 for all.
    `repair` is the cycle that mended what a first comparison found, as far as it was let.
    `failures` says of what is missing on the primary, a sentence each, that it was not compared.
    """

    collections: tuple[VerifiedCollection, ...]
    findings: tuple[Finding, ...]
    sample_percent: float
    duration_seconds: float
    repaired: bool = False
    warnings: tuple[str, ...] = ()
    repair: CycleReport | None = None
    failures: tuple[str, ...] = ()

    @property
    def different(self) -> int:
        """Differences of any kind, definitions and answers included."""
        return sum(
            c.missing + c.extra + c.changed + c.definition_differs + c.answers_differ
            for c in self.collections
        ) + sum(1 for f in self.findings if f.record_id is None and not f.collection)

    @property
    def inconclusive(self) -> int:
        """Records that changed on the primary while being compared, or that it cannot give."""
        return sum(c.inconclusive for c in self.collections)

    @property
    def unreadable(self) -> int:
        """Those of them that the primary cannot give."""
        return sum(c.unreadable for c in self.collections)

    @property
    def exit_code(self) -> int:
        """0 same; 1 different or some inconclusive; 4 a part of it is missing on the primary.

        4 or 6, too, when the repair was held; 4 when it set records aside.
        """
        if self.repair is not None and must_decide(self.repair.holds):
            return DECIDE
        left = self.repair is not None and (self.repair.holds or self.repair.quarantined)
        if left or self.failures:
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

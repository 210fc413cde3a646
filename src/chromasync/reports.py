"""Reports: immutable results of a cycle, a plan, a verify, a status.

Every view (text, JSON, page) shows these values, and computes nothing but its layout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from chromasync.config import SettingLine
from chromasync.displayed import Displayed
from chromasync.model import (
    DECISIONS,
    Capabilities,
    ChunkCounts,
    ControlRow,
    Cycle,
    CycleStatus,
    Direction,
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
"""An instant further ahead of now than this shows that a clock has jumped."""


class Outcome(StrEnum):
    """The outcome of a cycle, in the word that people read."""

    IDENTICAL = "identical"
    LIMITED = "limited"
    """Identical except for quarantined records and content that the replica cannot store."""
    HELD = "held"
    FAILED = "failed"


DECIDE = 6
"""Exit code of a report with a hold that needs a decision which side is right."""


FAULTY = {MirrorStatus.HELD, MirrorStatus.ERROR, MirrorStatus.UNANSWERING}
"""States with which `status` ends with 4."""


def must_decide(holds: Iterable[Hold]) -> bool:
    """Whether one of these holds needs a decision which side is right."""
    return any(hold.kind in DECISIONS for hold in holds)


def oldest(instants: Iterable[datetime | None]) -> datetime | None:
    """The oldest instant; None when any is missing or there are none."""
    given = list(instants)
    known = [instant for instant in given if instant is not None]
    return min(known) if known and len(known) == len(given) else None


def lag_between(as_of: datetime | None, now: datetime) -> float | None:
    """The lag at `now` of a replica that is identical as of `as_of`; None when that is unknown."""
    return None if as_of is None else (now - as_of).total_seconds()


@dataclass(frozen=True, slots=True)
class CollectionReport:
    """One collection after a cycle, or as the status shows it.

    `identical_as_of` is None until the first clean cycle; `message` is one sentence for people
    (empty when there is nothing to say). `dimension` is None before the first record.

    Only the status knows the rest: `chunks` with the age of the oldest read, `probed_cycle` (the
    last cycle that sent queries to both indexes), `unanswering` (why the replica's index did not
    answer them), `last_attempt_at` (the last cycle that looked at the collection), and
    `last_changed_at` (the end of the last finished cycle that changed records of the replica).
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
    chunks: ChunkCounts = ChunkCounts()
    probed_cycle: int | None = None
    unanswering: str | None = None
    last_attempt_at: datetime | None = None
    last_changed_at: datetime | None = None
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class CycleReport(Displayed):
    """The result of one cycle. `counts` covers all collections.

    `never_reread`: unchanged records are never read again, so changes in place are not found.
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
        """0 done; 6 a decision is needed; 4 held, quarantined or failed permanently.

        A cycle that an error ended early, in another process, has the exit code of that error.
        """
        if self.cycle.exit_code is not None:
            return self.cycle.exit_code
        if must_decide(self.holds):
            return DECIDE
        return 0 if self.outcome is Outcome.IDENTICAL else 4


@dataclass(frozen=True, slots=True)
class StatusSnapshot(Displayed):
    """Everything at one instant, from the store alone.

    `lag_seconds` is `taken_at` minus the oldest `identical_as_of`; None until every collection
    has one. `reread_seconds` is the time within which every record is read again; None is never.
    `store` is the URL of the store without secrets. `clean_at` is the start of the newest completed
    cycle, None when none is known; it is out of date after `alert_lag_seconds`. `latest_as_of` is
    the newest `identical_as_of` of a collection; it lies in the future if a clock was ahead.
    `control` has the pause in force and the requested cycles. `direction` says whether the replica
    was promoted; then nothing is mirrored to it.
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
    control: ControlRow = ControlRow()
    direction: Direction = Direction()

    @property
    def is_paused(self) -> bool:
        """Whether a pause is in force."""
        return self.control.is_paused(self.taken_at)

    @property
    def exit_code(self) -> int:
        """0 all collections identical; 6 a decision is needed; 4 held or failed; 1 otherwise.

        Also 6 when the replica was promoted.

        Nothing counts as identical before the first cycle, when the last cycle failed, or when the
        newest completed cycle is too old or in the future.
        """
        states = {c.status for c in self.collections}
        if must_decide(self.holds) or not self.direction.is_following:
            return DECIDE
        if self.holds or states & FAULTY:
            return 4
        last = self.last_ended
        sound = last is not None and last.status is CycleStatus.COMPLETED
        return 0 if sound and self.is_fresh and states <= {MirrorStatus.IDENTICAL} else 1

    @property
    def is_fresh(self) -> bool:
        """Whether the newest completed cycle began recently enough; False after a clock jump."""
        if self.clean_at is None or self.is_ahead:
            return False
        return (self.taken_at - self.clean_at).total_seconds() <= self.alert_lag_seconds

    @property
    def is_ahead(self) -> bool:
        """Whether a stored instant lies in the future, because a clock has jumped."""
        latest = self.taken_at + timedelta(seconds=CLOCK_SLACK_SECONDS)
        instants = (self.clean_at, self.identical_as_of, self.latest_as_of)
        return any(at is not None and at > latest for at in instants)

    @property
    def last_ended(self) -> Cycle | None:
        """The newest cycle that completed or failed; aborted cycles are passed over."""
        ended = (CycleStatus.COMPLETED, CycleStatus.FAILED)
        return next((cycle for cycle in self.cycles if cycle.status in ended), None)

    @property
    def is_dated_back(self) -> bool:
        """Whether the last cycle ended in the future, because the clock went back since then."""
        ended_at = None if self.last_ended is None else self.last_ended.finished_at
        return ended_at is not None and (ended_at - self.taken_at).total_seconds() > STEP_SECONDS

    @property
    def is_deserted(self) -> bool:
        """Whether the newest cycle is open, but no process is alive that could work on it."""
        alive = {WorkerStatus.ACTIVE, WorkerStatus.DRAINING} & {w.status for w in self.workers}
        running = any(cycle.status is CycleStatus.RUNNING for cycle in self.cycles[:1])
        return running and not alive


@dataclass(frozen=True, slots=True)
class ControlReport:
    """The result of `pause` and `resume`; `was_paused` before the command, `is_paused` after it."""

    control: ControlRow
    was_paused: bool
    is_paused: bool

    @property
    def exit_code(self) -> int:
        """0; whatever goes wrong is an error."""
        return 0


class FenceOutcome(StrEnum):
    """How a fence ended."""

    VERIFIED = "verified"
    TIMED_OUT = "timed out"
    HELD = "held"
    UNDECIDED = "undecided"
    LIMITED = "limited"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class FenceReport:
    """The result of `fence`.

    `asked_at` is the instant of the call, by the store's clock. All that was written to the primary
    before it is on the replica if `outcome` is *verified*; otherwise `reason` says why that is not
    known. `cycles` counts the cycles that were waited for; `records` are those of the primary.
    """

    asked_at: datetime
    outcome: FenceOutcome
    reason: str
    collections: int
    records: int
    identical_as_of: datetime | None
    cycles: int
    duration_seconds: float
    error_code: int | None = None

    @property
    def exit_code(self) -> int:
        """0 verified; 1 timed out; 6 a decision is needed; 3 or 4 as `reason` says."""
        if self.error_code is not None:
            return self.error_code
        match self.outcome:
            case FenceOutcome.VERIFIED:
                return 0
            case FenceOutcome.TIMED_OUT:
                return 1
            case FenceOutcome.UNDECIDED:
                return DECIDE
        return 4


class PlannedAction(StrEnum):
    """The action of a cycle on a whole collection."""

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
    """The plan for one collection; counts are records, `bytes` are sent to the replica.

    `held_count`: how many of the records to delete would be held instead.
    `undecided`: nothing would be written until someone decides which side is right.
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
    held_count: int = 0


@dataclass(frozen=True, slots=True)
class PlanReport(Displayed):
    """The plan of a cycle. `expected_seconds` is based on rates of earlier cycles.

    `failures` has one sentence for each missing database or tenant of the primary; nothing is
    done there.
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
    """The kind of a finding, as seen from the replica."""

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

    `overlap` is the share of the nearest records that both sides return, over `queries` queries;
    None without a query. `answers_differ`: the overlap is too small, a distance differs, or one
    side does not answer. `unreadable` counts inconclusive records that the primary cannot return.
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
class VerifyReport(Displayed):
    """Outcome of comparing both sides record by record.

    `findings` is cut off at a limit; the counts are complete. `sample_percent` is 100 for all.
    `repair` is the cycle that repaired the differences of a first comparison, as far as the guards
    allowed. `failures` has one sentence for each missing database or tenant of the primary, which
    was not compared.
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
        """Records that changed on the primary during the comparison, or that it cannot return."""
        return sum(c.inconclusive for c in self.collections)

    @property
    def unreadable(self) -> int:
        """Inconclusive records that the primary cannot return."""
        return sum(c.unreadable for c in self.collections)

    @property
    def exit_code(self) -> int:
        """0 same; 1 different or some inconclusive; 4 a database is missing on the primary.

        Also 4 or 6 when the repair was held, and 4 when it quarantined records.
        """
        if self.repair is not None and must_decide(self.repair.holds):
            return DECIDE
        left = self.repair is not None and (self.repair.holds or self.repair.quarantined)
        if left or self.failures:
            return 4
        return 1 if self.different or self.inconclusive else 0


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the doctor; `exit_code` is 0 when it passed, or that of its error."""

    name: str
    detail: str
    exit_code: int = 0

    @property
    def ok(self) -> bool:
        """Whether the check passed."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class ExaminedServer:
    """A server as the doctor found it; `capabilities` is None when it gave no usable answer."""

    side: Side
    url: str
    capabilities: Capabilities | None


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """The doctor's result; `schema_version` is None when the state store could not be opened."""

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
        """0 all is well; 3 something is unreachable; 4 something is permanently wrong."""
        return max((check.exit_code for check in self.checks), default=0)

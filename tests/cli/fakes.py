"""A program that answers from memory, and reports with something of everything in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Event
from types import TracebackType
from typing import Self

from chromasync.advice import advise
from chromasync.advice_reports import AdviceReport
from chromasync.config import Origin, SettingLine, Settings, load_settings
from chromasync.failover_reports import (
    PromotedCollection,
    PromoteOutcome,
    PromoteReport,
    RestoredCollection,
    RestoreReport,
)
from chromasync.model import (
    Capabilities,
    ControlRow,
    Cycle,
    CycleStatus,
    Direction,
    DirectionState,
    Hold,
    HoldKind,
    MirrorStatus,
    OpCounts,
    Quarantined,
    Side,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.ports import Progress
from chromasync.reports import (
    Check,
    CollectionReport,
    ControlReport,
    CycleReport,
    DoctorReport,
    ExaminedServer,
    FenceOutcome,
    FenceReport,
    Finding,
    Outcome,
    PlannedAction,
    PlannedCollection,
    PlanReport,
    Sigil,
    StatusSnapshot,
    VerifiedCollection,
    VerifyReport,
)

NOON = datetime(2030, 1, 2, 12, 0, 0, tzinfo=UTC)


def collection(name: str = "docs", **changes: object) -> CollectionReport:
    """A collection of the default database, identical unless said otherwise."""
    values: dict[str, object] = {
        "collection_id": f"id-{name}",
        "tenant": "default_tenant",
        "database": "default_database",
        "name": name,
        "status": MirrorStatus.IDENTICAL,
        "primary_count": 1234,
        "replica_count": 1234,
        "identical_as_of": NOON,
    }
    return CollectionReport(**(values | changes))  # type: ignore[arg-type]


HOLD = Hold(
    "id-old",
    "old",
    HoldKind.DELETES,
    500,
    "500 of 600 records are gone",
    NOON,
    tenant="default_tenant",
    database="archive",
    set_digest="3f9a1b2c4d5e",
)
STORE = "sqlite:///chromasync-data/chromasync.db"
ASIDE = Quarantined("id-old", "bad\n\x1b[31mid", "The replica refuses it.", absent=True)


def cycle_report(outcome: Outcome = Outcome.IDENTICAL) -> CycleReport:
    """A cycle that did something, and left something where the outcome says so."""
    counts = OpCounts(read=2000, inserted=1000, updated=30, replaced=4, deleted=2, drifted=5)
    trouble = outcome is not Outcome.IDENTICAL
    old = collection("old", status=MirrorStatus.HELD, database="archive", message="Look at it.")
    return CycleReport(
        cycle=Cycle(7, NOON, CycleStatus.COMPLETED, NOON + timedelta(seconds=3.2), counts),
        outcome=outcome,
        collections=(collection(counts=counts), old) if trouble else (collection(counts=counts),),
        holds=(HOLD,) if trouble else (),
        quarantined=(ASIDE,) if trouble else (),
        warnings=("The replica cannot carry array metadata.",) if trouble else (),
        tasks=TaskCounts(completed=3),
        counts=counts,
        duration_seconds=3.2,
        identical_as_of=NOON,
    )


def plan_report() -> PlanReport:
    """A plan with a copy and a hold."""
    default = ("default_tenant", "default_database")
    new = PlannedCollection(*default, "docs", PlannedAction.CREATE, create=2000, bytes=3_500_000)
    held = PlannedCollection(
        *default,
        "old",
        PlannedAction.HOLD,
        delete=500,
        same=100,
        held=True,
        held_count=500,
        reason="Too many.",
    )
    return PlanReport((new, held), expected_seconds=75, bytes=3_500_000)


def verify_report(*, different: bool = True) -> VerifyReport:
    """A comparison with one finding of each kind, or none."""
    default = ("default_tenant", "default_database")
    counts = (97, 1, 1, 1, 1) if different else (100, 0, 0, 0, 0)
    findings = tuple(
        Finding(sigil, *default, "docs", f"id{i}", f"finding {i}")
        for i, sigil in enumerate(Sigil)
        if different
    )
    found = VerifiedCollection(*default, "docs", *counts, definition_differs=different)
    return VerifyReport((found,), findings, sample_percent=100.0, duration_seconds=1.5)


def snapshot() -> StatusSnapshot:
    """A status with a worker, a finished cycle and nothing wrong."""
    beat = WorkerBeat(
        "w-1", WorkerStatus.ACTIVE, 42, 81.4, 12.6, "host", 99, "0.1.0", NOON + timedelta(seconds=9)
    )
    return StatusSnapshot(
        taken_at=NOON + timedelta(seconds=12),
        identical_as_of=NOON,
        lag_seconds=12.0,
        collections=(collection(),),
        workers=(beat,),
        tasks=TaskCounts(pending=1, processing=2, completed=3),
        cycles=(
            Cycle(7, NOON, CycleStatus.COMPLETED, NOON + timedelta(seconds=3.2), OpCounts(read=10)),
        ),
        holds=(),
        quarantined=(),
        store=STORE,
        reread_seconds=4 * 3600.0,
        clean_at=NOON,
        alert_lag_seconds=900.0,
    )


def empty_snapshot() -> StatusSnapshot:
    """A status before the first cycle."""
    return StatusSnapshot(NOON, None, None, (), (), TaskCounts(), (), (), (), STORE)


def promote_report(**changes: object) -> PromoteReport:
    """A failover of a replica with two collections, one of them never copied whole."""
    old = PromotedCollection("1", "t", "d", "docs", MirrorStatus.IDENTICAL, 1234, NOON)
    new = PromotedCollection("2", "t", "d", "new\x07", MirrorStatus.SYNCING, 7, None)
    values: dict[str, object] = {
        "outcome": PromoteOutcome.PROMOTED,
        "direction": Direction(DirectionState.PROMOTED, by="ann@here", url="http://two:8000"),
        "collections": (old, new),
        "taken_at": NOON + timedelta(seconds=90),
    }
    return PromoteReport(**(values | changes))  # type: ignore[arg-type]


def restore_report(*, different: int = 0, **changes: object) -> RestoreReport:
    """A restore of one collection that is identical, unless said otherwise."""
    copy = RestoredCollection(
        "default_tenant", "default_database", "docs", 1234, different, 0, queries=20
    )
    values: dict[str, object] = {
        "url": "http://new:8000",
        "replica_url": "http://two:8000",
        "state_file": "data/restore.db",
        "collections": (copy,),
        "left_out": (),
        "written": 1234,
        "cycles": 1,
        "cycle_code": 0,
        "recorded": not different,
        "warnings": (),
        "duration_seconds": 12.0,
    }
    return RestoreReport(**(values | changes))  # type: ignore[arg-type]


def fence_report(**changes: object) -> FenceReport:
    """A fence that was verified by the second cycle, unless said otherwise."""
    values: dict[str, object] = {
        "asked_at": NOON,
        "outcome": FenceOutcome.VERIFIED,
        "reason": "",
        "collections": 1,
        "records": 1234,
        "identical_as_of": NOON + timedelta(seconds=1),
        "cycles": 2,
        "duration_seconds": 3.2,
    }
    return FenceReport(**(values | changes))  # type: ignore[arg-type]


def doctor_report() -> DoctorReport:
    """A doctor who could not reach the replica."""
    able = Capabilities("1.0.0", 5461, True, True, True, False, True, ("No array metadata.",))
    return DoctorReport(
        version="0.1.0",
        python_version="3.11.7",
        role="single",
        checks=(Check("primary", "It answers."), Check("replica", "No answer.", exit_code=3)),
        servers=(
            ExaminedServer(Side.PRIMARY, "http://one:8000", able),
            ExaminedServer(Side.REPLICA, "http://two:8000", None),
        ),
        store=STORE,
        schema_version=1,
        settings=(SettingLine("SYNC_INTERVAL", "300", Origin.DEFAULT),),
    )


@dataclass
class FakeProgram:
    """Remembers what it was asked, and answers with what it was given.

    `trouble` is raised instead of an answer; `asked` holds one tuple per call.
    """

    cycle: CycleReport = field(default_factory=cycle_report)
    shown_status: StatusSnapshot = field(default_factory=snapshot)
    verified: VerifyReport = field(default_factory=verify_report)
    approved: list[Hold] = field(default_factory=lambda: [HOLD])
    run_code: int = 0
    was_paused: bool = True
    fenced: FenceReport = field(default_factory=fence_report)
    promoted: PromoteReport = field(default_factory=promote_report)
    restored: RestoreReport = field(default_factory=restore_report)
    trouble: BaseException | None = None
    asked: list[tuple[object, ...]] = field(default_factory=list)
    settings: Settings | None = None
    closed: bool = False
    shown: list[CycleReport | StatusSnapshot] = field(default_factory=list)

    def open(self, settings: Settings) -> Self:
        """Stand in for the composition root."""
        self.settings = settings
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.closed = True

    def _note(self, *call: object) -> None:
        self.asked.append(call)
        if self.trouble is not None:
            raise self.trouble

    def _work(self, progress: Progress, *call: object) -> None:
        progress.start("reading docs", 10)
        progress.advance(10)
        progress.note("docs is done")
        self._note(*call)

    def sync(
        self,
        progress: Progress,
        *,
        full: bool = False,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport:
        """Answer `cycle`."""
        self._work(progress, "sync", full, *["adopt"] * adopt, *rebuild)
        return self.cycle

    def plan(self, progress: Progress, *, rebuild: Sequence[str] = ()) -> PlanReport:
        """Answer a fixed plan."""
        self._work(progress, "plan", *rebuild)
        return plan_report()

    def verify(
        self,
        progress: Progress,
        *,
        sample_percent: float = 100.0,
        repair: bool = False,
        queries: int = 0,
    ) -> VerifyReport:
        """Answer `verified`."""
        self._work(progress, "verify", sample_percent, repair, *[queries] * (queries > 0))
        return self.verified

    def status(self) -> StatusSnapshot:
        """Answer `shown_status`."""
        self._note("status")
        return self.shown_status

    def advise(
        self,
        documents: int | None = None,
        *,
        dimension: int | None = None,
        text_bytes: int | None = None,
    ) -> AdviceReport:
        """Answer with the advice of a store without history."""
        self._note("advise", documents, dimension, text_bytes)
        return advise(self.shown_status, [], load_settings(servers_required=False))

    def approve(
        self, names: Sequence[str], *, everything: bool, expected: int | None = None
    ) -> list[Hold]:
        """Answer `approved`."""
        self._note("approve", tuple(names), everything, *([] if expected is None else [expected]))
        return self.approved

    def fence(self, progress: Progress, *, timeout_seconds: float | None = None) -> FenceReport:
        """Answer `fenced`."""
        self._work(progress, "fence", timeout_seconds)
        return self.fenced

    def promote(
        self,
        progress: Progress,
        *,
        wait_for_fence: bool = False,
        timeout_seconds: float | None = None,
        anyway: bool = False,
    ) -> PromoteReport:
        """Answer `promoted`."""
        self._work(progress, "promote", wait_for_fence, timeout_seconds, anyway)
        return self.promoted

    def cancel_promotion(self) -> PromoteReport:
        """Answer `promoted`."""
        self._note("cancel")
        return self.promoted

    def restore(self, progress: Progress, to: str, names: Sequence[str] = ()) -> RestoreReport:
        """Answer `restored`."""
        self._work(progress, "restore", to, *names)
        return self.restored

    def pause(self, seconds: float | None, reason: str) -> ControlReport:
        """Answer a pause from noon on."""
        self._note("pause", seconds, reason)
        until = None if seconds is None else NOON + timedelta(seconds=seconds)
        row = ControlRow(NOON, "ann@here", reason, until)
        return ControlReport(row, was_paused=False, is_paused=True)

    def resume(self) -> ControlReport:
        """Answer whether `was_paused`."""
        self._note("resume")
        return ControlReport(ControlRow(), was_paused=self.was_paused, is_paused=False)

    def note_shown(self, report: CycleReport | StatusSnapshot, *, watched: bool = True) -> None:
        """Remember that a report was shown."""
        self.shown.append(report)

    def run(self, stop: Event) -> int:
        """Answer `run_code` at once."""
        self._note("run", stop.is_set())
        return self.run_code

    def dashboard(self, stop: Event) -> None:
        """End at once."""
        self._note("dashboard", stop.is_set())

    def doctor(self, *, alert: bool = False) -> DoctorReport:
        """Answer a fixed report."""
        self._note("doctor", *["alert"] * alert)
        return doctor_report()

"""The minutes of a process, and what its leader used for a cycle."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from chromasync.errors import RequestRefused, ServerUnreachable, StoreUnavailable
from chromasync.events import Event
from chromasync.lab.fake import Call
from chromasync.model import (
    CycleStatus,
    Measurement,
    OpCounts,
    Side,
    Task,
    Traffic,
    Usage,
    WorkerStatus,
)
from chromasync.ports import Permit, Reader
from chromasync.store import SqlStore
from chromasync.store.schema import tasks
from chromasync.timing import Phases
from chromasync.worker import recorder as recording
from chromasync.worker.recorder import OwnResources, Recorder
from chromasync.worker.tally import Tally, Work
from tests.store.samples import look, planned
from tests.support.house import House
from tests.unit.pools import PATIENCE, Reconciler, is_done, pool_of, until

DAY = 86_400.0


@dataclass
class Server:
    """A server of which only the traffic is asked."""

    total: Traffic = Traffic()  # noqa: RUF009 (frozen)

    def traffic(self) -> Traffic:
        return self.total


@dataclass
class Resources:
    """Memory and processor time as the test says."""

    memory: float = 100.0
    cpu: float = 0.0

    def memory_mb(self) -> float:
        return self.memory

    def cpu_seconds(self) -> float:
        return self.cpu


@dataclass
class Scene:
    """A recorder with everything that it reads."""

    recorder: Recorder
    primary: Server
    replica: Server
    tally: Tally
    resources: Resources
    clock: list[float]


@pytest.fixture
def scene(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A recorder whose time is what the test says."""
    clock = [1000.0]
    monkeypatch.setattr("chromasync.worker.recorder.monotonic", lambda: clock[0])
    primary, replica, tally, resources = Server(), Server(), Tally(), Resources()
    recorder = Recorder(
        store,
        "me",
        primary=cast("Reader", primary),
        replica=cast("Reader", replica),
        tally=tally,
        memory_limit_mb=512,
        resources=resources,
    )
    return Scene(recorder, primary, replica, tally, resources, clock)


def rows(store: SqlStore) -> list[Measurement]:
    return [one for one in store.measurements(DAY) if not one.is_cycle]


def test_a_row_has_what_happened_since_the_last_one(store: SqlStore, scene: Scene) -> None:
    """Differences of all counts, the peak of the memory, and the share of the processor."""
    for minute in (1, 2):
        scene.clock[0] += 60
        scene.primary.total = Traffic(minute, minute, 0, 100 * minute, 9, 20.0 * minute)
        scene.replica.total = Traffic(2 * minute, 0, 0, 9, 200 * minute, 5.0 * minute, 1.0)
        scene.tally.note_done(OpCounts(read=10, inserted=4, deleted=1))
        scene.tally.note_busy(33.0)
        scene.resources.cpu += 15 * minute
        scene.resources.memory = 300 / minute
        scene.recorder.sample()
        scene.resources.memory = 50
        scene.recorder.record(store)
    scene.tally.note_failed()
    first, second = rows(store)
    assert (first.records_read, first.records_written, first.tasks_completed) == (10, 5, 1)
    assert (first.bytes_read, first.bytes_written, first.refused_requests) == (100, 200, 1)
    assert (first.primary_seconds, first.replica_seconds) == (20, 5)
    assert (first.memory_mb, second.memory_mb, second.memory_limit_mb) == (300, 150, 512)
    assert (first.cpu_percent, second.cpu_percent) == (25, 50)
    assert (first.throttled_seconds, second.throttled_seconds) == (1, 0)
    assert second.phase_seconds == {"tasks": 33}
    unlike = {"recorded_at", "memory_mb", "cpu_percent", "throttled_seconds"}
    kept = {name: getattr(second, name) for name in unlike}
    assert replace(first, **kept) == second


def test_a_store_that_is_away_merges_the_minutes(
    store: SqlStore, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next row covers them, each second once, even if only the answer was lost."""
    record = store.record_usage
    outcomes = [StoreUnavailable("away"), StoreUnavailable("the answer was lost")]

    def record_usage(name: str, number: int, usage: Usage) -> None:
        failure = outcomes.pop(0) if outcomes else None
        if failure is None or "lost" in str(failure):
            record(name, number, usage)
        if failure is not None:
            raise failure

    monkeypatch.setattr(store, "record_usage", record_usage)
    with capture_logs() as lines:
        for _ in range(4):
            scene.clock[0] += 60
            scene.tally.note_done(OpCounts(read=1))
            scene.recorder._try(store)
    assert [(one.span_seconds, one.records_read) for one in rows(store)] == [(180, 3), (60, 1)]
    told = [line["event"] for line in lines]
    assert told == [Event.NOT_MEASURED, Event.NOT_MEASURED, Event.RECOVERED]


def test_a_process_thins_old_rows_from_time_to_time(
    store: SqlStore, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where no leader ends a cycle, their number stays bounded."""
    thinned: list[int] = []
    monkeypatch.setattr(store, "thin_measurements", lambda: thinned.append(1))
    for _ in range(2 * recording.THIN_ROWS):
        scene.recorder.record(store)
    assert len(thinned) == 2


def test_the_thread_records_and_the_last_seconds_are_not_lost(
    store: SqlStore, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends leaves a row of its last seconds, unless it has just left one."""
    monkeypatch.setattr(recording, "SAMPLE_SECONDS", 0.001)
    recorded = threading.Event()
    record = store.record_usage

    def record_usage(name: str, number: int, usage: Usage) -> None:
        record(name, number, usage)
        recorded.set()

    monkeypatch.setattr(store, "record_usage", record_usage)
    scene.recorder.start()
    scene.clock[0] += recording.ROW_SECONDS
    assert recorded.wait(PATIENCE)
    scene.clock[0] += recording.SHORTEST_SECONDS
    scene.recorder.stop()
    scene.recorder.stop()
    assert [one.span_seconds for one in rows(store)] == [60, 5]


def test_a_process_that_ends_at_once_leaves_no_row(store: SqlStore, scene: Scene) -> None:
    """One-off commands fill no table; a recorder that never began has nothing to end."""
    scene.recorder.stop()
    scene.recorder.start()
    scene.clock[0] += recording.SHORTEST_SECONDS - 0.01
    scene.recorder.stop()
    assert rows(store) == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_recorder_that_ended_by_itself_is_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process must be restarted then, because nothing is recorded any more."""
    ended = threading.Event()

    def fail() -> float:
        ended.set()
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(recording, "SAMPLE_SECONDS", 0.001)
    monkeypatch.setattr(scene.resources, "memory_mb", fail)
    assert scene.recorder.ended_threads() == ()
    scene.recorder.start()
    assert ended.wait(PATIENCE)
    scene.recorder._thread.join(PATIENCE)
    assert scene.recorder.ended_threads() == ("recorder",)
    scene.recorder.stop()
    assert scene.recorder.ended_threads() == ()


def test_own_resources_are_those_of_this_process() -> None:
    """Memory in MB, processor time that only grows."""
    own = OwnResources()
    before = own.cpu_seconds()
    sum(range(2_000_000))
    assert 10 < own.memory_mb() < 100_000
    assert own.cpu_seconds() > before


def test_the_work_of_a_pool_is_counted_and_shown(store: SqlStore) -> None:
    """Tasks by outcome with their records; heartbeats carry role, threads, tasks and limit."""
    cycle = planned(store, 3)

    def act(task: Task, permit: Permit) -> None:
        if task.id == second:
            raise RequestRefused("no", side=Side.REPLICA)

    second = look(store, select(tasks.c.id).order_by(tasks.c.id))[1][0]
    with pool_of(store, Reconciler(act), threads=2, role="worker", memory_mb=700) as pool:
        until(pool, is_done(store, cycle.id))
        pool.drain()
        work = pool.tally.work
        assert (work.tasks_done, work.tasks_failed, work.records_read) == (2, 1, 6)
        assert work.busy_seconds > 0
    (beat,) = store.workers()
    assert (beat.role, beat.threads, beat.tasks_done) == ("worker", 2, 2)
    assert (beat.memory_limit_mb, beat.status) == (700, WorkerStatus.STOPPED)


def test_work_between_two_instants_is_their_difference() -> None:
    """What was counted before is left out."""
    tally = Tally()
    tally.note_done(OpCounts(read=3, updated=2))
    before = tally.work
    tally.note_done(OpCounts(read=4, deleted=1))
    tally.note_failed()
    assert tally.work - before == Work(1, 1, 4, 1, 0.0)


# ---- cycles ----------------------------------------------------------------------------------


def test_phases_add_up_and_the_present_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase that is begun again goes on; asking ends nothing."""
    now = [0.0]
    monkeypatch.setattr("chromasync.timing.time.monotonic", lambda: now[0])
    phases = Phases()
    assert phases.seconds == {}
    for name, seconds in (("walk", 2), ("close", 3), ("walk", 4)):
        phases.begin(name)
        now[0] += seconds
        assert phases.seconds[name] >= seconds
    assert phases.seconds == {"walk": 6, "close": 3}


def test_a_cycle_records_its_phases_requests_and_lag(store: SqlStore, house: House) -> None:
    """The lag is the one that the status shows at that time."""
    house.sync()
    found = [one for one in store.measurements(DAY) if one.is_cycle][-1]
    assert list(found.phase_seconds) == PHASES
    assert found.span_seconds == pytest.approx(sum(found.phase_seconds.values()))
    assert found.primary_requests > 0
    assert found.replica_requests > 0
    assert found.lag_seconds is not None
    assert 0 <= found.lag_seconds < PATIENCE


PHASES = ["list", "walk", "probe", "plan", "reconcile", "remove", "close"]


def test_a_cycle_that_fails_records_what_it_used_so_far(store: SqlStore, house: House) -> None:
    """The phases that it reached, and a lag that goes on from the last clean cycle."""
    house.sync()

    def fail(call: Call) -> None:
        raise ServerUnreachable("away", side=Side.PRIMARY)

    house.primary.on_request(fail)
    with pytest.raises(ServerUnreachable):
        house.sync()
    first, second = [one for one in store.measurements(DAY) if one.is_cycle]
    assert list(second.phase_seconds) == ["list"]
    assert first.lag_seconds is not None
    assert second.lag_seconds is not None
    assert second.lag_seconds > first.lag_seconds


def test_a_store_that_refuses_the_usage_does_not_harm_the_cycle(
    store: SqlStore, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cycle is closed already, so it counts."""

    def refuse(*_: Any) -> None:
        raise StoreUnavailable("full")

    monkeypatch.setattr(SqlStore, "note_usage", refuse)
    with capture_logs() as lines:
        house.sync()
    assert [line["event"] for line in lines if line["event"] == Event.USAGE_NOT_RECORDED]
    assert store.cycles(1)[0].status is CycleStatus.COMPLETED

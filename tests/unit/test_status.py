"""The status, from the store alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from chromasync.config import Settings
from chromasync.ledger.scrub import reread_seconds, scrub_budget_seconds
from chromasync.mirrored import report_mirror
from chromasync.model import (
    DECISIONS,
    CycleStatus,
    Hold,
    HoldKind,
    Mirror,
    MirrorStatus,
    OpCounts,
    Quarantined,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.reports import StatusSnapshot, oldest
from chromasync.status import CYCLES_SHOWN, take_snapshot
from chromasync.store import SqlStore
from chromasync.store.schema import Later, cycles, workers
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    beat_of,
    claim_one,
    planned,
    result_for,
)
from tests.support.ledgers import chunk_of, mirror_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(hours=1)
DONE, FAILED = CycleStatus.COMPLETED, CycleStatus.FAILED
DAYS = 7 * 86_400
RUNNING, ABANDONED = CycleStatus.RUNNING, CycleStatus.ABANDONED


def mirror(
    identity: str = COLLECTION,
    *,
    status: MirrorStatus = MirrorStatus.IDENTICAL,
    as_of: datetime | None = None,
) -> Mirror:
    name = "books" if identity == COLLECTION else "films"
    return mirror_of(identity, "t", "d", name, status=status, identical_as_of=as_of)


def ran(store: SqlStore, *states: CycleStatus) -> None:
    """One cycle after the other, that ended so."""
    for status in states:
        cycle = store.open_cycle()
        if status is not CycleStatus.RUNNING:
            store.close_cycle(cycle.id, status, 0)


def silent_for(store: SqlStore, seconds: float, *beats: WorkerBeat) -> None:
    """Workers that have given their last proof of life so long ago."""
    for beat in beats:
        store.beat(beat)
    arrange(store, update(workers).values(last_heartbeat=Later(-seconds)))


@pytest.mark.parametrize(
    ("instants", "expected"),
    [
        ([], None),
        ([None], None),
        ([NOON], NOON),
        ([NOON, EARLIER], EARLIER),
        ([NOON, None, EARLIER], None),
    ],
)
def test_the_oldest_of_instants(instants: list[datetime | None], expected: datetime | None) -> None:
    """One that is missing makes the whole unknown; of the others the oldest counts."""
    assert oldest(instants) == expected


def test_a_collection_is_told_with_its_own_numbers() -> None:
    """Holds and quarantine of other collections do not count; notes and error are one message."""
    row = mirror_of(COLLECTION, "t", "d", "books", count=9, replica_count=8, last_error="It broke.")
    holds = [
        Hold(COLLECTION, "books", HoldKind.DELETES, 5, "x"),
        Hold(COLLECTION, "books", HoldKind.SURPLUS, 2, "x"),
        Hold(OTHER, "films", HoldKind.DELETES, 100, "x"),
    ]
    quarantined = [Quarantined(COLLECTION, "a", "x", True), Quarantined(OTHER, "b", "x", True)]
    report = report_mirror(row, holds, quarantined, OpCounts(read=3), ["A note."])
    assert (report.held, report.quarantined, report.message) == (7, 1, "A note. It broke.")
    assert (report.primary_count, report.replica_count, report.counts.read) == (9, 8, 3)
    assert (report.collection_id, report.tenant, report.database, report.name) == (
        COLLECTION,
        "t",
        "d",
        "books",
    )
    reduced = report_mirror(replace(row, reduced_count=1_200), [], [], OpCounts())
    assert reduced.message.startswith("It broke. 1,200 records lack metadata")
    quiet = report_mirror(mirror(), [], [], OpCounts())
    assert (quiet.message, quiet.held, quiet.quarantined) == ("", 0, 0)


def test_an_empty_store_has_an_empty_status(store: SqlStore, settings: Settings) -> None:
    """Before the first cycle nothing is known, and nothing is claimed."""
    snapshot = take_snapshot(store, settings)
    assert (snapshot.collections, snapshot.cycles, snapshot.workers) == ((), (), ())
    assert (snapshot.identical_as_of, snapshot.lag_seconds) == (None, None)
    assert snapshot.tasks == TaskCounts()
    assert snapshot.reread_seconds == settings.sync_interval
    assert snapshot.exit_code == 1


def test_the_lag_is_that_of_the_oldest_collection(store: SqlStore, settings: Settings) -> None:
    """Identical as of the oldest instant; the lag is counted from it to now."""
    now = store.now()
    ran(store, CycleStatus.COMPLETED)
    store.save_mirror(mirror(as_of=now - timedelta(seconds=100)))
    store.save_mirror(mirror(OTHER, as_of=now - timedelta(seconds=300)))
    snapshot = take_snapshot(store, settings)
    assert snapshot.identical_as_of == now - timedelta(seconds=300)
    assert snapshot.lag_seconds is not None
    assert snapshot.lag_seconds == (snapshot.taken_at - snapshot.identical_as_of).total_seconds()
    assert snapshot.lag_seconds >= 300
    assert snapshot.exit_code == 0


def test_one_collection_that_was_never_identical_makes_the_lag_unknown(
    store: SqlStore, settings: Settings
) -> None:
    """There is no instant for the whole while one part has none."""
    store.save_mirror(mirror(as_of=NOON))
    store.save_mirror(mirror(OTHER, status=MirrorStatus.NEW))
    snapshot = take_snapshot(store, settings)
    assert (snapshot.identical_as_of, snapshot.lag_seconds, snapshot.exit_code) == (None, None, 1)


def test_the_newest_cycle_gives_the_counts(store: SqlStore, settings: Settings) -> None:
    """Tasks and counts are those of the newest cycle; a few cycles before it are listed."""
    store.save_mirror(mirror())
    for _ in range(CYCLES_SHOWN + 1):
        store.close_cycle(store.open_cycle().id, CycleStatus.COMPLETED, 0)
    cycle = planned(store, 2)
    task = claim_one(store)
    assert store.complete_task(task, result_for(store, task, counts=OpCounts(read=3, updated=2)))
    store.beat(beat_of("w1"))
    snapshot = take_snapshot(store, settings)
    assert snapshot.cycles[0].id == cycle.id
    assert len(snapshot.cycles) == CYCLES_SHOWN
    assert (snapshot.tasks.completed, snapshot.tasks.pending) == (1, 1)
    assert (snapshot.collections[0].counts.read, snapshot.collections[0].counts.updated) == (3, 2)
    assert [worker.worker_id for worker in snapshot.workers] == ["w1"]


@pytest.mark.parametrize("status", MirrorStatus)
def test_the_exit_code_follows_the_states(
    status: MirrorStatus, store: SqlStore, settings: Settings
) -> None:
    """Held, failed and unanswering are 4, identical 0, anything unfinished 1."""
    ran(store, CycleStatus.COMPLETED)
    store.save_mirror(mirror(OTHER))
    store.save_mirror(mirror(status=status))
    faulty = (MirrorStatus.HELD, MirrorStatus.ERROR, MirrorStatus.UNANSWERING)
    expected = {MirrorStatus.IDENTICAL: 0} | dict.fromkeys(faulty, 4)
    assert take_snapshot(store, settings).exit_code == expected.get(status, 1)


@pytest.mark.parametrize(
    ("cycles", "code"),
    [
        ((DONE,), 0),
        ((FAILED,), 1),
        ((FAILED, DONE), 0),
        ((DONE, FAILED), 1),
        ((DONE, FAILED, RUNNING), 1),
        ((DONE, FAILED, ABANDONED), 1),
        ((DONE, RUNNING), 0),
        ((DONE, ABANDONED), 0),
        ((RUNNING,), 1),
        ((ABANDONED,), 1),
        ((), 1),
    ],
)
def test_the_last_cycle_that_ended_must_not_have_failed(
    cycles: tuple[CycleStatus, ...], code: int, store: SqlStore, settings: Settings
) -> None:
    """Identical collections vouch for nothing while no cycle has ended, or the last one failed."""
    store.save_mirror(mirror())
    ran(store, *cycles)
    assert take_snapshot(store, settings).exit_code == code


@pytest.mark.parametrize(
    ("ago", "lag", "code"),
    [
        (890, None, 0),
        (910, None, 1),
        (910, "1000", 0),
        (1010, "1000", 1),
        (DAYS, None, 1),
        (-10, None, 1),
        (-DAYS, "86400", 1),
    ],
)
def test_a_completed_cycle_vouches_for_a_while(
    ago: float, lag: str | None, code: int, store: SqlStore, settings: Settings
) -> None:
    """For SYNC_ALERT_LAG from its start, three intervals by default; not from the future."""
    if lag is not None:
        settings = settings.model_copy(update={"sync_alert_lag": float(lag)})
    store.save_mirror(mirror())
    ran(store, DONE)
    arrange(store, update(cycles).values(started_at=Later(-ago), finished_at=Later(-ago)))
    snapshot = take_snapshot(store, settings)
    assert (snapshot.exit_code, snapshot.is_fresh) == (code, code == 0)
    assert snapshot.alert_lag_seconds == float(lag or 900)
    assert snapshot.is_ahead == (ago < 0)


def test_collections_identical_in_the_future_vouch_for_nothing(
    store: SqlStore, settings: Settings
) -> None:
    """The clock was ahead when they were read, whatever the newest cycle says."""
    ran(store, DONE)
    store.save_mirror(mirror(as_of=store.now() + timedelta(days=1)))
    assert take_snapshot(store, settings).exit_code == 1


def test_the_last_completed_cycle_is_found_behind_many_that_failed(
    store: SqlStore, settings: Settings
) -> None:
    """Its age is known, though it is not among the cycles that are shown."""
    ran(store, DONE, *[FAILED] * (CYCLES_SHOWN + 1))
    snapshot = take_snapshot(store, settings)
    assert DONE not in {cycle.status for cycle in snapshot.cycles}
    assert snapshot.clean_at == store.cycles(CYCLES_SHOWN + 2)[-1].started_at


def test_names_that_no_mirror_has_are_told_once_a_cycle_was_completed(
    store: SqlStore, settings: Settings
) -> None:
    """Each by itself; before the first cycle nobody can say what matches."""
    settings = settings.model_copy(update={"sync_include": ("book?", "mial", "films")})
    store.save_mirror(mirror())
    ran(store, FAILED)
    assert take_snapshot(store, settings).warnings == ()
    ran(store, DONE)
    told = take_snapshot(store, settings).warnings
    assert [sentence.split(",")[0] for sentence in told] == [
        "SYNC_INCLUDE names 'mial'",
        "SYNC_INCLUDE names 'films'",
    ]
    store.save_mirror(mirror(OTHER))
    assert len(take_snapshot(store, settings).warnings) == 1


@pytest.mark.parametrize("status", [WorkerStatus.ACTIVE, WorkerStatus.DRAINING])
@pytest.mark.parametrize(("seconds", "dead"), [(50, False), (61, True)])
def test_a_silent_worker_is_dead_though_nobody_is_left_to_say_so(
    status: WorkerStatus, seconds: float, dead: bool, store: SqlStore, settings: Settings
) -> None:
    """Whoever gave no proof of life for a minute is shown as dead, and counted as gone."""
    silent_for(store, seconds, beat_of("w1", status=status))
    (worker,) = take_snapshot(store, settings).workers
    assert worker.status is (WorkerStatus.DEAD if dead else status)
    assert store.active_workers() == (status is WorkerStatus.ACTIVE and not dead)
    store.rescue_tasks()  # by whoever is alive: the same minute
    assert store.workers() == [worker]


def test_a_worker_that_stopped_in_order_stays_stopped(store: SqlStore, settings: Settings) -> None:
    """It is silent because it has ended, not because it died."""
    silent_for(store, 999, beat_of("w1", status=WorkerStatus.STOPPED))
    (worker,) = take_snapshot(store, settings).workers
    assert worker.status is WorkerStatus.STOPPED


def test_a_cycle_that_nobody_is_left_to_finish_is_deserted(
    store: SqlStore, settings: Settings
) -> None:
    """It is open, and every process that could be at work on it has ended or fallen silent."""
    assert not take_snapshot(store, settings).is_deserted
    ran(store, DONE, RUNNING)
    assert take_snapshot(store, settings).is_deserted
    store.beat(beat_of("w1"))
    assert not take_snapshot(store, settings).is_deserted
    silent_for(store, 61)
    assert take_snapshot(store, settings).is_deserted
    ran(store, DONE)
    assert not take_snapshot(store, settings).is_deserted


def test_the_status_names_its_store_without_secrets(store: SqlStore, settings: Settings) -> None:
    """Whoever looks at the wrong store can see that; its password stays hidden."""
    url = SecretStr("postgresql://sync:geheim@db/sync")
    snapshot = take_snapshot(store, settings.model_copy(update={"database_url": url}))
    assert snapshot.store.endswith("db/sync")
    assert "geheim" not in snapshot.store


def test_holds_know_the_place_of_their_collection(store: SqlStore, settings: Settings) -> None:
    """Where a hold is is stored with it; what has no place is known by its id alone."""
    store.save_mirror(mirror())
    hold = Hold(COLLECTION, "books", HoldKind.DELETES, 5, "why", tenant="t", database="d")
    store.save_hold(hold)
    store.save_hold(Hold("stranger", "odd", HoldKind.SURPLUS_COLLECTION, 5, "why"))
    holds = take_snapshot(store, settings).holds
    assert {h.full_name for h in holds} == {"t/d/books", "stranger"}
    assert {(h.tenant, h.database) for h in holds} == {("t", "d"), ("", "")}
    assert all(h.held_at is not None for h in holds)


def test_a_hold_outweighs_identical_collections(store: SqlStore, settings: Settings) -> None:
    """A hold of a collection that is none of ours shows in the exit code too."""
    store.save_mirror(mirror())
    store.save_hold(Hold("stranger", "odd", HoldKind.SURPLUS_COLLECTION, 5, "why"))
    snapshot = take_snapshot(store, settings)
    assert (snapshot.exit_code, snapshot.holds[0].count) == (4, 5)


def test_when_everything_is_read_again(store: SqlStore, settings: Settings) -> None:
    """The time is that of the cycles needed; without a budget it is never."""
    store.save_mirror(mirror())
    budget = scrub_budget_seconds(settings, 0)
    assert budget == (settings.sync_scrub_budget * settings.sync_interval * settings.sync_workers)
    store.save_chunks([chunk_of([f"{n}"], read_at=NOON, read_seconds=budget) for n in range(3)])
    # of a collection that is not mirrored any more, nothing is read
    store.save_chunks([chunk_of(["x"], collection_id=OTHER, read_seconds=99 * budget)])
    both_sides = 2 * 3
    assert take_snapshot(store, settings).reread_seconds == both_sides * settings.sync_interval
    assert reread_seconds(settings, 0, 3 * budget) == both_sides * settings.sync_interval
    none = settings.model_copy(update={"sync_scrub_budget": 0.0})
    assert reread_seconds(none, 0, 3 * budget) is None
    assert reread_seconds(none, 0, 0.0) is None
    snapshot: StatusSnapshot = take_snapshot(store, none)
    assert snapshot.reread_seconds is None


def test_more_processes_may_read_more(store: SqlStore, settings: Settings) -> None:
    """In distributed mode each active process adds its threads; one that only plans does not."""
    shared = settings.model_copy(update={"sync_distributed": True, "sync_coordinator": True})
    planner = shared.model_copy(update={"sync_coordinator_works": False})

    def budget(of: Settings) -> float:
        return scrub_budget_seconds(of, store.active_workers())

    alone = budget(settings)
    assert budget(shared) == alone
    for name in "abc":
        store.beat(beat_of(name))
    store.beat(beat_of("left", status=WorkerStatus.STOPPED))
    assert budget(settings) == alone
    assert budget(shared) == 3 * alone
    assert budget(planner) == 2 * alone


@pytest.mark.parametrize("kind", sorted(DECISIONS))
def test_a_decision_outweighs_every_other_hold(
    store: SqlStore, settings: Settings, kind: HoldKind
) -> None:
    """Where someone must decide which side is right, the exit code is 6, not 4."""
    store.save_mirror(mirror())
    store.save_hold(Hold("one", "odd", HoldKind.SURPLUS_COLLECTION, 5, "why"))
    store.save_hold(Hold("two", "even", kind, 5, "why"))
    assert take_snapshot(store, settings).exit_code == 6

"""A store of version 2, which the program before made, is opened by this one and keeps its word."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import Executable, Insert, MetaData, inspect, literal, select, text

from chromasync.errors import StoreUnusable
from chromasync.ledger.digest import ids_digest
from chromasync.model import (
    AppliedDigests,
    Chunk,
    ChunkHead,
    CycleStatus,
    DeletionKind,
    Deployment,
    Hold,
    HoldKind,
    MirrorStatus,
    NewTask,
    Quarantined,
    Space,
    TaskCounts,
    TaskStatus,
    WorkerStatus,
    pack_ids,
)
from chromasync.store import SqlStore, migrations, open_store
from chromasync.store.schema import (
    COUNT_COLUMNS,
    Later,
    cycles,
    deletions,
    holds,
    leases,
    quarantine,
    schema_versions,
    tasks,
    workers,
)
from chromasync.store.schema_history import metrics, recommendations
from chromasync.store.schema_servers import kept, known_ids, marks, removals
from tests.store.former import chunk_contents, chunks, collections
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    claim_one,
    digests,
    loaded,
    look,
    result_for,
)
from tests.support.ledgers import head_with, mirror_of, with_digests

MOMENT = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)
COUNTS = dict.fromkeys(COUNT_COLUMNS.values(), 3)

MIRROR = mirror_of(
    COLLECTION,
    "t",
    "d",
    "books",
    replica_id="replica",
    status=MirrorStatus.HELD,
    ordered=False,
    missing_cycles=1,
    count=7,
    replica_count=6,
    walked_at=MOMENT,
    replica_walked_at=MOMENT,
    identical_as_of=MOMENT,
    last_successful_sync_at=MOMENT,
    last_attempt_at=MOMENT,
    duration_seconds=1.5,
    consecutive_errors=2,
    last_error="no",
    reduced_count=1,
    adopting=True,
    space=Space.COSINE,
    dimension=768,
    settled_cycle=0,
)
IDS = {1: ["a", "b"], 2: ["c", "nul\0"], 3: ["d"], 4: ["e"]}
"""The records of each chunk; each chunk has a task, in one state each."""

STATES = dict(zip(IDS, TaskStatus, strict=True))


def a_mirror() -> Executable:
    return collections.insert().values(
        collection_id=COLLECTION,
        collection_name="books",
        primary_document_count=7,
        replica_document_count=6,
        last_successful_sync=MOMENT,
        last_sync_attempt=MOMENT,
        sync_status=MirrorStatus.HELD,
        sync_duration_seconds=1.5,
        consecutive_errors=2,
        last_error_message="no",
        tenant="t",
        database_name="d",
        replica_id="replica",
        ordered=False,
        missing_cycles=1,
        walked_at=MOMENT,
        replica_walked_at=MOMENT,
        identical_as_of=MOMENT,
        reduced_count=1,
        adopting=True,
        space=Space.COSINE,
        dimension=768,
    )


def a_chunk(number: int) -> Iterator[Executable]:
    ids = IDS[number]
    yield chunks.insert().values(
        collection_id=COLLECTION,
        chunk_start_offset=number,
        record_count=len(ids),
        ids_digest=ids_digest(ids),
        read_at=MOMENT,
        checked_at=MOMENT,
        read_seconds=0.25,
        suspect=number == 3,
        recheck=number == 4,
        gone_count=number,
        reduced_count=1,
        distrusted_at=MOMENT if number == 3 else None,
    )
    yield chunk_contents.insert().values(
        chunk_id=number,
        ids=pack_ids(ids),
        embedding_digests=digests(len(ids), number),
        payload_digests=digests(len(ids), number + 10),
    )


def a_task(number: int) -> Insert:
    status = STATES[number]
    held, ended = status is TaskStatus.PROCESSING, status is not TaskStatus.PENDING
    return tasks.insert().values(
        collection_id=COLLECTION,
        collection_name="books",
        chunk_start_offset=number,
        chunk_end_offset=number + 1,
        task_status=status,
        worker_id="w" if ended else None,
        started_at=Later(-60) if ended else None,
        completed_at=Later(-50) if ended and not held else None,
        retry_count=number,
        error_message="no" if status is TaskStatus.FAILED else None,
        created_at=Later(-60),
        cycle_id=1,
        chunk_id=number,
        check_replica=True,
        fence=number,
        available_at=Later(-60),
        lease_seconds=30 if held else None,
        lease_expires_at=Later(-30) if held else None,
        claim_number=9 if held else None,
        **COUNTS,
    )


def a_deletion(kind: DeletionKind, chunk_id: int | None, ids: list[str]) -> Executable:
    return deletions.insert().values(
        collection_id=COLLECTION, kind=kind, chunk_id=chunk_id, ids=pack_ids(ids)
    )


def a_hold(collection: str, kind: HoldKind, approved_count: int | None) -> Executable:
    return holds.insert().values(
        collection_id=collection,
        kind=kind,
        collection_name="books",
        record_count=350,
        reason="many",
        held_at=MOMENT,
        approved_count=approved_count,
    )


def rows_of_version_2() -> Iterator[Executable]:
    """Something in every table, as it is in the middle of a cycle."""
    yield a_mirror()
    for number in IDS:
        yield from a_chunk(number)
        yield a_task(number)
    yield a_deletion(DeletionKind.GONE, 1, ["b"])
    yield a_deletion(DeletionKind.SURPLUS, None, ["x", "y"])
    yield a_hold(COLLECTION, HoldKind.DELETES, 350)
    yield a_hold(OTHER, HoldKind.SURPLUS_COLLECTION, None)
    yield quarantine.insert().values(
        collection_id=COLLECTION, record_id="nul\0", reason="bad", absent=True, since_at=MOMENT
    )
    yield leases.insert().values(
        name="coordinator", holder="me", token=4, ttl_seconds=1, expires_at=MOMENT
    )
    yield cycles.insert().values(cycle_status=CycleStatus.RUNNING, started_at=MOMENT, **COUNTS)
    yield workers.insert().values(
        worker_id="w",
        worker_status=WorkerStatus.ACTIVE,
        last_heartbeat=Later(0),
        memory_usage_mb=100,
        cpu_percent=50,
        hostname="host",
        pid=1,
        version="0",
        started_at=MOMENT,
    )
    yield metrics.insert().values(
        recorded_at=MOMENT,
        cycle_id=1,
        duration_seconds=2,
        records_read=10,
        records_written=0,
        records_per_second=5,
        tasks_completed=1,
        tasks_failed=0,
        primary_document_count=7,
        active_workers=1,
    )
    yield recommendations.insert().values(
        created_at=MOMENT, current_phase="1", recommended_phase="2", reason="more"
    )


Program = Callable[[], SqlStore]


@pytest.fixture
def program_of_version_2(place: str, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Opens the store as the program before did, whose last step was the second."""

    def opened() -> SqlStore:
        with monkeypatch.context() as older:
            older.setattr(migrations, "STEPS", migrations.STEPS[:2])
            older.setattr(migrations, "metadata", MetaData())
            return open_store(place)

    return opened


@pytest.fixture
def upgraded(place: str, program_of_version_2: Program) -> Iterator[SqlStore]:
    """That store with something in every table, opened by this program."""
    older = program_of_version_2()
    for statement in rows_of_version_2():
        arrange(older, statement)
    for name in inspect(older.backend.engine).get_table_names():
        if not name.startswith("sqlite_"):
            assert look(older, select(literal(1)).select_from(text(name)))
    older.close()
    store = open_store(place)
    yield store
    store.close()


def chunk_of_version_2(number: int) -> Chunk:
    """What version 2 knew of a chunk, and nothing more."""
    ids = IDS[number]
    head = head_with(
        ChunkHead(number, COLLECTION, number, len(ids), ids_digest(ids)),
        read_at=MOMENT,
        checked_at=MOMENT,
        read_seconds=0.25,
        suspect=number == 3,
        recheck=number == 4,
        gone_count=number,
        reduced_count=1,
    )
    applied = AppliedDigests(digests(len(ids), number), digests(len(ids), number + 10))
    return Chunk(head, ids, applied)


def test_the_ledger_is_still_there(upgraded: SqlStore) -> None:
    """Mirror, chunks, deletions and quarantine as they were; the replica's side is unknown."""
    assert upgraded.mirrors() == [MIRROR]
    for number, ids in IDS.items():
        chunk = loaded(upgraded, number)
        assert chunk == chunk_of_version_2(number)
        assert chunk.applied.replica == digests(len(ids))
    assert [(d.kind, d.chunk_id, d.ids) for d in upgraded.deletions(COLLECTION)] == [
        (DeletionKind.GONE, 1, ["b"]),
        (DeletionKind.SURPLUS, None, ["x", "y"]),
    ]
    assert upgraded.quarantined() == [Quarantined(COLLECTION, "nul\0", "bad", True, MOMENT)]


def test_holds_are_still_there_and_their_approvals_are_not(upgraded: SqlStore) -> None:
    """An approval of so many records names no set, so that it lets nothing through."""
    deletes = Hold(COLLECTION, "books", HoldKind.DELETES, 350, "many", MOMENT)
    surplus = Hold(OTHER, "books", HoldKind.SURPLUS_COLLECTION, 350, "many", MOMENT)
    assert upgraded.holds() == [deletes, surplus]
    named = replace(deletes, set_digest="3f9a")
    upgraded.save_hold(named)
    assert upgraded.approve(named)


def test_an_approval_of_a_set_without_a_name_does_not_last(upgraded: SqlStore) -> None:
    """Whoever approves right after the upgrade is asked again once the set has a name."""
    (hold, _) = upgraded.holds()
    assert upgraded.approve(hold)
    upgraded.save_hold(replace(hold, set_digest="3f9a"))
    assert upgraded.holds()[0].approved_count is None


def test_tasks_of_every_state_go_on(upgraded: SqlStore) -> None:
    """The held one is rescued, the waiting one is worked on, and the ended ones stay history."""
    assert upgraded.task_counts(1) == TaskCounts(1, 1, 1, 1)
    assert upgraded.failed_tasks(1) == {COLLECTION: "no"}
    assert upgraded.rescue_tasks() == 1
    found = {head.id: head.replica.in_hand for head in upgraded.chunk_heads(COLLECTION)}
    assert found == {1: False, 2: True, 3: False, 4: False}
    task = claim_one(upgraded)
    assert (task.chunk_id, task.cycle_id, task.hold_foreign, task.retry_count) == (1, 1, False, 1)
    result = result_for(upgraded, task, mark=1)
    seen = with_digests(result.chunk, replica=digests(2, 5))
    assert upgraded.complete_task(task, replace(result, chunk=seen))
    assert loaded(upgraded, 1).applied.replica == digests(2, 5)
    upgraded.add_tasks(1, [NewTask(COLLECTION, "books", 3, 0, 1, hold_foreign=True)])


def test_everything_else_goes_on(upgraded: SqlStore) -> None:
    """Lead, cycles, workers, metrics and recommendations are where they were."""
    term = upgraded.take_lead("another", 60)
    assert term is not None
    assert term.number == 5
    (cycle,) = upgraded.cycles(5)
    assert (cycle.id, cycle.status, cycle.started_at) == (1, CycleStatus.RUNNING, MOMENT)
    assert [worker.worker_id for worker in upgraded.workers()] == ["w"]
    assert look(upgraded, select(metrics.c.records_per_second)) == [(5.0,)]
    assert len(look(upgraded, select(recommendations))) == 1
    assert upgraded.open_cycle().id == 2


def test_an_upgraded_store_has_an_id_and_knows_nothing_yet(upgraded: SqlStore) -> None:
    """What version 2 did not write down is unknown, and not taken for something."""
    assert upgraded.schema_version() == len(migrations.STEPS)
    store_id = upgraded.deployment().store_id
    assert uuid.UUID(store_id).version == 4
    assert upgraded.deployment() == Deployment(store_id)
    for table in (known_ids, kept, marks, removals):
        assert look(upgraded, select(table)) == []


@pytest.fixture
def older_charges(place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqlStore]:
    """A store of version 4 with charges in rows of failed tasks, opened by this program.

    One cycle was closed, one abandoned, one runs. Of each, a task was called back after two retries
    (chunks 1 to 3), and one was given up as it was planned (chunks 4 to 6). That of chunk 7 was
    charged in the first cycle and again in the last, and that of chunk 8 failed for good.
    """
    with monkeypatch.context() as older:
        older.setattr(migrations, "STEPS", migrations.STEPS[:4])
        older.setattr(migrations, "metadata", MetaData())
        store = open_store(place)
    for status in (CycleStatus.FAILED, CycleStatus.ABANDONED, CycleStatus.RUNNING):
        arrange(store, cycles.insert().values(cycle_status=status, started_at=MOMENT, **COUNTS))
    for number in (1, 2, 3):
        arrange(store, a_failed_task(number, number, retries=2))
        arrange(store, a_failed_task(number + 3, number, retries=6, worker=None, lease=0))
    for cycle, retries in ((1, 1), (3, 2)):
        arrange(store, a_failed_task(7, cycle, retries=retries))
    arrange(store, a_failed_task(8, 3, retries=6, lease=None))
    store.close()
    store = open_store(place)
    yield store
    store.close()


def a_failed_task(
    chunk: int, cycle: int, *, retries: int, worker: str | None = "w", lease: float | None = 30
) -> Insert:
    return a_task(4).values(
        chunk_id=chunk,
        cycle_id=cycle,
        retry_count=retries,
        worker_id=worker,
        lease_seconds=lease,
    )


def test_charges_of_version_4_go_on(older_charges: SqlStore) -> None:
    """What was called back takes them over, and what was given up in the running cycle stays so."""
    new = [NewTask(COLLECTION, "books", number, 0, 1) for number in range(1, 9)]
    assert older_charges.add_tasks(3, new) == 7
    columns = (tasks.c.chunk_id, tasks.c.task_status, tasks.c.retry_count)
    planned = look(older_charges, select(*columns).order_by(tasks.c.id).offset(9))
    assert sorted(planned) == [
        (1, "pending", 2),
        (2, "pending", 2),
        (3, "pending", 2),
        (4, "pending", 0),
        (5, "failed", 6),
        (7, "pending", 2),
        (8, "pending", 0),
    ]


def test_a_program_of_version_2_refuses_an_upgraded_store(
    upgraded: SqlStore, program_of_version_2: Program
) -> None:
    """It would approve by count alone and forget what the replica returned."""
    with pytest.raises(StoreUnusable) as caught:
        program_of_version_2()
    assert f"has version {len(migrations.STEPS)}; this program knows 2" in caught.value.what
    assert caught.value.untouched == "It was left as it is."
    assert caught.value.hint == "Run the newer chromasync that wrote it."
    assert upgraded.mirrors() == [MIRROR]
    assert len(look(upgraded, select(schema_versions))) == len(migrations.STEPS)

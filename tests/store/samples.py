"""Ready-made values and shortcuts for the store's tests."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import Executable, select, update

from chromasync.ledger.digest import ids_digest
from chromasync.model import (
    DIGEST_BYTES,
    AppliedDigests,
    Chunk,
    ChunkHead,
    ChunkResult,
    Cycle,
    Digests,
    NewTask,
    OpCounts,
    Quarantined,
    Task,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.store import SqlStore, open_store
from chromasync.store.schema import Later, tasks
from tests.support.ledgers import mirror_of, with_digests

COLLECTION = "11111111-aaaa-4bbb-8ccc-222222222222"
OTHER = "33333333-dddd-4eee-8fff-444444444444"


def digests(count: int, mark: int = 0) -> Digests:
    """`count` digests, all alike and told apart by `mark`."""
    return Digests(bytes([mark]) * (DIGEST_BYTES * count))


def chunk_of(
    ids: Sequence[str], *, chunk_id: int = 0, collection: str = COLLECTION, mark: int = 0
) -> Chunk:
    """A chunk of `ids` whose digests all carry `mark`."""
    head = ChunkHead(chunk_id, collection, 0, len(ids), ids_digest(ids))
    applied = AppliedDigests(digests(len(ids), mark), digests(len(ids), mark))
    return Chunk(head, list(ids), applied)


def stored(store: SqlStore, *chunks: Chunk) -> list[Chunk]:
    """Save new chunks and load them again."""
    return [loaded(store, chunk_id) for chunk_id in store.save_chunks(chunks)]


def loaded(store: SqlStore, chunk_id: int) -> Chunk:
    """The chunk, which must exist."""
    chunk = store.load_chunk(chunk_id)
    assert chunk is not None
    return chunk


def planned(store: SqlStore, count: int, *, collection: str = COLLECTION) -> Cycle:
    """A running cycle with one task for each of `count` new chunks of three records."""
    cycle = store.open_cycle()
    plan_into(store, cycle, count, collection=collection)
    return cycle


def plan_into(
    store: SqlStore, cycle: Cycle, count: int, *, collection: str = COLLECTION
) -> list[int]:
    """Add `count` new chunks with a task each to a cycle; returns the chunk ids."""
    chunks = [chunk_of([f"{n}-{i}" for i in "abc"], collection=collection) for n in range(count)]
    chunk_ids = store.save_chunks(chunks)
    assert store.add_tasks(cycle.id, [task_for(i, collection) for i in chunk_ids]) == count
    return chunk_ids


def task_for(chunk_id: int, collection: str = COLLECTION) -> NewTask:
    """A task for a chunk of three records."""
    return NewTask(collection, "books", chunk_id, 0, 3)


def result_for(
    store: SqlStore,
    task: Task,
    *,
    mark: int = 1,
    gone: Sequence[str] = (),
    quarantined: Sequence[Quarantined] = (),
    counts: OpCounts = OpCounts(read=3),
) -> ChunkResult:
    """The result of reconciling a task's chunk, its digests now carrying `mark`."""
    chunk = loaded(store, task.chunk_id)
    seen = digests(len(chunk.ids), mark)
    new = with_digests(chunk, embedding=seen, payload=seen)
    return ChunkResult(new, list(gone), list(quarantined), counts)


def trusted(result: ChunkResult) -> ChunkResult:
    """The same result after comparing every record on both sides: no longer suspect."""
    head = result.chunk.head.with_replica(suspect=False)
    return replace(result, chunk=replace(result.chunk, head=head))


def claim(store: SqlStore, most: int, worker: str = "w", lease_seconds: float = 60) -> list[Task]:
    """Claim up to `most` tasks, one by one, each claim under a number of its own."""
    claimed: list[Task] = []
    while len(claimed) < most:
        task = store.claim_task(worker, lease_seconds, secrets.randbits(63))
        if task is None:
            break
        claimed.append(task)
    return claimed


def claim_one(store: SqlStore, worker: str = "w", lease_seconds: float = 60) -> Task:
    """Claim exactly one task."""
    (task,) = claim(store, 1, worker, lease_seconds)
    return task


def beat_of(
    worker: str = "w",
    *,
    status: WorkerStatus = WorkerStatus.ACTIVE,
    at: int | None = None,
    memory_mb: float = 100.0,
    cpu_percent: float = 50.0,
) -> WorkerBeat:
    """A worker's beat while it is at task `at`."""
    return WorkerBeat(worker, status, at, memory_mb, cpu_percent, "host", 1, "0")


def arrange(store: SqlStore, statement: Executable) -> None:
    """Run a statement behind the store's back, to bring about what else would take time."""
    with store._writing() as tx:
        tx.execute(statement)


def look(store: SqlStore, statement: Executable) -> list[tuple[Any, ...]]:
    """Rows as they are in the database."""
    with store._reading() as tx:
        return [tuple(row) for row in tx.execute(statement)]


def expire(store: SqlStore, *held: Task) -> None:
    """Let the leases of these tasks have run out a second ago."""
    arrange(
        store,
        update(tasks)
        .where(tasks.c.id.in_([task.id for task in held]))
        .values(lease_expires_at=Later(-1)),
    )


def end_backoffs(store: SqlStore) -> None:
    """Make every pending task available now, as if the store had waited."""
    arrange(store, update(tasks).values(available_at=Later(-1)))
    store._floor.look_again()


def filled(path: Path) -> bytes:
    """A closed store with some content; returns its bytes."""
    store = open_store(path)
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n"))
    planned(store, 50)
    store.save_chunks([chunk_of([f"{n}" * 50 for n in range(1000)]) for _ in range(5)])
    store.close()
    return path.read_bytes()


def row_of(store: SqlStore, task: Task, *columns: str) -> tuple[object, ...]:
    return look(store, select(*(tasks.c[c] for c in columns)).where(tasks.c.id == task.id))[0]

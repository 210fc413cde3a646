"""A worker pool over a real store, with a reconciler that does what the test says."""

from __future__ import annotations

import queue
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select

from chromasync.model import (
    Chunk,
    ChunkResult,
    Collection,
    OpCounts,
    Pair,
    Quarantined,
    Space,
    Task,
)
from chromasync.ports import Permit
from chromasync.store import SqlStore
from chromasync.store.schema import tasks
from chromasync.worker.pool import WorkerPool
from tests.store.samples import COLLECTION, look
from tests.support.ledgers import head_with, mirror_of

PATIENCE = 30.0
Act = Callable[[Task, Permit], None]

MIRROR = mirror_of(
    COLLECTION, "t", "d", "books", replica_id="replica-id", space=Space.L2, dimension=3
)
PAIR = Pair(
    Collection(COLLECTION, "books", "t", "d", dimension=3),
    Collection("replica-id", "books", "t", "d", dimension=3),
    Space.L2,
)


@dataclass
class Reconciler:
    """Does `act` for each task, as its write if it `writes`, and reports the chunk as read."""

    act: Act = lambda task, permit: None
    writes: bool = True
    seen: list[int] = field(default_factory=list)
    set_aside: list[Mapping[str, Quarantined]] = field(default_factory=list)
    began: queue.SimpleQueue[Task] = field(default_factory=queue.SimpleQueue)

    def reconcile(
        self,
        pair: Pair,
        chunk: Chunk,
        task: Task,
        permit: Permit,
        set_aside: Mapping[str, Quarantined],
        *,
        deleting: Container[str],
        note_write: Callable[[], None],
        write_permit: Permit | None = None,
    ) -> ChunkResult:
        assert pair == PAIR
        self.seen.append(task.id)
        self.set_aside.append(set_aside)
        self.began.put(task)
        if self.writes:
            note_write()
        self.act(task, permit)
        head = head_with(chunk.head, read_at=task.claimed_at, suspect=False)
        return ChunkResult(replace(chunk, head=head), [], [], OpCounts(read=len(chunk.ids)))


@contextmanager
def pool_of(store: SqlStore, reconciler: Reconciler, **options: Any) -> Iterator[WorkerPool]:
    """A pool, stopped at the end."""
    given: dict[str, Any] = {"name": "me", "threads": 1, "lease_seconds": 60.0} | options
    store.save_mirror(given.pop("mirror", MIRROR))
    pool = WorkerPool(store, reconciler, **given)
    pool.start()
    try:
        yield pool
    finally:
        pool.drain()


def until(pool: WorkerPool, true: Callable[[], bool]) -> None:
    """Wait for the pool's progress until something is true."""
    while not true():
        assert pool.progressed.wait(PATIENCE), "no progress"
        pool.progressed.clear()


def trouble_of(pool: WorkerPool) -> Exception | None:
    return pool.trouble


def states(store: SqlStore) -> dict[int, tuple[str, int, str | None]]:
    """Status, retries and error of each task."""
    rows = look(
        store, select(tasks.c.id, tasks.c.task_status, tasks.c.retry_count, tasks.c.error_message)
    )
    return {row[0]: (str(row[1]), row[2], row[3]) for row in rows}


def is_done(store: SqlStore, cycle_id: int) -> Callable[[], bool]:
    return lambda: store.task_counts(cycle_id).live == 0

"""The store's content for status displays, in one transaction (`Store.snapshot`).

A transaction that reads sees one snapshot. On PostgreSQL its BEGIN says REPEATABLE READ, which also
works behind a transaction pooler. On SQLite it is a deferred transaction over the write-ahead log.
The database takes the snapshot when the first statement reads a table. So this statement also reads
the clock: no row of the snapshot is later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, func, select

from chromasync.model import ChunkCounts, CycleStatus, StoreSnapshot, TaskCounts
from chromasync.store.control import control_in
from chromasync.store.core import Core
from chromasync.store.direction import direction_in
from chromasync.store.history import cycle_counts_in, cycles_in
from chromasync.store.holds import holds_in
from chromasync.store.instants import suspicions_in
from chromasync.store.ledger import mirrors_in, quarantined_in
from chromasync.store.queue import task_counts_in
from chromasync.store.retry import retried
from chromasync.store.schema import Now, cycles, schema_versions
from chromasync.store.schema_ledger import REPLICA, SUSPECT, chunks, replica_chunks
from chromasync.store.trials import live_trials_in
from chromasync.store.workers import workers_in

CHUNK_STATES = ("clean", "unread", "recheck", "suspect")
"""The states of a chunk, in the order of the fields of ChunkCounts."""

_BEGUN_AT = select(Now(), func.count()).select_from(schema_versions)
_CLEAN_AT = (
    select(cycles.c.started_at)
    .where(cycles.c.cycle_status == CycleStatus.COMPLETED)
    .order_by(cycles.c.id.desc())
    .limit(1)
)
_IS_SUSPECT = chunks.c.id.in_(
    select(replica_chunks.c.chunk_id).where(SUSPECT, replica_chunks.c.replica == REPLICA)
)
_STATE = case(
    (_IS_SUSPECT, "suspect"),
    (chunks.c.read_at.is_(None), "unread"),
    (chunks.c.recheck, "recheck"),
    else_="clean",
)
_CHUNKS = select(
    chunks.c.collection_id,
    func.sum(chunks.c.read_seconds),
    *(func.sum(case({state: 1}, value=_STATE, else_=0)) for state in CHUNK_STATES),
    func.min(chunks.c.read_at),
).group_by(chunks.c.collection_id)


class SnapshotPart(Core):
    """One snapshot of the store."""

    @retried
    def snapshot(self, cycles: int, *, counted: int | None = None) -> StoreSnapshot:
        """The store's content for status displays, as of one instant.

        Args:
            cycles: how many of the newest cycles to list.
            counted: the cycle whose tasks are counted; the newest of these when None.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._reading() as tx:
            taken_at = _begun_at(tx)
            listed = cycles_in(tx, cycles)
            if counted is None and listed:
                counted = listed[0].id
            summed = tx.execute(_CHUNKS).all()
            return StoreSnapshot(
                taken_at=taken_at,
                mirrors=tuple(mirrors_in(tx)),
                holds=tuple(holds_in(tx)),
                quarantined=tuple(quarantined_in(tx)),
                suspicions=suspicions_in(tx),
                live_trials=frozenset(live_trials_in(tx, self._backend)),
                workers=tuple(workers_in(tx)),
                cycles=tuple(listed),
                counts={} if counted is None else cycle_counts_in(tx, counted),
                tasks=TaskCounts() if counted is None else task_counts_in(tx, counted),
                clean_at=tx.execute(_CLEAN_AT).scalar(),
                control=control_in(tx),
                direction=direction_in(tx),
                read_seconds={row[0]: float(row[1]) for row in summed},
                chunks={row[0]: _chunk_counts(row[2:]) for row in summed},
            )


def _chunk_counts(row: Sequence[Any]) -> ChunkCounts:
    clean, unread, recheck, suspect, oldest_read_at = row
    return ChunkCounts(int(clean), int(unread), int(recheck), int(suspect), oldest_read_at)


def _begun_at(tx: Connection) -> datetime:
    """The store's time at the instant of the transaction's snapshot."""
    begun_at: datetime = tx.execute(_BEGUN_AT).one()[0]
    return begun_at

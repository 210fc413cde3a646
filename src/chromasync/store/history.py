"""Cycles, the sums of their tasks, their metrics, and the pruning of history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from chromasync.errors import StoreUnusable
from chromasync.model import Cycle, CycleStatus, OpCounts, TaskStatus, WorkerStatus
from chromasync.store import instants, retry_charges
from chromasync.store.core import Core
from chromasync.store.measured import IS_CYCLE
from chromasync.store.queue import cancel_live
from chromasync.store.retry import retried
from chromasync.store.schema import (
    COUNT_COLUMNS,
    FINISHED,
    RUNNING,
    Instant,
    Now,
    cycles,
    tasks,
    workers,
)
from chromasync.store.schema_history import metrics
from chromasync.store.schema_ledger import primary_collections
from chromasync.store.thinning import thin

PRUNE_BATCH = 5000
KEPT_CYCLES = 1000
"""Number of the newest cycles that are kept regardless of age."""
KEPT_METRICS = 10_000

_COUNTS = [cycles.c[column] for column in COUNT_COLUMNS.values()]
_CYCLE = select(
    cycles.c.id,
    cycles.c.started_at,
    cycles.c.cycle_status,
    cycles.c.finished_at,
    cycles.c.error_message,
    cycles.c.exit_code,
    *_COUNTS,
)
_SUMS = [func.coalesce(func.sum(tasks.c[column]), 0) for column in COUNT_COLUMNS.values()]
_SUMS_OF_CYCLE = (
    select(tasks.c.collection_id, *_SUMS)
    .where(tasks.c.cycle_id == bindparam("cycle_id"))
    .group_by(tasks.c.collection_id)
)
ENDED_BEFORE = "the process that ran it ended before it did"
_ABANDON = (
    update(cycles)
    .where(RUNNING)
    .values(
        cycle_status=CycleStatus.ABANDONED,
        finished_at=Now(),
        error_message=ENDED_BEFORE,
    )
)
_NEWEST = select(func.coalesce(func.max(cycles.c.id), 0))
# A cycle that a call opened whose answer was lost; only the leader opens cycles.
_RUNNING_AFTER = select(cycles.c.id).where(RUNNING, cycles.c.id > bindparam("newest_id"))
_CLOSED = [status for status in CycleStatus if status is not CycleStatus.RUNNING]


class HistoryPart(Core):
    """Cycles, their sums and their history (a part of `ports.Control`)."""

    def open_cycle(self, lease_seconds: float | None = None) -> Cycle:
        """Begin a cycle; if one is still running, it becomes abandoned, and its tasks fail.

        Instants in the future become unknown. A wait for a worker whose task was called back ends
        `lease_seconds` from now at the latest.

        A live task of the old cycle would have two effects: the new cycle could not plan its chunk,
        and its completion, with the old ids, would count for the chunk with the new ones.
        """
        return self._open_cycle_after(self._newest_cycle(), lease_seconds)

    @retried
    def _newest_cycle(self) -> int:
        with self._reading() as tx:
            return int(tx.execute(_NEWEST).scalar_one())

    @retried
    def _open_cycle_after(self, newest_id: int, lease_seconds: float | None) -> Cycle:
        no_counts = dict.fromkeys(COUNT_COLUMNS.values(), 0)
        new = insert(cycles).values(cycle_status=CycleStatus.RUNNING, started_at=Now(), **no_counts)
        with self._leading() as tx:
            opened = tx.execute(_RUNNING_AFTER, {"newest_id": newest_id}).scalar()
            if opened is None:
                if tx.execute(_ABANDON).rowcount:
                    cancel_live(tx, self._backend, ENDED_BEFORE)
                instants.correct_instants(tx, lease_seconds)
                opened = tx.execute(new.returning(cycles.c.id)).scalar_one()
            return _cycle(tx, opened)

    @retried
    def close_cycle(
        self,
        cycle_id: int,
        status: CycleStatus,
        deleted: int,
        error: str | None = None,
        *,
        read: int = 0,
        exit_code: int | None = None,
    ) -> Cycle:
        """Close a running cycle with the sums of its tasks, and record its metrics.

        A cycle that is closed already does not change.

        Args:
            deleted: records deleted outside its tasks.
            read: records read outside its tasks.
            exit_code: that of the error that ends the cycle early.

        Raises:
            StoreUnusable: there is no such cycle.
        """
        with self._leading() as tx:
            counts = _sum_of_tasks(tx, cycle_id) + OpCounts(deleted=deleted, read=read)
            closing = update(cycles).where(cycles.c.id == cycle_id, RUNNING)
            values: dict[str, Any] = {
                "cycle_status": status,
                "finished_at": Now(),
                "error_message": error,
                "exit_code": exit_code,
            }
            values |= {column: getattr(counts, name) for name, column in COUNT_COLUMNS.items()}
            closed_now = tx.execute(closing.values(values)).rowcount
            cycle = _cycle(tx, cycle_id)
            if closed_now:
                retry_charges.end_cycle(tx, cycle_id)
                tx.execute(insert(metrics), _measured(tx, cycle))
        return cycle

    @retried
    def cycles(self, limit: int) -> list[Cycle]:
        """The latest cycles, newest first."""
        with self._reading() as tx:
            return cycles_in(tx, limit)

    @retried
    def cycle_counts(self, cycle_id: int) -> dict[str, OpCounts]:
        """The sums of a cycle's tasks so far, by collection id."""
        with self._reading() as tx:
            return cycle_counts_in(tx, cycle_id)

    @retried
    def prune_history(self, *, keep_seconds: float, keep_tasks: int) -> int:
        """Delete old history, and return the number of rows deleted.

        Finished tasks are deleted if they are older than `keep_seconds` or not among the newest
        `keep_tasks`, except those of a running cycle. Closed cycles and their metrics are deleted
        by age, except the newest KEPT_CYCLES and the metrics of the newest KEPT_METRICS cycles.
        Measurements of processes are thinned. Workers are deleted if they have been stopped or dead
        for `keep_seconds`. Each PRUNE_BATCH rows are one transaction.
        """
        # a value rather than an expression, so that the query can use an index
        old = literal(self._now() - timedelta(seconds=keep_seconds), Instant())
        settled = tasks.c.cycle_id.not_in(select(cycles.c.id).where(RUNNING))
        removed = self._prune(tasks, FINISHED & settled & (tasks.c.completed_at < old))
        surplus = self._beyond_newest_tasks(keep_tasks)
        if surplus is not None:
            removed += self._prune(tasks, FINISHED & settled & surplus)
        closed_before = cycles.c.cycle_status.in_(_CLOSED) & (cycles.c.finished_at < old)
        removed += self._prune(cycles, closed_before & _beyond_newest(cycles, KEPT_CYCLES))
        first_kept = self._first_of_newest_metrics(KEPT_METRICS)
        measured_before = IS_CYCLE & (metrics.c.recorded_at < old) & (metrics.c.id < first_kept)
        removed += self._prune(metrics, measured_before)
        removed += thin(self._writing)
        ended = workers.c.worker_status.in_([WorkerStatus.STOPPED, WorkerStatus.DEAD])
        return removed + self._prune(workers, ended & (workers.c.last_heartbeat < old))

    def _first_of_newest_metrics(self, keep: int) -> int:
        """The row of the oldest of the newest `keep` cycles; rows of processes do not count."""
        newest = select(metrics.c.id).where(IS_CYCLE).order_by(metrics.c.id.desc())
        with self._reading() as tx:
            return tx.execute(newest.offset(keep - 1).limit(1)).scalar() or 0

    @retried
    def _now(self) -> datetime:
        with self._reading() as tx:
            return tx.execute(select(Now())).scalar_one()

    def _prune(self, table: Table, condition: ColumnElement[bool]) -> int:
        key = table.primary_key.columns[0]
        some = select(key).where(condition).limit(PRUNE_BATCH)
        removed = 0
        while True:
            with self._writing(long=True) as tx:
                count = tx.execute(delete(table).where(key.in_(some))).rowcount
            removed += count
            if count < PRUNE_BATCH:
                return removed

    def _beyond_newest_tasks(self, keep: int) -> ColumnElement[bool] | None:
        place = tuple_(tasks.c.completed_at, tasks.c.id)
        first_surplus = (
            select(tasks.c.completed_at, tasks.c.id)
            .where(FINISHED)
            .order_by(tasks.c.completed_at.desc(), tasks.c.id.desc())
            .offset(keep)
            .limit(1)
        )
        with self._reading() as tx:
            found = tx.execute(first_surplus).first()
        if found is None:
            return None
        completed_at, task_id = found
        return place <= tuple_(literal(completed_at, Instant()), literal(task_id))


def cycles_in(tx: Connection, limit: int) -> list[Cycle]:
    """Like `cycles`, in the caller's transaction."""
    rows = tx.execute(_CYCLE.order_by(cycles.c.id.desc()).limit(limit))
    return [_build_cycle(row) for row in rows]


def cycle_counts_in(tx: Connection, cycle_id: int) -> dict[str, OpCounts]:
    """Like `cycle_counts`, in the caller's transaction."""
    rows = tx.execute(_SUMS_OF_CYCLE, {"cycle_id": cycle_id})
    return {row[0]: OpCounts(*(int(n) for n in row[1:])) for row in rows}


def _beyond_newest(table: Table, keep: int) -> ColumnElement[bool]:
    newest = select(func.coalesce(func.max(table.c.id), 0)).scalar_subquery()
    return table.c.id <= newest - keep


def _sum_of_tasks(tx: Connection, cycle_id: int) -> OpCounts:
    sums = tx.execute(select(*_SUMS).where(tasks.c.cycle_id == cycle_id)).one()
    return OpCounts(*(int(n) for n in sums))


def _cycle(tx: Connection, cycle_id: int) -> Cycle:
    row = tx.execute(_CYCLE.where(cycles.c.id == cycle_id)).first()
    if row is None:
        raise StoreUnusable(
            f"The state store knows no cycle {cycle_id}.", untouched="Nothing was changed."
        )
    return _build_cycle(row)


def _build_cycle(row: Sequence[Any]) -> Cycle:
    cycle_id, started_at, status, finished_at, error, exit_code, *counts = row
    return Cycle(cycle_id, started_at, status, finished_at, OpCounts(*counts), error, exit_code)


def _measured(tx: Connection, cycle: Cycle) -> Mapping[str, Any]:
    seconds = 0.0
    if cycle.finished_at is not None:  # negative if the clock went back meanwhile
        seconds = max(0.0, (cycle.finished_at - cycle.started_at).total_seconds())
    by_status = select(tasks.c.task_status, func.count()).where(tasks.c.cycle_id == cycle.id)
    ended = {row[0]: row[1] for row in tx.execute(by_status.group_by(tasks.c.task_status))}
    memory, limit, cpu = workers.c.memory_usage_mb, workers.c.memory_limit_mb, workers.c.cpu_percent
    active = tx.execute(
        select(memory, limit, cpu).where(workers.c.worker_status == WorkerStatus.ACTIVE)
    ).all()
    fullest = max(active, key=lambda row: (row[0] / (row[1] or inf), row[0]), default=(None, None))
    total = tx.execute(select(func.sum(primary_collections.c.record_count))).scalar()
    return {
        "recorded_at": cycle.finished_at,
        "cycle_id": cycle.id,
        "duration_seconds": seconds,
        "records_read": cycle.counts.read,
        "records_written": cycle.counts.applied,
        "records_per_second": cycle.counts.read / seconds if seconds > 0 else 0.0,
        "tasks_completed": ended.get(TaskStatus.COMPLETED, 0),
        "tasks_failed": ended.get(TaskStatus.FAILED, 0),
        "primary_document_count": int(total or 0),
        "active_workers": len(active),
        "memory_usage_mb": fullest[0],
        "memory_limit_mb": fullest[1],
        "cpu_percent": sum(row[2] for row in active) / len(active) if active else None,
    }

"""The queue's part of the store: tasks, their leases and fences, and workers (`ports.Queue`).

A task goes pending → processing → completed, or back to pending (released, failed, rescued), or to
failed. Its fence rises by one with every claim and with every exit from processing other than
completion, so (id, fence) names one attempt for ever: whoever holds an old pair writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, or_, select, update

from chromasync.model import (
    ChunkResult,
    NewTask,
    Task,
    TaskCounts,
    TaskStatus,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.store import chunkrows
from chromasync.store.core import CLOCK_SLACK_SECONDS, Core
from chromasync.store.rows import WORKER, printable
from chromasync.store.schema import (
    COUNT_COLUMNS,
    LIVE,
    PENDING,
    PROCESSING,
    Later,
    Now,
    tasks,
    workers,
)

MAX_BACKOFF_SECONDS = 300.0
SILENT_SECONDS = 60.0
"""A worker without a beat for so long is shown as dead; only leases decide about its tasks."""

_NO_COUNTS = dict.fromkeys(COUNT_COLUMNS.values(), 0)
_AVAILABLE = (PENDING, tasks.c.available_at <= Now())
_ANY_AVAILABLE = select(tasks.c.id).where(*_AVAILABLE).limit(1)
_OLDEST = (
    select(tasks.c.id, tasks.c.retry_count)
    .where(*_AVAILABLE)
    .order_by(tasks.c.id)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_BY_ID = update(tasks).where(tasks.c.id == bindparam("task_id"))
_CLAIM = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("task_ids", expanding=True)))
    .values(
        task_status=TaskStatus.PROCESSING,
        worker_id=bindparam("b_worker_id"),
        fence=tasks.c.fence + 1,
        started_at=Now(),
        lease_seconds=bindparam("seconds"),
        lease_expires_at=Later(bindparam("seconds")),
    )
    .returning(
        tasks.c.id,
        tasks.c.fence,
        tasks.c.collection_id,
        tasks.c.collection_name,
        tasks.c.chunk_id,
        tasks.c.check_replica,
        tasks.c.retry_count,
        tasks.c.started_at,
    )
)
# Only the key and the fence, never the status: PostgreSQL would drive the statement from the small
# partial indexes, which are full of dead entries.
_HELD = (
    select(tasks.c.task_status, tasks.c.retry_count)
    .where(tasks.c.id == bindparam("task_id"), tasks.c.fence == bindparam("fence"))
    .with_for_update()
)
_COMPLETE = _BY_ID.values(
    task_status=TaskStatus.COMPLETED,
    completed_at=Now(),
    lease_seconds=None,
    lease_expires_at=None,
    error_message=None,
    **{name: bindparam(f"b_{name}") for name in COUNT_COLUMNS.values()},
)
_LEAVE = {"fence": tasks.c.fence + 1, "lease_seconds": None, "lease_expires_at": None}
_RETRY = _BY_ID.values(
    _LEAVE
    | {
        "task_status": TaskStatus.PENDING,
        "available_at": Later(bindparam("backoff")),
        "retry_count": bindparam("retries"),
        "error_message": bindparam("error"),
    }
)
_GIVE_UP = _BY_ID.values(
    _LEAVE
    | {
        "task_status": TaskStatus.FAILED,
        "completed_at": Now(),
        "retry_count": bindparam("retries"),
        "error_message": bindparam("error"),
    }
)
_RELEASE = _BY_ID.values(_LEAVE | {"task_status": TaskStatus.PENDING, "available_at": Now()})
_RENEW = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("task_id"),
        tasks.c.fence == bindparam("b_fence"),
        tasks.c.lease_expires_at.is_not(None),
    )
    .values(lease_seconds=bindparam("seconds"), lease_expires_at=Later(bindparam("seconds")))
)
_PROCESSING = (
    select(
        tasks.c.id, tasks.c.chunk_id, tasks.c.retry_count, tasks.c.worker_id, workers.c.worker_id
    )
    .select_from(
        tasks.outerjoin(
            workers,
            (workers.c.worker_id == tasks.c.worker_id) & (workers.c.current_task_id == tasks.c.id),
        )
    )
    .where(PROCESSING)
    .order_by(tasks.c.lease_expires_at)  # the order of the small index, so that it is used
    .with_for_update(of=tasks, skip_locked=True)
)
_OVERDUE = _PROCESSING.where(
    or_(
        tasks.c.lease_expires_at < Now(),
        # Further ahead than a lease is long: the clock has stepped back.
        tasks.c.lease_expires_at > Later(tasks.c.lease_seconds + CLOCK_SLACK_SECONDS),
    )
)
_SILENCE = (
    update(workers)
    .where(
        workers.c.worker_status.in_([WorkerStatus.ACTIVE, WorkerStatus.DRAINING]),
        workers.c.last_heartbeat < Later(bindparam("minus_silence")),
    )
    .values(worker_status=WorkerStatus.DEAD)
)
_HELD_CHUNKS = select(tasks.c.chunk_id).where(PROCESSING)
_CANCEL = (
    update(tasks)
    .where(LIVE)
    .values(
        _LEAVE
        | {
            "task_status": TaskStatus.FAILED,
            "completed_at": Now(),
            "error_message": bindparam("error"),
        }
    )
)


class QueuePart(Core):
    """`ports.Queue` on tables; a led view adds and cancels tasks only while its term holds."""

    def add_tasks(self, cycle_id: int, tasks: Sequence[NewTask]) -> int:
        """Queue tasks and return how many were new; a chunk with a live task gets no second one."""
        rows = [_new_row(cycle_id, task) for task in tasks]
        if not rows:
            return 0
        with self._leading() as tx:
            return len(tx.execute(self._insert_task(), rows).all())

    def claim_tasks(self, worker_id: str, limit: int, lease_seconds: float) -> list[Task]:
        """Take up to `limit` available tasks, oldest first, for `lease_seconds`.

        A task that was tried before is handed out alone: it may be the one that kills workers,
        and must not take others with it.
        """
        if limit < 1 or not self._any_available():
            return []
        with self._writing() as tx:
            task_ids = _claimable(tx.execute(_OLDEST, {"most": limit}).all())
            if not task_ids:
                return []
            claim = {"task_ids": task_ids, "b_worker_id": worker_id, "seconds": lease_seconds}
            claimed = [Task(*row) for row in tx.execute(_CLAIM, claim)]
        return sorted(claimed, key=lambda task: task.id)

    def complete_task(self, task: Task, result: ChunkResult) -> bool:
        """Record a task as done together with what came of its chunk.

        Returns False, and writes nothing, when someone else has the task by now. A repeat of a
        completion whose answer was lost returns True and writes nothing either.
        """
        if result.chunk.head.id != task.chunk_id:
            raise ValueError("the result is of another chunk than the task")
        counts = {f"b_{c}": getattr(result.counts, f) for f, c in COUNT_COLUMNS.items()}
        with self._writing() as tx:
            held = _held(tx, task)
            if held is None or held.task_status is TaskStatus.COMPLETED:
                return held is not None
            tx.execute(_COMPLETE, {"task_id": task.id, **counts})
            chunkrows.record(tx, self._backend, result)
        return True

    def fail_task(self, task: Task, error: str, *, max_retries: int) -> bool:
        """Record a failed attempt: again later, or failed after more than `max_retries`.

        The chunk is not marked: whoever wrote to the replica before failing calls `distrust` first.
        Returns False when someone else has the task by now.
        """
        with self._writing() as tx:
            held = _held(tx, task)
            if held is None or held.task_status is TaskStatus.COMPLETED:
                return False
            _charge(tx, task.id, held.retry_count, error, max_retries)
        return True

    def release_tasks(self, tasks: Sequence[Task]) -> None:
        """Give tasks back untried: available at once, no retry charged."""
        with self._writing() as tx:
            for task in tasks:
                held = _held(tx, task)
                if held is not None and held.task_status is TaskStatus.PROCESSING:
                    tx.execute(_RELEASE, {"task_id": task.id})

    def renew_tasks(self, tasks: Sequence[Task], lease_seconds: float) -> set[int]:
        """Extend leases to `lease_seconds` from now; returns the ids still held."""
        kept = set()
        with self._writing() as tx:
            for task in tasks:
                lease = {"task_id": task.id, "b_fence": task.fence, "seconds": lease_seconds}
                if tx.execute(_RENEW, lease).rowcount:
                    kept.add(task.id)
        return kept

    def rescue_tasks(self, *, max_retries: int, expired_only: bool = True) -> int:
        """Return tasks whose lease expired (or all that are held) to the queue; says how many.

        Only the task that its worker was at is charged a retry; those waiting behind it were not
        tried. Every rescued chunk becomes suspect: its last holder may have written. Workers that
        have been silent for SILENT_SECONDS are shown as dead from now on.
        """
        with self._writing() as tx:
            tx.execute(_SILENCE, {"minus_silence": -SILENT_SECONDS})
            found = tx.execute(_OVERDUE if expired_only else _PROCESSING).all()
            for task_id, _, retry_count, holder, tried_by in found:
                if tried_by is None:
                    tx.execute(_RELEASE, {"task_id": task_id})
                else:
                    error = f"the lease expired while held by {holder}"
                    _charge(tx, task_id, retry_count, error, max_retries)
            chunkrows.distrust(tx, [row.chunk_id for row in found])
        return len(found)

    def cancel_tasks(self, error: str) -> int:
        """Fail every live task with `error`; chunks of those being worked on become suspect."""
        with self._leading() as tx:
            chunkrows.distrust(tx, tx.scalars(_HELD_CHUNKS).all())
            return tx.execute(_CANCEL, {"error": printable(error)}).rowcount

    def task_counts(self, cycle_id: int) -> TaskCounts:
        """Tasks of a cycle by state."""
        by_status = (
            select(tasks.c.task_status, func.count())
            .where(tasks.c.cycle_id == cycle_id)
            .group_by(tasks.c.task_status)
        )
        with self._reading() as tx:
            return TaskCounts(**{status.value: n for status, n in tx.execute(by_status)})

    def failed_tasks(self, cycle_id: int) -> dict[str, str]:
        """The first error of each collection that has failed tasks in a cycle, by collection id."""
        failed = (
            select(tasks.c.collection_id, tasks.c.error_message)
            .where(tasks.c.cycle_id == cycle_id, tasks.c.task_status == TaskStatus.FAILED)
            .order_by(tasks.c.completed_at, tasks.c.id)
        )
        first: dict[str, str] = {}
        with self._reading() as tx:
            for collection_id, error in tx.execute(failed):
                first.setdefault(collection_id, error or "")
        return first

    def beat(self, worker: WorkerBeat) -> None:
        """Record a proof of life at the database's own time."""
        values = WORKER.values(worker) | {"last_heartbeat": Now()}
        others = {name: value for name, value in values.items() if name != "worker_id"}
        new = self._backend.insert(workers).values(values | {"started_at": Now()})
        with self._writing() as tx:
            tx.execute(new.on_conflict_do_update(index_elements=["worker_id"], set_=others))

    def workers(self) -> list[WorkerBeat]:
        """All known workers, the latest heartbeat first."""
        latest = select(*WORKER.columns).order_by(
            workers.c.last_heartbeat.desc(), workers.c.worker_id
        )
        with self._reading() as tx:
            return [WORKER.build(row) for row in tx.execute(latest)]

    def _any_available(self) -> bool:
        # Idle workers ask often; asking needs no write lock.
        with self._reading() as tx:
            return tx.execute(_ANY_AVAILABLE).first() is not None

    def _insert_task(self) -> Any:
        return (
            self._backend.insert(tasks)
            .values(created_at=Now(), available_at=Now())
            .on_conflict_do_nothing()
            .returning(tasks.c.id)
        )


def _new_row(cycle_id: int, task: NewTask) -> dict[str, Any]:
    return {
        "cycle_id": cycle_id,
        "collection_id": task.collection_id,
        "collection_name": task.collection_name,
        "chunk_start_offset": task.start_offset,
        "chunk_end_offset": task.end_offset,
        "chunk_id": task.chunk_id,
        "check_replica": task.check_replica,
        "task_status": TaskStatus.PENDING,
        "retry_count": 0,
        "fence": 0,
        **_NO_COUNTS,
    }


def _claimable(candidates: Iterable[Any]) -> list[int]:
    """Ids up to the first retried task, or that task alone when it comes first."""
    task_ids: list[int] = []
    for task_id, retry_count in candidates:
        if retry_count > 0:
            return task_ids or [task_id]
        task_ids.append(task_id)
    return task_ids


def _held(tx: Connection, task: Task) -> Any:
    """The task's row while (id, fence) still names it: processing, or completed by this attempt."""
    return tx.execute(_HELD, {"task_id": task.id, "fence": task.fence}).first()


def _charge(tx: Connection, task_id: int, retry_count: int, error: str, max_retries: int) -> None:
    attempt = {"task_id": task_id, "retries": retry_count + 1, "error": printable(error)}
    if retry_count + 1 > max_retries:
        tx.execute(_GIVE_UP, attempt)
    else:
        backoff = min(MAX_BACKOFF_SECONDS, 2.0 ** min(retry_count, 16))
        tx.execute(_RETRY, {**attempt, "backoff": backoff})

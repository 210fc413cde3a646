"""The queue's part of the store: tasks, their leases and fences (`ports.Queue`).

A task goes pending → processing → completed, or back to pending (released, failed, rescued), or to
failed. Its fence rises with every claim, and with every exit from processing other than completion.
So (id, fence) names one attempt for ever, and a holder of an old pair writes nothing. A claim
raises the fence by a random step. Otherwise, if a failover loses a claim, the next claim would get
the same fence.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)

from chromasync.model import (
    ChunkResult,
    NewTask,
    Task,
    TaskCounts,
    TaskStatus,
    WorkerStatus,
)
from chromasync.store import chunkrows, retry_charges
from chromasync.store.core import CLOCK_SLACK_SECONDS, Backend, Core
from chromasync.store.instants import CUT_HEARTBEATS
from chromasync.store.retry import retried
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
from chromasync.store.workers import mark_silent_dead

_NO_COUNTS = dict.fromkeys(COUNT_COLUMNS.values(), 0)
_IS_HELD = tasks.c.lease_expires_at.is_not(None)
# The task of a claim whose answer was lost. The condition is not on task_status: PostgreSQL would
# then scan the index of leases, which is full of dead entries.
_AGAIN = (
    select(tasks.c.id)
    .where(
        tasks.c.claim_number == bindparam("claim"),
        tasks.c.worker_id == bindparam("worker"),
        _IS_HELD,
    )
    .limit(1)
    .with_for_update()
)
# If `available_at` is further ahead than the longest backoff, the clock has stepped back.
_AVAILABLE = or_(
    tasks.c.available_at <= Now(),
    tasks.c.available_at > Later(retry_charges.MAX_BACKOFF_SECONDS + CLOCK_SLACK_SECONDS),
)
_OLDEST = (
    select(tasks.c.id)
    .where(PENDING, tasks.c.id > bindparam("floor"), _AVAILABLE)
    .order_by(tasks.c.id)
    .limit(1)
    .with_for_update(skip_locked=True)
)
# Each subquery runs at most once, and the second one only if the first finds nothing.
_CLAIMABLE = func.coalesce(
    _AGAIN.correlate(None).scalar_subquery(), _OLDEST.correlate(None).scalar_subquery()
)
_ANY_CLAIMABLE = select(_CLAIMABLE)
_NEWEST = select(func.coalesce(func.max(tasks.c.id), 0))
_CLAIM = (
    update(tasks)
    .where(tasks.c.id == _CLAIMABLE)
    .values(
        task_status=TaskStatus.PROCESSING,
        worker_id=bindparam("worker"),
        claim_number=bindparam("claim"),
        fence=tasks.c.fence + case((_IS_HELD, 0), else_=bindparam("step", type_=BigInteger())),
        started_at=case((_IS_HELD, tasks.c.started_at), else_=Now()),
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
        tasks.c.cycle_id,
        tasks.c.hold_foreign,
        tasks.c.record_ids,
    )
)
# The condition has only the key and the fence, not the status: PostgreSQL would then scan the small
# partial indexes, which are full of dead entries.
_HELD = (
    select(tasks.c.task_status, tasks.c.retry_count)
    .where(tasks.c.id == bindparam("task_id"), tasks.c.fence == bindparam("fence"))
    .with_for_update()
)
_COMPLETE = retry_charges.BY_ID.where(tasks.c.fence == bindparam("b_fence"), _IS_HELD).values(
    task_status=TaskStatus.COMPLETED,
    completed_at=Now(),
    lease_seconds=None,
    lease_expires_at=None,
    claim_number=None,
    error_message=None,
    record_ids=None,  # a completed task does not need them, and there may be a million such rows
    **{name: bindparam(f"b_{name}") for name in COUNT_COLUMNS.values()},
)
_RELEASE = retry_charges.BY_ID.values(
    retry_charges.LEAVE | {"task_status": TaskStatus.PENDING, "available_at": Now()}
)
_RENEW = (
    update(tasks)
    .where(
        tasks.c.id == bindparam("task_id"),
        tasks.c.fence == bindparam("b_fence"),
        _IS_HELD,
    )
    .values(lease_seconds=bindparam("seconds"), lease_expires_at=Later(bindparam("seconds")))
)
_OVERDUE = (
    select(tasks.c.id, tasks.c.chunk_id, tasks.c.retry_count, tasks.c.worker_id)
    .where(
        PROCESSING,
        or_(
            tasks.c.lease_expires_at < Now(),
            # If a lease ends further ahead than it is long, the clock has stepped back.
            tasks.c.lease_expires_at > Later(tasks.c.lease_seconds + CLOCK_SLACK_SECONDS),
        ),
    )
    .order_by(tasks.c.lease_expires_at)  # the order of the small index, so that PostgreSQL uses it
    .with_for_update(skip_locked=True)
)
# Cancelling a live worker's task says nothing about the chunk, so no retry is charged. A worker is
# dead if it was silent for SILENT_SECONDS, or if it led and did not give up the lead itself.
_DIED = and_(
    _IS_HELD,
    tasks.c.worker_id.in_(
        select(workers.c.worker_id).where(workers.c.worker_status == WorkerStatus.DEAD)
    ),
)
# One statement, so that no claim comes between finding and failing. It can return only the new
# values of a row. So a task that was held keeps its `lease_seconds`. Its `available_at`, which a
# failed task does not need, keeps the end of its lease.
_CANCEL = (
    update(tasks)
    .where(LIVE)
    .values(
        fence=tasks.c.fence + 1,
        task_status=TaskStatus.FAILED,
        completed_at=Now(),
        available_at=func.coalesce(tasks.c.lease_expires_at, tasks.c.available_at),
        retry_count=tasks.c.retry_count + case((_DIED, 1), else_=0),
        lease_seconds=case((_IS_HELD, tasks.c.lease_seconds)),
        lease_expires_at=None,
        claim_number=None,
        error_message=case(
            (_DIED, literal("the process ended while held by ") + tasks.c.worker_id),
            else_=bindparam("error"),
        ),
    )
    .returning(
        tasks.c.chunk_id,
        tasks.c.worker_id,
        tasks.c.lease_seconds,
        tasks.c.available_at,
        tasks.c.retry_count,
        tasks.c.error_message,
        tasks.c.cycle_id,
    )
)

_BY_STATUS = (
    select(tasks.c.task_status, func.count())
    .where(tasks.c.cycle_id == bindparam("cycle_id"))
    .group_by(tasks.c.task_status)
)


class QueuePart(Core):
    """`ports.Queue` in the database; a led view adds and cancels tasks only in its term."""

    @retried
    def add_tasks(self, cycle_id: int, tasks: Sequence[NewTask]) -> int:
        """Queue tasks and return how many were new; a chunk with a live task gets no second one.

        A task takes over the retries that its chunk is charged with (see `retry_charges`). With
        more than MAX_RETRIES, it fails at once, and the chunk starts afresh in the next cycle.
        """
        if not tasks:
            return 0
        with self._leading() as tx:
            charged = retry_charges.charged(tx, cycle_id, {task.chunk_id for task in tasks})
            over = {i for i, row in charged.items() if row.given_up_in_cycle == cycle_id}
            rows = [_new_row(cycle_id, task) for task in tasks if task.chunk_id not in over]
            added = tx.execute(self._insert_task(), rows).all() if rows else []
            new_ids = {row.chunk_id: row.id for row in added}
            waits = retry_charges.take_over(tx, cycle_id, new_ids, charged)
        for wait in waits:
            self._floor.look_again(wait)
        return len(added)

    @retried
    def claim_task(self, worker_id: str, lease_seconds: float, claim: int) -> Task | None:
        """Take the oldest available task for `lease_seconds`; None when there is none.

        `claim` is a random number below 2**63. If the answer was lost, the worker asks again with
        the same number. If the lost answer had a task and the worker still holds it, this call
        returns the same task, with a lease from now.
        """
        asked = {"worker": worker_id, "claim": claim, "seconds": lease_seconds, "step": _step()}
        for floor in self._floor.tries():
            task = self._claim(asked | {"floor": floor})
            if task is not None:
                return task
        return None

    @retried
    def complete_task(self, task: Task, result: ChunkResult) -> bool:
        """Record a task as completed, and store the result of its chunk.

        Returns False and writes nothing if the task has another owner by now. A repeat of a
        completion whose answer was lost returns True and writes nothing.
        """
        if result.chunk.head.id != task.chunk_id:
            raise ValueError("the result is of another chunk than the task")
        counts = {f"b_{c}": getattr(result.counts, f) for f, c in COUNT_COLUMNS.items()}
        with self._writing() as tx:
            attempt = {"task_id": task.id, "b_fence": task.fence, **counts}
            if not tx.execute(_COMPLETE, attempt).rowcount:
                held = _held(tx, task)
                return held is not None and held.task_status is TaskStatus.COMPLETED
            chunkrows.record(tx, self._backend, result, task.claimed_at)
            if task.retry_count:
                retry_charges.forget(tx, task.chunk_id)
        return True

    @retried
    def fail_task(self, task: Task, error: str, *, final: bool = False) -> bool:
        """Record a failed attempt: the task is retried later, or fails after MAX_RETRIES retries.

        With `final` the task fails at once, because a retry cannot help. The chunk does not become
        suspect here: a caller that wrote to the replica calls `distrust` first. Returns False if
        the task has another owner by now. A repeat of a failure whose answer was lost returns True
        and charges nothing.
        """
        with self._writing() as tx:
            held = _held(tx, task)
            if held is None:
                return _has_failed(tx, task, error)
            if held.task_status is TaskStatus.COMPLETED:
                return False
            backoff = retry_charges.charge(
                tx, task.id, task.chunk_id, held.retry_count, error, final=final
            )
        self._floor.look_again(backoff)
        return True

    @retried
    def release_tasks(self, tasks: Sequence[Task]) -> None:
        """Return tasks to the queue: available at once, without a retry charged."""
        with self._writing() as tx:
            for task in tasks:
                held = _held(tx, task)
                if held is not None and held.task_status is TaskStatus.PROCESSING:
                    tx.execute(_RELEASE, {"task_id": task.id})
        self._floor.look_again()

    @retried
    def renew_tasks(self, tasks: Sequence[Task], lease_seconds: float) -> set[int]:
        """Extend leases to `lease_seconds` from now; returns the ids still held."""
        kept = set()
        with self._writing() as tx:
            for task in tasks:
                lease = {"task_id": task.id, "b_fence": task.fence, "seconds": lease_seconds}
                if tx.execute(_RENEW, lease).rowcount:
                    kept.add(task.id)
        return kept

    @retried
    def rescue_tasks(self) -> int:
        """Return tasks whose lease expired to the queue, charged with a retry; returns how many.

        Every rescued chunk becomes suspect, because its last holder may have written. Workers that
        were silent for SILENT_SECONDS are marked as dead in the table.
        """
        with self._writing() as tx:
            tx.execute(CUT_HEARTBEATS)
            mark_silent_dead(tx)
            found = tx.execute(_OVERDUE).all()
            chunkrows.distrust(tx, [row.chunk_id for row in found], in_hand=True)
            for task_id, chunk_id, retry_count, holder in found:
                error = f"the lease expired while held by {holder}"
                waited = retry_charges.FIRST_BACKOFF_SECONDS  # its lease was longer than that
                wait = retry_charges.charge(
                    tx, task_id, chunk_id, retry_count, error, waited=waited
                )
                self._floor.look_again(wait)
        return len(found)

    @retried
    def cancel_tasks(self, error: str) -> int:
        """Fail every live task with `error`, and return how many there were.

        The chunks of tasks that are held become suspect. Their holders may write until the end of
        their leases, or no more if the holder has provably ended. A lease ends at most one whole
        lease from now, even if the clock stepped back. A task is charged with a retry if its
        holder is dead.
        """
        with self._leading() as tx:
            return cancel_live(tx, self._backend, error)

    @retried
    def task_counts(self, cycle_id: int) -> TaskCounts:
        """The number of a cycle's tasks by state."""
        with self._reading() as tx:
            return task_counts_in(tx, cycle_id)

    @retried
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

    @retried
    def tasks_by_worker(self, collection_ids: Sequence[str]) -> dict[str, int]:
        """The number of completed tasks of these collections by worker, as far as history goes."""
        counted = (
            select(tasks.c.worker_id, func.count())
            .where(
                tasks.c.collection_id.in_(collection_ids),
                tasks.c.task_status == TaskStatus.COMPLETED,
            )
            .group_by(tasks.c.worker_id)
            .order_by(tasks.c.worker_id)
        )
        with self._reading() as tx:
            return {worker_id: int(count) for worker_id, count in tx.execute(counted)}

    def _claim(self, asked: dict[str, Any]) -> Task | None:
        if self._backend.asks_first:
            with self._reading() as tx:
                if tx.execute(_ANY_CLAIMABLE, asked).scalar() is None:
                    return None
        looks_at_all = asked["floor"] == 0
        with self._writing() as tx:
            # read before the claim: a task that is added in between was not looked at
            newest_id = tx.execute(_NEWEST).scalar_one() if looks_at_all else 0
            row = tx.execute(_CLAIM, asked).first()
        if row is not None:
            self._floor.found(row.id)
        elif looks_at_all:
            self._floor.found_nothing(newest_id)
        return None if row is None else Task(*row)

    def _insert_task(self) -> Any:
        return (
            self._backend.insert(tasks)
            .values(created_at=Now(), available_at=Now())
            .on_conflict_do_nothing()
            .returning(tasks.c.id, tasks.c.chunk_id)
        )


def task_counts_in(tx: Connection, cycle_id: int) -> TaskCounts:
    """Like `task_counts`, in the caller's transaction."""
    found = tx.execute(_BY_STATUS, {"cycle_id": cycle_id})
    return TaskCounts(**{status.value: count for status, count in found})


def cancel_live(tx: Connection, backend: Backend, error: str) -> int:
    """Like `cancel_tasks`, in the caller's transaction."""
    cancelled = tx.execute(_CANCEL, {"error": error}).all()
    now = tx.execute(select(Now())).scalar_one()
    for task in cancelled:
        if task.lease_seconds is None:
            continue
        chunkrows.distrust(tx, [task.chunk_id], in_hand=True)
        if not backend.is_gone(task.worker_id):
            longest = now + timedelta(seconds=task.lease_seconds)
            chunkrows.distrust_until(tx, task.chunk_id, min(task.available_at, longest))
    retry_charges.keep(tx, backend, cancelled)
    return len(cancelled)


def _step() -> int:
    """The random step by which a claim raises the fence."""
    return 1 + random.getrandbits(32)


def _new_row(cycle_id: int, task: NewTask) -> dict[str, Any]:
    return {
        "cycle_id": cycle_id,
        "collection_id": task.collection_id,
        "collection_name": task.collection_name,
        "chunk_start_offset": task.start_offset,
        "chunk_end_offset": task.end_offset,
        "chunk_id": task.chunk_id,
        "check_replica": task.check_replica,
        "hold_foreign": task.hold_foreign,
        "record_ids": task.record_ids,
        "task_status": TaskStatus.PENDING,
        "retry_count": 0,
        "fence": 0,
        **_NO_COUNTS,
    }


def _held(tx: Connection, task: Task) -> Any:
    """The task's row if its fence is still the same: processing, or completed by this attempt."""
    return tx.execute(_HELD, {"task_id": task.id, "fence": task.fence}).first()


def _has_failed(tx: Connection, task: Task, error: str) -> bool:
    """Whether this attempt is recorded as failed, and the task has not changed since."""
    failed = select(tasks.c.id).where(
        tasks.c.id == task.id,
        tasks.c.fence == task.fence + 1,
        tasks.c.retry_count == task.retry_count + 1,
        tasks.c.error_message == error,
    )
    return tx.execute(failed).scalar() is not None

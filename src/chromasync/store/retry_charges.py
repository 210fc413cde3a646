"""The retries that chunks are charged with, the backoff after each, and the limit.

A task counts its retries in `retry_count`. Each retry doubles the backoff before the next attempt.
With more than MAX_RETRIES, the task has failed.

A new leader, or a cycle that ends early, calls tasks back. A task that is called back has failed,
and its chunk is planned anew. If a chunk kills the process that leads, its task is called back in
each term. If its next task began without retries, it would run beside others each time, and it
would never fail. So a call-back writes the task's retries into `sync_retry_charges`. The chunk's
next task takes them over.

A row for a chunk is in one of two states:

    waiting     The next task takes the retries over, backs off, and runs alone. The row stays while
                that task is live. It is written anew when that task is called back, too.
    given up    The row has more than MAX_RETRIES. The next task failed as soon as it was planned,
                in the cycle that `given_up_in_cycle` names. The chunk is not planned again in this
                cycle. If the cycle is closed, the row is deleted, and the next cycle starts afresh.
                If the cycle is abandoned, the row stays, and the next cycle gives the chunk up
                again. Otherwise two lethal chunks could reset each other for ever.

Invariants:

    A chunk has one row at most.
    A row has one retry at least: a task without retries leaves no row.
    A live task has no fewer retries than the row of its chunk.
    A row is deleted when its chunk succeeds, when a task of the chunk fails for good, and when the
    chunk leaves the ledger. A row that was not planned for CHARGED_CYCLES cycles no longer counts,
    and it is deleted when the next cycle is closed.

A transaction that writes here has locked its tasks and chunks before. This fixed order prevents
deadlocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from chromasync.model import MAX_RETRIES, TaskStatus
from chromasync.store.core import Backend
from chromasync.store.schema import Later, Now, tasks
from chromasync.store.schema_retry_charges import retry_charges

FIRST_BACKOFF_SECONDS = 1.0
"""Doubles with each retry, up to MAX_BACKOFF_SECONDS."""
MAX_BACKOFF_SECONDS = 300.0
CHARGED_CYCLES = 10
"""The retries of a chunk that was not planned for so many cycles no longer count."""

BY_ID = update(tasks).where(tasks.c.id == bindparam("task_id"))
LEAVE = {
    "fence": tasks.c.fence + 1,
    "lease_seconds": None,
    "lease_expires_at": None,
    "claim_number": None,
}
_RETRY = BY_ID.values(
    LEAVE
    | {
        "task_status": TaskStatus.PENDING,
        "available_at": Later(bindparam("backoff")),
        "retry_count": bindparam("retries"),
        "error_message": bindparam("error"),
    }
)
_FAIL = BY_ID.values(
    LEAVE
    | {
        "task_status": TaskStatus.FAILED,
        "completed_at": Now(),
        "retry_count": bindparam("retries"),
        "error_message": bindparam("error"),
    }
)
# The query reads every row, because there are hardly ever more than a few.
_CHARGED = select(
    retry_charges.c.chunk_id,
    retry_charges.c.retry_count,
    retry_charges.c.error_message,
    retry_charges.c.given_up_in_cycle,
).where(retry_charges.c.cycle_id >= bindparam("oldest"))
_OF_CHUNK = retry_charges.c.chunk_id == bindparam("b_chunk_id")
_GIVE_UP = (
    update(retry_charges)
    .where(_OF_CHUNK)
    .values(cycle_id=bindparam("cycle"), given_up_in_cycle=bindparam("cycle"))
)
_FORGET = delete(retry_charges).where(_OF_CHUNK)
_END_CYCLE = delete(retry_charges).where(
    or_(
        retry_charges.c.given_up_in_cycle == bindparam("cycle"),
        retry_charges.c.cycle_id < bindparam("oldest"),
    )
)


def charged(tx: Connection, cycle_id: int, chunk_ids: set[int]) -> dict[int, Any]:
    """The rows of these chunks that still count in this cycle, by chunk."""
    rows = tx.execute(_CHARGED, {"oldest": cycle_id - CHARGED_CYCLES})
    return {row.chunk_id: row for row in rows if row.chunk_id in chunk_ids}


def take_over(
    tx: Connection, cycle_id: int, new_ids: Mapping[int, int], rows: Mapping[int, Any]
) -> list[float]:
    """Copy the retries to new tasks; returns their backoffs in seconds.

    `new_ids` has the ids of the tasks by chunk.
    """
    waits = []
    for chunk_id in sorted(new_ids.keys() & rows.keys()):
        row = rows[chunk_id]
        is_over = row.retry_count > MAX_RETRIES
        wait = _set(tx, new_ids[chunk_id], row.retry_count, row.error_message, fails=is_over)
        waits.append(wait)
        if is_over:
            tx.execute(_GIVE_UP, {"b_chunk_id": chunk_id, "cycle": cycle_id})
    return waits


def charge(
    tx: Connection,
    task_id: int,
    chunk_id: int,
    retry_count: int,
    error: str,
    *,
    final: bool = False,
    waited: float = 0.0,
) -> float:
    """Charge a retry; returns in how many seconds the task can be claimed again.

    With `final`, or with more than MAX_RETRIES, the task has failed, and its chunk starts afresh.
    `waited` is subtracted from the backoff: a task whose lease expired has waited already.
    """
    fails = final or retry_count + 1 > MAX_RETRIES
    wait = _set(tx, task_id, retry_count + 1, error, fails=fails, waited=waited)
    if fails:
        forget(tx, chunk_id)
    return wait


def keep(tx: Connection, backend: Backend, called_back: Sequence[Any]) -> None:
    """Store the retries of tasks that are called back, which are rows of `queue`."""
    rows = [
        {
            "chunk_id": task.chunk_id,
            "retry_count": task.retry_count,
            "error_message": task.error_message,
            "cycle_id": task.cycle_id,
        }
        for task in called_back
        if task.retry_count > 0
    ]
    if rows:
        new = backend.insert(retry_charges)
        others = {name: new.excluded[name] for name in rows[0] if name != "chunk_id"}
        tx.execute(new.on_conflict_do_update(index_elements=["chunk_id"], set_=others), rows)


def forget(tx: Connection, chunk_id: int) -> None:
    """Delete the retries that a chunk is charged with."""
    tx.execute(_FORGET, {"b_chunk_id": chunk_id})


def end_cycle(tx: Connection, cycle_id: int) -> None:
    """Delete the rows of chunks that this cycle gave up, and those that no longer count."""
    tx.execute(_END_CYCLE, {"cycle": cycle_id, "oldest": cycle_id - CHARGED_CYCLES})


def _set(
    tx: Connection, task_id: int, retries: int, error: str, *, fails: bool, waited: float = 0.0
) -> float:
    attempt = {"task_id": task_id, "retries": retries, "error": error}
    backoff = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(retries - 1, 16))
    backoff -= waited
    if fails:
        tx.execute(_FAIL, attempt)
    else:
        tx.execute(_RETRY, {**attempt, "backoff": backoff})
    return backoff

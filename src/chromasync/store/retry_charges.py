"""What chunks are charged with: retries, waits, and how many of them are too many.

A task carries its charges in `retry_count`. Each retry doubles the wait before the next attempt.
With more than MAX_RETRIES the task has failed.

A task that is called back (by a new leader, or when a cycle ends early) has failed, too, and its
chunk is planned anew. A chunk that kills the process that plans is called back in each term. If its
next task began with nothing, it would run beside others each time, and never fail. So a call-back
writes the charges of the task into `sync_retry_charges`, and the chunk's next task takes them over.

A row for a chunk is in one of two states:

    waiting     The next task takes the charges over, waits, and runs alone. The row stays while
                that task is live, and is written anew when that task is called back as well.
    given up    The charges are more than MAX_RETRIES. The next task failed as soon as it was
                planned, in the cycle that `given_up_in_cycle` names. The chunk is not planned
                again in this cycle. If the cycle is closed, the row goes, and the next cycle begins
                afresh. If it is abandoned, the row stays, and the next cycle gives the chunk up
                again: two chunks that kill would else never be given up in the same cycle.

What always holds:

    A chunk has one row at most.
    A row has one retry at least: a task that is charged with nothing leaves none.
    A live task is charged with no less than the row of its chunk.
    A row goes when its chunk succeeds, when a task of the chunk fails for good, when the chunk
    leaves the ledger, and when the chunk was not planned for CHARGED_CYCLES cycles. An older row
    counts no more, and goes when the next cycle is closed.

Whoever writes here has locked the task and the chunk before, so that nobody waits in a circle.
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
"""A chunk that was not planned for so many cycles is charged with nothing any more."""

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
# All of them are read, because there are hardly ever more than a few.
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
    """The rows of these chunks, by chunk, as a cycle that plans them finds them."""
    rows = tx.execute(_CHARGED, {"oldest": cycle_id - CHARGED_CYCLES})
    return {row.chunk_id: row for row in rows if row.chunk_id in chunk_ids}


def take_over(
    tx: Connection, cycle_id: int, new_ids: Mapping[int, int], rows: Mapping[int, Any]
) -> list[float]:
    """Charge new tasks, whose ids are given by chunk, and return the seconds that they wait."""
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
    """Charge a retry; returns in how many seconds the task can be had again.

    With `final`, or with more than MAX_RETRIES, the task has failed, and its chunk begins afresh.
    `waited` is taken off the first wait: a task whose lease ran out has waited long enough.
    """
    fails = final or retry_count + 1 > MAX_RETRIES
    wait = _set(tx, task_id, retry_count + 1, error, fails=fails, waited=waited)
    if fails:
        forget(tx, chunk_id)
    return wait


def keep(tx: Connection, backend: Backend, called_back: Sequence[Any]) -> None:
    """Keep what tasks were charged with that are called back; rows of `queue` name them."""
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
    """Charge a chunk with nothing any more."""
    tx.execute(_FORGET, {"b_chunk_id": chunk_id})


def end_cycle(tx: Connection, cycle_id: int) -> None:
    """Charge chunks with nothing that were given up in a cycle, or not planned for long."""
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

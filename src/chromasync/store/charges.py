"""What tasks are charged with: retries, waits, and how many of them are too many.

A task that is called back (by a new leader, or when a cycle ends early) fails, and its chunk is
planned anew. What the old task was charged with goes on counting for the new one: a chunk that
kills the process that plans would else be new in each term, run beside others, and never fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, select, update

from chromasync.model import MAX_RETRIES, CycleStatus, TaskStatus
from chromasync.store.chunkrows import in_parts
from chromasync.store.schema import Later, Now, cycles, tasks

FIRST_BACKOFF_SECONDS = 1.0
"""Doubles with each retry, up to MAX_BACKOFF_SECONDS."""
MAX_BACKOFF_SECONDS = 300.0
CHARGED_CYCLES = 10
"""A chunk that was not planned for so many cycles is charged with nothing any more."""
UNHELD = 0.0
"""`lease_seconds` of a failed task that nobody held, for as long as its charges count."""

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
_GIVE_UP = BY_ID.values(
    LEAVE
    | {
        "task_status": TaskStatus.FAILED,
        "completed_at": Now(),
        "retry_count": bindparam("retries"),
        "error_message": bindparam("error"),
    }
)
# Failed tasks whose charges count until their chunks are planned anew. Of those that failed when
# they were planned they count within the cycle, and beyond it only if it did not come to its end:
# two chunks that kill would else never be given up in one and the same cycle.
_FORMER = (
    select(
        tasks.c.id,
        tasks.c.cycle_id,
        tasks.c.chunk_id,
        tasks.c.retry_count,
        tasks.c.error_message,
        and_(tasks.c.worker_id.is_(None), tasks.c.retry_count > bindparam("most")).label(
            "given_up"
        ),
        (cycles.c.cycle_status == CycleStatus.ABANDONED).label("abandoned"),
    )
    .join_from(tasks, cycles, cycles.c.id == tasks.c.cycle_id)
    .where(
        tasks.c.cycle_id.in_(bindparam("cycle_ids", expanding=True)),
        tasks.c.task_status == TaskStatus.FAILED,
        tasks.c.retry_count > 0,
        tasks.c.lease_seconds.is_not(None),
    )
)
_NOTE_GIVEN_UP = BY_ID.values(lease_seconds=UNHELD)
_SETTLE = (
    update(tasks)
    .where(tasks.c.id.in_(bindparam("task_ids", expanding=True)))
    .values(lease_seconds=None)
)


def former_tasks(tx: Connection, cycle_id: int, chunk_ids: set[int]) -> list[Any]:
    """The rows of _FORMER for these chunks, at most one for each."""
    cycle_ids = list(range(cycle_id - CHARGED_CYCLES, cycle_id + 1))
    rows = tx.execute(_FORMER, {"cycle_ids": cycle_ids, "most": MAX_RETRIES})
    return [row for row in rows if row.chunk_id in chunk_ids]


def take_over(tx: Connection, new_ids: Mapping[int, int], former: Sequence[Any]) -> list[float]:
    """Charge new tasks, whose ids are given by chunk, and return the seconds that they wait."""
    former = [row for row in former if row.chunk_id in new_ids]
    for some in in_parts([row.id for row in former]):
        tx.execute(_SETTLE, {"task_ids": some})
    waits = []
    for row in former:
        if row.given_up and not row.abandoned:
            continue
        task_id, before = new_ids[row.chunk_id], row.retry_count - 1
        waits.append(charge(tx, task_id, before, row.error_message))
        if row.retry_count > MAX_RETRIES:
            tx.execute(_NOTE_GIVEN_UP, {"task_id": task_id})
    return waits


def charge(
    tx: Connection,
    task_id: int,
    retry_count: int,
    error: str,
    *,
    final: bool = False,
    waited: float = 0.0,
) -> float:
    """Charge a retry; returns in how many seconds the task can be had again.

    With `final`, or with more than MAX_RETRIES, the task has failed.
    `waited` is taken off the first wait: a task whose lease ran out has waited long enough.
    """
    attempt = {"task_id": task_id, "retries": retry_count + 1, "error": error}
    backoff = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(retry_count, 16))
    backoff -= waited
    if final or retry_count + 1 > MAX_RETRIES:
        tx.execute(_GIVE_UP, attempt)
    else:
        tx.execute(_RETRY, {**attempt, "backoff": backoff})
    return backoff

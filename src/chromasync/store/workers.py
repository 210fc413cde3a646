"""Heartbeats, and the status of workers that follows from them (a part of `ports.Queue`).

A worker that was silent for SILENT_SECONDS is dead. Queries compute that, because the table is not
updated after the last worker has died. A heartbeat in the future proves nothing: the clock was
ahead when it was written.
"""

from __future__ import annotations

from sqlalchemy import Connection, and_, case, func, literal, or_, select, update

from chromasync.model import SILENT_SECONDS, WorkerBeat, WorkerStatus
from chromasync.store.core import Core
from chromasync.store.retry import retried
from chromasync.store.rows import WORKER
from chromasync.store.schema import Later, Now, workers

_DEAD = literal(WorkerStatus.DEAD, workers.c.worker_status.type)
_IS_SILENT = and_(
    workers.c.worker_status.in_([WorkerStatus.ACTIVE, WorkerStatus.DRAINING]),
    or_(
        workers.c.last_heartbeat < Later(-SILENT_SECONDS),
        workers.c.last_heartbeat > Later(SILENT_SECONDS),
    ),
)
_SEEN_STATUS = case((_IS_SILENT, _DEAD), else_=workers.c.worker_status)
_COLUMNS = [_SEEN_STATUS if c is workers.c.worker_status else c for c in WORKER.columns]
_LATEST = select(*_COLUMNS).order_by(workers.c.last_heartbeat.desc(), workers.c.worker_id)
_COUNT_ACTIVE = select(func.count()).where(
    workers.c.worker_status == WorkerStatus.ACTIVE, ~_IS_SILENT
)
_MARK_DEAD = update(workers).where(_IS_SILENT).values(worker_status=WorkerStatus.DEAD)


class WorkerPart(Core):
    """Workers and their heartbeats."""

    @retried
    def beat(self, worker: WorkerBeat) -> None:
        """Record a heartbeat at the database's own time."""
        values = WORKER.values(worker) | {"last_heartbeat": Now()}
        others = {name: value for name, value in values.items() if name != "worker_id"}
        new = self._backend.insert(workers).values(values | {"started_at": Now()})
        with self._writing() as tx:
            tx.execute(new.on_conflict_do_update(index_elements=["worker_id"], set_=others))

    @retried
    def workers(self) -> list[WorkerBeat]:
        """All known workers, latest heartbeat first; silent workers are dead."""
        with self._reading() as tx:
            return workers_in(tx)

    @retried
    def active_workers(self) -> int:
        """The number of active processes."""
        with self._reading() as tx:
            return int(tx.execute(_COUNT_ACTIVE).scalar_one())


def workers_in(tx: Connection) -> list[WorkerBeat]:
    """Like `workers`, in the caller's transaction."""
    return [WORKER.build(row) for row in tx.execute(_LATEST)]


def mark_silent_dead(tx: Connection) -> None:
    """Mark silent workers as dead in the table, for users who query it."""
    tx.execute(_MARK_DEAD)

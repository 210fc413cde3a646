"""Measurements of cycles and processes (a part of `ports.Control`).

`close_cycle` writes the row of a cycle, and each process writes a row a minute. `thinning` merges
old rows. Readers get rows of the past only: a row from the future was written while the clock was
ahead.

A process numbers its rows, and writes one again under its number if it does not know whether it
was written. The lag of such a row follows from the newest row of a cycle: it grows until the next
cycle closes. So a row costs one statement.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, case, desc, func, select, update

from chromasync.model import Measurement, Usage
from chromasync.store.core import CLOCK_SLACK_SECONDS, Core
from chromasync.store.measured import IS_CYCLE, SELECTED, built
from chromasync.store.retry import retried
from chromasync.store.schema import Later, Now
from chromasync.store.schema_history import SecondsSince, metrics
from chromasync.store.thinning import thin

DETAILED_CYCLES = 2000
"""So many of the newest cycles are returned one by one."""
OLDER_CYCLES = 1000
"""At most so many of the others are returned: the longest one of each group."""

_cycle = metrics.alias()
_NEWEST_CYCLE = (
    select(_cycle).where(_cycle.c.process_name.is_(None)).order_by(_cycle.c.id.desc()).limit(1)
).subquery()
_LAG = case(
    (_NEWEST_CYCLE.c.recorded_at > Now(), None),
    else_=_NEWEST_CYCLE.c.lag_seconds + SecondsSince(_NEWEST_CYCLE.c.recorded_at),
)
_SINCE_CYCLE = {
    "cycle_id": func.coalesce(select(_NEWEST_CYCLE.c.cycle_id).scalar_subquery(), 0),
    "lag_seconds": select(_LAG).scalar_subquery(),
    "primary_document_count": func.coalesce(
        select(_NEWEST_CYCLE.c.primary_document_count).scalar_subquery(), 0
    ),
}


class MeasurementPart(Core):
    """Measurements of cycles and processes."""

    @retried
    def record_usage(self, process_name: str, number: int, usage: Usage) -> None:
        """Record what a process did; a row with this number of this process is replaced."""
        values = {**_of_process(usage), **_SINCE_CYCLE, "recorded_at": Now()}
        key = {"process_name": process_name, "row_number": number}
        new = self._backend.insert(metrics).values(values | key)
        with self._writing() as tx:
            tx.execute(new.on_conflict_do_update(index_elements=list(key), set_=values))

    @retried
    def note_usage(self, cycle_id: int, usage: Usage, lag_seconds: float | None) -> None:
        """Complete the row of a closed cycle with what its leader used, and the lag at its end."""
        values = {**_traffic(usage), "span_seconds": usage.seconds, "lag_seconds": lag_seconds}
        row = update(metrics).where(IS_CYCLE, metrics.c.cycle_id == cycle_id)
        with self._leading() as tx:
            tx.execute(row.values(values))

    @retried
    def thin_measurements(self) -> int:
        """Merge old rows of processes, and delete very old ones; returns how many rows went."""
        return thin(self._writing)

    @retried
    def measurements(self, since_seconds: float) -> list[Measurement]:
        """The measurements of the last `since_seconds`, oldest first; a few thousand at most."""
        with self._reading() as tx:
            found = [*_cycles_since(tx, since_seconds), *_processes_since(tx, since_seconds)]
        return sorted(found, key=lambda one: one.recorded_at)


def _traffic(usage: Usage) -> dict[str, Any]:
    primary, replica = usage.primary, usage.replica
    return {
        "bytes_read": primary.bytes_read,
        "bytes_written": replica.bytes_written,
        "primary_requests": primary.requests,
        "replica_requests": replica.requests,
        "refused_requests": primary.refused + replica.refused,
        "primary_seconds": primary.seconds,
        "replica_seconds": replica.seconds,
        "throttled_seconds": primary.throttled_seconds + replica.throttled_seconds,
        "phase_seconds": usage.phase_seconds,
    }


def _of_process(usage: Usage) -> dict[str, Any]:
    return _traffic(usage) | {
        "span_seconds": usage.seconds,
        "duration_seconds": usage.seconds,
        "records_read": usage.records_read,
        "records_written": usage.records_written,
        "records_per_second": usage.records_read / usage.seconds if usage.seconds > 0 else 0.0,
        "tasks_completed": usage.tasks_completed,
        "tasks_failed": usage.tasks_failed,
        "active_workers": 1,
        "memory_usage_mb": usage.memory_mb,
        "memory_limit_mb": usage.memory_limit_mb,
        "cpu_percent": usage.cpu_percent,
    }


def _past(since_seconds: float) -> Any:
    return and_(
        metrics.c.recorded_at >= Later(-since_seconds),
        metrics.c.recorded_at <= Later(CLOCK_SLACK_SECONDS),
    )


def _processes_since(tx: Connection, seconds: float) -> list[Measurement]:
    rows = tx.execute(select(*SELECTED).where(~IS_CYCLE, _past(seconds)))
    return [built(row) for row in rows]


def _cycles_since(tx: Connection, seconds: float) -> list[Measurement]:
    chosen = and_(IS_CYCLE, _past(seconds))
    newest = select(*SELECTED).where(chosen).order_by(metrics.c.id.desc()).limit(DETAILED_CYCLES)
    rows = tx.execute(newest.add_columns(metrics.c.id)).all()
    found = [built(row[:-1]) for row in rows]
    if len(rows) == DETAILED_CYCLES:
        found += _longest_before(tx, rows[-1][-1], chosen)
    return found


def _longest_before(tx: Connection, first_id: int, chosen: Any) -> list[Measurement]:
    """The longest cycle of each group of older ones."""
    group = func.ntile(OLDER_CYCLES).over(order_by=metrics.c.id)
    grouped = select(metrics.c.id, metrics.c.duration_seconds, group.label("number"))
    grouped_before = grouped.where(chosen, metrics.c.id < first_id).subquery()
    place = func.row_number().over(
        partition_by=grouped_before.c.number,
        order_by=(desc(grouped_before.c.duration_seconds), grouped_before.c.id),
    )
    placed = select(grouped_before.c.id, place.label("place")).subquery()
    longest = select(placed.c.id).where(placed.c.place == 1)
    return [built(row) for row in tx.execute(select(*SELECTED).where(metrics.c.id.in_(longest)))]

"""Measurements of cycles and processes (a part of `ports.Control`).

`close_cycle` writes the row of a cycle, and each process writes a row a minute. `thinning` merges
old rows. Readers get rows of the past only: a row from the future was written while the clock was
ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, desc, func, select

from chromasync.model import Measurement
from chromasync.store.core import CLOCK_SLACK_SECONDS, Core
from chromasync.store.retry import retried
from chromasync.store.schema import Later
from chromasync.store.schema_history import metrics

DETAILED_CYCLES = 2000
"""So many of the newest cycles are returned one by one."""
OLDER_CYCLES = 1000
"""At most so many of the others are returned: the longest one of each group."""

_COLUMNS: Mapping[str, str] = {
    "memory_mb": "memory_usage_mb",
    "primary_count": "primary_document_count",
}
_UNKNOWN = {"lag_seconds", "memory_mb", "memory_limit_mb", "cpu_percent", "process_name"}
"""Fields that may be unknown; the others are 0 where a row lacks them."""

FIELDS = tuple(Measurement.__dataclass_fields__)
SELECTED = [metrics.c[_COLUMNS.get(name, name)] for name in FIELDS]
IS_CYCLE = metrics.c.process_name.is_(None)


class MeasurementPart(Core):
    """Measurements of cycles and processes."""

    @retried
    def measurements(self, since_seconds: float) -> list[Measurement]:
        """The measurements of the last `since_seconds`, oldest first; a few thousand at most."""
        with self._reading() as tx:
            found = [*_cycles_since(tx, since_seconds), *_processes_since(tx, since_seconds)]
        return sorted(found, key=lambda one: one.recorded_at)


def built(row: Sequence[Any]) -> Measurement:
    """The measurement of a row of SELECTED; what an older program left out is 0."""
    given = dict(zip(FIELDS, row, strict=True))
    for name, value in given.items():
        if value is None and name not in _UNKNOWN:
            given[name] = 0
    if given["process_name"] is None:
        given["span_seconds"] = given["span_seconds"] or given["duration_seconds"]
    return Measurement(**given)


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

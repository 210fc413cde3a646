"""Thins the measurements of processes with age, so that their number stays bounded.

    age                  one row for
    up to 3 hours        each process, each minute
    up to 2 days         all processes together, each 10 minutes
    up to 35 days        all processes together, each hour

The newest MOST_SINGLE rows of single processes keep their detail at most, so many processes keep it
for a shorter time. Only an interval that has ended is merged. The merged row has the number of its
interval, so an interval has one row, and a merge can be repeated. If a row turns up later, because
a clock went back, it is added to the merged one. Rows of cycles are not touched here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, literal, not_, or_, select

from chromasync.model import ALL_PROCESSES, Measurement
from chromasync.store.measured import IS_CYCLE, SELECTED, built, values_of
from chromasync.store.schema import Instant, Now
from chromasync.store.schema_history import metrics

MOST_SINGLE = 4000
"""Most rows of single processes; the oldest beyond them are merged regardless of age."""
MOST_MERGED = 4000
"""Most rows of all processes together; there are fewer unless a clock was far off."""
KEPT_SECONDS = 35 * 86_400.0
PRUNE_BATCH = 1000

Writing = Callable[[], AbstractContextManager[Connection]]
_IS_MERGED = metrics.c.process_name.startswith(ALL_PROCESSES, autoescape=True)


@dataclass(frozen=True, slots=True)
class Tier:
    """Rows that were recorded longer ago than `age_seconds` are merged by `width_seconds`."""

    name: str
    width_seconds: int
    age_seconds: float
    merges: ColumnElement[bool]

    def number(self, instant: datetime) -> int:
        """The number of the interval with an instant."""
        return int(instant.timestamp() // self.width_seconds)

    def bounds(self, number: int) -> tuple[datetime, datetime]:
        """The beginning of an interval, and that of the next one."""
        begin = datetime.fromtimestamp(number * self.width_seconds, UTC)
        return begin, begin + timedelta(seconds=self.width_seconds)


_TEN_MINUTES = f"{ALL_PROCESSES} 10 min"
_HOUR = f"{ALL_PROCESSES} 1 h"
TIERS = (
    Tier(_TEN_MINUTES, 600, 3 * 3600.0, not_(or_(IS_CYCLE, _IS_MERGED))),
    Tier(_HOUR, 3600, 2 * 86_400.0, metrics.c.process_name == _TEN_MINUTES),
)


def thin(writing: Writing) -> int:
    """Merge and delete old rows of processes; returns how many rows fewer there are."""
    gone = 0
    for tier in TIERS:
        gone += _merge_old(writing, tier)
    gone += _merge_surplus(writing, TIERS[0])
    return gone + _delete_old(writing)


def merged(rows: Sequence[Measurement], name: str) -> Measurement:
    """One row for all of `rows`: sums of counts, the worst lag and memory, the mean processor."""
    newest = max(rows, key=lambda row: (row.recorded_at, row.cycle_id))
    began = min(row.recorded_at - timedelta(seconds=row.duration_seconds) for row in rows)
    duration = (newest.recorded_at - began).total_seconds()
    span = sum(row.span_seconds for row in rows)
    fullest = max(rows, key=lambda row: (row.memory_share or 0.0, row.memory_mb or 0.0))
    sums: dict[str, Any] = {field: sum(getattr(row, field) for row in rows) for field in _SUMMED}
    return replace(
        newest,
        **sums,
        process_name=name,
        duration_seconds=duration,
        phase_seconds=_sum_of_phases(rows),
        lag_seconds=max((r.lag_seconds for r in rows if r.lag_seconds is not None), default=None),
        memory_mb=fullest.memory_mb,
        memory_limit_mb=fullest.memory_limit_mb,
        cpu_percent=_mean_cpu(rows),
        active_workers=max(1, round(span / duration)) if duration > 0 else 1,
    )


_SUMMED = (
    *("span_seconds", "records_read", "records_written", "bytes_read", "bytes_written"),
    *("primary_requests", "replica_requests", "refused_requests"),
    *("primary_seconds", "replica_seconds", "throttled_seconds"),
    *("tasks_completed", "tasks_failed"),
)


def _sum_of_phases(rows: Sequence[Measurement]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for row in rows:
        for phase, seconds in row.phase_seconds.items():
            sums[phase] = sums.get(phase, 0.0) + seconds
    return sums


def _mean_cpu(rows: Sequence[Measurement]) -> float | None:
    known = [(r.cpu_percent, r.span_seconds) for r in rows if r.cpu_percent is not None]
    span = sum(seconds for _, seconds in known)
    return sum(cpu * seconds for cpu, seconds in known) / span if span > 0 else None


def _merge_old(writing: Writing, tier: Tier) -> int:
    """Merge all intervals of a tier that have ended `age_seconds` ago."""
    gone = 0
    oldest = select(metrics.c.recorded_at).where(tier.merges).order_by(metrics.c.recorded_at)
    while True:
        with writing() as tx:
            until = tx.execute(select(Now())).scalar_one() - timedelta(seconds=tier.age_seconds)
            found = tx.execute(oldest.limit(1)).scalar()
            if found is None or tier.bounds(tier.number(found))[1] > until:
                return gone
            gone += _merge_interval(tx, tier, tier.number(found))


def _merge_surplus(writing: Writing, tier: Tier) -> int:
    """Merge intervals of the rows beyond MOST_SINGLE, but not the interval at present."""
    gone = 0
    beyond = select(metrics.c.id).where(tier.merges).order_by(metrics.c.id.desc())
    while True:
        with writing() as tx:
            present = tier.number(tx.execute(select(Now())).scalar_one())
            newest = tx.execute(beyond.offset(MOST_SINGLE).limit(1)).scalar()
            if newest is None:
                return gone
            surplus = select(metrics.c.recorded_at).where(tier.merges, metrics.c.id <= newest)
            instants = tx.execute(surplus.order_by(metrics.c.id).limit(PRUNE_BATCH)).scalars()
            numbers = {tier.number(instant) for instant in instants} - {present}
            if not numbers:
                return gone
            for number in sorted(numbers):
                gone += _merge_interval(tx, tier, number)


def _merge_interval(tx: Connection, tier: Tier, number: int) -> int:
    """Replace the rows of an interval by one; returns how many rows fewer there are.

    Another process that merges the same interval waits for the deleted rows and finds none.
    """
    begin, end = (literal(instant, Instant()) for instant in tier.bounds(number))
    inside = and_(metrics.c.recorded_at >= begin, metrics.c.recorded_at < end)
    theirs = delete(metrics).where(tier.merges, inside).returning(*SELECTED)
    rows = [built(row) for row in tx.execute(theirs)]
    if not rows:
        return 0
    same = and_(metrics.c.process_name == tier.name, metrics.c.row_number == number)
    rows += [built(row) for row in tx.execute(delete(metrics).where(same).returning(*SELECTED))]
    one = values_of(merged(rows, tier.name))
    tx.execute(insert(metrics).values(one | {"row_number": number}))
    return len(rows) - 1


def _delete_old(writing: Writing) -> int:
    """Delete merged rows by age, and beyond MOST_MERGED."""
    with writing() as tx:
        old = tx.execute(select(Now())).scalar_one() - timedelta(seconds=KEPT_SECONDS)
        newest = select(metrics.c.id).where(_IS_MERGED).order_by(metrics.c.recorded_at.desc())
        surplus = tx.execute(newest.offset(MOST_MERGED)).scalars().all()
        by_age = and_(_IS_MERGED, metrics.c.recorded_at < literal(old, Instant()))
        gone = tx.execute(delete(metrics).where(by_age)).rowcount
        if surplus:
            gone += tx.execute(delete(metrics).where(metrics.c.id.in_(surplus))).rowcount
        return gone

"""Corrections of instants and waits after the database's clock went back.

Every instant here is the database's own time, so an instant in the future means that the clock went
back. Such an instant becomes unknown (NULL, "never"). If it is the start of an interval, it becomes
now. If it is the end of a wait, it becomes the latest instant that is possible. `plan.clock`
explains why, and does the same for callers that may not write.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, func, or_, select, update

from chromasync.model import Suspicion
from chromasync.plan.clock import BEFORE_NUMBERS
from chromasync.store.core import CLOCK_SLACK_SECONDS, Core
from chromasync.store.retry import retried
from chromasync.store.schema import (
    Later,
    Now,
    cycles,
    workers,
)
from chromasync.store.schema_ledger import (
    SAME_CHUNK,
    SUSPECT,
    chunks,
    mirrors,
    primary_collections,
    replica_chunks,
)
from chromasync.store.schema_servers import deployment, kept, marks, removals

_READ = chunks.c.read_at
_KNOWN = (
    (replica_chunks.c.checked_at,),
    (primary_collections.c.walked_at,),
    (mirrors.c.replica_walked_at, mirrors.c.identical_as_of),
    (deployment.c.primary_seen_at, deployment.c.clean_at),
)
"""Instants that are forgotten if they are wrong, by table; the reads of chunks are beside them."""

_ENDED = (cycles.c.started_at, cycles.c.finished_at)

_NEWEST_CYCLE = select(*_ENDED).order_by(cycles.c.id.desc()).limit(1)
_NEWEST = select(
    *(
        select(func.max(instant)).scalar_subquery()
        for instant in (_READ, *(column for columns in _KNOWN for column in columns))
    )
)

# A chunk that was read keeps that fact, although the instant is unknown, so its check is due.
_WAS_READ = {
    "read_cycle": case(
        (chunks.c.read_at.is_not(None), func.coalesce(chunks.c.read_cycle, BEFORE_NUMBERS)),
        else_=chunks.c.read_cycle,
    )
}
_FORGET = [
    update(chunks).values({"read_at": None} | _WAS_READ),
    *(update(columns[0].table).values({c.name: None for c in columns}) for columns in _KNOWN),
]


def _is_ahead(*columns: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(*(column > Now() for column in columns))


def _known(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((column > Now(), None), else_=column)


# Starts of intervals: the event happened now at the latest.
_CUT = [
    update(column.table).where(column > Now()).values({column.name: Now()})
    for column in (
        removals.c.removed_at,
        kept.c.kept_at,
        marks.c.met_at,
        deployment.c.away_since,
        workers.c.last_heartbeat,
    )
]
_CORRECTIONS = [
    update(chunks).where(_is_ahead(_READ)).values({"read_at": _known(_READ)} | _WAS_READ),
    *(
        update(columns[0].table)
        .where(_is_ahead(*columns))
        .values({c.name: _known(c) for c in columns})
        for columns in _KNOWN
    ),
    *_CUT,
]
CUT_HEARTBEATS = (
    update(workers)
    .where(workers.c.last_heartbeat > Later(CLOCK_SLACK_SECONDS))
    .values(last_heartbeat=Now())
)
"""A heartbeat in the future proves nothing, and a live worker sends another one soon."""

_SUSPECT = (
    select(
        chunks.c.collection_id,
        func.count(),
        func.max(case((replica_chunks.c.distrusted_at > Now(), replica_chunks.c.distrusted_at))),
    )
    .join_from(replica_chunks, chunks, SAME_CHUNK)
    .where(SUSPECT)
    .group_by(chunks.c.collection_id)
)


class InstantPart(Core):
    """Instants and waits (a part of `ports.Control`)."""

    @retried
    def newest_instant(self) -> datetime | None:
        """The latest instant of a read, a walk, a contact or a cycle; None at first."""
        with self._reading() as tx:
            rows = [tx.execute(newest).first() for newest in (_NEWEST, _NEWEST_CYCLE)]
        found = [instant for row in rows if row is not None for instant in row if instant]
        return max(found, default=None)

    @retried
    def forget_instants(self) -> None:
        """Make the instants of all reads, walks and contacts unknown."""
        with self._leading() as tx:
            for forget in _FORGET:
                tx.execute(forget)

    @retried
    def suspicions(self) -> dict[str, Suspicion]:
        """The suspect chunks by collection, and until when workers may still write to them."""
        with self._reading() as tx:
            return suspicions_in(tx)


def suspicions_in(tx: Connection) -> dict[str, Suspicion]:
    """Like `suspicions`, in the caller's transaction."""
    return {row[0]: Suspicion(row[1], row[2]) for row in tx.execute(_SUSPECT)}


def correct_instants(tx: Connection, lease_seconds: float | None) -> None:
    """Make instants in the future unknown, and shorten waits that are too long.

    Args:
        lease_seconds: a worker whose task was called back may write for so long at most.
    """
    for correction in _CORRECTIONS:
        tx.execute(correction)
    if lease_seconds is not None:
        end = Later(lease_seconds)
        too_long = replica_chunks.c.distrusted_at > end
        tx.execute(update(replica_chunks).where(too_long).values(distrusted_at=end))

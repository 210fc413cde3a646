"""Instants that cannot be true, and waits that must end: the store's part of jumping clocks.

Every instant here is the database's own time, so none can lie in its future unless its clock went
back. Such an instant is unknown (NULL, "never"), or, where it ends something, cut down to what it
can legitimately be. `plan.clock` says why, and shows the same to those who may not write.
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
    chunks,
    collections,
    cycles,
    workers,
)
from chromasync.store.schema_servers import deployment, kept, marks, removals

_READ = (chunks.c.read_at, chunks.c.checked_at)
_WALKED = (collections.c.walked_at, collections.c.replica_walked_at, collections.c.identical_as_of)
_SEEN = (deployment.c.primary_seen_at, deployment.c.clean_at)
_ENDED = (cycles.c.started_at, cycles.c.finished_at)

_NEWEST_CYCLE = select(*_ENDED).order_by(cycles.c.id.desc()).limit(1)
_NEWEST = [select(*(func.max(c) for c in columns)) for columns in (_READ, _WALKED, _SEEN)]

# A chunk that was read stays one that was read, though nobody knows when: its check is due.
_WAS_READ = {
    "read_cycle": case(
        (chunks.c.read_at.is_not(None), func.coalesce(chunks.c.read_cycle, BEFORE_NUMBERS)),
        else_=chunks.c.read_cycle,
    )
}
_FORGET = [
    update(chunks).values({"read_at": None, "checked_at": None} | _WAS_READ),
    update(collections).values({c.name: None for c in _WALKED}),
    update(deployment).values({c.name: None for c in _SEEN}),
]


def _is_ahead(*columns: ColumnElement[Any]) -> ColumnElement[bool]:
    return or_(*(column > Now() for column in columns))


def _known(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((column > Now(), None), else_=column)


# An instant that something is counted from: it happened, at the latest, now.
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
_SETTLE = [
    update(chunks).where(_is_ahead(*_READ)).values({c.name: _known(c) for c in _READ} | _WAS_READ),
    update(collections).where(_is_ahead(*_WALKED)).values({c.name: _known(c) for c in _WALKED}),
    update(deployment).where(_is_ahead(*_SEEN)).values({c.name: _known(c) for c in _SEEN}),
    *_CUT,
]
CUT_HEARTBEATS = (
    update(workers)
    .where(workers.c.last_heartbeat > Later(CLOCK_SLACK_SECONDS))
    .values(last_heartbeat=Now())
)
"""A proof of life that is still to come proves nothing: whoever lives gives another one soon."""

_SUSPECT = (
    select(
        chunks.c.collection_id,
        func.count(),
        func.max(case((chunks.c.distrusted_at > Now(), chunks.c.distrusted_at))),
    )
    .where(chunks.c.suspect)
    .group_by(chunks.c.collection_id)
)


class InstantPart(Core):
    """What is known of instants, and until when something waits (a part of `ports.Control`)."""

    @retried
    def newest_instant(self) -> datetime | None:
        """The latest instant at which anything was read, walked, seen or closed; None at first."""
        with self._reading() as tx:
            rows = [tx.execute(newest).first() for newest in (*_NEWEST, _NEWEST_CYCLE)]
        found = [instant for row in rows if row is not None for instant in row if instant]
        return max(found, default=None)

    @retried
    def forget_instants(self) -> None:
        """Make every instant unknown at which something was read, walked, or seen to be well."""
        with self._leading() as tx:
            for forget in _FORGET:
                tx.execute(forget)

    @retried
    def suspicions(self) -> dict[str, Suspicion]:
        """By collection, its suspect chunks, and until when someone may still write to them."""
        with self._reading() as tx:
            return suspicions_in(tx)


def suspicions_in(tx: Connection) -> dict[str, Suspicion]:
    """What `suspicions` gives, in a transaction that may do more."""
    return {row[0]: Suspicion(row[1], row[2]) for row in tx.execute(_SUSPECT)}


def settle_instants(tx: Connection, lease_seconds: float | None) -> None:
    """Make instants that are still to come unknown, and cut down what waits for too long.

    Args:
        lease_seconds: no worker that was called back writes for longer than that from now on.
    """
    for settle in _SETTLE:
        tx.execute(settle)
    if lease_seconds is not None:
        end = Later(lease_seconds)
        tx.execute(update(chunks).where(chunks.c.distrusted_at > end).values(distrusted_at=end))

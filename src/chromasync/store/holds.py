"""Holds of the guards, and their approvals (a part of `ports.Control`).

A hold names a *set*: `set_digest` identifies the held records or collections of one replica. An
approval is for one set. It ends when the set changes, when the hold is cleared, when its collection
leaves the settings, and after a day.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, or_, select, update

from chromasync.model import Hold, HoldKind
from chromasync.store.core import CLOCK_SLACK_SECONDS, Core
from chromasync.store.retry import retried
from chromasync.store.rows import HOLD
from chromasync.store.schema import Later, Now, holds

APPROVAL_SECONDS = 86_400.0
"""An approval ends if no cycle used it for so long."""

_ALL = select(*HOLD.columns).order_by(holds.c.held_at, holds.c.collection_id, holds.c.kind)
_APPROVED = holds.c.approved_at.is_not(None)
# An instant in the future was written while the clock was ahead, so it is unknown.
_IS_FRESH = and_(
    holds.c.approved_at > Later(-APPROVAL_SECONDS),
    holds.c.approved_at <= Later(CLOCK_SLACK_SECONDS),
)
_NOT_APPROVED = {"approved_count": None, "approved_digest": None, "approved_at": None}


class HoldPart(Core):
    """Holds and their approvals."""

    @retried
    def holds(self) -> list[Hold]:
        """All holds, oldest first."""
        with self._reading() as tx:
            return holds_in(tx)

    @retried
    def save_hold(self, hold: Hold) -> None:
        """Insert or update a hold.

        An existing hold keeps its `held_at` and its shown count. It keeps its approval if the set
        is the same. The values of these fields in `hold` are ignored.
        """
        values = HOLD.values(hold) | {"held_at": Now(), "shown_count": None, **_NOT_APPROVED}
        new = self._backend.insert(holds).values(values)
        kept = and_(holds.c.approved_digest == new.excluded.set_digest, _IS_FRESH)
        unchanged = {"collection_id", "kind", "held_at", "shown_count", *_NOT_APPROVED}
        update_to: dict[str, Any] = {n: new.excluded[n] for n in values if n not in unchanged}
        update_to |= {name: case((kept, holds.c[name])) for name in _NOT_APPROVED}
        with self._leading() as tx:
            tx.execute(
                new.on_conflict_do_update(index_elements=["collection_id", "kind"], set_=update_to)
            )

    @retried
    def clear_hold(self, collection_id: str, kind: HoldKind) -> None:
        """Forget a hold and its approval."""
        with self._leading() as tx:
            tx.execute(delete(holds).where(*_one(collection_id, kind)))

    @retried
    def note_shown(self, shown: Sequence[Hold]) -> None:
        """Store the counts that a person was shown, for holds whose set is still the same."""
        in_order = sorted(shown, key=lambda hold: (hold.collection_id, hold.kind))
        with self._writing() as tx:
            for hold in in_order:  # a fixed order of locks prevents deadlocks
                same = holds.c.set_digest == hold.set_digest
                showing = update(holds).where(*_one(hold.collection_id, hold.kind), same)
                tx.execute(showing.values(shown_count=holds.c.record_count))

    @retried
    def approve(self, hold: Hold) -> bool:
        """Approve the set of this hold; False if the set has changed since."""
        same = holds.c.set_digest == hold.set_digest
        approval = update(holds).where(*_one(hold.collection_id, hold.kind), same)
        given = {
            "approved_count": holds.c.record_count,
            "approved_digest": holds.c.set_digest,
            "approved_at": Now(),
        }
        with self._writing() as tx:
            return tx.execute(approval.values(given)).rowcount > 0

    @retried
    def end_approvals(self, left_out: Container[str]) -> None:
        """End old approvals, and those of collections that the settings leave out."""
        ended = update(holds).values(_NOT_APPROVED)
        named = select(holds.c.collection_id).where(_APPROVED)
        with self._leading() as tx:
            gone = [i for i in tx.scalars(named) if i in left_out]
            stale = and_(_APPROVED, ~_IS_FRESH)
            tx.execute(ended.where(or_(stale, holds.c.collection_id.in_(gone))))


def holds_in(tx: Connection) -> list[Hold]:
    """Like `holds`, in the caller's transaction."""
    return [HOLD.build(row) for row in tx.execute(_ALL)]


def _one(collection_id: str, kind: HoldKind) -> tuple[ColumnElement[bool], ...]:
    return holds.c.collection_id == collection_id, holds.c.kind == kind

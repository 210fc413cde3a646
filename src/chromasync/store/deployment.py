"""Facts about the two servers that outlive restarts and settings (a part of `ports.Control`).

These are the store's id, the last contact with the primary, the collection ids that each side ever
listed, the marks on the replica, the removals of a day, kept collections, and distances.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Any

from sqlalchemy import bindparam, delete, func, select, update

from chromasync.model import Deployment, Kept, KnownDistance, MarkRow, Removal, Side
from chromasync.store.chunkrows import in_parts
from chromasync.store.core import PLANNING, Core
from chromasync.store.retry import retried
from chromasync.store.rows import DEPLOYMENT, DISTANCE, KEPT, MARK, REMOVAL
from chromasync.store.schema import Later, Now
from chromasync.store.schema_servers import (
    deployment,
    distances,
    kept,
    known_ids,
    marks,
    removals,
)

KNOWN_IDS = 200_000
"""Number of collection ids that are remembered; the oldest are forgotten first."""

DAY_SECONDS = 86_400.0

_DEPLOYMENT = select(*DEPLOYMENT.columns)
# An instant in the future was written while the clock was ahead; it counts as within the day.
_OF_DAY = removals.c.removed_at > Later(-DAY_SECONDS)
_NEWEST_REMOVAL = select(func.coalesce(func.max(removals.c.id), 0))
# A note of a call whose answer was lost; only the leader writes notes.
_NOTED = select(removals.c.id).where(removals.c.id > bindparam("newest_id")).limit(1)
_KEPT = select(*KEPT.columns).order_by(kept.c.kept_at, kept.c.replica_id)


class DeploymentPart(Core):
    """The facts about the two servers."""

    @retried
    def deployment(self) -> Deployment:
        """The store's id and its facts about the primary."""
        with self._reading() as tx:
            return DEPLOYMENT.build(tx.execute(_DEPLOYMENT).one())

    @retried
    def save_deployment(self, changed: Deployment) -> None:
        """Replace the facts about the primary; the store's id stays."""
        values = DEPLOYMENT.values(changed)
        del values["store_id"]
        with self._leading() as tx:
            tx.execute(update(deployment).values(values))

    @retried
    def note_away(self) -> None:
        """Store that the primary could not be reached; any worker may call it."""
        there = deployment.c.away_since.is_(None)
        with self._writing() as tx:
            tx.execute(update(deployment).where(there).values(away_since=Now()))

    # ---- collection ids ---------------------------------------------------------------------

    @retried
    def sides_of(self, collection_ids: Collection[str]) -> dict[str, Side]:
        """The side that listed each of these collections first; unknown ones are left out."""
        found: dict[str, Side] = {}
        sides = select(known_ids.c.collection_id, known_ids.c.side)
        with self._reading() as tx:
            for some in in_parts(sorted(set(collection_ids))):
                rows = tx.execute(sides.where(known_ids.c.collection_id.in_(some)))
                found.update((row[0], row[1]) for row in rows)
        return found

    @retried
    def remember_ids(self, cycle_id: int, met: dict[str, Side]) -> None:
        """Store collection ids that are not known yet; deletes the oldest beyond KNOWN_IDS."""
        rows = [
            {"collection_id": i, "side": side, "seen_cycle": cycle_id} for i, side in met.items()
        ]
        if not rows:
            return
        new = self._backend.insert(known_ids).on_conflict_do_nothing()
        with self._leading() as tx:
            tx.execute(new, rows)
            count = tx.execute(select(func.count()).select_from(known_ids)).scalar_one()
            if count > KNOWN_IDS:
                by_age = known_ids.c.seen_cycle, known_ids.c.collection_id
                oldest = select(known_ids.c.collection_id).order_by(*by_age)
                oldest = oldest.limit(count - KNOWN_IDS)
                tx.execute(delete(known_ids).where(known_ids.c.collection_id.in_(oldest)))

    # ---- the budget of a day ----------------------------------------------------------------

    @retried
    def removals_of_day(self) -> list[Removal]:
        """Removals from the replica without approval within the last day."""
        with self._reading() as tx:
            return [REMOVAL.build(r) for r in tx.execute(select(*REMOVAL.columns).where(_OF_DAY))]

    def note_removal(self, cycle_id: int, removal: Removal) -> None:
        """Store a removal without approval; deletes the notes that are older than a day."""
        values = REMOVAL.values(removal) | {"cycle_id": cycle_id, "removed_at": Now()}
        self._note_removal_after(self._newest_removal(), values)

    @retried
    def _newest_removal(self) -> int:
        with self._reading() as tx:
            return int(tx.execute(_NEWEST_REMOVAL).scalar_one())

    @retried
    def _note_removal_after(self, newest_id: int, values: dict[str, Any]) -> None:
        with self._leading() as tx:
            tx.execute(PLANNING).all()
            if tx.execute(_NOTED, {"newest_id": newest_id}).first() is None:
                tx.execute(delete(removals).where(~_OF_DAY))
                tx.execute(removals.insert().values(values))

    # ---- kept collections -------------------------------------------------------------------

    @retried
    def kept(self) -> list[Kept]:
        """Collections that are kept on the replica under another name, oldest first."""
        with self._reading() as tx:
            return [KEPT.build(row) for row in tx.execute(_KEPT)]

    @retried
    def save_kept(self, one: Kept) -> None:
        """Store a collection that is kept from now on."""
        new = self._backend.insert(kept).values(KEPT.values(one) | {"kept_at": Now()})
        with self._leading() as tx:
            tx.execute(new.on_conflict_do_nothing())

    @retried
    def overdue_kept(self, keep_seconds: float) -> list[Kept]:
        """Collections that were kept for longer than this."""
        old = kept.c.kept_at < Later(-keep_seconds)
        with self._reading() as tx:
            return [KEPT.build(row) for row in tx.execute(_KEPT.where(old))]

    @retried
    def forget_kept(self, replica_id: str) -> None:
        """Forget a kept collection that was deleted."""
        with self._leading() as tx:
            tx.execute(delete(kept).where(kept.c.replica_id == replica_id))

    # ---- distances --------------------------------------------------------------------------

    @retried
    def distances(self) -> list[KnownDistance]:
        """The known distances of collections on either side."""
        with self._reading() as tx:
            return [DISTANCE.build(row) for row in tx.execute(select(*DISTANCE.columns))]

    @retried
    def save_distances(self, learned: Sequence[KnownDistance]) -> None:
        """Store distances; they replace those of the same collections."""
        if not learned:
            return
        new = self._backend.insert(distances)
        there = {name: new.excluded[name] for name in ("space", "words")}
        put = new.on_conflict_do_update(index_elements=["collection_id"], set_=there)
        with self._leading() as tx:
            tx.execute(put, [DISTANCE.values(one) for one in learned])

    @retried
    def forget_distances(self, but_for: Container[str]) -> None:
        """Forget the distances of all other collections."""
        with self._leading() as tx:
            known = tx.execute(select(distances.c.collection_id)).scalars()
            for some in in_parts(sorted(i for i in known if i not in but_for)):
                tx.execute(delete(distances).where(distances.c.collection_id.in_(some)))

    # ---- marks ------------------------------------------------------------------------------

    @retried
    def marks(self) -> dict[str, MarkRow]:
        """The marks by place."""
        with self._reading() as tx:
            return {row[0]: MARK.build(row) for row in tx.execute(select(*MARK.columns))}

    @retried
    def save_mark(self, mark: MarkRow) -> None:
        """Replace the mark of one place."""
        values = MARK.values(mark)
        others = {name: value for name, value in values.items() if name != "place"}
        new = self._backend.insert(marks).values(values)
        with self._leading() as tx:
            tx.execute(new.on_conflict_do_update(index_elements=["place"], set_=others))

    @retried
    def note_mark_written(self, place: str, nonce: str) -> None:
        """Store that the prepared mark is on the replica; any worker may call it."""
        written = update(marks).where(marks.c.place == place, marks.c.nonce == nonce)
        with self._writing() as tx:
            tx.execute(written.values(written=True))

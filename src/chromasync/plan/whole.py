"""Finds the replica collections that a cycle would drop as a whole, and counts their records.

There are three kinds: the mirror of a collection that the primary no longer lists (DROP), the
collection whose name a re-created one will take (REPLACE), and a replica collection without a
mirror (SURPLUS_COLLECTION). The ids of each are read once, to count the records that would be lost
and those that are in no ledger. Records of unknown origin are never dropped without an approval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chromasync.ledger.idset import IdSet
from chromasync.ledger.paging import pages
from chromasync.model import Collection, Hold, HoldKind, Mirror
from chromasync.plan.listing import Listing, Place, place_of
from chromasync.plan.pairing import BUILDING_MARK, Pairings, final_name
from chromasync.plan.removals import Candidate, IdSum, find_hold
from chromasync.plan.superseded import is_superseded, successor_of
from chromasync.ports import Reader

UNKNOWN_ORIGIN = "the primary never had it"

LedgerIds = Callable[[str], IdSet]
"""Loads the ids of a collection in the ledger, by the primary's id."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A complete primary collection that may take its name on the replica.

    Attributes:
        place: its tenant, database and name.
        replica_id: its collection on the replica; None if it has none yet.
        ids: loads the ids of its records on the replica.
        absent: number of its quarantined records that the replica's collection lacks.
    """

    collection_id: str
    place: Place
    replica_id: str | None
    ids: Callable[[], IdSet]
    absent: int = 0

    def only_copy(self, lost: int) -> str:
        """Why the lost records may be the only copy; empty if there is no such reason."""
        if not (lost and self.absent):
            return ""
        return f"{self.absent:,} of its records could not be copied, and the old copy may have them"


@dataclass(frozen=True, slots=True)
class WholeRemoval:
    """The removal of a whole replica collection.

    Attributes:
        candidate: the removal, for `judge_removals`.
        replica: the collection; None if it is gone already.
        mirror: its mirror; None if it has none.
    """

    candidate: Candidate
    replica: Collection | None
    mirror: Mirror | None


class WholeRemovals:
    """Finds the collections that would be dropped.

    Args:
        replica: the replica's server.
        listing: its collections.
        pairings: the pairings with the primary's collections.
        ledger_ids: loads the ids of a vanished collection in the ledger.
        holds: the present holds.
    """

    def __init__(
        self,
        replica: Reader,
        listing: Listing,
        pairings: Pairings,
        ledger_ids: LedgerIds,
        holds: Sequence[Hold],
    ) -> None:
        self._replica = replica
        self._listing = listing
        self._pairings = pairings
        self._ledger_ids = ledger_ids
        self._holds = holds
        self._vanished = {m.replica_id: m for m in pairings.vanished if m.replica_id}
        self._surplus = {c.id: c for c in pairings.surplus}

    def find(self, newcomers: Iterable[Newcomer], awaited: Iterable[Place]) -> list[WholeRemoval]:
        """Find all of them.

        Args:
            newcomers: collections that are complete and may take their name.
            awaited: names that primary collections will take. A collection with such a name is not
                dropped before it can be replaced.
        """
        complete = {newcomer.collection_id: newcomer for newcomer in newcomers}
        replaced = [r for n in complete.values() if (r := self._replaced(n)) is not None]
        waiting = set(awaited)
        drops = [
            self._dropped(mirror, replica, self._successor(mirror, replica, complete))
            for mirror in self._pairings.vanished
            for replica in [self._listing.collections.get(mirror.replica_id or "")]
            if replica is None or place_of(replica) not in waiting
            if not is_superseded(mirror) or successor_of(mirror) in complete
        ]
        surplus = [
            self._without_mirror(collection)
            for collection in self._surplus.values()
            if place_of(collection) not in waiting
        ]
        return [*replaced, *drops, *surplus]

    def _replaced(self, newcomer: Newcomer) -> WholeRemoval | None:
        occupant = self._listing.by_place().get(newcomer.place)
        if occupant is None or occupant.id == newcomer.replica_id:
            return None
        mirror = self._vanished.get(occupant.id)
        if mirror is None and occupant.id not in self._surplus:
            return None
        found = self._look(occupant, mirror, newcomer.ids())
        hold = find_hold(self._holds, newcomer.collection_id, HoldKind.REPLACE)
        candidate = Candidate(
            newcomer.collection_id,
            *newcomer.place,
            HoldKind.REPLACE,
            count=found.lost.count,
            total=found.total,
            set_digest=found.lost.digest(HoldKind.REPLACE, occupant.id),
            wholly=found.total > 0 and found.lost.count == found.total,
            whole=True,
            doubt=found.doubt("a replica collection with {} of unknown origin has its name")
            or newcomer.only_copy(found.lost.count),
            seen_cycles=0 if hold is None else hold.seen_cycles,
        )
        return WholeRemoval(candidate, occupant, mirror)

    def _successor(
        self, mirror: Mirror, replica: Collection | None, complete: Mapping[str, Newcomer]
    ) -> Newcomer | None:
        """The collection that replaced a vanished one; None if there is none.

        A vanished collection that was renamed aside was replaced: the cycle that did this was cut
        off before the drop.
        """
        if is_superseded(mirror) or replica is None or BUILDING_MARK not in replica.name:
            return complete.get(successor_of(mirror))
        named = self._listing.by_place().get(place_of(mirror))
        at_place = (n for n in complete.values() if named and n.replica_id == named.id)
        return next(at_place, None)

    def _dropped(
        self, mirror: Mirror, replica: Collection | None, successor: Newcomer | None
    ) -> WholeRemoval:
        """The drop of a vanished collection; records that its successor has are not lost."""
        kept = None if successor is None else successor.ids()
        found = _Contents() if replica is None else self._look(replica, mirror, kept)
        candidate = Candidate(
            mirror.collection_id,
            *place_of(mirror),
            HoldKind.DROP,
            count=found.lost.count,
            total=found.total,
            set_digest=found.lost.digest(HoldKind.DROP, mirror.replica_id or ""),
            wholly=successor is None,
            whole=True,
            doubt=found.doubt("it vanished from the primary, and {} in it are of unknown origin")
            or ("" if successor is None else successor.only_copy(found.lost.count)),
            seen_cycles=mirror.primary.missing_cycles,
        )
        return WholeRemoval(candidate, replica, mirror)

    def _without_mirror(self, collection: Collection) -> WholeRemoval:
        """The drop of a collection that the primary never had.

        Its ids are read when it gets a new hold, and again after an approval.
        """
        count = self._replica.count(collection)
        hold = find_hold(self._holds, collection.id, HoldKind.SURPLUS_COLLECTION)
        if hold is not None and hold.count == count and hold.approved_digest is None:
            digest = hold.set_digest
        else:
            digest = self._look(collection, None, None).lost.digest(
                HoldKind.SURPLUS_COLLECTION, collection.id
            )
        candidate = Candidate(
            collection.id,
            collection.tenant,
            collection.database,
            final_name(collection),
            HoldKind.SURPLUS_COLLECTION,
            count=count,
            total=count,
            set_digest=digest,
            wholly=True,
            whole=True,
            doubt=UNKNOWN_ORIGIN,
        )
        return WholeRemoval(candidate, collection, None)

    def _look(self, collection: Collection, mirror: Mirror | None, kept: IdSet | None) -> _Contents:
        """The records that would be lost with a collection; those in `kept` are not.

        A record of unknown origin may differ from the kept record with its id, so it counts as
        lost.
        """
        known = None if mirror is None else self._ledger_ids(mirror.collection_id)
        found = _Contents()
        for page in pages(self._replica, collection, self._replica.count(collection)):
            stays = np.zeros(len(page), bool) if kept is None else kept.find(page) >= 0
            ours = np.zeros(len(page), bool) if known is None else known.find(page) >= 0
            lost = [page[row] for row in np.flatnonzero(~(stays & ours))]
            found.add(len(page), lost, int(np.count_nonzero(~ours)))
        return found


class _Contents:
    """The sums over the records of one collection, added page by page."""

    def __init__(self) -> None:
        self.total = 0
        self.unknown = 0
        self.lost = IdSum()

    def add(self, total: int, lost: Sequence[str], unknown: int) -> None:
        self.total += total
        self.unknown += unknown
        self.lost.add(lost)

    def doubt(self, words: str) -> str:
        """`words` with the number of records of unknown origin; empty if there are none."""
        if not self.unknown:
            return ""
        return words.format(f"{self.unknown:,} record{'s' if self.unknown > 1 else ''}")

"""Checks the replica for writes by others, after an outage of the primary and before all writes.

All ids of each mirrored collection are compared with the ledger. Contents are compared with the
replica's answers after the last write, for at most `CONTENT_RECORDS` records of all collections
together. Beyond that limit each task compares before it writes (`NewTask.hold_foreign`). So a
record that others changed is never overwritten, only found later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chromasync.config import UNMADE, Drift, Settings
from chromasync.ledger.digest import replica_digests
from chromasync.ledger.idset import IdSet
from chromasync.ledger.paging import pages
from chromasync.model import (
    UNKNOWN_DIGEST,
    Chunk,
    ChunkHead,
    Collection,
    DeletionKind,
    Hold,
    HoldKind,
    Mirror,
    MirrorStatus,
    Records,
    Side,
    Space,
)
from chromasync.plan.divergence import Foreign, definition_digest, diverged_hold
from chromasync.plan.known import KnownLedger
from chromasync.plan.listing import Listing, place_of
from chromasync.plan.pairing import Match, Pairing, Pairings
from chromasync.plan.removals import find_hold, is_approved
from chromasync.plan.superseded import is_superseded
from chromasync.ports import Reader, Store
from chromasync.reconcile.diff import Differ
from chromasync.reconcile.read import RecordReader

LEFT_AS_COUNTED = (MirrorStatus.IDENTICAL, MirrorStatus.LIMITED, MirrorStatus.HELD)
"""States in which the replica's count was as expected when the last cycle closed."""

EARLIER = "in an earlier cycle"

CONTENT_RECORDS = 100_000
"""Records whose content is compared before the first write of a cycle."""

BATCH_IDS = 1_000


@dataclass(frozen=True, slots=True)
class Diverged:
    """One collection that others wrote to.

    Attributes:
        hold: the hold that it gets.
        foreign: the changes by others.
        mirror: None for a collection that only the replica has.
        replica: None if others dropped it.
        approved: the primary's side was approved.
    """

    hold: Hold
    foreign: Foreign
    mirror: Mirror | None
    replica: Collection | None
    approved: bool

    @property
    def approved_sets(self) -> set[str]:
        """Digests of the removals that the approval of the primary's side includes."""
        gained = self.foreign.gained.sum
        if self.mirror is None:
            return {gained.digest(HoldKind.SURPLUS_COLLECTION, self.hold.collection_id)}
        return set() if self.replica is None else {gained.digest(HoldKind.SURPLUS, self.replica.id)}


def holds_foreign(
    settings: Settings, why_away: str, mirror: Mirror, *, is_taken: bool, is_outgrown: bool
) -> bool:
    """Whether records that others wrote on the replica are left as they are.

    Args:
        is_taken: the primary's side was approved.
        is_outgrown: the replica has records that the primary lacks, and adoption is not approved.
    """
    if is_taken:
        return False
    if mirror.adopting:
        return is_outgrown
    return bool(why_away) or settings.sync_drift is Drift.HOLD


class DivergenceLook:
    """Finds the collections that diverged; writes nothing.

    Args:
        listing: the replica's collections.
        why: why the primary may have been away; empty if it was not.
        met: which side listed each collection first, before this cycle.
        count: counts a replica collection; None asks the server.
        check_stop: raises Stopped if the process is to end.

    Attributes:
        looked_at: the collections that `find` checked, by the key of their hold.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Reader,
        store: Store,
        listing: Listing,
        *,
        why: str,
        met: Mapping[str, Side],
        count: Callable[[Collection], int] | None = None,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._listed = listing.collections
        self._why = why
        self._met = met
        self._count = count or replica.count
        self._check_stop = check_stop
        self._holds = store.holds()
        self._left = CONTENT_RECORDS
        self.looked_at: set[str] = set()

    def find(self, pairings: Pairings) -> list[Diverged]:
        """The diverged collections, approved or not."""
        former = {m.collection_id: m for m in self._store.mirrors()}
        any_kept = any(m.replica_id in self._listed for m in former.values())
        found = [
            self._look_at_pairing(pairing, mirror, any_kept=any_kept)
            for pairing in pairings.pairings
            for mirror in [pairing.former or former.get(pairing.mirror.collection_id)]
            if mirror is not None and mirror.replica_id is not None
        ]
        found += [
            self._judged(mirror, replica, self._look(mirror, None, replica))
            for mirror in pairings.vanished
            for replica in [self._listed.get(mirror.replica_id or "")]
            if replica is not None and not is_superseded(mirror)
        ]
        found += [self._look_at_new(collection) for collection in pairings.surplus]
        return [diverged for diverged in found if diverged is not None]

    # ---- one collection ---------------------------------------------------------------------

    def _look_at_pairing(
        self, pairing: Pairing, mirror: Mirror, *, any_kept: bool
    ) -> Diverged | None:
        self.looked_at.add(mirror.collection_id)
        if pairing.replica is not None and pairing.match is Match.KEEP:
            foreign = self._look(mirror, pairing.primary, pairing.replica)
            return self._judged(mirror, pairing.replica, foreign)
        dropped = pairing.superseded is None and any_kept and mirror.replica_count > 0
        if not dropped or not (self._why or mirror.status is MirrorStatus.DIVERGED):
            return None
        foreign = Foreign(definition="the collection was dropped on the replica")
        foreign.primary_only.unlisted = mirror.replica_count
        return self._judged(mirror, None, foreign)

    def _look_at_new(self, collection: Collection) -> Diverged | None:
        """A collection that only the replica has; diverged if created during an outage."""
        self.looked_at.add(collection.id)
        hold = find_hold(self._holds, collection.id, HoldKind.DIVERGED)
        if hold is None and (not self._why or collection.id in self._met):
            return None
        foreign = Foreign(definition="the collection was created on the replica")
        for page in pages(self._replica, collection, self._replica.count(collection)):
            foreign.gained.add(page)
        new = diverged_hold(
            collection.id, place_of(collection), collection.id, foreign, self._why or EARLIER
        )
        return Diverged(new, foreign, None, collection, is_approved(hold, new.set_digest))

    def _judged(
        self, mirror: Mirror, replica: Collection | None, foreign: Foreign
    ) -> Diverged | None:
        if not foreign:
            return None
        key, why = mirror.collection_id, self._why or EARLIER
        new = diverged_hold(key, place_of(mirror), mirror.replica_id or "", foreign, why)
        hold = find_hold(self._holds, key, HoldKind.DIVERGED)
        return Diverged(new, foreign, mirror, replica, is_approved(hold, new.set_digest))

    # ---- what is there ----------------------------------------------------------------------

    def _look(self, mirror: Mirror, primary: Collection | None, replica: Collection) -> Foreign:
        """All foreign changes of a collection; none if there is no reason to check it."""
        self.looked_at.add(mirror.collection_id)
        if not self._why and not self._is_doubly_odd(mirror, primary, replica):
            return Foreign()
        look = _Look(
            self._primary,
            self._replica,
            self._store,
            mirror=mirror,
            primary=primary,
            replica=replica,
        )
        foreign = look.ids()
        self._left = look.contents(foreign, self._left, self._check_stop)
        known = mirror.definition_digest
        # a name that SYNC_TARGET cannot have made is that of an earlier SYNC_TARGET
        is_moved = replica.name.startswith(UNMADE)
        if known is not None and not is_moved and known != definition_digest(replica):
            foreign.definition = "the collection was renamed or redefined on the replica"
        if foreign:
            look.note_primary_only(foreign)
        return foreign

    def _is_doubly_odd(
        self, mirror: Mirror, primary: Collection | None, replica: Collection
    ) -> bool:
        """Whether the replica's count differs from the one left, and the primary's count fell."""
        held = find_hold(self._holds, mirror.collection_id, HoldKind.DIVERGED) is not None
        if held or mirror.status is MirrorStatus.DIVERGED:
            return True
        if mirror.status not in LEFT_AS_COUNTED:
            return False
        if self._count(replica) == mirror.replica_count:
            return False
        return primary is None or self._primary.count(primary) < mirror.primary.count


class _Look:
    """Compares one collection of the replica with the ledger."""

    def __init__(
        self,
        primary_server: Reader,
        replica_server: Reader,
        store: Store,
        *,
        mirror: Mirror,
        primary: Collection | None,
        replica: Collection,
    ) -> None:
        self._primary_server = primary_server
        self._replica_server = replica_server
        self._store = store
        self._mirror = mirror
        self._primary = primary
        self._replica = replace(replica, dimension=replica.dimension or mirror.primary.dimension)
        self._known = KnownLedger(store, mirror.collection_id)
        self._heads = store.chunk_heads(mirror.collection_id)
        self._differ = Differ(mirror.primary.space or Space.L2)
        self._found: NDArray[np.bool_] = np.zeros(0, bool)

    def _chunks(self) -> Iterator[tuple[ChunkHead, Chunk]]:
        for head in self._heads:
            chunk = self._store.load_chunk(head.id)
            if chunk is not None and len(chunk.ids) == head.count:
                yield head, chunk

    def ids(self) -> Foreign:
        """Records that the replica gained or lost."""
        foreign = Foreign()
        ledger, ours, written = self._ledger()
        surplus = IdSet.of(d.ids for d in self._known.waiting(DeletionKind.SURPLUS))
        found = np.zeros(len(ledger), bool)
        new, old = [], []
        for page in pages(self._replica_server, self._replica, self._mirror.replica_count):
            rows = ledger.find(page)
            known = rows >= 0
            found[rows[known]] = True
            odd = ~known
            odd[known] = ~ours[rows[known]]
            strange = [page[row] for row in np.flatnonzero(odd)]
            noted = surplus.find(strange) >= 0
            new += [i for i, is_noted in zip(strange, noted, strict=True) if not is_noted]
            old += [i for i, is_noted in zip(strange, noted, strict=True) if is_noted]
        self._found = found
        foreign.gained.add(self._unlike_primary(new))
        missing = np.flatnonzero(written & ~found)
        foreign.lost.add(self._still_on_primary(self._ids_at(missing)))
        if foreign:
            foreign.gained.add(old)
        return foreign

    def _ledger(self) -> tuple[IdSet, NDArray[np.bool_], NDArray[np.bool_]]:
        """The ledger's ids, those that may be on the replica, and those that must be."""
        excused = self._known.excused()
        lists, ours, written = [], [np.zeros(0, bool)], [np.zeros(0, bool)]
        for head, chunk in self._chunks():
            rows = chunk.applied.written
            lists.append(chunk.ids)
            ours.append(rows | head.replica.in_hand)
            written.append(rows & (excused.find(chunk.ids) < 0) & (not head.replica.in_hand))
        return IdSet.of(lists), np.concatenate(ours), np.concatenate(written)

    def _ids_at(self, rows: NDArray[np.int64]) -> list[str]:
        """The ledger's ids in these rows."""
        wanted, start, found = set(rows.tolist()), 0, []
        for _, chunk in self._chunks():
            span = range(start, start + len(chunk.ids))
            found += [chunk.ids[row - start] for row in span if row in wanted]
            start = span.stop
        return found

    def contents(self, foreign: Foreign, left: int, check_stop: Callable[[], None]) -> int:
        """Add the changed records; returns how many more records this cycle may compare.

        Records that tasks of an earlier cycle found are compared in any case.
        """
        told = {i for d in self._known.waiting(DeletionKind.FOREIGN) for i in d.ids}
        start = 0
        for head, chunk in self._chunks():
            found = self._found[start : start + len(chunk.ids)]
            start += len(chunk.ids)
            rows = [
                row
                for row in np.flatnonzero(found).tolist()
                if chunk.applied.replica.row(row) != UNKNOWN_DIGEST
            ]
            if head.replica.in_hand or not rows or left < len(rows):
                continue
            check_stop()
            left -= len(rows)
            changed = self._changed(chunk, rows)
            told.difference_update(changed)
            foreign.changed.add(self._unlike_primary(changed))
        foreign.changed.add(self._unlike_primary(sorted(told)))
        return left

    def _changed(self, chunk: Chunk, rows: list[int]) -> list[str]:
        known = {chunk.ids[row]: chunk.applied.replica.row(row) for row in rows}
        reader = RecordReader(self._replica_server)
        changed = []
        for batch in reader.batches(self._replica, list(known)):
            for piece in batch.pieces:
                digests = replica_digests(piece)
                changed += [i for row, i in enumerate(piece.ids) if digests.row(row) != known[i]]
        return changed

    def _unlike_primary(self, ids: list[str]) -> list[str]:
        """Those of the replica's records that are not the same on the primary now."""
        if self._primary is None:
            return ids
        unlike = []
        for start in range(0, len(ids), BATCH_IDS):
            asked = ids[start : start + BATCH_IDS]
            mine = _by_id(RecordReader(self._primary_server), self._primary, asked)
            theirs = _by_id(RecordReader(self._replica_server), self._replica, asked)
            unlike += [
                i
                for i in asked
                if i in theirs
                and (i not in mine or self._differ.difference(*mine[i], *theirs[i]) is not None)
            ]
        return unlike

    def _still_on_primary(self, ids: list[str]) -> list[str]:
        """Those of the ids that the primary has; a record that both sides lack is no difference."""
        if self._primary is None:
            return ids
        there: list[str] = []
        for start in range(0, len(ids), BATCH_IDS):
            asked = ids[start : start + BATCH_IDS]
            batch = RecordReader(self._primary_server).read(self._primary, asked, embeddings=False)
            alive = {i for piece in batch.pieces for i in piece.ids} | batch.unreadable.keys()
            there += [i for i in asked if i in alive]
        return there

    def note_primary_only(self, foreign: Foreign) -> None:
        """Add the records that only the primary has, so that the hold names both sides."""
        if self._primary is None:
            return
        listed = pages(self._replica_server, self._replica, self._mirror.replica_count)
        there = IdSet.of(listed)
        count = self._primary_server.count(self._primary)
        for page in pages(self._primary_server, self._primary, count):
            foreign.primary_only.add(page[row] for row in np.flatnonzero(there.find(page) < 0))


def _by_id(
    reader: RecordReader, collection: Collection, ids: list[str]
) -> dict[str, tuple[Records, int]]:
    found: dict[str, tuple[Records, int]] = {}
    for batch in reader.batches(collection, ids):
        for piece in batch.pieces:
            found.update((i, (piece, row)) for row, i in enumerate(piece.ids))
    return found

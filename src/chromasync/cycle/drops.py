"""Swaps and drops of whole collections, at the end of a cycle, behind the guards.

Three things can go as a whole: the mirror of a collection that vanished, the old collection whose
name a re-created one takes over, and a replica collection that the primary never had. Records are
deleted one by one before a collection is dropped (the writer sees to it), because some servers let
a dropped collection's array metadata reappear in others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from chromasync import faultpoints
from chromasync.cycle.listing import Place, place_of
from chromasync.cycle.names import settle_names
from chromasync.cycle.pairing import Pairings, final_name
from chromasync.cycle.prune import find_hold
from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.errors import ChromasyncError
from chromasync.guard import is_approved, judge_drop, judge_replacement
from chromasync.model import Collection, Hold, HoldKind, Mirror, MirrorStatus

UNKNOWN_ORIGIN = "the primary never had it"


class Drops:
    """The end of a cycle for whole collections.

    Args:
        holds: all holds as they stood when the cycle began to prune.
        known: how many collections the ledger knows, the vanished ones included.
    """

    def __init__(
        self, cycle: CycleWork, pairings: Pairings, holds: Sequence[Hold], known: int
    ) -> None:
        self._cycle = cycle
        self._holds = holds
        self._known = known
        self._vanished = {m.replica_id: m for m in pairings.vanished if m.replica_id}
        self._pending = list(pairings.vanished)
        self._surplus = {c.id: c for c in pairings.surplus}
        superseded = [p.superseded for p in pairings.pairings if p.superseded is not None]
        self._superseded = {c.id for c in superseded}
        self._surplus.update((c.id, c) for c in superseded)
        self._held: set[tuple[str, HoldKind]] = set()

    def run(self) -> None:
        """Swap names of complete re-created collections, then drop what may be dropped."""
        complete = {w.replica.id: w for w in self._cycle.collections if w.error is None}
        wanted = {replica_id: work.mirror.name for replica_id, work in complete.items()}
        ousted = settle_names(
            self._cycle.replica,
            self._cycle.replica_listing,
            wanted,
            lambda newcomer, occupant: self._may_replace(complete[newcomer.id], occupant),
            lambda replica, error: self._note_refusal(complete[replica.id], error),
        )
        self._cycle.refresh_replicas()
        for collection in ousted:
            self._try_ousted(collection)
        awaited = self._awaited_places()
        for mirror in self._pending:
            replica = self._cycle.replica_listing.collections.get(mirror.replica_id or "")
            if replica is None or place_of(replica) not in awaited:
                self._try_vanished(mirror, replica)
        for collection in self._surplus.values():
            if place_of(collection) not in awaited:
                self._try_surplus(collection)
        self._clear_stale_holds()

    def _awaited_places(self) -> set[Place]:
        """Names that a primary collection has a right to: whoever has one waits for its turn."""
        works, refused = self._cycle.collections, self._cycle.refused
        return {place_of(w.primary) for w in works} | {place_of(mirror) for mirror, _ in refused}

    # ---- a re-created collection takes over the name -----------------------------------------

    @staticmethod
    def _note_refusal(work: CollectionWork, error: ChromasyncError) -> None:
        """A collection under another name is not what was asked for, however right its records."""
        work.error = error

    def _may_replace(self, newcomer: CollectionWork, occupant: Collection) -> bool:
        mirror = self._vanished.get(occupant.id)
        if mirror is None and occupant.id not in self._surplus:
            return False
        old_count = self._cycle.replica.count(occupant)
        hold = find_hold(self._holds, newcomer.mirror.collection_id, HoldKind.REPLACE)
        reason = judge_replacement(
            old_count,
            newcomer.mirror.primary_count,
            self._cycle.settings.sync_max_delete,
            mirrored=mirror is not None or occupant.id in self._superseded,
            primary_empty=self._cycle.primary_empty,
        )
        if reason is None or is_approved(hold, old_count):
            return True
        newcomer.held += old_count
        self._hold(
            newcomer.mirror.collection_id, newcomer.mirror.name, HoldKind.REPLACE, old_count, reason
        )
        return False

    def _try_ousted(self, collection: Collection) -> None:
        """Drop one; where that is refused it stays under its new name, and is judged next time."""
        try:
            self._drop_ousted(collection)
        except REFUSALS as error:
            self._cycle.warnings.append(f"{final_name(collection)} was not dropped: {error.what}")

    def _drop_ousted(self, collection: Collection) -> None:
        mirror = self._vanished.get(collection.id)
        self._drop(collection)
        self._surplus.pop(collection.id, None)
        if mirror is not None:
            self._forget(mirror)
            self._pending.remove(mirror)

    # ---- a collection vanished from the primary ----------------------------------------------

    def _try_vanished(self, mirror: Mirror, replica: Collection | None) -> None:
        """Judge one; a replica that refuses the drop stops neither the others nor the close."""
        try:
            self._judge_vanished(mirror, replica)
        except REFUSALS as error:
            # what was approved stays approved for the next cycle
            self._held.add((mirror.collection_id, HoldKind.DROP))
            self._cycle.refuse(mirror, error)

    def _judge_vanished(self, mirror: Mirror, replica: Collection | None) -> None:
        hold = find_hold(self._holds, mirror.collection_id, HoldKind.DROP)
        count = 0 if replica is None else self._cycle.replica.count(replica)
        reason = judge_drop(
            mirror.missing_cycles,
            len(self._vanished),
            self._known,
            primary_empty=not self._cycle.primary_listing.collections,
        )
        if reason is not None and not is_approved(hold, count):
            self._hold(mirror.collection_id, mirror.name, HoldKind.DROP, count, reason)
            return
        if replica is not None:
            self._drop(replica)
        self._forget(mirror)

    def _forget(self, mirror: Mirror) -> None:
        self._cycle.store.forget_mirror(mirror.collection_id)

    # ---- a collection that only the replica has ----------------------------------------------

    def _try_surplus(self, collection: Collection) -> None:
        """Judge one; a replica that refuses the drop stops nothing else, and the approval stays."""
        try:
            self._judge_surplus(collection)
        except REFUSALS as error:
            self._held.add((collection.id, HoldKind.SURPLUS_COLLECTION))
            self._cycle.warnings.append(f"{final_name(collection)} was not dropped: {error.what}")

    def _judge_surplus(self, collection: Collection) -> None:
        count = self._cycle.replica.count(collection)
        hold = find_hold(self._holds, collection.id, HoldKind.SURPLUS_COLLECTION)
        if is_approved(hold, count):
            self._drop(collection)
            self._cycle.store.clear_hold(collection.id, HoldKind.SURPLUS_COLLECTION)
            return
        self._hold(
            collection.id,
            final_name(collection),
            HoldKind.SURPLUS_COLLECTION,
            count,
            UNKNOWN_ORIGIN,
        )

    # ---- all three ---------------------------------------------------------------------------

    def _drop(self, collection: Collection) -> None:
        faultpoints.reach(faultpoints.BEFORE_DROP)
        self._cycle.deleted += self._cycle.replica.count(collection)
        self._cycle.replica.drop_collection(collection)
        self._cycle.replica_listing.collections.pop(collection.id, None)

    def _hold(self, key: str, name: str, kind: HoldKind, count: int, reason: str) -> None:
        self._cycle.store.save_hold(Hold(key, name, kind, count, reason))
        self._held.add((key, kind))

    def _clear_stale_holds(self) -> None:
        """Holds of this kind whose cause is gone."""
        whole = {HoldKind.DROP, HoldKind.REPLACE, HoldKind.SURPLUS_COLLECTION}
        for hold in self._holds:
            if hold.kind in whole and (hold.collection_id, hold.kind) not in self._held:
                self._cycle.store.clear_hold(hold.collection_id, hold.kind)


def note_vanished(cycle: CycleWork, pairings: Pairings) -> None:
    """Remember which mirrors were not listed; a cycle with an error in it confirms nothing."""
    confirmed = 0 if cycle.has_errors else 1
    for at, mirror in enumerate(pairings.vanished):
        missing = mirror.missing_cycles + confirmed
        seen = replace(mirror, missing_cycles=missing, status=MirrorStatus.VANISHED)
        pairings.vanished[at] = seen
        cycle.store.save_mirror(seen)

"""The plan: what a cycle would do, told without writing to a server or to the store.

It takes the same decisions as a cycle (pairing, walks, what to read again, digests, guards) and
stops before each write. Records of chunks that a cycle would compare on both sides are compared
here too; chunks that it would not read are taken at the ledger's word.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from chromasync.config import Settings
from chromasync.cycle.collections import warn_of_filters, why_incompatible
from chromasync.cycle.drops import UNKNOWN_ORIGIN
from chromasync.cycle.listing import Listing, Place, list_primary, list_replica, place_of
from chromasync.cycle.pairing import Pairings, final_name, pair_collections
from chromasync.cycle.prune import ADOPTED, find_hold
from chromasync.guard import (
    is_approved,
    judge_deletes,
    judge_drop,
    judge_replacement,
    refuse_same_server,
    refuse_swapped,
)
from chromasync.model import DIGEST_BYTES, Collection, Hold, HoldKind, Mirror
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.preview.draft import Draft, Drafter
from chromasync.reports import PlannedAction, PlannedCollection, PlanReport

__all__ = ["Preview"]

ASSUMED_WRITES_PER_SECOND = 900.0
"""Until cycles have measured this replica."""


class Preview:
    """Makes plans; reads servers and store, writes nothing."""

    def __init__(self, primary: Reader, replica: Writer, store: Store, settings: Settings) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._holds: list[Hold] = []
        self._replicas = Listing()
        self._warnings: tuple[str, ...] = ()

    def make(self, progress: Progress) -> PlanReport:
        """What a cycle would create, update and delete.

        Raises:
            GuardRefusal: a cycle would refuse to run.
            ServerError, StoreError: a side or the store could not be read.
        """
        self._holds = self._store.holds()
        pairings, known = self._match()
        progress.start("planning", None)
        drafter = Drafter(self._primary, self._replica, self._store, self._settings, progress)
        drafts = drafter.read_chunks([drafter.draft(p) for p in pairings.pairings])
        empty = not any(draft.seen for draft in drafts)
        planned = [self._guarded(draft, pairings, primary_empty=empty) for draft in drafts]
        awaited = {place_of(draft.pairing.primary) for draft in drafts}
        planned += self._whole_collections(pairings, known, awaited)
        writes = sum(p.create + p.update + p.delete for p in planned if not p.held)
        rates = self._store.records_per_second() or {}
        rate = rates.get("write") or ASSUMED_WRITES_PER_SECOND
        return PlanReport(
            collections=tuple(planned),
            expected_seconds=writes / rate,
            bytes=sum(p.bytes for p in planned),
            warnings=self._warnings,
        )

    def _match(self) -> tuple[Pairings, int]:
        primary = list_primary(self._primary, self._settings)
        self._warnings = warn_of_filters(primary, self._settings)
        self._replicas = list_replica(self._replica, self._settings, primary)
        mirrors = [m for m in self._store.mirrors() if self._settings.covers(m.tenant, m.database)]
        known_ids = {m.replica_id for m in mirrors if m.replica_id}
        refuse_swapped(primary.collections.keys(), known_ids, self._settings.primary_url)
        refuse_same_server(primary.collections.keys(), self._replicas.collections.keys())
        check = partial(why_incompatible, server=self._replica.capabilities())
        wants = self._settings.wants_collection
        return pair_collections(primary, self._replicas, mirrors, wants, check), len(mirrors)

    # ---- guards -----------------------------------------------------------------------------

    def _guarded(
        self, draft: Draft, pairings: Pairings, *, primary_empty: bool
    ) -> PlannedCollection:
        """The plan of one collection with its deletes, and what would be held of it."""
        limit = self._settings.sync_max_delete
        ledger = sum(head.count for head in draft.heads)
        total = ledger + len(draft.fresh) // DIGEST_BYTES
        judge = partial(judge_deletes, total=total, max_delete=limit, primary_empty=primary_empty)
        reasons = []
        for kind, count in ((HoldKind.DELETES, draft.gone), (HoldKind.SURPLUS, draft.surplus)):
            unvouched = kind is HoldKind.SURPLUS and draft.adopting
            reason = ADOPTED if unvouched else judge(count)
            if count and not self._is_approved(draft.pairing.mirror.collection_id, kind, count):
                reasons += [reason] if reason else []
        planned = replace(
            draft.planned,
            delete=draft.gone + draft.surplus,
            held=bool(reasons),
            reason="; ".join(filter(None, [draft.planned.reason, *reasons])),
        )
        return self._judged_replacement(planned, draft, pairings, primary_empty=primary_empty)

    def _judged_replacement(
        self, planned: PlannedCollection, draft: Draft, pairings: Pairings, *, primary_empty: bool
    ) -> PlannedCollection:
        """With the collection that must give its name up, if there is one."""
        occupant = self._replicas.by_place().get(place_of(draft.pairing.primary))
        replica = draft.pairing.replica
        mirrored = {m.replica_id for m in pairings.vanished} | {c.id for c in _superseded(pairings)}
        surplus = {c.id for c in pairings.surplus}
        if occupant is None or occupant.id not in mirrored | surplus:
            return planned
        if replica is not None and replica.id == occupant.id:
            return planned
        old_count = self._replica.count(occupant)
        reason = judge_replacement(
            old_count,
            draft.seen,
            self._settings.sync_max_delete,
            mirrored=occupant.id in mirrored,
            primary_empty=primary_empty,
        )
        key = draft.pairing.mirror.collection_id
        planned = replace(planned, action=PlannedAction.REPLACE, delete=planned.delete + old_count)
        if reason is None or self._is_approved(key, HoldKind.REPLACE, old_count):
            return planned
        return replace(planned, held=True, reason="; ".join(filter(None, [planned.reason, reason])))

    def _is_approved(self, key: str, kind: HoldKind, count: int) -> bool:
        return is_approved(find_hold(self._holds, key, kind), count)

    def _whole_collections(
        self, pairings: Pairings, known: int, awaited: Container[Place]
    ) -> Iterator[PlannedCollection]:
        """Collections that only the replica has, but for those whose successor waits."""
        places = {c.id: place_of(c) for c in self._replicas.collections.values()}
        for mirror in pairings.vanished:
            if places.get(mirror.replica_id or "") not in awaited:
                yield self._vanished(mirror, pairings, known)
        for collection in [*pairings.surplus, *_superseded(pairings)]:
            if place_of(collection) not in awaited:
                yield self._surplus(collection)

    def _vanished(self, mirror: Mirror, pairings: Pairings, known: int) -> PlannedCollection:
        replica = self._replicas.collections.get(mirror.replica_id or "")
        count = 0 if replica is None else self._replica.count(replica)
        reason = judge_drop(
            mirror.missing_cycles + 1,
            sum(m.replica_id is not None for m in pairings.vanished),
            known,
            primary_empty=not pairings.pairings,
        )
        if self._is_approved(mirror.collection_id, HoldKind.DROP, count):
            reason = None
        return PlannedCollection(
            *place_of(mirror),
            PlannedAction.HOLD if reason else PlannedAction.DROP,
            delete=count,
            held=reason is not None,
            reason=reason or "it vanished from the primary",
        )

    def _surplus(self, collection: Collection) -> PlannedCollection:
        count = self._replica.count(collection)
        held = not self._is_approved(collection.id, HoldKind.SURPLUS_COLLECTION, count)
        return PlannedCollection(
            collection.tenant,
            collection.database,
            final_name(collection),
            PlannedAction.HOLD if held else PlannedAction.DROP,
            delete=count,
            held=held,
            reason=UNKNOWN_ORIGIN,
        )


def _superseded(pairings: Pairings) -> list[Collection]:
    """Replica collections of earlier cycles that can never become equal any more."""
    return [p.superseded for p in pairings.pairings if p.superseded is not None]

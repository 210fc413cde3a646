"""Removes records and collections from the replica at the end of a cycle, or holds them.

Deletes wait until every chunk was reconciled. So all removals are judged together (see
`plan.removals`), and all errors of the cycle are known. Right before a record is deleted, it is
requested from the primary once more; if the primary has it, it stays. The last steps swap names and
drop whole collections. Removals without an approval are counted before they are done, so that a
crash cannot enlarge the budget of a day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from chromasync import faultpoints
from chromasync.cycle.keep import drop_or_keep
from chromasync.cycle.names import assign_names
from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.errors import ChromasyncError
from chromasync.ledger.ids import copied_set_of, id_set_of
from chromasync.memory import Memory
from chromasync.model import (
    Collection,
    Deletion,
    DeletionKind,
    HoldKind,
    MirrorStatus,
    Removal,
)
from chromasync.plan.listing import Place, place_of
from chromasync.plan.match import mirrors_told_of
from chromasync.plan.pairing import Pairings, final_name
from chromasync.plan.removals import (
    FROZEN,
    Candidate,
    IdSum,
    Key,
    Surroundings,
    Verdict,
    deletes_candidate,
    judge_removals,
    was_counted,
)
from chromasync.plan.whole import Newcomer, WholeRemoval, WholeRemovals
from chromasync.reconcile.read import RecordReader

HOLD_OF = {DeletionKind.GONE: HoldKind.DELETES, DeletionKind.SURPLUS: HoldKind.SURPLUS}
JUDGED = frozenset(
    {
        HoldKind.DELETES,
        HoldKind.SURPLUS,
        HoldKind.DROP,
        HoldKind.REPLACE,
        HoldKind.SURPLUS_COLLECTION,
    }
)
"""Kinds of holds that this module creates and clears."""


class Removals:
    """Judges and carries out all removals of one cycle."""

    def __init__(self, cycle: CycleWork, pairings: Pairings) -> None:
        self._cycle = cycle
        self._pairings = pairings
        memory = Memory(cycle.settings.sync_max_memory_mb)
        self._primary = RecordReader(cycle.primary, memory=memory)
        self._holds = cycle.store.holds()
        self._works = {w.mirror.collection_id: w for w in cycle.collections}
        self._kept_open: set[Key] = set()

    def run(self) -> None:
        """Judge all removals, hold some of them, and carry out the others."""
        succeeded = not self._cycle.has_errors
        whole = self._find_whole()
        candidates = [*self._find_deletes(), *(removal.candidate for removal in whole)]
        verdicts = judge_removals(candidates, self._surroundings(succeeded=succeeded))
        self._note_vanished(succeeded=succeeded)
        for candidate in candidates:
            self._hold_or_count(candidate, verdicts[candidate.key])
        for work in self._cycle.collections:
            self._delete_records(work, verdicts)
        self._swap_names(whole, verdicts)
        for removal in whole:
            self._let_go(removal, verdicts[removal.candidate.key])
        self._clear_holds()

    # ---- what would go ----------------------------------------------------------------------

    def _find_deletes(self) -> list[Candidate]:
        found: list[Candidate] = []
        for work in self._cycle.collections:
            collection_id = work.mirror.collection_id
            waiting = self._due(work)
            if waiting:
                heads = self._cycle.store.chunk_heads(collection_id)
                total = sum(head.count for head in heads)
                found += self._deletes_of(work, waiting, total)
        return found

    def _due(self, work: CollectionWork) -> list[Deletion]:
        """The waiting deletions, without records that disappeared after this cycle's walk.

        The next cycle judges those.
        """
        if work.mirror.collection_id not in self._cycle.waiting:
            return []
        waiting = self._cycle.store.deletions(work.mirror.collection_id)
        if work.error is not None:  # all deletions are held
            return waiting
        return [due for deletion in waiting if (due := _without_news(work, deletion)).ids]

    def _deletes_of(
        self, work: CollectionWork, waiting: Sequence[Deletion], total: int
    ) -> Iterator[Candidate]:
        for kind, held_as in HOLD_OF.items():
            ids = IdSum(i for d in waiting if d.kind is kind for i in d.ids)
            if ids.count:
                yield deletes_candidate(
                    work.mirror,
                    work.replica.id,
                    held_as,
                    ids,
                    total=total,
                    holds=self._holds,
                    trouble=self._trouble(work),
                )

    def _trouble(self, work: CollectionWork) -> str:
        """Why this cycle can delete nothing of a collection, even if approved; empty if it can."""
        if work.error is not None:
            return f"reading the primary failed in this cycle ({work.error.what})"
        return self._cycle.absence

    def _find_whole(self) -> list[WholeRemoval]:
        finder = WholeRemovals(
            self._cycle.replica,
            self._cycle.replica_listing,
            self._pairings,
            partial(id_set_of, self._cycle.store),
            self._holds,
        )
        aside = self._cycle.store.quarantined()
        absent = Counter(record.collection_id for record in aside if record.absent)
        newcomers = [
            Newcomer(
                work.mirror.collection_id,
                place_of(work.mirror),
                work.replica.id,
                partial(copied_set_of, self._cycle.store, work.mirror.collection_id),
                absent[work.mirror.collection_id],
            )
            for work in self._cycle.collections
            if work.error is None
        ]
        return finder.find(newcomers, self._awaited_places())

    def _awaited_places(self) -> set[Place]:
        """Names that primary collections will take; their present holders are not dropped yet."""
        works = {place_of(w.primary) for w in self._cycle.collections}
        refused = {place_of(mirror) for mirror, _ in self._cycle.refused}
        waiting = [*self._cycle.frozen, *self._cycle.held_back]
        return works | refused | {place_of(mirror) for mirror in waiting}

    def _surroundings(self, *, succeeded: bool) -> Surroundings:
        store, settings = self._cycle.store, self._cycle.settings
        mirrors = mirrors_told_of(store, settings.scope, self._cycle.primary_listing)
        totals = {mirror.collection_id: mirror.replica_count for mirror in mirrors}
        return Surroundings(
            settings.sync_max_delete,
            totals,
            len({place_of(mirror) for mirror in mirrors}),
            removed=self._cycle.store.removals_of_day(),
            holds=self._holds,
            approved_sets=frozenset(self._cycle.approved_sets),
            primary_empty=self._cycle.primary_empty,
            frozen=self._cycle.absence or (FROZEN if self._cycle.frozen else ""),
            undecided=self._cycle.doubt,
            succeeded=succeeded,
        )

    # ---- holding ----------------------------------------------------------------------------

    def _hold_or_count(self, candidate: Candidate, verdict: Verdict) -> None:
        if verdict.held:
            self._hold(candidate, verdict)
        elif (
            candidate.count
            and not verdict.approved
            and not was_counted(candidate, self._cycle.store.removals_of_day())
        ):
            removal = Removal(candidate.collection_id, candidate.count, candidate.wholly)
            self._cycle.store.note_removal(self._cycle.cycle.id, removal)

    def _hold(self, candidate: Candidate, verdict: Verdict) -> None:
        self._cycle.store.save_hold(candidate.hold(verdict))
        self._kept_open.add(candidate.key)
        work = self._works.get(candidate.collection_id)
        if work is not None:
            work.held += candidate.count

    def _note_vanished(self, *, succeeded: bool) -> None:
        """Record which mirrors were not listed; a cycle with an error confirms nothing."""
        for at, mirror in enumerate(self._pairings.vanished):
            missing = mirror.primary.missing_cycles + (1 if succeeded else 0)
            seen = replace(
                mirror.with_primary(missing_cycles=missing),
                status=MirrorStatus.VANISHED,
                consecutive_errors=0,
                last_error=None,
            )
            self._pairings.vanished[at] = seen
            self._cycle.store.save_mirror(seen)

    def _clear_holds(self) -> None:
        """Delete holds whose cause is gone, or whose removal was carried out."""
        waiting = [*self._cycle.frozen, *self._cycle.held_back]
        frozen = {mirror.collection_id for mirror in waiting}
        refused = {mirror.collection_id for mirror, _ in self._cycle.refused}
        for hold in self._holds:
            key = (hold.collection_id, hold.kind)
            kept = hold.collection_id in frozen | refused and hold.kind is not HoldKind.DROP
            if hold.kind in JUDGED and key not in self._kept_open and not kept:
                self._cycle.store.clear_hold(*key)

    # ---- records ----------------------------------------------------------------------------

    def _delete_records(self, work: CollectionWork, verdicts: dict[Key, Verdict]) -> None:
        for deletion in self._due(work):
            held_as = HOLD_OF.get(deletion.kind)
            verdict = verdicts.get((work.mirror.collection_id, held_as)) if held_as else None
            if verdict is None or verdict.held:
                continue
            try:
                count = self._delete(work, deletion)
            except REFUSALS as error:
                work.error = work.error or error
                return
            work.deleted += count
            self._cycle.deleted += count

    def _delete(self, work: CollectionWork, deletion: Deletion) -> int:
        """Delete those records of a batch that the primary lacks; returns their number."""
        self._cycle.check_stop()
        alive: set[str] = set()
        for batch in self._primary.batches(work.primary, deletion.ids, embeddings=False):
            alive.update(batch.unreadable, *(piece.ids for piece in batch.pieces))
        dead = [i for i in deletion.ids if i not in alive]
        if dead:
            self._cycle.replica.delete(work.replica, dead)
        faultpoints.reach(faultpoints.MID_PRUNE)
        self._cycle.store.finish_deletion(deletion, sorted(alive))
        return len(dead)

    # ---- whole collections ------------------------------------------------------------------

    def _swap_names(self, whole: Sequence[WholeRemoval], verdicts: dict[Key, Verdict]) -> None:
        """Give complete collections their names; replaceable collections are renamed aside."""
        complete = {w.replica.id: w for w in self._cycle.collections if w.error is None}
        may_go = {
            (removal.candidate.collection_id, removal.replica.id)
            for removal in whole
            if removal.candidate.kind is HoldKind.REPLACE
            and removal.replica is not None
            and not verdicts[removal.candidate.key].held
        }

        def may_take(newcomer: Collection, occupant: Collection) -> bool:
            return (complete[newcomer.id].mirror.collection_id, occupant.id) in may_go

        def refused(replica: Collection, error: ChromasyncError) -> None:
            complete[replica.id].error = error

        self._cycle.forget_definitions_to_rename()
        assign_names(
            self._cycle.replica,
            self._cycle.replica_listing,
            {replica_id: work.mirror.name for replica_id, work in complete.items()},
            may_take,
            refused,
        )
        self._cycle.refresh_replicas()

    def _let_go(self, removal: WholeRemoval, verdict: Verdict) -> None:
        """Drop one collection; if that is refused, it stays, and its approval, too."""
        if verdict.held:
            return
        if not self._has_lost_its_name(removal):
            self._kept_open.add(removal.candidate.key)
            return
        if removal.mirror is not None or removal.candidate.kind is not HoldKind.REPLACE:
            # A replaced collection without a mirror must be dropped in this cycle: the next one
            # could not tell where it came from. So this is no stopping point for it.
            self._cycle.check_stop()
        try:
            if removal.replica is not None:
                # records that the new collection has, too, do not count as deleted
                dropped = self._drop(removal.replica)
                self._cycle.deleted += min(dropped, removal.candidate.count)
            if removal.mirror is not None:
                self._cycle.store.forget_mirror(removal.mirror.collection_id)
            if verdict.approved:
                self._cycle.store.clear_hold(*removal.candidate.key)
        except REFUSALS as error:
            self._kept_open.add(removal.candidate.key)
            if removal.candidate.kind is HoldKind.DROP and removal.mirror is not None:
                self._cycle.refuse(removal.mirror, error)
            elif removal.replica is not None:
                name = final_name(removal.replica)
                self._cycle.warnings.append(f"{name} was not dropped: {error.what}")

    def _has_lost_its_name(self, removal: WholeRemoval) -> bool:
        """Whether a replaced collection was renamed aside; a refused rename leaves its name."""
        if removal.candidate.kind is not HoldKind.REPLACE or removal.replica is None:
            return True
        now = self._cycle.replica_listing.collections[removal.replica.id]
        return now.name != removal.replica.name

    def _drop(self, collection: Collection) -> int:
        faultpoints.reach(faultpoints.BEFORE_DROP)
        present = self._cycle.replica_listing.collections[collection.id]
        return drop_or_keep(self._cycle, present)


def _without_news(work: CollectionWork, deletion: Deletion) -> Deletion:
    """The deletion without records that this cycle's walk saw on the primary."""
    if deletion.kind is not DeletionKind.GONE or deletion.chunk_id is None:
        return deletion
    unseen = work.membership.unseen.get(deletion.chunk_id)
    kept = [] if unseen is None else unseen.among(list(deletion.ids))
    # as it is stored, the deletion is packed
    return deletion if len(kept) == len(deletion.ids) else replace(deletion, ids=kept)

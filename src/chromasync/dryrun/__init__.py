"""A dry run: reports what a cycle would do, and writes neither to a server nor to the store.

It makes the decisions of `plan/`, as a cycle does, and stops before each write. The walks of both
sides change a ledger that is never stored. The chunks that a cycle would read are reconciled up to
the first write. For the other chunks the ledger is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from chromasync.config import Settings
from chromasync.dryrun.draft import Draft, Drafter
from chromasync.dryrun.expected import Expected
from chromasync.dryrun.undecided import Undecided
from chromasync.ledger.ids import id_set_of
from chromasync.marks import Knowledge, Marks, Spot, look_at_replica, refuse_if_marked, say_refused
from chromasync.model import Collection, Hold, HoldKind, Mirror
from chromasync.plan.direction import promoted_error
from chromasync.plan.divergence import hold_of_changed
from chromasync.plan.foreign import Diverged, DivergenceLook
from chromasync.plan.heirs import in_place_words, with_heirs
from chromasync.plan.listing import Place, place_of
from chromasync.plan.mark import MarkState
from chromasync.plan.match import (
    Matched,
    Sides,
    lacks_ledger_ids,
    list_sides,
    mirrors_told_of,
    pair_sides,
)
from chromasync.plan.older import Ages, look_at_ages
from chromasync.plan.pairing import (
    Match,
    Pairing,
    Pairings,
    rebuilt,
    take_out,
    why_incompatible,
)
from chromasync.plan.places import is_beside
from chromasync.plan.redefinition import redefinition
from chromasync.plan.removals import (
    FROZEN,
    Candidate,
    Key,
    Surroundings,
    Verdict,
    deletes_candidate,
    judge_removals,
)
from chromasync.plan.sampler import Sampler
from chromasync.plan.superseded import successor_of, superseded
from chromasync.plan.whole import Newcomer, WholeRemoval, WholeRemovals
from chromasync.ports import Progress, Reader, Store
from chromasync.reports import PlannedAction, PlannedCollection, PlanReport

__all__ = ["DryRun"]

KEPT = "the removed collection stays on the replica for a while, under another name"


@dataclass(frozen=True, slots=True)
class _Found:
    """The result of the walks of both sides.

    Attributes:
        pairings: the collections to plan.
        undecided: collections that someone must decide about first.
        drafter: None if nothing can be planned.
        approved_sets: digests of removals that were approved through another hold.
        frozen: no collection may be dropped as a whole, because another is diverged.
        records: number of the primary's records in all walked collections.
    """

    matched: Matched
    pairings: Pairings
    undecided: list[PlannedCollection]
    drafter: Drafter | None = None
    drafts: list[Draft] = field(default_factory=list)
    ages: Ages = field(default_factory=Ages)
    approved_sets: set[str] = field(default_factory=set)
    frozen: bool = False
    records: int = 0

    @property
    def waiting(self) -> set[Place]:
        """Places of collections that wait for a decision."""
        return {(p.tenant, p.database, p.name) for p in self.undecided}


class DryRun:
    """Makes plans; reads servers and store, writes nothing."""

    def __init__(
        self,
        primary: Reader,
        replica: Reader,
        store: Store,
        settings: Settings,
        rebuild: Sequence[str] = (),
    ) -> None:
        self._rebuild = rebuild
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._sampler = Sampler(primary, replica, store)
        self._holds: list[Hold] = []
        self._doubtful: set[Spot] = set()
        self._vouched: set[Spot] = set()
        self._warnings: tuple[str, ...] = ()
        self._why_away = ""
        self._expected = Expected(primary, store, settings)

    def plan(self, progress: Progress) -> PlanReport:
        """Plan what a cycle would create, update and delete.

        Raises:
            GuardRefusal, AnotherStore, ReplicaPromoted: a cycle would refuse to run.
            ServerError, StoreError: a side or the store could not be read.
        """
        found = self._look(progress)
        planned = [*found.undecided, *self._plan(found)]
        return self._report(planned, found.matched, found.drafts)

    def undecided(self, progress: Progress) -> list[PlannedCollection]:
        """The collections that a cycle would not write to until someone decides.

        Raises:
            GuardRefusal, AnotherStore, ReplicaPromoted: a cycle would refuse to run.
            ServerError, StoreError: a side or the store could not be read.
        """
        return self._look(progress).undecided

    def _look(self, progress: Progress) -> _Found:
        """Walk both sides, and find the collections that someone must decide about."""
        if not (direction := self._store.direction()).is_following:
            raise promoted_error(direction)
        self._holds = self._store.holds()
        sides = list_sides(self._primary, self._replica, self._store, self._settings)
        sides.replica.hide(one.replica_id for one in self._store.kept())
        self._look_at_marks(sides)
        matched = pair_sides(sides, self._replica, self._store, self._settings)
        self._why_away = matched.why_away
        if matched.other is not None and not matched.approved:
            return _Found(matched, Pairings([], [], []), [self._undecided(matched.other)])
        pairings = self._with_heirs(matched)
        diverged, taken = self._find_diverged(matched, pairings)
        pairings = rebuilt(
            pairings,
            self._rebuild,
            matched.replica,
            self._holds,
            partial(lacks_ledger_ids, self._store, self._primary),
        )
        unlike = Undecided(self._sampler, self._holds, beside=is_beside(self._settings))
        pairings = unlike.set_apart(pairings)
        progress.start("planning", None)
        drafter = Drafter(
            self._primary,
            self._replica,
            self._store,
            self._settings,
            progress,
            why_away=matched.why_away,
            doubtful=self._doubtful,
            vouched=self._vouched,
            taken={one.hold.collection_id for one in taken},
            accepted=unlike.accepted,
        )
        drafts = [drafter.draft(pairing) for pairing in pairings.pairings]
        ages, _ = look_at_ages(
            self._store,
            self._settings.scope,
            [draft.as_seen for draft in drafts],
            pairings.vanished,
            away=bool(matched.why_away),
        )
        take_out(pairings, ages.held.keys())
        undecided = [*(one.hold for one in diverged), *ages.held.values()]
        outgrown = [self._outgrown(d) for d in drafts if d.mirror.adopting and d.foreign]
        return _Found(
            matched,
            pairings,
            [*map(self._undecided, undecided), *unlike.planned, *outgrown],
            drafter,
            [
                draft
                for draft in drafts
                if draft.mirror.collection_id not in ages.held
                and not (draft.mirror.adopting and draft.foreign)
            ],
            ages,
            {digest for one in taken for digest in one.approved_sets},
            frozen=bool(diverged),
            records=unlike.records + sum(draft.membership.seen for draft in drafts),
        )

    def _report(
        self, planned: Sequence[PlannedCollection], matched: Matched, drafts: Sequence[Draft]
    ) -> PlanReport:
        deleted = sum(p.delete - p.held_count for p in planned)
        return PlanReport(
            collections=tuple(planned),
            expected_seconds=self._expected.seconds(drafts, deleted),
            bytes=sum(p.bytes for p in planned),
            warnings=(*matched.warnings, *self._warnings),
            failures=(
                *(str(gone.error) for gone in matched.primary.missing),
                *(str(error) for _, error in matched.meeting),
            ),
        )

    def _look_at_marks(self, sides: Sides) -> None:
        """Raise if a cycle would refuse, and note the places where it would compare all."""
        if not self._settings.sync_mark:
            return
        known, url = Knowledge.of(self._store), self._settings.primary_url
        refuse_if_marked(Marks(self._primary), sides.primary, known, url)
        told = [m for m in sides.mirrors if sides.primary.tells_of(m)]
        places = [(m.tenant, m.database) for m in told]
        spots = dict.fromkeys([*sides.primary.databases, *places])
        look = look_at_replica(Marks(self._replica), sides.replica, spots, known)
        if look.refusal is not None:
            self._warnings += (say_refused(look.refusal),)
        self._vouched = {spot for spot, verdict in look.verdicts.items() if verdict.vouches}
        for spot, verdict in look.verdicts.items():
            if verdict.error is not None:
                raise verdict.error
            if verdict.state is MarkState.DOUBT:
                self._doubtful.add(spot)
                if spot in places:
                    self._warnings += (f"{verdict.why} Every record there would be compared.",)

    # ---- what must be decided first ---------------------------------------------------------

    def _with_heirs(self, matched: Matched) -> Pairings:
        """The pairings, with re-created collections that would be compared in place."""
        pairings = with_heirs(
            matched.pairings,
            matched.primary,
            matched.replica,
            self._store.mirrors(),
            why_incompatible=partial(why_incompatible, server=self._replica.capabilities()),
            is_like=self._is_like,
            restored=matched.restored,
        )
        heirs = [p for p in pairings.pairings if p.former is not None]
        self._warnings += tuple(in_place_words(pairing) for pairing in heirs)
        return pairings

    def _is_like(self, pairing: Pairing, former: Mirror, held: Collection) -> bool:
        likeness = self._sampler.of_ledger(former.collection_id, pairing.primary, held)
        return likeness.is_mostly_same

    def _find_diverged(
        self, matched: Matched, pairings: Pairings
    ) -> tuple[list[Diverged], list[Diverged]]:
        """The diverged collections, which leave the pairings, and the approved ones."""
        look = DivergenceLook(
            self._primary,
            self._replica,
            self._store,
            matched.replica,
            why=matched.why_away,
            met=matched.met,
        )
        found = look.find(pairings)
        diverged = [one for one in found if not one.approved]
        take_out(pairings, {one.hold.collection_id for one in diverged})
        return diverged, [one for one in found if one.approved]

    @staticmethod
    def _undecided(hold: Hold) -> PlannedCollection:
        return PlannedCollection(
            hold.tenant,
            hold.database,
            hold.collection_name,
            PlannedAction.HOLD,
            held=True,
            undecided=True,
            reason=hold.reason,
        )

    def _outgrown(self, draft: Draft) -> PlannedCollection:
        reason = (
            f"the replica has {draft.surplus.count:,} records that the primary lacks, and "
            f"{len(draft.foreign):,} differ: it is unknown which side is newer"
        )
        return replace(self._counted(draft), held=True, undecided=True, reason=reason)

    # ---- what may go ------------------------------------------------------------------------

    def _plan(self, found: _Found) -> Iterator[PlannedCollection]:
        if found.drafter is None:
            return
        drafts = found.drafter.read_chunks(found.drafts)
        whole = self._find_whole(found, drafts)
        candidates = [c for draft in drafts for c in self._deletes(draft)]
        candidates += [removal.candidate for removal in whole]
        verdicts = judge_removals(candidates, self._surroundings(found, drafts))
        for draft in drafts:
            yield self._planned(draft, candidates, verdicts)
        for removal in whole:
            if removal.candidate.kind is not HoldKind.REPLACE:
                yield self._planned_whole(removal, verdicts[removal.candidate.key])

    def _deletes(self, draft: Draft) -> Iterator[Candidate]:
        replica = draft.pairing.replica
        for kind, ids in ((HoldKind.DELETES, draft.gone), (HoldKind.SURPLUS, draft.surplus)):
            if ids.count and replica is not None:
                yield deletes_candidate(
                    draft.mirror,
                    replica.id,
                    kind,
                    ids,
                    total=draft.total,
                    holds=self._holds,
                )

    def _find_whole(self, found: _Found, drafts: Sequence[Draft]) -> list[WholeRemoval]:
        pairings = found.pairings
        former = [superseded(p.mirror, p.superseded) for p in pairings.pairings if p.superseded]
        origin = {mirror.collection_id: successor_of(mirror) for mirror in former}
        with_former = Pairings(pairings.pairings, [*pairings.vanished, *former], pairings.surplus)
        finder = WholeRemovals(
            self._replica,
            found.matched.replica,
            with_former,
            lambda key: id_set_of(self._store, origin.get(key, key)),
            self._holds,
        )
        newcomers = [
            Newcomer(
                draft.pairing.mirror.collection_id,
                place_of(draft.pairing.primary),
                None if draft.pairing.replica is None else draft.pairing.replica.id,
                draft.copied_set,
                draft.absent,
            )
            for draft in drafts
        ]
        awaited = found.waiting | {place_of(p.primary) for p in pairings.pairings}
        return finder.find(newcomers, awaited)

    def _surroundings(self, found: _Found, drafts: Sequence[Draft]) -> Surroundings:
        settings = self._settings
        mirrors = mirrors_told_of(self._store, settings.scope, found.matched.primary)
        new = [draft.mirror for draft in drafts]
        totals = {m.collection_id: m.replica_count for m in [*new, *mirrors]}
        return Surroundings(
            settings.sync_max_delete,
            totals,
            len({place_of(m) for m in [*new, *mirrors]}),
            removed=self._store.removals_of_day(),
            holds=self._holds,
            approved_sets=frozenset(found.approved_sets.union(found.ages.approved.values())),
            primary_empty=not found.records,
            frozen=FROZEN if found.frozen else "",
            undecided=found.ages.doubt,
        )

    # ---- for people -------------------------------------------------------------------------

    def _counted(self, draft: Draft) -> PlannedCollection:
        """The plan of one collection without its removals."""
        counts = draft.counts
        written = counts.inserted + draft.updated + len(draft.foreign)
        return PlannedCollection(
            *place_of(draft.pairing.primary),
            self._action(draft.pairing),
            create=counts.inserted,
            update=draft.updated,
            same=draft.same + counts.read - written,
            bytes=draft.bytes,
            reason=draft.pairing.lost,
        )

    def _action(self, pairing: Pairing) -> PlannedAction:
        if pairing.match is Match.CREATE:
            beside = pairing.create_name != pairing.primary.name
            return PlannedAction.REPLACE if beside else PlannedAction.CREATE
        if pairing.match is Match.ADOPT or pairing.former is not None:
            return PlannedAction.ADOPT
        replica = pairing.replica
        if replica is None or replica.name != pairing.primary.name:
            return PlannedAction.RENAME
        change = redefinition(pairing.primary, replica, self._replica.capabilities())
        return PlannedAction.MODIFY if change else PlannedAction.NONE

    def _planned(
        self, draft: Draft, candidates: Sequence[Candidate], verdicts: dict[Key, Verdict]
    ) -> PlannedCollection:
        """The plan of one collection with its removals and holds."""
        key = draft.mirror.collection_id
        mine = [c for c in candidates if c.collection_id == key and c.kind is not HoldKind.DROP]
        held = [c for c in mine if verdicts[c.key].held]
        swap = next((c for c in mine if c.kind is HoldKind.REPLACE), None)
        counted = self._counted(draft)
        foreign = self._foreign(draft)
        reasons = [counted.reason, *(verdicts[c.key].reason for c in held), foreign]
        planned = replace(
            counted,
            action=counted.action if swap is None else PlannedAction.REPLACE,
            delete=sum(c.count for c in mine),
            held=bool(held or foreign),
            held_count=sum(c.count for c in held),
            undecided=bool(foreign),
            reason="; ".join(filter(None, reasons)),
        )
        return planned if swap is None else self._as_kept(planned, swap.count)

    def _foreign(self, draft: Draft) -> str:
        """Why records of others would be left as they are; empty if there are none."""
        key, replica_id = draft.mirror.collection_id, draft.mirror.replica_id or ""
        place = place_of(draft.pairing.primary)
        hold = hold_of_changed(key, place, replica_id, draft.foreign, self._why_away)
        return "" if hold is None else hold.reason

    def _planned_whole(self, removal: WholeRemoval, verdict: Verdict) -> PlannedCollection:
        candidate = removal.candidate
        planned = PlannedCollection(
            candidate.tenant,
            candidate.database,
            candidate.name,
            PlannedAction.HOLD if verdict.held else PlannedAction.DROP,
            delete=candidate.count,
            held=verdict.held,
            held_count=candidate.count if verdict.held else 0,
            reason=verdict.reason or "it vanished from the primary",
        )
        return self._as_kept(planned, candidate.count)

    def _as_kept(self, planned: PlannedCollection, count: int) -> PlannedCollection:
        """The plan; if a collection of `count` records would be kept, these are not deleted."""
        if planned.held or self._settings.sync_keep_dropped is None:
            return planned
        reason = "; ".join(filter(None, [planned.reason, KEPT]))
        return replace(planned, delete=planned.delete - count, reason=reason)

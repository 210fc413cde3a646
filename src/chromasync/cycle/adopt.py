"""Takes over existing collections of the replica that are mostly the same, and holds the others.

Two questions come before the first write to a collection, and a sample answers both:

* A collection of the replica is in no ledger and has the name of a primary one. If it is mostly the
  same, it is adopted. Otherwise it is *held*: nothing is created, renamed, redefined or written for
  it until someone decides (`sync --adopt`, or an approval). The other collections continue.
* A collection of the primary is new, and the one that had its name is gone. If the new one is
  mostly the same, it is the heir of the old one (see `plan.heirs`). Otherwise it is built beside
  the old one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from chromasync.cycle.work import REFUSALS, CycleWork
from chromasync.model import Collection, Hold, HoldKind, Mirror, MirrorStatus
from chromasync.plan.heirs import in_place_words, with_heirs
from chromasync.plan.likeness import Likeness
from chromasync.plan.match import Matched
from chromasync.plan.pairing import Pairing, Pairings, why_incompatible
from chromasync.plan.places import is_beside
from chromasync.plan.sampler import Sampler, judge_adoption


def choose_heirs(cycle: CycleWork, matched: Matched, mirrors: Iterable[Mirror]) -> Pairings:
    """Let new collections take over the replicas of vanished collections with the same name."""
    sampler = Sampler(cycle.primary, cycle.replica, cycle.store)
    refused: set[str] = set()

    def is_like(pairing: Pairing, former: Mirror, held: Collection) -> bool:
        try:
            likeness = sampler.of_ledger(former.collection_id, pairing.primary, held)
        except REFUSALS as error:
            cycle.refuse(pairing.mirror, error)
            refused.add(pairing.primary.id)
            return False
        return likeness.is_mostly_same

    chosen = with_heirs(
        matched.pairings,
        cycle.primary_listing,
        cycle.replica_listing,
        mirrors,
        why_incompatible=partial(why_incompatible, server=cycle.replica.capabilities()),
        is_like=is_like,
        restored=matched.restored,
    )
    cycle.warnings += [in_place_words(p) for p in chosen.pairings if p.former is not None]
    left = [p for p in chosen.pairings if p.primary.id not in refused]
    return replace(chosen, pairings=left)


def hold_unlike(cycle: CycleWork, pairings: Pairings) -> Pairings:
    """The pairings without those that are held, because no ledger knows their replica."""
    sampler = Sampler(cycle.primary, cycle.replica, cycle.store)
    holds = cycle.store.holds()
    going_on = []
    for pairing in pairings.pairings:
        try:
            is_held = _is_held(cycle, sampler, pairing, holds)
        except REFUSALS as error:
            cycle.refuse(pairing.mirror, error)
            continue
        if not is_held:
            going_on.append(pairing)
    return replace(pairings, pairings=going_on)


def _is_held(cycle: CycleWork, sampler: Sampler, pairing: Pairing, holds: list[Hold]) -> bool:
    beside = is_beside(cycle.settings)
    verdict = None if cycle.adopt else judge_adoption(sampler, pairing, holds, beside=beside)
    if verdict is None or verdict.hold is None:
        return False
    if verdict.is_decided:
        cycle.accepted.add(verdict.hold.collection_id)
        return False
    cycle.store.save_hold(verdict.hold)
    _remember_held(cycle, pairing, verdict.likeness)
    return True


def _remember_held(cycle: CycleWork, pairing: Pairing, likeness: Likeness) -> None:
    """Store the mirror for `status`; a ledger about another replica stays, as suspect."""
    stored = cycle.store.mirror(pairing.mirror.collection_id)
    if stored is not None:
        cycle.store.distrust(stored.collection_id)
    held = replace(
        pairing.mirror.with_primary(count=likeness.primary_count),
        replica_id=None if stored is None else stored.replica_id,
        status=MirrorStatus.HELD,
        replica_count=likeness.replica_count,
        identical_as_of=None,
        replica_walked_at=None,
        last_attempt_at=cycle.cycle.started_at,
        consecutive_errors=0,
        last_error=None,
    )
    cycle.store.save_mirror(held)
    cycle.held_back.append(held)


def clear_decided(cycle: CycleWork) -> None:
    """Delete adoption holds whose collection was taken over, or is another one now."""
    held = {mirror.collection_id for mirror in cycle.held_back}
    held |= {mirror.collection_id for mirror, _ in cycle.refused}
    for hold in cycle.store.holds():
        if hold.collection_id not in held and _may_clear(cycle, hold):
            cycle.store.clear_hold(hold.collection_id, hold.kind)


def _may_clear(cycle: CycleWork, hold: Hold) -> bool:
    settings = cycle.settings
    chosen = settings.scope.includes(hold.tenant, hold.database, hold.collection_name)
    return chosen and hold.kind is HoldKind.ADOPTION

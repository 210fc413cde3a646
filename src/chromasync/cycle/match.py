"""Matches the collections of both sides, and holds those that someone must decide about."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from chromasync.cycle.adopt import choose_heirs
from chromasync.cycle.divergence import hold_diverged
from chromasync.cycle.keep import set_kept_apart
from chromasync.cycle.marks import CycleMarks
from chromasync.cycle.work import CycleWork
from chromasync.model import HoldKind, MirrorStatus
from chromasync.plan.foreign import DivergenceLook
from chromasync.plan.identity import PRIMARY_KEY, outdated_copies
from chromasync.plan.match import Matched, Sides, lacks_ledger_ids, list_sides, pair_sides
from chromasync.plan.pairing import Pairings, rebuilt

SPARE_DISTANCES = 1000
"""Distances of unlisted collections that are kept, because these may come back."""


def match_collections(cycle: CycleWork, marks: CycleMarks) -> Pairings | None:
    """Match both sides; None if another server answers as the primary, and nothing may be done.

    Diverged collections are taken out of the pairings. The primary counts as seen from here on. Its
    outage stays in the store until a cycle ends without an undecided hold.

    Raises:
        AnotherStore: another store is active on the replica.
        GuardRefusal: a server has another role than before, or both sides are one server.
        ServerError: a listing failed.
    """
    sides = list_sides(cycle.primary, cycle.replica, cycle.store, cycle.settings)
    cycle.primary_listing, cycle.replica_listing = sides.primary, sides.replica
    cycle.misbuilt = sides.distances.misbuilt
    _note_distances(cycle, sides)
    set_kept_apart(cycle)
    marks.look(cycle, [m for m in sides.mirrors if sides.primary.tells_of(m)])
    matched = pair_sides(sides, cycle.replica, cycle.store, cycle.settings)
    cycle.warnings += matched.warnings
    cycle.why_away = matched.why_away
    _note_untold(cycle, matched)
    cycle.untold += matched.meeting
    cycle.store.remember_ids(cycle.cycle.id, sides.new_ids())
    _note_seen(cycle)
    _end_approvals(cycle)
    if _is_held_whole(cycle, matched):
        return None
    mirrors = cycle.store.mirrors()
    outdated = outdated_copies(cycle.primary_listing, mirrors, matched.restored)
    if outdated:
        cycle.store.forget_restored(outdated)
    pairings = choose_heirs(cycle, matched, mirrors)
    _look_for_divergence(cycle, matched, pairings)
    lacks_some = partial(lacks_ledger_ids, cycle.store, cycle.primary)
    holds = cycle.store.holds()
    return rebuilt(pairings, cycle.rebuild, cycle.replica_listing, holds, lacks_some)


def _note_distances(cycle: CycleWork, sides: Sides) -> None:
    """Store new distances; delete those of unlisted collections when there are many."""
    cycle.store.save_distances(sides.distances.learned)
    listed = sides.primary.collections.keys() | sides.replica.collections.keys()
    if len(sides.distances.known) > 2 * len(listed) + SPARE_DISTANCES:
        cycle.store.forget_distances(listed)


def _note_untold(cycle: CycleWork, matched: Matched) -> None:
    """Record an error for mirrors in databases that the primary lacks; they stay as they are."""
    for mirror in matched.untold:
        reason = cycle.primary_listing.why_untold(mirror)
        if reason is not None:
            cycle.untold.append((mirror, reason))


def _note_seen(cycle: CycleWork) -> None:
    """Record that the primary answers; an earlier outage stays recorded until it was checked."""
    deployment, now = cycle.store.deployment(), cycle.store.now()
    away_since = deployment.away_since
    if cycle.why_away and away_since is None:
        away_since = min(deployment.primary_seen_at or now, now)
    seen = replace(deployment, primary_seen_at=now, away_since=away_since)
    cycle.store.save_deployment(seen)


def _end_approvals(cycle: CycleWork) -> None:
    """End old approvals, and those of collections that the settings exclude."""
    settings = cycle.settings
    left_out = {
        hold.collection_id
        for hold in cycle.store.holds()
        if hold.tenant
        and not (settings.scope.includes(hold.tenant, hold.database, hold.collection_name))
    }
    cycle.store.end_approvals(left_out)


def _is_held_whole(cycle: CycleWork, matched: Matched) -> bool:
    """Whether another server answers as the primary and was not approved."""
    if matched.other is None:
        if any(hold.kind is HoldKind.OTHER_PRIMARY for hold in cycle.store.holds()):
            cycle.store.clear_hold(PRIMARY_KEY, HoldKind.OTHER_PRIMARY)
        return False
    if matched.approved:
        cycle.accepted_primary = True
        return False
    cycle.store.save_hold(matched.other)
    for mirror in [*(p.mirror for p in matched.pairings.pairings), *matched.pairings.vanished]:
        if cycle.store.mirror(mirror.collection_id) is not None:
            cycle.freeze(mirror, matched.other, MirrorStatus.DOUBTFUL)
    cycle.undecided.append(matched.other)
    return True


def _look_for_divergence(cycle: CycleWork, matched: Matched, pairings: Pairings) -> None:
    cycle.counts.ask(p.replica for p in pairings.pairings if p.replica is not None)
    look = DivergenceLook(
        cycle.primary,
        cycle.replica,
        cycle.store,
        cycle.replica_listing,
        why=cycle.why_away,
        met=matched.met,
        count=cycle.counts.of,
        check_stop=cycle.check_stop,
    )
    found = look.find(pairings)
    hold_diverged(cycle, pairings, found, look.looked_at)

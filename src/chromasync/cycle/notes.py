"""Records facts about both servers in the store: outages, clean cycles, definitions."""

from __future__ import annotations

from dataclasses import replace

from chromasync.cycle.work import CycleWork
from chromasync.errors import ChromasyncError, ServerError
from chromasync.model import DeletionKind, Side
from chromasync.plan.divergence import definition_digest, hold_of_changed
from chromasync.plan.listing import list_replica, place_of

SHORT_OUTAGE = (
    "the primary was unreachable for a while in this cycle, so the next cycle deletes instead"
)


def note_failure(cycle: CycleWork, error: ChromasyncError) -> None:
    """Record that the primary was unreachable, if the cycle ends for that reason."""
    if isinstance(error, ServerError) and error.side == Side.PRIMARY:
        cycle.store.note_away()


def note_foreign(cycle: CycleWork) -> None:
    """Hold the records that others wrote on the replica and that tasks left as they are."""
    noted = cycle.store.waiting_deletions()
    for work in cycle.collections:
        if work.mirror.collection_id not in noted:
            continue
        waiting = cycle.store.deletions(work.mirror.collection_id)
        met = (i for d in waiting if d.kind is DeletionKind.FOREIGN for i in d.ids)
        key, place = work.mirror.collection_id, place_of(work.mirror)
        hold = hold_of_changed(key, place, work.replica.id, met, cycle.why_away)
        if hold is None:
            continue
        cycle.store.save_hold(hold)
        cycle.undecided.append(hold)
        work.diverged = True


def note_absence(cycle: CycleWork) -> None:
    """Forbid deletes in a cycle in which a worker could not reach the primary."""
    if not cycle.why_away and cycle.store.deployment().away_since is not None:
        cycle.absence = SHORT_OUTAGE


def note_definitions(cycle: CycleWork) -> None:
    """Store digests of the replica's definitions, to detect changes by others."""
    if cycle.redefined:
        owned = {w.replica.id: (w.mirror.tenant, w.mirror.database) for w in cycle.collections}
        scope, primary = cycle.settings.scope, cycle.primary_listing
        listing = list_replica(cycle.replica, scope, primary, owned)
        for work in cycle.collections:
            work.replica = listing.collections.get(work.replica.id, work.replica)
    for work in cycle.collections:
        work.update(definition_digest=definition_digest(work.replica))


def note_clean(cycle: CycleWork) -> None:
    """Record that the primary answers, and this cycle as the last clean one if it is clean.

    A cycle with an error or an undecided hold is not clean.
    """
    deployment, now = cycle.store.deployment(), cycle.store.now()
    deployment = replace(deployment, primary_seen_at=now)
    decided = not (cycle.undecided or cycle.doubt or cycle.absence)
    if decided:
        deployment = replace(deployment, away_since=None)
    if decided and not cycle.has_errors:
        deployment = replace(
            deployment,
            primary_url=cycle.settings.primary_url,
            clean_cycle=cycle.cycle.id,
            clean_at=now,
        )
    cycle.store.save_deployment(deployment)
    _end_taken(cycle)


def _end_taken(cycle: CycleWork) -> None:
    """Delete approved holds whose collection did not fail; a later divergence is a new hold."""
    failed = {w.mirror.collection_id for w in cycle.collections if w.error is not None}
    failed |= {mirror.collection_id for mirror, _ in cycle.refused}
    for key, kind in cycle.taken:
        if key not in failed:
            cycle.store.clear_hold(key, kind)

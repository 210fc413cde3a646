"""What a cycle leaves in the store about the two servers: seen, away, clean, and as defined."""

from __future__ import annotations

from dataclasses import replace

from chromasync.cycle.work import CycleWork
from chromasync.errors import ChromasyncError, ServerError
from chromasync.model import DeletionKind, Side
from chromasync.plan.divergence import definition_digest, hold_of_changed
from chromasync.plan.listing import list_replica, place_of

SHORT_OUTAGE = "the primary was away for a while in this cycle, so the next one deletes"


def note_failure(cycle: CycleWork, error: ChromasyncError) -> None:
    """Remember that the primary was not reachable, when that is why the cycle ends."""
    if isinstance(error, ServerError) and error.side == Side.PRIMARY:
        cycle.store.note_away()


def note_foreign(cycle: CycleWork) -> None:
    """Hold what tasks met on the replica that others had written, and left as it was."""
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
    """Delete nothing in a cycle in which a worker could not reach the primary."""
    if not cycle.why_away and cycle.store.deployment().away_since is not None:
        cycle.absence = SHORT_OUTAGE


def note_definitions(cycle: CycleWork) -> None:
    """Remember how the replica's collections are defined now, to notice when others change it."""
    if cycle.redefined:
        listing = list_replica(cycle.replica, cycle.settings.scope, cycle.primary_listing)
        for work in cycle.collections:
            work.replica = listing.collections.get(work.replica.id, work.replica)
    for work in cycle.collections:
        work.update(definition_digest=definition_digest(work.replica))


def note_clean(cycle: CycleWork) -> None:
    """The primary is there; what was undecided or failed leaves the last clean cycle as it was."""
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
    """What someone decided is done, where nothing failed; a later divergence is another one."""
    failed = {w.mirror.collection_id for w in cycle.collections if w.error is not None}
    failed |= {mirror.collection_id for mirror, _ in cycle.refused}
    for key, kind in cycle.taken:
        if key not in failed:
            cycle.store.clear_hold(key, kind)

"""Holds updates and deletes of collections whose primary may have gone back in time.

The check runs after all collections were walked and before any task for an old chunk is published.
Newer records that survived in any collection show that the primary did not go back. Records that
disappear after the walk are judged by the next cycle and not deleted before (`removals`).
"""

from __future__ import annotations

from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.model import HoldKind, Mirror, MirrorStatus
from chromasync.plan.older import Ages, Seen, look_at_ages
from chromasync.plan.pairing import Pairings, take_out


def hold_older(cycle: CycleWork, pairings: Pairings) -> None:
    """Hold the collections that look like those of a primary restored from an older copy."""
    ages, gone = look_at_ages(
        cycle.store,
        cycle.settings.scope,
        map(_seen, cycle.collections),
        pairings.vanished,
        away=bool(cycle.why_away),
    )
    cycle.doubt = ages.doubt
    for key in ages.ended:
        cycle.store.clear_hold(key, HoldKind.OLDER_PRIMARY)
    cycle.undecided += ages.unseen
    vanished = {mirror.collection_id: mirror for mirror in gone}
    _hold(cycle, ages, vanished)
    take_out(pairings, ages.held.keys() & vanished.keys())


def _seen(work: CollectionWork) -> Seen:
    found = work.membership
    tail = found.tail if work.error is None else None
    return Seen(work.mirror, found.missing, found.ledger_count, tail)


def _hold(cycle: CycleWork, ages: Ages, vanished: dict[str, Mirror]) -> None:
    works = {work.mirror.collection_id: work for work in cycle.collections}
    for key, digest in ages.approved.items():
        cycle.approved_sets.add(digest)
        cycle.taken.append((key, HoldKind.OLDER_PRIMARY))
    for key, hold in ages.held.items():
        cycle.store.save_hold(hold)
        if key in vanished:
            cycle.freeze(vanished[key], hold, MirrorStatus.DOUBTFUL)
            continue
        cycle.undecided.append(hold)
        works[key].older = True
        works[key].held += hold.count

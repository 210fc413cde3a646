"""Deletes, last of all: what is gone from the primary leaves the replica, behind the delete guard.

Deletes wait until every chunk of the collection was reconciled, so the guard sees all of them at
once and knows whether anything failed. Each record is asked for on the primary once more, right
before it is deleted: one that is there (again) stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from chromasync import faultpoints
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.guard import is_approved, judge_deletes
from chromasync.model import Deletion, DeletionKind, Hold, HoldKind
from chromasync.reconcile.read import RecordReader

HOLD_OF = {DeletionKind.GONE: HoldKind.DELETES, DeletionKind.SURPLUS: HoldKind.SURPLUS}

ADOPTED = "the replica had them before it was first compared with this primary"


def prune(cycle: CycleWork, work: CollectionWork, holds: Sequence[Hold]) -> None:
    """Delete what is gone or surplus in one collection, or hold it.

    Args:
        holds: all holds as they stood when the cycle began to prune.
    """
    deletions = cycle.store.deletions(work.mirror.collection_id)
    for kind in DeletionKind:
        mine = [d for d in deletions if d.kind is kind]
        hold = find_hold(holds, work.mirror.collection_id, HOLD_OF[kind])
        _prune_kind(cycle, work, mine, HOLD_OF[kind], hold)


def find_hold(holds: Sequence[Hold], collection_id: str, kind: HoldKind) -> Hold | None:
    """The hold of this kind on a collection, if there is one."""
    return next((h for h in holds if h.collection_id == collection_id and h.kind is kind), None)


def _prune_kind(
    cycle: CycleWork,
    work: CollectionWork,
    deletions: Sequence[Deletion],
    kind: HoldKind,
    hold: Hold | None,
) -> None:
    collection_id = work.mirror.collection_id
    count = sum(len(d.ids) for d in deletions)
    if not count:
        if hold is not None:
            cycle.store.clear_hold(collection_id, kind)
        return
    reason = _reason(cycle, work, count, kind, hold)
    if reason is not None:
        work.held += count
        cycle.store.save_hold(Hold(collection_id, work.mirror.name, kind, count, reason))
        return
    for deletion in deletions:
        count = _delete(cycle, work, deletion)
        work.deleted += count
        cycle.deleted += count
    if hold is not None:
        cycle.store.clear_hold(collection_id, kind)


def _reason(
    cycle: CycleWork, work: CollectionWork, count: int, kind: HoldKind, hold: Hold | None
) -> str | None:
    """Why the deletes are held; None when they may be done."""
    if work.error is not None:
        return f"reading the primary failed in this cycle ({work.error.what})"
    if is_approved(hold, count):
        return None
    if kind is HoldKind.SURPLUS and work.mirror.adopting:
        return ADOPTED
    total = sum(head.count for head in cycle.store.chunk_heads(work.mirror.collection_id))
    return judge_deletes(
        count, total, cycle.settings.sync_max_delete, primary_empty=cycle.primary_empty
    )


def _delete(cycle: CycleWork, work: CollectionWork, deletion: Deletion) -> int:
    """Delete one batch, but for what the primary has after all; how many were deleted."""
    batch = RecordReader(cycle.primary).read(work.primary, deletion.ids, embeddings=False)
    alive = {i for piece in batch.pieces for i in piece.ids} | batch.unreadable.keys()
    dead = [i for i in deletion.ids if i not in alive]
    if dead:
        cycle.replica.delete(work.replica, dead)
    faultpoints.reach(faultpoints.MID_PRUNE)
    cycle.store.finish_deletion(deletion, sorted(alive))
    return len(dead)

"""Decides whether the replica of a collection is still as the last cycle left it; pure.

A collection is *settled* if the last cycle that wrote to it finished it. The count was stored then.
A different count now means that others wrote to the replica, or that an older copy was restored.

A collection is *unfinished* if its cycle was cut off during writes. No count was stored, so an
older copy of the replica looks like a cycle that was cut off a little earlier. If the replica's
mark proves that it is no older copy, the count must lie between the number of records that were
surely written and the number that may have been written. Without that proof, everything that was
ever written is compared once, after the copy has been finished.

The walk of the replica's ids finds more. A missing written record or an unknown record makes the
whole collection doubtful, because ids do not show which records others updated in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from chromasync.model import Chunk, ChunkHead, Deletion, DeletionKind, Mirror


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many records the replica of an unfinished collection can have."""

    least: int
    most: int


def bounds_of(chunks: Iterable[Chunk], waiting: Iterable[Deletion], absent: int) -> Bounds:
    """The bounds by the ledger, if only this program wrote.

    Args:
        chunks: the ledger. Any records of a chunk *in hand* may be there; it is compared anyway.
        waiting: deletions; each may have been carried out without a record in the store.
        absent: quarantined records that are not on the replica.
    """
    least = most = 0
    for chunk in chunks:
        written = int(np.count_nonzero(chunk.applied.written))
        least += 0 if chunk.head.replica.in_hand else written
        most += len(chunk.ids) if chunk.head.replica.in_hand else written
    gone = 0
    for deletion in waiting:
        if deletion.kind is DeletionKind.GONE:
            gone += len(deletion.ids)
        else:
            most += len(deletion.ids)
    return Bounds(max(0, least - gone - absent), most)


def why_doubtful(mirror: Mirror, count: int, *, vouched: bool, bounds: Callable[[], Bounds]) -> str:
    """Why the whole collection is compared; empty if the replica may be as it was left.

    Args:
        mirror: as the last cycle left it.
        count: records on the replica now.
        vouched: the mark proves that the replica is no older copy.
        bounds: called only if the bounds are needed.
    """
    if mirror.settled_cycle is not None:
        change = count - mirror.replica_count
        words = f"gained {change:,}" if change > 0 else f"lost {-change:,}"
        return f"the replica {words} records; comparing all." if change else ""
    if not vouched:
        return "the last cycle did not finish it; comparing all that was written."
    allowed = bounds()
    if allowed.least <= count <= allowed.most:
        return ""
    return (
        f"the replica has {count:,} records, but {allowed.least:,} to {allowed.most:,} were "
        "expected; comparing all."
    )


def is_surely_unwritten(head: ChunkHead) -> bool:
    """Whether the head alone proves that no record of a chunk was ever written."""
    seen = (head.read_at, head.read_cycle, head.replica.checked_at, head.replica.checked_cycle)
    return not (head.replica.suspect or head.replica.in_hand or any(s is not None for s in seen))

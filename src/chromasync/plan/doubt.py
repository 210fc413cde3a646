"""Whether the replica of a collection still holds what was left there; pure.

A *settled* collection is one that the last cycle which wrote to it brought to an end: its count
was noted then, and another count now means that someone else wrote, or that an older copy was
restored.

An *unfinished* one was cut off while records were on their way. No count was noted, so an older
copy of the replica looks like one that was cut off a little earlier. Where nobody vouches that it
is the same replica, all that was ever written is compared once, after the copy has been finished.
Where the replica's mark vouches for it, the count must lie between what was surely written and
what may have been.

Beyond counts, the walk of the replica's ids tells: a written record that is missing, or a record
that nobody knows, casts doubt on the whole collection, because what was updated in place before
cannot be seen by ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from chromasync.ledger.plan import written_rows
from chromasync.model import Chunk, ChunkHead, Deletion, DeletionKind, Mirror


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many records the replica of an unfinished collection can have."""

    least: int
    most: int


def bounds_of(chunks: Iterable[Chunk], waiting: Iterable[Deletion], absent: int) -> Bounds:
    """What the ledger allows, when nobody but us wrote.

    Args:
        chunks: the ledger. Of one that was in hand anything may be there; it is compared anyway.
        waiting: deletions, each of which may have been done without being noted.
        absent: quarantined records that are not on the replica.
    """
    least = most = 0
    for chunk in chunks:
        written = int(np.count_nonzero(written_rows(chunk)))
        least += 0 if chunk.head.in_hand else written
        most += len(chunk.ids) if chunk.head.in_hand else written
    gone = 0
    for deletion in waiting:
        if deletion.kind is DeletionKind.GONE:
            gone += len(deletion.ids)
        else:
            most += len(deletion.ids)
    return Bounds(max(0, least - gone - absent), most)


def why_doubtful(mirror: Mirror, count: int, *, vouched: bool, bounds: Callable[[], Bounds]) -> str:
    """Why the whole collection is compared; empty when the replica can be as it was left.

    Args:
        mirror: as the last cycle left it.
        count: records on the replica now.
        vouched: it is known to be the replica that was written to last, not an older copy of it.
        bounds: asked for only when they matter.
    """
    if mirror.settled_cycle is not None:
        change = count - mirror.replica_count
        words = f"gained {change:,}" if change > 0 else f"lost {-change:,}"
        return f"the replica {words} records; comparing all." if change else ""
    if not vouched:
        return "the last cycle did not come to its end with it; comparing all that was written."
    allowed = bounds()
    if allowed.least <= count <= allowed.most:
        return ""
    return (
        f"the replica has {count:,} records, where {allowed.least:,} to {allowed.most:,} "
        "can have been left; comparing all."
    )


def is_surely_unwritten(head: ChunkHead) -> bool:
    """Whether nothing of a chunk was ever written, as far as its head tells without its content."""
    seen = (head.read_at, head.read_cycle, head.checked_at, head.checked_cycle)
    return not (head.suspect or head.in_hand or any(s is not None for s in seen))

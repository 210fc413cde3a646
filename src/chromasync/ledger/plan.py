"""Which records must be read again, and how new ids become chunks; pure.

A chunk *must* be read when it is new, when it is suspect, when it changed in the last cycle (a read
during a write may have been torn), when the walk hints at it, or when the instant of its last read
is unknown. `scrub` chooses which of the other chunks are read.

Of a chunk that was read before, only the changed records are read. The head decides which:

    state                        recheck  recheck_ids  read_at   records to read
    ---------------------------  -------  -----------  --------  -----------------------------------
    never read, or unknown when  any      any          None      all
    suspect                      any      any          any       all, on both sides
    unchanged                    no       -            T         the hints of the walk
    written or added in part     yes      ids          T         these, and the hints of the walk
    written for the most part    yes      None         T         all

A read of single ids leaves `read_at` at T: the other records were last read at T, so the chunk as a
whole is known as of T. Cycle numbers tell whether it has records that were never read
(`has_unread`).

An older program may run on the same store. It reads whole chunks and notes that in `read_cycle`,
but it knows neither `recheck_ids` nor `looked_cycle`, so it leaves old ids behind. So the ids count
only if no whole read came after `looked_cycle`.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from chromasync.ledger.digest import ids_digest
from chromasync.model import (
    UNKNOWN_DIGEST,
    AppliedDigests,
    Chunk,
    ChunkHead,
    Digests,
    ReplicaChunk,
    Task,
)

MOST_SHARE = 0.25
"""Share of a chunk's records; if more than that are to be read, the whole chunk is read."""


def must_read(head: ChunkHead) -> bool:
    """Whether a chunk must be read in this cycle, regardless of the budget."""
    return head.read_at is None or head.replica.suspect or head.recheck


def due_ids(
    head: ChunkHead, hinted: Container[str] = (), *, check_before: datetime
) -> frozenset[str] | None:
    """The records of a chunk that must be read regardless of the budget; None for all of them.

    All are read if these are many, if the check of the replica's side is due, or if the replica's
    server could not hold parts of some records when they were written.

    Args:
        hinted: ids that the walk missed, or met again.
        check_before: a check of the replica's side that is older than this is due again.
    """
    if head.read_at is None or head.replica.suspect:
        return None
    again = ids_again(head)
    if again is None:
        return None
    ids = again.union(hinted)
    if not ids:
        return ids
    much = is_much(len(ids), head.count)
    return None if much or head.replica.reduced_count or is_overdue(head, check_before) else ids


def asked_of(head: ChunkHead, task: Task) -> frozenset[str] | None:
    """The records that a task must read, given the present head of its chunk; None for all."""
    again = ids_again(head)
    untrue = head.read_at is None or head.replica.suspect or head.replica.reduced_count > 0
    if task.record_ids is None or task.check_replica or untrue or again is None:
        return None
    return again.union(task.record_ids)


def is_much(concerned: int, count: int) -> bool:
    """Whether a chunk of `count` records is read whole if so many of them must be read."""
    return concerned > MOST_SHARE * count


def has_unread(head: ChunkHead) -> bool:
    """Whether records were added to a chunk and not read yet."""
    if head.added_cycle is None:
        return False
    return max(head.read_cycle or 0, head.looked_cycle or 0) < head.added_cycle


def ids_again(head: ChunkHead) -> frozenset[str] | None:
    """The records that `recheck` is about; None for all."""
    if not head.recheck:
        return frozenset()
    counts = head.read_cycle is None or (head.looked_cycle or 0) >= head.read_cycle
    return frozenset(head.recheck_ids) if head.recheck_ids and counts else None


def rechecked(head: ChunkHead, ids: frozenset[str] | None) -> ChunkHead:
    """The head with these ids in `recheck_ids`, sorted; None for all records."""
    looked = max(head.read_cycle or 0, head.looked_cycle or 0)
    return replace(
        head,
        recheck=ids is None or bool(ids),
        recheck_ids=tuple(sorted(ids)) if ids and not is_much(len(ids), head.count) else None,
        looked_cycle=looked or None,
    )


def is_overdue(head: ChunkHead, check_before: datetime) -> bool:
    """Whether a chunk that must be read anyway is due for a check of the replica's side, too.

    A chunk that changes in every cycle is never scrubbed, so it is checked here. A new chunk is not
    due. A chunk whose instant of reading is unknown is due.
    """
    if head.replica.checked_at is None:
        return head.read_at is not None or head.read_cycle is not None
    return head.replica.checked_at < check_before


@dataclass(frozen=True, slots=True)
class Carried:
    """The digests and flags of a record that moves to another chunk."""

    embedding: bytes
    payload: bytes
    replica: bytes
    suspect: bool
    in_hand: bool


Carry = Mapping[str, Carried]
_UNKNOWN = Carried(UNKNOWN_DIGEST, UNKNOWN_DIGEST, UNKNOWN_DIGEST, suspect=False, in_hand=False)


def new_chunk(
    collection_id: str,
    ids: Sequence[str],
    start_offset: int,
    carry: Carry,
    *,
    suspect: bool,
    cycle_id: int | None = None,
) -> Chunk:
    """A chunk of new records; those in `carry` keep their digests and flags."""
    copy = ReplicaChunk(suspect=suspect)
    head = ChunkHead(0, collection_id, start_offset, 0, ids_digest([]), replica=copy)
    empty = Chunk(head, [], AppliedDigests(Digests(), Digests()))
    return extended(empty, ids, carry, cycle_id=cycle_id)


def extended(
    chunk: Chunk, ids: Sequence[str], carry: Carry, *, cycle_id: int | None = None
) -> Chunk:
    """The chunk with more ids at its end, which were added in this cycle and must be read."""
    both = chunk.ids + list(ids)
    known = [carry.get(record_id, _UNKNOWN) for record_id in ids]
    again = ids_again(chunk.head)
    growth = len(both) / len(chunk.ids) if chunk.ids else 1.0
    head = replace(
        chunk.head,
        count=len(both),
        ids_digest=ids_digest(both),
        read_seconds=chunk.head.read_seconds * growth,
        added_cycle=cycle_id,
    ).with_replica(
        suspect=chunk.head.replica.suspect or any(k.suspect for k in known),
        in_hand=chunk.head.replica.in_hand or any(k.in_hand for k in known),
    )
    if head.read_at is not None:
        head = rechecked(head, None if again is None else again.union(ids))
    applied = AppliedDigests(
        Digests.of([chunk.applied.embedding, *(k.embedding for k in known)]),
        Digests.of([chunk.applied.payload, *(k.payload for k in known)]),
        Digests.of([chunk.applied.replica, *(k.replica for k in known)]),
    )
    return Chunk(head, both, applied)


def carry_from(chunk: Chunk, ids: Container[str]) -> dict[str, Carried]:
    """The digests and flags of the chunk's records that are in `ids`."""
    return {
        record_id: Carried(
            chunk.applied.embedding.row(row),
            chunk.applied.payload.row(row),
            chunk.applied.replica.row(row),
            chunk.head.replica.suspect,
            chunk.head.replica.in_hand,
        )
        for row, record_id in enumerate(chunk.ids)
        if record_id in ids
    }


def without_ids(chunk: Chunk, ids: Container[str]) -> Chunk:
    """The chunk without the records in `ids`."""
    return without_rows(chunk, {row for row, i in enumerate(chunk.ids) if i in ids})


def without_rows(chunk: Chunk, rows: Container[int]) -> Chunk:
    """The chunk without the records at `rows`."""
    kept = [i for i in range(len(chunk.ids)) if i not in rows]
    ids = [chunk.ids[i] for i in kept]
    head = replace(chunk.head, count=len(ids), ids_digest=ids_digest(ids))
    again = ids_again(head)
    if again:
        head = rechecked(head, again.intersection(ids))
    return Chunk(head, ids, chunk.applied.take(kept))

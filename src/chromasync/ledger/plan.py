"""Which records must be read again, and how new ids become chunks; pure.

A chunk *must* be read when it is new, suspect, changed in the last cycle (a read that raced a
write may have been torn) or hinted at by the walk, or when nobody knows any more when it was read.
Which of the others are read, `scrub` says.

Of a chunk that was read before, no more is read than what changed. What a head says of that:

    state                        recheck  recheck_ids  read_at   what must be read
    ---------------------------  -------  -----------  --------  -----------------------------------
    never read, or nobody knows  any      any          None      all
    suspect                      any      any          any       all, on both sides
    settled                      no       -            T         what the walk hints at
    written or added in part     yes      ids          T         these, and what the walk hints at
    written for the most part    yes      None         T         all

A read of single ids leaves `read_at` at T: the others were read no later, so the chunk as a whole
is what it was as of T. What was added and not read yet is told by cycle numbers (`has_unread`).

Ids that a program of before left behind are worth nothing: it reads all of a chunk and notes in
`read_cycle` that it did, but does not know of them. So ids count only in a chunk of which nobody
read all since (`looked_cycle`, which it does not know either).
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.digest import at, ids_digest
from chromasync.model import DIGEST_BYTES, UNKNOWN_DIGEST, Chunk, ChunkHead, Task

MOST_SHARE = 0.25
"""Of a chunk's records: with more of them concerned, all are read."""


def must_read(head: ChunkHead) -> bool:
    """Whether a chunk needs a read in this cycle whatever the budget."""
    return head.read_at is None or head.suspect or head.recheck


def due_ids(
    head: ChunkHead, hinted: Container[str] = (), *, check_before: datetime, joining: int = 0
) -> frozenset[str] | None:
    """The records of a chunk that must be read whatever the budget; None when that is all of it.

    Where much of it would be read, or the replica's side is due, or records may have to regain what
    the replica's server could not hold, all of it is.

    Args:
        hinted: ids that the walk missed, or met again.
        check_before: a look at the replica's side that is older than this is due again.
        joining: so many records would join the chunk; their ids are not among those returned.
    """
    if head.read_at is None or head.suspect:
        return None
    again = ids_again(head)
    if again is None:
        return None
    ids = again.union(hinted)
    concerned = len(ids) + joining
    if not concerned:
        return ids
    much = is_much(concerned, head.count + joining)
    return None if much or head.reduced_count or is_overdue(head, check_before) else ids


def asked_of(head: ChunkHead, task: Task) -> frozenset[str] | None:
    """The records that a task must look at, as its chunk is now; None for all of it."""
    again = ids_again(head)
    untrue = head.read_at is None or head.suspect or head.reduced_count > 0
    if task.record_ids is None or task.check_replica or untrue or again is None:
        return None
    return again.union(task.record_ids)


def is_much(concerned: int, count: int) -> bool:
    """Whether a chunk of `count` records is read whole when so many of them are concerned."""
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
    """The head with these as the records to look at again, None for all, in its own order."""
    looked = max(head.read_cycle or 0, head.looked_cycle or 0)
    return replace(
        head,
        recheck=ids is None or bool(ids),
        recheck_ids=tuple(sorted(ids)) if ids and not is_much(len(ids), head.count) else None,
        looked_cycle=looked or None,
    )


def is_overdue(head: ChunkHead, check_before: datetime) -> bool:
    """Whether a chunk that must be read anyway is due for a look at the replica's side as well.

    One that changes in every cycle is never scrubbed, so this is its turn; a new one is not due.
    One that was read at an instant which nobody knows any more is due.
    """
    if head.checked_at is None:
        return head.read_at is not None or head.read_cycle is not None
    return head.checked_at < check_before


@dataclass(frozen=True, slots=True)
class Carried:
    """What the ledger knows of a record that changes chunk."""

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
    """A chunk of records that are not known to be on the replica, but for those in `carry`."""
    head = ChunkHead(0, collection_id, start_offset, 0, ids_digest([]), suspect=suspect)
    return extended(Chunk(head, [], b"", b""), ids, carry, cycle_id=cycle_id)


def extended(
    chunk: Chunk, ids: Sequence[str], carry: Carry, *, cycle_id: int | None = None
) -> Chunk:
    """The chunk with more ids at its end, which came in this cycle and must be read."""
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
        suspect=chunk.head.suspect or any(k.suspect for k in known),
        in_hand=chunk.head.in_hand or any(k.in_hand for k in known),
    )
    if head.read_at is not None:
        head = rechecked(head, None if again is None else again.union(ids))
    return Chunk(
        head,
        both,
        chunk.embedding_digests + b"".join([k.embedding for k in known]),
        chunk.payload_digests + b"".join([k.payload for k in known]),
        chunk.replica_digests + b"".join([k.replica for k in known]),
    )


def carry_from(chunk: Chunk, ids: Container[str]) -> dict[str, Carried]:
    """What the chunk knows of those of its records that are in `ids`."""
    return {
        record_id: Carried(
            at(chunk.embedding_digests, row),
            at(chunk.payload_digests, row),
            at(chunk.replica_digests, row),
            chunk.head.suspect,
            chunk.head.in_hand,
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
    return Chunk(
        head,
        ids,
        b"".join([at(chunk.embedding_digests, i) for i in kept]),
        b"".join([at(chunk.payload_digests, i) for i in kept]),
        b"".join([at(chunk.replica_digests, i) for i in kept]),
    )


def written_rows(chunk: Chunk) -> NDArray[np.bool_]:
    """Which records are known to be on the replica; bool of shape (records,)."""
    digests = np.frombuffer(chunk.payload_digests, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    written: NDArray[np.bool_] = np.count_nonzero(digests, axis=1) > 0  # UNKNOWN_DIGEST is zero
    return written

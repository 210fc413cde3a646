"""Which chunks must be read again, and how new ids become chunks; pure.

A chunk *must* be read when it is new, suspect, changed in the last cycle (a read that raced a
write may have been torn) or hinted at by the walk, or when nobody knows any more when it was read.
Which of the others are read, `scrub` says.
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.digest import at, ids_digest
from chromasync.model import DIGEST_BYTES, UNKNOWN_DIGEST, Chunk, ChunkHead


def must_read(head: ChunkHead) -> bool:
    """Whether a chunk needs a read in this cycle whatever the budget."""
    return head.read_at is None or head.suspect or head.recheck


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
    """The chunk with more ids at its end, which came in this cycle; it must be read again."""
    both = chunk.ids + list(ids)
    known = [carry.get(record_id, _UNKNOWN) for record_id in ids]
    head = replace(
        chunk.head,
        count=len(both),
        ids_digest=ids_digest(both),
        read_at=None,
        read_cycle=None,
        added_cycle=cycle_id,
        suspect=chunk.head.suspect or any(k.suspect for k in known),
        in_hand=chunk.head.in_hand or any(k.in_hand for k in known),
    )
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

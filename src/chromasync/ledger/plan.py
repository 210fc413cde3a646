"""Which chunks to read again, and how new ids become chunks; pure.

A chunk *must* be read when it is new, suspect, changed in the last cycle (a read that raced a
write may have been torn) or hinted at by the walk, or when nobody knows any more when it was read.
Every other chunk is read again (*scrubbed*) each cycle while all of them fit the budget; beyond it,
those read longest ago go first, so every record is read again within `reread_cycles` cycles. The
replica's side of a chunk is read in the same pass when its last check is older than the check
interval. The budget pays for both sides of one chunk before it pays for the next, so no chunk's
check waits longer than its next read.
"""

from __future__ import annotations

import math
from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.digest import at, ids_digest
from chromasync.model import DIGEST_BYTES, UNKNOWN_DIGEST, Chunk, ChunkHead

SIDES = 2
"""What a chunk whose replica's side is read too takes, in times of reading it once."""


@dataclass(frozen=True, slots=True)
class Scrub:
    """A chunk to read again; `check_replica` reads the replica's side too."""

    head: ChunkHead
    check_replica: bool


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


def choose_scrubs(
    heads: Iterable[ChunkHead], budget_seconds: float, check_before: datetime
) -> list[Scrub]:
    """The chunks to scrub, longest unread first, while the time that they take fits the budget.

    Args:
        heads: chunks that need no read for another reason.
        budget_seconds: reading time to spend, all workers together.
        check_before: replica checks older than this are due.
    """
    left = budget_seconds
    chosen: list[Scrub] = []
    for head in sorted(heads, key=_read_instant):
        if left <= 0:
            break
        due = head.checked_at is None or head.checked_at < check_before
        left -= head.read_seconds * (SIDES if due else 1)
        chosen.append(Scrub(head, check_replica=due))
    return chosen


def _read_instant(head: ChunkHead) -> float:
    return head.read_at.timestamp() if head.read_at else -math.inf


def reread_cycles(heads: Iterable[ChunkHead], budget_seconds: float) -> float:
    """Cycles within which every record is read again; infinite with no budget.

    Each may be due for a look at the replica's side in the same round, which the budget pays too.
    """
    total = SIDES * sum(head.read_seconds for head in heads)
    if total <= budget_seconds:
        return 1.0
    return math.ceil(total / budget_seconds) if budget_seconds > 0 else math.inf


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

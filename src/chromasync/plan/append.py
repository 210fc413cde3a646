"""Appends new ids of the primary to the ledger: the last chunk is filled first, then new chunks.

An id that moved to the end of the primary's order changes chunk with its digests and flags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Collection as Container
from dataclasses import replace

from chromasync.ledger.plan import (
    Carried,
    carry_from,
    extended,
    new_chunk,
    without_ids,
    without_rows,
)
from chromasync.model import Chunk, ChunkHead, Mirror
from chromasync.ports import Chunks


class Appender:
    """Appends ids to a collection's ledger, the last chunk first; each call is one transaction.

    A chunk with room left is not returned, because the next call may fill it. A chunk that the
    ledger had before is not returned, either, because the next call may take records from it.

    With `suspect`, or while the collection is adopted, new chunks are compared with the replica.
    """

    def __init__(
        self,
        store: Chunks,
        mirror: Mirror,
        heads: list[ChunkHead],
        chunk_size: int,
        cycle_id: int | None = None,
        *,
        is_deleted: Callable[[Container[str]], set[str]] = lambda _: set(),
        suspect: bool = False,
    ) -> None:
        self._store = store
        self._is_deleted = is_deleted
        self._cycle_id = cycle_id
        self._collection_id = mirror.collection_id
        self._suspect = mirror.adopting or suspect
        self._size = chunk_size
        self._former = {head.id for head in heads}
        self._offset = sum(head.count for head in heads)
        self._open_id = heads[-1].id if heads and heads[-1].count < chunk_size else 0

    def append(self, ids: list[str], moved: Mapping[str, int]) -> list[ChunkHead]:
        """Store chunks for `ids`; an id in `moved` leaves that chunk and keeps its digests.

        Returns:
            The heads of new chunks that are full now.
        """
        shrunk, carry = self._take_from_sources(ids, moved)
        filled, taken = self._fill_open(ids, shrunk, carry)
        cut = [
            new_chunk(
                self._collection_id,
                ids[start : start + self._size],
                self._offset + start,
                carry,
                suspect=self._suspect,
                cycle_id=self._cycle_id,
            )
            for start in range(taken, len(ids), self._size)
        ]
        appended = [filled, *cut] if filled else cut
        new_ids = iter(self._store.save_chunks([*appended, *shrunk.values()]))
        self._offset += len(ids)
        heads = [replace(c.head, id=c.head.id or next(new_ids)) for c in appended]
        self._open_id = heads[-1].id if heads[-1].count < self._size else 0
        return [h for h in heads if h.count >= self._size and h.id not in self._former]

    def drop(self, repeated: Mapping[int, list[int]]) -> None:
        """Remove these rows, by chunk; each chunk is one transaction."""
        for chunk_id, rows in repeated.items():
            chunk = self._store.load_chunk(chunk_id)
            if chunk is not None:
                self._store.save_chunks([without_rows(chunk, set(rows))])

    def _take_from_sources(
        self, ids: list[str], moved: Mapping[str, int]
    ) -> tuple[dict[int, Chunk], dict[str, Carried]]:
        leaving: dict[int, set[str]] = {}
        for record_id in ids:
            if record_id in moved:
                leaving.setdefault(moved[record_id], set()).add(record_id)
        shrunk: dict[int, Chunk] = {}
        carry: dict[str, Carried] = {}
        for chunk_id, names in leaving.items():
            chunk = self._store.load_chunk(chunk_id)
            if chunk is not None:
                carry.update(carry_from(chunk, names))
                shrunk[chunk_id] = without_ids(chunk, names)
        for record_id in self._is_deleted(carry) if carry else ():
            del carry[record_id]
        return shrunk, carry

    def _fill_open(
        self, ids: list[str], shrunk: dict[int, Chunk], carry: Mapping[str, Carried]
    ) -> tuple[Chunk | None, int]:
        """The open chunk with as many of `ids` as fit, and their number."""
        if not self._open_id:
            return None, 0
        chunk = shrunk.pop(self._open_id, None) or self._store.load_chunk(self._open_id)
        if chunk is None:
            return None, 0
        fitting = ids[: self._size - len(chunk.ids)]
        return extended(chunk, fitting, carry, cycle_id=self._cycle_id), len(fitting)

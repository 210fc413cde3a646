"""Reads one collection's ledger from the store, as far as decisions need it."""

from __future__ import annotations

from collections.abc import Collection as Sized
from collections.abc import Iterable, Sequence

import numpy as np

from chromasync.ledger.idset import IdSet
from chromasync.model import ChunkHead, Deletion, DeletionKind
from chromasync.plan.doubt import Bounds, bounds_of, is_surely_unwritten
from chromasync.ports import Chunks


class KnownLedger:
    """The ledger with one id."""

    def __init__(self, store: Chunks, ledger_id: str) -> None:
        self._store = store
        self._id = ledger_id

    def load_ids(self, chunk_id: int) -> list[str]:
        """The ids of a chunk; none if the chunk is gone."""
        chunk = self._store.load_chunk(chunk_id)
        return [] if chunk is None else chunk.ids

    def waiting(self, kind: DeletionKind) -> list[Deletion]:
        """The waiting deletions of one kind."""
        return [d for d in self._store.deletions(self._id) if d.kind is kind]

    def waiting_ids(self, kind: DeletionKind) -> set[str]:
        """The ids of the waiting deletions of one kind."""
        return {i for deletion in self.waiting(kind) for i in deletion.ids}

    def gone_by_chunk(self) -> dict[int | None, Sized[str]]:
        """Records that the primary no longer has, by chunk."""
        return {d.chunk_id: d.ids for d in self.waiting(DeletionKind.GONE)}

    def excused(self) -> IdSet:
        """Written records that need not be on the replica: quarantined, or to be deleted."""
        aside = [q.record_id for q in self._store.quarantined(self._id) if q.absent]
        waiting = self.waiting(DeletionKind.GONE)
        return IdSet.of([aside, *(deletion.ids for deletion in waiting)])

    def count_wanted(self, head: ChunkHead, rows: Sequence[int], excused: IdSet) -> int:
        """How many of these rows must be on the replica; all if the chunk changed meanwhile."""
        chunk = self._store.load_chunk(head.id)
        if chunk is None:  # the primary no longer has any of its records
            return 0
        if chunk.head.ids_digest != head.ids_digest:
            return len(rows)
        return int(np.count_nonzero(excused.find([chunk.ids[row] for row in rows]) < 0))

    def is_written(self, head: ChunkHead) -> bool:
        """Whether a record of a chunk was ever written, or may be from others."""
        if not is_surely_unwritten(head):
            return True
        chunk = self._store.load_chunk(head.id)
        return chunk is not None and bool(chunk.applied.written.any())

    def bounds(self, heads: Iterable[ChunkHead]) -> Bounds:
        """How many records the replica may have, if only this program wrote."""
        chunks = (self._store.load_chunk(head.id) for head in heads)
        aside = sum(q.absent for q in self._store.quarantined(self._id))
        loaded = (chunk for chunk in chunks if chunk is not None)
        return bounds_of(loaded, self._store.deletions(self._id), aside)

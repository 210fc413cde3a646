"""The ledger of one collection as a cycle would leave it; its changes are never stored.

Changed chunks stay in memory, compressed, because the plan of a first copy holds all of them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import orjson

from chromasync.model import AppliedDigests, Chunk, ChunkHead, Deletion, Digests, Quarantined
from chromasync.ports import Store


@dataclass(frozen=True, slots=True)
class _Packed:
    """A chunk without its head: its ids and their three digests, compressed."""

    ids: bytes
    digests: tuple[bytes, bytes, bytes]

    @classmethod
    def of(cls, chunk: Chunk) -> Self:
        digests = (chunk.applied.embedding, chunk.applied.payload, chunk.applied.replica)
        one, two, three = (zlib.compress(part, 1) for part in digests)
        return cls(zlib.compress(orjson.dumps(chunk.ids), 1), (one, two, three))

    def unpacked(self, head: ChunkHead) -> Chunk:
        applied = AppliedDigests(*(Digests(zlib.decompress(part)) for part in self.digests))
        return Chunk(head, orjson.loads(zlib.decompress(self.ids)), applied)


class DryLedger:
    """One collection's ledger; implements `ports.Chunks`.

    Args:
        ledger_id: the id of the ledger in the store.
        heads: its chunks at the start of a cycle.
        is_kept: the deletions and the quarantine in the store are still valid.
    """

    def __init__(
        self, store: Store, ledger_id: str, heads: Iterable[ChunkHead], *, is_kept: bool
    ) -> None:
        self._store = store
        self._id = ledger_id
        self._is_kept = is_kept
        self._heads = {head.id: head for head in heads}
        self._changed: dict[int, _Packed] = {}
        self._next_id = -1

    @property
    def heads(self) -> list[ChunkHead]:
        """All present chunks, in order."""
        return list(self._heads.values())

    def chunk_heads(self, collection_id: str) -> list[ChunkHead]:
        """See `ports.Chunks`."""
        del collection_id
        return self.heads

    def load_chunk(self, chunk_id: int) -> Chunk | None:
        """See `ports.Chunks`."""
        head = self._heads.get(chunk_id)
        if head is None:
            return None
        if chunk_id in self._changed:
            return self._changed[chunk_id].unpacked(head)
        chunk = self._store.load_chunk(chunk_id)
        return None if chunk is None else replace(chunk, head=head)

    def save_chunks(self, chunks: Sequence[Chunk]) -> list[int]:
        """See `ports.Chunks`; new chunks get ids below 0."""
        added = []
        for chunk in chunks:
            chunk_id = chunk.head.id
            if chunk_id == 0:
                chunk_id, self._next_id = self._next_id, self._next_id - 1
                added.append(chunk_id)
            if chunk.ids:
                self._heads[chunk_id] = replace(chunk.head, id=chunk_id)
                self._changed[chunk_id] = _Packed.of(chunk)
            else:
                del self._heads[chunk_id]
        return added

    def distrust(self, heads: Iterable[ChunkHead]) -> None:
        """Mark chunks as suspect."""
        for head in heads:
            self._heads[head.id] = self._heads[head.id].with_replica(suspect=True)

    def deletions(self, collection_id: str) -> list[Deletion]:
        """See `ports.Chunks`."""
        del collection_id
        return self._store.deletions(self._id) if self._is_kept else []

    def quarantined(self, collection_id: str | None = None) -> list[Quarantined]:
        """See `ports.Chunks`."""
        del collection_id
        return self._store.quarantined(self._id) if self._is_kept else []

"""Two servers in memory and one chunk of the ledger, for tests of reconciling it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from chromasync.errors import LeaseLost
from chromasync.lab.fake import MODERN, FakeServer
from chromasync.ledger.digest import (
    embedding_digests,
    ids_digest,
    payload_digests,
    replica_digests,
)
from chromasync.model import (
    UNKNOWN_DIGEST,
    AppliedDigests,
    Chunk,
    ChunkResult,
    Collection,
    Digests,
    Pair,
    Quarantined,
    Records,
    Side,
    Space,
    Task,
)
from chromasync.reconcile.chunk import ChunkReconciler
from tests.support.ledgers import COLLECTION, chunk_of, joined, record

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
EARLIER = datetime(2029, 1, 1, tzinfo=UTC)
CYCLE = 5


class Scene:
    """Two servers in memory, and the ledger's chunk between them."""

    def __init__(self, *, arrays: bool = True) -> None:
        self.primary = FakeServer(Side.PRIMARY)
        self.replica = FakeServer(capabilities=replace(MODERN, arrays=arrays))
        self.source, self.home = self.primary.make(), self.replica.make()
        self.chunk = chunk_of([])

    def holds(self, *parts: Records, on: str = "both") -> None:
        records = joined(*parts)
        sides: list[tuple[str, FakeServer, Collection]] = [
            ("primary", self.primary, self.source),
            ("replica", self.replica, self.home),
        ]
        for name, server, collection in sides:
            if on in (name, "both"):
                server.put(collection, records)

    def knows(
        self,
        *known: Records,
        unknown: list[str] | None = None,
        seen: Sequence[Records] = (),
        **head_values: Any,
    ) -> None:
        """The ledger holds these records as they are, and these ids without knowledge.

        `seen` is what the replica returned of some of them when it was last looked at.
        """
        empty = record().take([])
        records, strangers = joined(empty, *known), unknown or []
        blank = UNKNOWN_DIGEST * len(strangers)
        ids = [*records.ids, *strangers]
        read: dict[str, Any] = {
            "read_at": EARLIER,
            "read_cycle": 3,
            "checked_at": EARLIER,
            "checked_cycle": 2,
        }
        values = read | {"recheck": True, "gone_count": 9} | head_values
        head = chunk_of(ids, chunk_id=7, **values).head
        embedding = Digests(embedding_digests(records) + blank)
        payload = Digests(payload_digests(records) + blank)
        returned = {part.ids[0]: replica_digests(part) for part in seen}
        replica = Digests.of(returned.get(i, UNKNOWN_DIGEST) for i in ids)
        self.chunk = Chunk(head, ids, AppliedDigests(embedding, payload, replica))

    def reconcile(
        self,
        *,
        check: bool = False,
        hold: bool = False,
        permit: LeaseLost | None = None,
        aside: Mapping[str, Quarantined] | None = None,
        deleting: Container[str] = (),
        ids: tuple[str, ...] | None = None,
    ) -> ChunkResult:
        def may_write() -> float:
            if permit is not None:
                raise permit
            return 60.0

        task = Task(1, 1, COLLECTION, "docs", 7, check, 0, NOON, CYCLE, hold, ids)
        pair = Pair(self.source, self.home, Space.L2)
        reconciler = ChunkReconciler(self.primary, self.replica)
        return reconciler.reconcile(
            pair, self.chunk, task, may_write, aside or {}, deleting=deleting
        )

    def assert_ledger_tells_the_primary(self, result: ChunkResult) -> None:
        """Each id that is not gone has the digests of what the primary holds."""
        found = self.primary.contents(self.source)
        embedding, payload = embedding_digests(found), payload_digests(found)
        chunk = result.chunk
        assert chunk.head.ids_digest == ids_digest(chunk.ids)
        for row, record_id in enumerate(chunk.ids):
            if record_id not in result.gone:
                place = found.ids.index(record_id)
                assert chunk.applied.embedding.row(row) == embedding.row(place), record_id
                assert chunk.applied.payload.row(row) == payload.row(place), record_id

    def assert_remembered(self, result: ChunkResult, ids: Iterable[str]) -> None:
        """The ledger remembers these records, and no others, as the replica returns them now."""
        now = self.replica.contents(self.home)
        digests = replica_digests(now)
        expected = {i: digests.row(row) for row, i in enumerate(now.ids) if i in set(ids)}
        assert remembered(result.chunk) == expected

    def assert_equal(self) -> None:
        """Both servers hold the same records."""
        one, other = self.primary.contents(self.source), self.replica.contents(self.home)
        assert sorted(one.ids) == sorted(other.ids)
        other = other.take([other.ids.index(i) for i in one.ids])
        assert (one.documents, one.metadatas, one.uris) == (
            other.documents,
            other.metadatas,
            other.uris,
        )
        assert one.embeddings is not None
        assert other.embeddings is not None
        np.testing.assert_array_equal(one.embeddings, other.embeddings)


def remembered(chunk: Chunk) -> dict[str, bytes]:
    """What the ledger remembers of the replica's answers, by id; unknown ones left out."""
    rows = {i: chunk.applied.replica.row(row) for row, i in enumerate(chunk.ids)}
    return {i: digest for i, digest in rows.items() if digest != UNKNOWN_DIGEST}

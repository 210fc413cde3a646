"""The invented records of the self-test, and the expected content after each act; pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from chromasync.model import Change, Floats, Metadata, Records, Space

DIMENSION = 16
SPACES = (Space.COSINE, Space.L2)
FEWEST = 200
"""Records of a collection at least; more where chunks are large."""
CHUNKS = 2.5
"""A collection fills two chunks and a part of a third at least."""
ADDED = 30
CHANGED = 10
"""Records of each kind of update."""
DELETED = 15
REMOVED_KEY = "kind"


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """One record without its id."""

    embedding: Floats
    document: str
    metadata: Metadata
    uri: str


@dataclass(slots=True)
class Truth:
    """The expected content of one collection of the primary, record by record."""

    space: Space
    records: dict[str, Content] = field(default_factory=dict)
    made: int = 0

    def add(self, count: int) -> Records:
        """New records to write to the primary."""
        numbers = range(self.made, self.made + count)
        new = {f"{self.space}-{number:06}": _content(self.space, number) for number in numbers}
        self.made += count
        self.records |= new
        return as_records(new)

    def update(self) -> list[Change]:
        """Changes of every kind for the primary."""
        chosen = list(self.records)[: 3 * CHANGED]
        changes = [self._changed(place, record_id) for place, record_id in enumerate(chosen)]
        for change in changes:
            self.records[change.id] = _after(self.records[change.id], change)
        return changes

    def delete(self) -> list[str]:
        """The ids of records to delete on the primary.

        The newest records stay: without them the primary looks restored from an older copy.
        """
        gone = list(self.records)[3 * CHANGED :][:DELETED]
        for record_id in gone:
            del self.records[record_id]
        return gone

    def _changed(self, place: int, record_id: str) -> Change:
        if place % 3 == 0:
            return Change(record_id, embedding=_embedding(self.space, self.made + place))
        if place % 3 == 1:
            return Change(record_id, document=f"{self.records[record_id].document} It was changed.")
        return Change(record_id, metadata={REMOVED_KEY: None})


def first_count(chunk_size: int) -> int:
    """Initial number of records of a collection, so that it has several chunks."""
    return max(FEWEST, math.ceil(CHUNKS * chunk_size))


def as_records(contents: dict[str, Content]) -> Records:
    """Records in columns."""
    rows = list(contents.values())
    return Records(
        ids=list(contents),
        documents=[row.document for row in rows],
        metadatas=[dict(row.metadata) for row in rows],
        uris=[row.uri for row in rows],
        embeddings=_stacked(row.embedding for row in rows),
    )


def _content(space: Space, number: int) -> Content:
    return Content(
        embedding=_embedding(space, number),
        document=f"Passage {number} of the self-test.",
        metadata={"number": number, "share": number / 8, "even": number % 2 == 0, "kind": "text"},
        uri=f"selftest:{space}/{number}",
    )


def _embedding(space: Space, seed: int) -> Floats:
    row = np.random.default_rng([SPACES.index(space), seed]).standard_normal(DIMENSION)
    return row.astype(np.float32)


def _stacked(rows: Iterable[Floats]) -> Floats:
    return np.vstack([*rows])


def _after(content: Content, change: Change) -> Content:
    removed = change.metadata or {}
    return replace(
        content,
        embedding=content.embedding if change.embedding is None else change.embedding,
        document=content.document if change.document is None else change.document,
        metadata={k: v for k, v in content.metadata.items() if k not in removed},
    )

"""Made-up ledgers, records and the strategies that vary them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from chromasync.ledger.digest import ids_digest
from chromasync.model import (
    DIGEST_BYTES,
    AppliedDigests,
    Chunk,
    ChunkHead,
    Digests,
    Floats,
    Metadata,
    Mirror,
    PrimaryCollection,
    Records,
    ReplicaChunk,
)

COLLECTION = "11111111-aaaa-4bbb-8ccc-222222222222"


def mark_of(record_id: str, kind: str) -> bytes:
    """A made-up digest that tells whose it is."""
    return blake2b(f"{kind}:{record_id}".encode(), digest_size=DIGEST_BYTES).digest()


def marks(ids: Iterable[str], kind: str) -> Digests:
    """Made-up digests of these ids, in order."""
    return Digests.of(mark_of(i, kind) for i in ids)


def mirror_of(collection_id: str, tenant: str, database: str, name: str, /, **facts: Any) -> Mirror:
    """A mirror; each fact is the primary's or the replica's by its name."""
    ours, theirs = parted(facts, PrimaryCollection)
    return Mirror(PrimaryCollection(collection_id, tenant, database, name, **ours), **theirs)


def head_with(head: ChunkHead, **facts: Any) -> ChunkHead:
    """The head with other facts; each is the primary's or the replica's by its name."""
    theirs, ours = parted(facts, ReplicaChunk)
    return replace(head, **ours, replica=replace(head.replica, **theirs))


def with_digests(chunk: Chunk, **digests: Digests) -> Chunk:
    """The chunk with other digests of one kind or several."""
    return replace(chunk, applied=replace(chunk.applied, **digests))


def parted(facts: dict[str, Any], model: type[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts that are fields of a dataclass, and all others."""
    names = {field.name for field in fields(model)}
    return (
        {name: fact for name, fact in facts.items() if name in names},
        {name: fact for name, fact in facts.items() if name not in names},
    )


def chunk_of(ids: Sequence[str], *, chunk_id: int = 0, start: int = 0, **head: Any) -> Chunk:
    """A chunk whose digests tell to which id they belong."""
    made = ChunkHead(chunk_id, COLLECTION, start, len(ids), ids_digest(ids))
    applied = AppliedDigests(marks(ids, "embedding"), marks(ids, "payload"))
    return Chunk(head_with(made, **head), list(ids), applied)


class Ledger:
    """Chunks in memory, as a walk sees them; `loads` are the chunks whose ids were asked for."""

    def __init__(self, chunks: Iterable[Sequence[str]]) -> None:
        self.chunks = {n: list(ids) for n, ids in enumerate(chunks, 1)}
        self.loads: list[int] = []

    @property
    def heads(self) -> list[ChunkHead]:
        """The chunks' heads in order."""
        return [chunk_of(ids, chunk_id=n).head for n, ids in self.chunks.items()]

    @property
    def ids(self) -> list[str]:
        """All ids in order."""
        return [i for ids in self.chunks.values() for i in ids]

    def load(self, chunk_id: int) -> list[str]:
        """The ids of one chunk."""
        self.loads.append(chunk_id)
        return list(self.chunks[chunk_id])

    def places(self) -> dict[str, list[int]]:
        """The chunks that hold each id."""
        found: dict[str, list[int]] = {}
        for number, ids in self.chunks.items():
            for i in ids:
                found.setdefault(i, []).append(number)
        return found


def paged(ids: Sequence[str], cuts: Iterable[int]) -> list[list[str]]:
    """A stream of ids as pages, cut at these places; no page is empty."""
    places = sorted({0, len(ids), *(cut % (len(ids) + 1) for cut in cuts)})
    return [list(ids[a:b]) for a, b in pairwise(places)]


def names(count: int, prefix: str = "r") -> list[str]:
    """`count` different ids."""
    return [f"{prefix}{n}" for n in range(count)]


@st.composite
def ledgers(draw: st.DrawFn, most_chunks: int = 5, most_ids: int = 6) -> Ledger:
    """Chunks of different sizes, no id twice."""
    sizes = draw(st.lists(st.integers(1, most_ids), max_size=most_chunks))
    numbers: Iterator[int] = iter(range(sum(sizes)))
    return Ledger([[f"r{next(numbers)}" for _ in range(size)] for size in sizes])


def cuts() -> st.SearchStrategy[list[int]]:
    """Where a stream is cut into pages, see `paged`."""
    return st.lists(st.integers(0, 60), max_size=6)


# ---- records -----------------------------------------------------------------------------------

floats = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.one_of(st.text(max_size=5), st.integers(-(2**53), 2**53), floats, st.booleans())
arrays = st.one_of(
    st.lists(st.text(max_size=3), min_size=1, max_size=3),
    st.lists(st.integers(-9, 9), min_size=1, max_size=3),
    st.lists(floats, min_size=1, max_size=3),
    st.lists(st.booleans(), min_size=1, max_size=3),
)
keys = st.sampled_from(["a", "b", "c", "d", "e"])
metadatas: st.SearchStrategy[Any] = st.dictionaries(keys, st.one_of(scalars, arrays), max_size=4)
texts = st.one_of(st.none(), st.text(max_size=5))


@st.composite
def contents(
    draw: st.DrawFn, ids: Sequence[str] = ("r0",), dimension: int = 3, *, embeddings: bool = True
) -> Records:
    """Records of these ids with any content; small whole numbers as embeddings."""
    count = len(ids)
    numbers = st.integers(-3, 3)
    rows = draw(st.lists(st.lists(numbers, min_size=dimension, max_size=dimension),
                         min_size=count, max_size=count))  # fmt: skip
    several: Callable[[Any], Any] = lambda each: draw(  # noqa: E731 -- three uses, one line each
        st.lists(each, min_size=count, max_size=count)
    )
    vectors = np.array(rows, dtype=np.float32).reshape(count, dimension)
    return Records(
        list(ids),
        several(texts),
        several(metadatas),
        several(texts),
        vectors if embeddings else None,
    )


def record(
    record_id: str = "r0",
    document: str | None = None,
    metadata: Metadata | None = None,
    uri: str | None = None,
    embedding: Sequence[float] | Floats = (1.0, 2.0, 3.0),
) -> Records:
    """One record."""
    vectors = np.array([embedding], dtype=np.float32)
    return Records([record_id], [document], [metadata or {}], [uri], vectors)


def joined(*parts: Records) -> Records:
    """Records put together."""
    vectors = [part.embeddings for part in parts if part.embeddings is not None]
    return Records(
        [i for part in parts for i in part.ids],
        [d for part in parts for d in part.documents],
        [m for part in parts for m in part.metadatas],
        [u for part in parts for u in part.uris],
        np.concatenate(vectors),
    )

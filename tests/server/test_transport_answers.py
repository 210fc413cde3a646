"""Answers too large for memory are refused before they are read."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest

from chromasync.chroma import ChromaReader, ChromaWriter, Connection
from chromasync.chroma import reader as reading
from chromasync.errors import TooLarge
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Answer, RecordingProxy
from chromasync.model import Collection, Definition, Records, Side
from chromasync.reconcile.read import RecordReader
from tests.conftest import ProxyMaker

CONTENT = (
    b'{"ids":["a","b"],"embeddings":[[1],[2]],"documents":["x","y"],"metadatas":[null,null],'
    b'"uris":[null,null]%s}'
)
LIMIT = 1_000_000
COLLECTION = Collection("id", "things", "default_tenant", "default_database")


def test_large_answers_are_split_down_to_single_records(
    replica_server: ChromaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that do not fit into one answer together are read in smaller parts, one at least."""
    monkeypatch.setattr(reading, "MOST_ANSWER_BYTES", 50_000)
    texts: list[str | None] = ["x" * size for size in (10, 20_000, 20_000, 20_000, 90_000)]
    ids = [f"r{n}" for n in range(len(texts))]
    records = Records(
        ids, texts, [{} for _ in ids], [None for _ in ids], np.ones((len(ids), 2), np.float32)
    )
    connection = Connection(Side.REPLICA, replica_server.url)
    with ChromaWriter(connection) as writer, ChromaReader(connection) as reader:
        place = ("large-answers", "default_tenant", "default_database")
        collection = writer.create_collection(Definition(*place, metadata={}))
        writer.upsert(collection, records)
        with pytest.raises(TooLarge):
            reader.read(collection, ids)
        batch = RecordReader(reader).read(collection, ids)
        writer.drop_collection(collection)
    found = {
        i: text
        for piece in batch.pieces
        for i, text in zip(piece.ids, piece.documents, strict=True)
    }
    assert found == dict(zip(ids, texts, strict=True))
    assert len(batch.pieces) > 2


@pytest.fixture
def proxy(replica_server: ChromaServer, make_proxy: ProxyMaker) -> RecordingProxy:
    """A proxy that answers instead of its server."""
    return make_proxy(replica_server.url)


@pytest.fixture
def reader(proxy: RecordingProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChromaReader]:
    """A reader behind the proxy, with a small limit."""
    monkeypatch.setattr(reading, "MOST_ANSWER_BYTES", LIMIT)
    with ChromaReader(Connection(Side.PRIMARY, proxy.url)) as reader:
        yield reader


def answer_packed(proxy: RecordingProxy, content: bytes) -> int:
    """Answer every request with `content`, packed; how many bytes that takes."""
    packed = gzip.compress(content)
    proxy.fault = lambda _: Answer(200, packed, {"content-encoding": "gzip"})
    return len(packed)


def test_a_small_answer_that_unpacks_to_a_large_one_is_refused(
    proxy: RecordingProxy, reader: ChromaReader
) -> None:
    """The limit counts what a compressed answer becomes, and stops before that is in memory."""
    assert answer_packed(proxy, CONTENT % (b" " * 48_000_000)) < LIMIT / 10
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            reader.read(COLLECTION, ["a", "b"])
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_packed_answer_within_the_limit_is_read(
    proxy: RecordingProxy, reader: ChromaReader
) -> None:
    """Compression is asked for all the same, and an answer that just fits is read."""
    answer_packed(proxy, CONTENT % (b" " * (LIMIT - len(CONTENT))))
    assert reader.read(COLLECTION, ["a", "b"]).documents == ["x", "y"]
    sent = {name.lower(): value for name, value in proxy.requests[-1].headers.items()}
    assert "gzip" in sent["accept-encoding"]


def test_the_last_part_of_an_answer_counts_too(proxy: RecordingProxy, reader: ChromaReader) -> None:
    """An answer that is beyond the limit by its last few bytes is refused."""
    answer_packed(proxy, CONTENT % (b" " * LIMIT))
    with pytest.raises(TooLarge):
        reader.read(COLLECTION, ["a", "b"])

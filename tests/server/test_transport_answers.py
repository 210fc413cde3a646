"""Answers too large for memory are refused before they are read."""

from __future__ import annotations

import numpy as np
import pytest

from chromasync.chroma import ChromaReader, ChromaWriter, Connection, endpoint
from chromasync.errors import TooLarge
from chromasync.localserver import ChromaServer
from chromasync.model import Definition, Records, Side
from chromasync.reconcile.read import RecordReader


def test_large_answers_are_split_down_to_single_records(
    replica_server: ChromaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that do not fit into one answer together are read in smaller parts, one at least."""
    monkeypatch.setattr(endpoint, "MOST_ANSWER_BYTES", 50_000)
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

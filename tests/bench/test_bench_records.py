"""The records of the bench and what is done to them."""

from collections.abc import Iterator

import numpy as np
import pytest
from chromadb.api import ClientAPI

from bench.edits import change_metadata, edit_everything, spread
from bench.memory import small_records
from bench.raw import ingest, read_everything
from bench.records import CHARACTERS, DIMENSION, Data, make_records
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import collections_of, connect


@pytest.fixture(scope="module")
def data() -> list[Data]:
    return make_records(400)


@pytest.fixture(scope="module")
def filled(data: list[Data]) -> Iterator[str]:
    """URL of a server that holds the records."""
    with ChromaServer() as server:
        ingest(server.url, data, batch=150)
        yield server.url


@pytest.fixture
def client(filled: str) -> ClientAPI:
    return connect(filled)


def test_records_are_the_same_each_time(data: list[Data]) -> None:
    """The seed alone decides what the records are."""
    for one, other in zip(data, make_records(400), strict=True):
        assert one.ids == other.ids
        assert one.documents == other.documents
        assert one.metadatas == other.metadatas
        np.testing.assert_array_equal(one.embeddings, other.embeddings)
    assert make_records(400, seed=8)[0].documents != data[0].documents


def test_records_look_like_those_of_an_application(data: list[Data]) -> None:
    """Sizes, types, gaps and letters are those of real text."""
    assert [len(part) for part in data] == [280, 120]
    assert data[0].embeddings.shape == (280, DIMENSION)
    np.testing.assert_allclose(np.linalg.norm(data[0].embeddings, axis=1), 1, atol=1e-5)
    documents = [text for part in data for text in part.documents if text is not None]
    assert np.mean([len(text) for text in documents]) == pytest.approx(CHARACTERS, rel=0.1)
    assert not all(text.isascii() for text in documents)
    metadatas = [metadata for part in data for metadata in part.metadatas]
    types = {type(value) for metadata in metadatas for value in metadata.values()}
    assert types == {str, int, float, bool, list}
    assert {len(metadata) for metadata in metadatas} >= {4, 5, 6}
    assert None in data[0].documents
    assert None in data[0].uris


def test_raw_requests_put_everything_in(client: ClientAPI, data: list[Data]) -> None:
    """What was sent in pre-built requests is what the official client reads."""
    collections = collections_of(client)
    for part in data:
        collection = collections[part.name]
        assert collection.count() == len(part)
        got = collection.get(ids=part.ids[:1], include=["documents", "metadatas", "uris"])
        assert got["documents"] == part.documents[:1]
        assert got["metadatas"] == part.metadatas[:1]
        assert got["uris"] == part.uris[:1]
        assert (collection.configuration.get("hnsw") or {}).get("space") == part.space


def test_raw_reading_gets_everything(filled: str, data: list[Data]) -> None:
    """The undecoded answers are at least as large as the texts in them."""
    texts = sum(len(text or "") for part in data for text in part.documents)
    assert read_everything(filled, threads=2)["bytes"] > texts


def test_a_metadata_change_can_be_taken_back(
    filled: str, client: ClientAPI, data: list[Data]
) -> None:
    """The 1 % change touches the rows it says, and offset 0 restores them."""
    part = data[0]
    rows = spread(len(part), 3)
    change_metadata(filled, data, [3, 1], offset=1)
    collection = collections_of(client)[part.name]
    years = {row: part.metadatas[row]["year"] for row in rows}

    def seen() -> dict[int, object]:
        return {
            row: (collection.get(ids=[part.ids[row]])["metadatas"] or [{}])[0]["year"]
            for row in rows
        }

    assert seen() == {row: year + 1 for row, year in years.items()}
    change_metadata(filled, data, [3, 1], offset=0)
    assert seen() == years


def test_edits_are_of_every_kind(data: list[Data]) -> None:
    """Records are added, changed, stripped of a key and deleted in each collection."""
    with ChromaServer() as server:
        ingest(server.url, data)
        done = edit_everything(server.url, data)
        counts = {name: c.count() for name, c in collections_of(connect(server.url)).items()}
    assert set(done.values()) == {2}
    assert counts == {part.name: len(part) for part in data}


def test_small_records_do_not_repeat() -> None:
    """Each stretch of the million has ids of its own, 36 characters each."""
    one, two = small_records(0, 500), small_records(500, 500)
    assert len({*one.ids, *two.ids}) == 1000
    assert {len(record_id) for record_id in one.ids} == {36}
    assert one.ids == small_records(0, 500).ids

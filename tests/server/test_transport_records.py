"""Record traps: sizes, limits, keys that poison a server, values that JSON cannot hold."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from chromasync.errors import RequestRefused
from chromasync.lab.chroma_server import ChromaServer
from chromasync.model import Change, Metadata, Records
from tests.conftest import ProxyMaker
from tests.server.transport_samples import (
    by_id,
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    create,
    reader,
    records,
    writer,
)


@pytest.mark.long
def test_more_records_than_one_statement_takes(server: ChromaServer) -> None:
    """More than 32,766 records are listed, read and deleted without hitting a server's limit."""
    at = writer(server.url)
    made = create(at)
    count = 33_000
    sent = records(
        [f"id-{i:05}" for i in range(count)],
        metadatas=[{"n": i} for i in range(count)],
        dimension=2,
    )
    batches = at.batches(sent)
    assert max(len(batch) for batch in batches) <= 5000
    for batch in batches:
        at.upsert(made, batch)
    assert at.count(made) == count
    assert at.list_ids(made, offset=0, limit=100_000) == sent.ids
    found = reader(server.url).read(made, sent.ids)
    assert found.ids == sent.ids
    assert found.metadatas == sent.metadatas
    assert found.embeddings is not None
    assert sent.embeddings is not None
    assert np.array_equal(found.embeddings, sent.embeddings)
    at.delete(made, sent.ids[:5001])
    assert at.count(made) == count - 5001


@pytest.mark.long
def test_bodies_near_the_limit_go_through(server: ChromaServer) -> None:
    """Large documents are cut by bytes; one record of 14 MB is a batch of its own."""
    at = writer(server.url)
    made = create(at)
    huge = "é" * 7_000_000
    sent = records(
        [f"id-{i}" for i in range(6)],
        documents=["x" * 5_000_000, "x" * 5_000_000, "x" * 5_000_000, huge, "\x00" * 900_000, "y"],
    )
    batches = at.batches(sent)
    assert [batch.ids for batch in batches] == [
        ["id-0", "id-1"], ["id-2"], ["id-3"], ["id-4", "id-5"],
    ]  # fmt: skip
    for batch in batches[2:]:
        at.upsert(made, batch)
    assert at.read(made, ["id-3"]).documents == [huge]
    assert at.read(made, ["id-4"]).documents == ["\x00" * 900_000]


def test_changes_are_cut_alike(server: ChromaServer) -> None:
    """Changes are cut by bytes and by count, in order, and lose none."""
    at = writer(server.url)
    large = [Change(f"id-{i}", document="x" * 5_000_000) for i in range(5)]
    assert [len(batch) for batch in at.change_batches(large)] == [2, 2, 1]
    many = [Change(f"id-{i}", metadata={"n": i}) for i in range(12_001)]
    batches = at.change_batches(many)
    assert [change for batch in batches for change in batch] == many
    assert [len(batch) for batch in batches] == [5000, 5000, 2001]
    assert at.change_batches([]) == []


@pytest.mark.parametrize("key", ["chroma:document", "chroma:uri", "chroma:anything"])
def test_a_reserved_key_never_leaves(
    key: str, server: ChromaServer, make_proxy: ProxyMaker
) -> None:
    """A metadata key of Chroma's own is refused by record before a request is sent."""
    proxy = make_proxy(server.url)
    at = writer(proxy.url)
    made = create(at)
    proxy.reset()
    with pytest.raises(RequestRefused, match=r"'bad'.*chroma:"):
        at.upsert(made, records(["good", "bad"], metadatas=[{}, {key: "x"}]))
    with pytest.raises(RequestRefused, match=r"'bad'.*chroma:"):
        at.update(made, [Change("bad", metadata={key: None})])
    assert proxy.writes() == []


def test_clearing_a_uri_leaves_the_server_healthy(
    server: ChromaServer, official: Callable[..., Any]
) -> None:
    """The one reserved null that is sent clears the uri and the server goes on writing."""
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records(["a", "b"], documents=["A", "B"], uris=["u", "v"]))
    at.update(made, [Change("a", clear_uri=True), Change("b", document="new")])
    at.upsert(made, records(["c"]))
    theirs = official(server.url).get_collection("things", embedding_function=None)
    got = theirs.get(ids=["a", "b"], include=["documents", "uris"])
    assert (got["documents"], got["uris"]) == (["A", "new"], [None, "v"])


def test_an_empty_document_differs_from_none(server: ChromaServer) -> None:
    """An empty document and none stay apart, and a null leaves an existing document alone."""
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records(["empty", "none"], documents=["", None]))
    assert by_id(at.read(made, ["empty", "none"])) == {
        "empty": ("", {}, None),
        "none": (None, {}, None),
    }
    at.update(made, [Change("empty", metadata={"k": 1})])
    assert by_id(at.read(made, ["empty"]))["empty"][0] == ""


def test_types_of_metadata_stay(server: ChromaServer) -> None:
    """1, 1.0, "1" and true are four different values, there and back."""
    at = writer(server.url)
    made = create(at)
    values: Metadata = {"int": 1, "float": 1.0, "text": "1", "flag": True, "large": 2**63 - 1}
    at.upsert(made, records(["a"], metadatas=[values]))
    for embeddings in (True, False):
        found = at.read(made, ["a"], embeddings=embeddings).metadatas[0]
        assert {k: (type(v), v) for k, v in found.items()} == {
            k: (type(v), v) for k, v in values.items()
        }


def test_what_json_cannot_hold_is_refused(server: ChromaServer) -> None:
    """A lone surrogate, a number beyond 64 bits or a NaN is refused and changes nothing."""
    at = writer(server.url)
    made = create(at)
    with pytest.raises(RequestRefused):
        at.upsert(made, records(["a"], documents=["\ud800"]))
    with pytest.raises(RequestRefused):
        at.upsert(made, records(["a"], metadatas=[{"n": 2**70}]))
    nan = records(["a"])
    assert nan.embeddings is not None
    nan.embeddings[0, 0] = np.nan
    with pytest.raises(RequestRefused):
        at.upsert(made, nan)
    assert at.count(made) == 0


def test_a_wrong_dimension_is_refused(server: ChromaServer) -> None:
    """A record of another dimension is refused with the server's own reason."""
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records(["a"], dimension=3))
    with pytest.raises(RequestRefused, match="dimension"):
        at.upsert(made, records(["b"], dimension=4))


def test_reading_nothing(server: ChromaServer) -> None:
    """No ids, absent ids and an empty collection give empty records of the right shape."""
    at = writer(server.url)
    made = create(at)
    for ids in ([], ["absent"]):
        found = at.read(made, ids)
        assert (len(found), found.documents, found.metadatas, found.uris) == (0, [], [], [])
        assert found.embeddings is not None
        assert found.embeddings.shape[0] == 0
        assert at.read(made, ids, embeddings=False).embeddings is None
    assert at.list_ids(made, offset=5, limit=10) == []


def test_one_client_serves_many_threads(server: ChromaServer) -> None:
    """Threads share one reader and one writer without mixing up their answers."""
    at, primary = writer(server.url), reader(server.url)
    made = create(at)
    parts = [records([f"{t}-{i}" for i in range(40)]) for t in range(8)]

    def work(part: Records) -> bool:
        at.upsert(made, part)
        found = primary.read(made, part.ids)
        return found.ids == part.ids and np.array_equal(found.embeddings, part.embeddings)  # type: ignore[arg-type]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, parts))
    assert at.count(made) == 320


def test_dropping_leaves_no_lists_behind(
    server: ChromaServer, official: Callable[..., Any]
) -> None:
    """Records of a new collection inherit nothing from those of a dropped one."""
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records([f"{i}" for i in range(20)], metadatas=[{"tags": ["secret"]}] * 20))
    at.modify_collection(made, name="under-another-name")
    at.drop_collection(made)
    again = create(at)
    at.upsert(again, records([f"{i}" for i in range(20)], metadatas=[{"n": 1}] * 20))
    theirs = official(server.url).get_collection("things", embedding_function=None)
    assert theirs.get(include=["metadatas"])["metadatas"] == [{"n": 1}] * 20


def test_lists_in_collection_metadata_are_refused(server: ChromaServer) -> None:
    """Collection metadata that would crash the server's handler is never sent."""
    at = writer(server.url)
    with pytest.raises(RequestRefused, match="tags"):
        create(at, metadata={"tags": ["a"]})
    made = create(at)
    with pytest.raises(RequestRefused, match="tags"):
        at.modify_collection(made, metadata={"tags": ["a"]})  # type: ignore[dict-item]

"""The transport against real servers of every supported age."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import numpy as np
import pytest

from chromasync.definition import creatable, effective
from chromasync.errors import Conflict, NotFound, RequestRefused
from chromasync.lab.chroma_server import ChromaServer
from chromasync.model import Change, Collection, Space
from tests.compat_servers import PYTHON_SERVER, VERSIONS, command
from tests.conftest import ServerMaker
from tests.server.transport_samples import (
    DATABASE,
    TENANT,
    by_id,
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    create,
    empty,
    reader,
    records,
    vectors,
    writer,
)

ODD_IDS = ["plain", "ünï/çode ☃", "new\nline", "a\tb\\\"c'", "😀"]
every_version = pytest.mark.parametrize("version", VERSIONS)

MODERN = Collection(
    "p",
    "kept",
    TENANT,
    DATABASE,
    {"topic": "birds", "weight": 1.5, "ok": True},
    {
        "hnsw": {
            "space": "cosine",
            "ef_construction": 55,
            "ef_search": 44,
            "max_neighbors": 8,
            "resize_factor": 1.3,
            "sync_threshold": 777,
        },
        "spann": None,
        "embedding_function": {"type": "known", "name": "default", "config": {}},
    },
)
LEGACY = Collection(
    "p",
    "kept",
    TENANT,
    DATABASE,
    {"hnsw:space": "ip", "hnsw:M": 8, "topic": "birds"},
    {"hnsw_configuration": {"space": "l2", "M": 16, "ef_construction": 100}},
)


class Fleet:
    """One running server per version, for the whole module; emptied before each use."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._servers: dict[str, ChromaServer] = {}

    def url(self, version: str) -> str:
        if version not in self._servers:
            server = self._stack.enter_context(ChromaServer(command=command(version)))
            self._servers[version] = server
        url = self._servers[version].url
        empty(url)
        return url


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack)


@every_version
def test_abilities_are_those_of_the_version(version: str, fleet: Fleet) -> None:
    """What a server can do is found without believing its version."""
    found = writer(fleet.url(version)).capabilities()
    order = VERSIONS.index(version)
    assert found.base64 is (order >= VERSIONS.index("1.0.20"))
    assert found.configuration is (order >= VERSIONS.index("1.0.20"))
    assert found.schema is (order >= VERSIONS.index("1.3.0"))
    assert found.arrays is (version == "1.5.9")
    assert found.null_columns is (version != PYTHON_SERVER)
    assert found.max_batch_size == (41666 if version == PYTHON_SERVER else 5461)
    assert bool(found.limitations) is (version != "1.5.9")


@every_version
def test_records_go_and_come_back_whole(version: str, fleet: Fleet) -> None:
    """Every field of a record survives the way there and back, nulls and odd ids included."""
    url = fleet.url(version)
    at = writer(url)
    made = create(at)
    sent = records(
        ODD_IDS,
        documents=["text", None, "", "line\nbreak \x00", "ü"],
        metadatas=[{"i": 1, "f": 1.5, "s": "1", "b": True}, {}, {"i": -1}, {}, {"ключ": "знач"}],
        uris=["file:///a", None, None, "u", None],
    )
    at.upsert(made, sent)
    found = reader(url).read(made, [*ODD_IDS, "absent"])
    assert by_id(found) == by_id(sent)
    order = [sent.ids.index(name) for name in found.ids]
    assert sent.embeddings is not None
    assert found.embeddings is not None
    assert np.array_equal(found.embeddings, sent.embeddings[order])
    assert at.count(made) == len(ODD_IDS)
    assert set(at.list_ids(made, offset=0, limit=100)) == set(ODD_IDS)
    assert at.list_ids(made, offset=1, limit=2) == at.list_ids(made, offset=0, limit=9)[1:3]


@every_version
def test_the_text_of_embeddings_changes_with_them_alone(version: str, fleet: Fleet) -> None:
    """It is the same in each read and after a change of a document, not after a tiny move."""
    url = fleet.url(version)
    at = writer(url)
    made = create(at)
    sent = records([f"r{n}" for n in range(40)])
    assert sent.embeddings is not None
    sent.embeddings[0] = [1e-38, 3.4e38, 1 / 3, -0.0]
    at.upsert(made, sent)

    def text() -> bytes | None:
        found = reader(url).read(made, sent.ids, unchanged=lambda _: True)
        assert (found.ids, found.embeddings) == (sent.ids, None)
        return found.text_digest

    first = text()
    assert first is not None
    assert text() == first
    at.update(made, [Change("r7", document="another")])
    assert text() == first
    at.update(made, [Change("r9", embedding=np.nextafter(sent.embeddings[9], np.float32(9)))])
    assert text() != first


@every_version
def test_an_add_leaves_existing_records(version: str, fleet: Fleet) -> None:
    """A known id is no error and changes nothing, and the others of the request are inserted."""
    at = writer(fleet.url(version))
    made = create(at)
    sent = records(["a", "b"], documents=["A", "B"], metadatas=[{"k": 1}, {}], uris=["u", None])
    at.add(made, sent)
    other = records(["c", "a"], documents=["C", "other"], metadatas=[{}, {"k": 2, "more": 1}])
    at.add(made, other)
    found = at.read(made, ["a", "b", "c"])
    assert by_id(found) == by_id(sent) | {"c": ("C", {}, None)}
    assert found.embeddings is not None
    assert sent.embeddings is not None
    row = found.ids.index("a")
    assert np.array_equal(found.embeddings[row], sent.embeddings[0])


@every_version
def test_changes_touch_only_what_they_name(version: str, fleet: Fleet) -> None:
    """An update changes the named fields of each record and leaves the others alone."""
    at = writer(fleet.url(version))
    made = create(at)
    sent = records(
        ["a", "b", "c"],
        documents=["A", "B", "C"],
        metadatas=[{"k": 1, "gone": "x"}, {"k": 2}, {"k": 3}],
        uris=["ua", "ub", "uc"],
    )
    at.upsert(made, sent)
    moved = vectors(1, seed=99)[0]
    at.update(
        made,
        [
            Change("a", metadata={"gone": None, "k": 1.5}, clear_uri=True),
            Change("b", document="", embedding=moved),
            Change("c", uri="other"),
        ],
    )
    found = at.read(made, ["a", "b", "c"])
    assert by_id(found) == {
        "a": ("A", {"k": 1.5}, None),
        "b": ("", {"k": 2}, "ub"),
        "c": ("C", {"k": 3}, "other"),
    }
    assert sent.embeddings is not None
    assert found.embeddings is not None
    expected = sent.embeddings.copy()
    expected[1] = moved
    assert np.array_equal(found.embeddings, expected[[sent.ids.index(i) for i in found.ids]])
    at.delete(made, ["b", "never"])
    assert set(at.list_ids(made, offset=0, limit=9)) == {"a", "c"}


@every_version
@pytest.mark.parametrize("primary", [MODERN, LEGACY], ids=["modern", "legacy"])
def test_a_collection_keeps_its_effect(version: str, primary: Collection, fleet: Fleet) -> None:
    """Distance and index settings arrive in the shape each server takes them."""
    at = writer(fleet.url(version))
    wanted, missing = creatable(primary, at.capabilities())
    made = at.create_collection(wanted)
    assert dict(made.metadata) == dict(wanted.metadata)
    left, right = effective(primary), effective(made)
    for name in ("space", "ef_construction", "max_neighbors", "ef_search", "sync_threshold"):
        assert getattr(left, name) == getattr(right, name), name
    assert (left.embedding_function == right.embedding_function) is not bool(missing)
    nearest = _nearest(at, made)
    assert nearest == {Space.COSINE: "long", Space.IP: "long", Space.L2: "short"}[left.space]


def _nearest(at: Any, made: Collection) -> str:
    """The nearest record to (1, 0): same direction but far, or near but askew."""
    pair = records(["long", "short"], dimension=2)
    assert pair.embeddings is not None
    pair.embeddings[:] = [[9, 0.1], [1, 0.5]]
    at.upsert(made, pair)
    url = f"{at._client.connection.url}/api/v2/tenants/{TENANT}/databases/{DATABASE}"
    body = {"query_embeddings": [[1, 0]], "n_results": 1, "include": []}
    answer = httpx2.post(f"{url}/collections/{made.id}/query", json=body)
    return str(answer.json()["ids"][0][0])


@every_version
def test_renaming_and_metadata(version: str, fleet: Fleet) -> None:
    """A collection is renamed, its metadata replaced and cleared; a taken name is a conflict."""
    at = writer(fleet.url(version))
    made = create(at, "first", metadata={"a": 1, "b": "x"})
    other = create(at, "second")
    at.modify_collection(made, metadata={"c": 2.5})
    at.modify_collection(made, name="renamed")
    at.modify_collection(made, name="renamed")
    with pytest.raises(Conflict, match="second"):
        at.modify_collection(made, name="second")
    listed = {c.name: dict(c.metadata) for c in at.list_collections(TENANT, DATABASE)}
    assert listed == {"renamed": {"c": 2.5}, "second": {}}
    at.modify_collection(made, metadata={})
    at.drop_collection(other)
    at.drop_collection(other)
    assert [dict(c.metadata) for c in at.list_collections(TENANT, DATABASE)] == [{}]
    with pytest.raises(NotFound):
        at.count(other)


@every_version
def test_tenants_and_databases(version: str, fleet: Fleet) -> None:
    """Missing tenants and databases are created, once; absent ones list as empty."""
    at = writer(fleet.url(version))
    assert at.list_databases("nobody") == []
    assert at.list_collections("nobody", "nothing") == []
    for _ in range(2):
        at.ensure_database("tenant-x", "base_y")
    made = create(at, tenant="tenant-x", database="base_y")
    at.upsert(made, records(["a"]))
    assert at.list_databases("tenant-x") == ["base_y"]
    assert [c.id for c in at.list_collections("tenant-x", "base_y")] == [made.id]


@every_version
def test_lists_in_metadata(version: str, fleet: Fleet) -> None:
    """Lists are stored where the server can, and refused by record where it cannot."""
    at = writer(fleet.url(version))
    made = create(at)
    sent = records(["with"], metadatas=[{"tags": ["b", "a"], "n": [1, 2], "f": [0.5]}])
    if at.capabilities().arrays:
        at.upsert(made, sent)
        assert by_id(at.read(made, ["with"])) == by_id(sent)
    else:
        with pytest.raises(RequestRefused, match="'with'"):
            at.upsert(made, sent)
        assert at.count(made) == 0


def test_the_python_server_gets_no_null_document(make_server: ServerMaker) -> None:
    """On 0.6.3 no null document is queued, because it would stop the server after an upgrade."""
    server = make_server(PYTHON_SERVER)
    at = writer(server.url)
    made = create(at)
    at.upsert(made, records(["a", "b"], documents=["text", None], uris=[None, "u"]))
    at.update(made, [Change("a", document="new"), Change("b", metadata={"k": 1})])
    with sqlite3.connect(server.path / "chroma.sqlite3") as queue:
        rows = queue.execute("SELECT metadata FROM embeddings_queue WHERE metadata IS NOT NULL")
        assert not [row for (row,) in rows if '"chroma:document": null' in row]
    queue.close()


def test_the_official_client_reads_what_we_wrote(
    make_server: ServerMaker, official: Callable[..., Any]
) -> None:
    """The official client sees exactly the records that were sent."""
    server = make_server()
    at = writer(server.url)
    made = create(at, metadata={"k": 1}, configuration={"hnsw": {"space": "l2"}})
    sent = records(ODD_IDS, documents=["d"] * 5, metadatas=[{"n": i} for i in range(5)])
    at.upsert(made, sent)
    theirs = official(server.url).get_collection("things", embedding_function=None)
    got = theirs.get(ids=ODD_IDS, include=["embeddings", "documents", "metadatas", "uris"])
    order = [sent.ids.index(name) for name in got["ids"]]
    assert sent.embeddings is not None
    assert np.array_equal(np.asarray(got["embeddings"], dtype=np.float32), sent.embeddings[order])
    assert got["documents"] == ["d"] * 5
    assert got["metadatas"] == [{"n": i} for i in order]
    assert theirs.metadata == {"k": 1}

"""The server in memory behaves as the real one does: each test runs against both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from chromasync.chroma import ChromaWriter, Connection
from chromasync.errors import Conflict, LeaseLost, NotFound, RequestRefused
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.fake import FakeServer
from chromasync.model import Change, Collection, Definition, Metadata, Records, Side
from chromasync.ports import Writer

TENANT, DATABASE = "default_tenant", "default_database"
Make = Callable[..., Collection]

_names = count()


@pytest.fixture(scope="module")
def real() -> Iterator[ChromaWriter]:
    with ChromaServer() as server, ChromaWriter(Connection(Side.REPLICA, server.url)) as writer:
        yield writer


@pytest.fixture(params=["real", "fake"])
def writer(request: pytest.FixtureRequest) -> Writer:
    """A replica, real or in memory."""
    chosen: Writer = FakeServer() if request.param == "fake" else request.getfixturevalue("real")
    return chosen


@pytest.fixture
def make(writer: Writer) -> Make:
    """Makes a collection of a name of its own; with ids, fills it with records of them."""

    def create(*ids: str, **columns: Any) -> Collection:
        definition = Definition(f"honest{next(_names)}", TENANT, DATABASE, {})
        created = writer.create_collection(definition)
        if ids:
            writer.upsert(created, records(*ids, **columns))
        return created

    return create


def records(
    *ids: str,
    documents: Sequence[str | None] | None = None,
    metadatas: Sequence[Metadata] | None = None,
    uris: Sequence[str | None] | None = None,
    dimension: int = 3,
    seed: int = 0,
) -> Records:
    rows = np.random.default_rng(seed).normal(size=(len(ids), dimension)).astype(np.float32)
    return Records(
        list(ids),
        list(documents or [None] * len(ids)),
        list(metadatas or [{} for _ in ids]),
        list(uris or [None] * len(ids)),
        rows,
    )


def one(writer: Writer, collection: Collection, record_id: str = "a") -> tuple[Any, ...]:
    found = writer.read(collection, [record_id])
    assert found.ids == [record_id]
    return found.documents[0], found.metadatas[0], found.uris[0]


def test_a_new_record_comes_back_as_written(writer: Writer, make: Make) -> None:
    """Every field of an inserted record is read as it was written, types included."""
    metadata: Metadata = {"b": True, "i": 1, "f": 1.5, "s": "", "l": ["x", "y"], "n": [1, 2]}
    given = records("a", documents=["text"], metadatas=[metadata], uris=["file:///a"])
    home = make()
    writer.upsert(home, given)
    found = writer.read(home, ["a"])
    assert one(writer, home) == ("text", metadata, "file:///a")
    assert {k: type(v) for k, v in found.metadatas[0].items()} == {
        k: type(v) for k, v in metadata.items()
    }
    assert found.embeddings is not None
    assert given.embeddings is not None
    np.testing.assert_array_equal(found.embeddings, given.embeddings)


def test_an_empty_list_is_no_value(writer: Writer, make: Make) -> None:
    """A key whose value is an empty list is not there after the write."""
    home = make("a", metadatas=[{"l": [], "k": 1}])
    assert one(writer, home)[1] == {"k": 1}


def test_a_repeated_upsert_merges(writer: Writer, make: Make) -> None:
    """Keys, document and uri that a second upsert does not name stay, its embedding counts."""
    home = make("a", documents=["one"], metadatas=[{"k": 1, "old": 2}], uris=["u"])
    again = records("a", metadatas=[{"k": "x"}], seed=5)
    writer.upsert(home, again)
    assert one(writer, home) == ("one", {"k": "x", "old": 2}, "u")
    found = writer.read(home, ["a"]).embeddings
    assert found is not None
    assert again.embeddings is not None
    np.testing.assert_array_equal(found, again.embeddings)


def test_an_add_leaves_what_is_there(writer: Writer, make: Make) -> None:
    """An existing record keeps every field, without an error, and a new one is inserted."""
    home = make("a", documents=["one"], metadatas=[{"k": 1}], uris=["u"])
    writer.add(home, records("a", "b", documents=["two", "new"], metadatas=[{"k": 2}, {}], seed=5))
    assert one(writer, home) == ("one", {"k": 1}, "u")
    assert writer.read(home, ["b"]).documents == ["new"]
    found, first = (reading.embeddings for reading in (writer.read(home, ["a"]), records("a")))
    assert found is not None
    assert first is not None
    np.testing.assert_array_equal(found, first)


def test_the_last_of_two_equal_ids_counts(writer: Writer, make: Make) -> None:
    """One upsert with an id twice leaves one record, with the last document."""
    home = make("a", "a", documents=["one", "two"])
    assert writer.count(home) == 1
    assert one(writer, home)[0] == "two"


def test_an_update_changes_what_it_names(writer: Writer, make: Make) -> None:
    """A null removes its key, a value sets it, an unnamed field stays."""
    home = make("a", documents=["one"], metadatas=[{"k": 1, "l": [1]}], uris=["u"])
    before = writer.read(home, ["a"]).embeddings
    writer.update(home, [Change("a", metadata={"k": None, "l": "scalar", "new": 2.5, "no": None})])
    assert one(writer, home) == ("one", {"l": "scalar", "new": 2.5}, "u")
    after = writer.read(home, ["a"]).embeddings
    assert before is not None
    assert after is not None
    np.testing.assert_array_equal(before, after)
    vector = np.array([7, 8, 9], dtype=np.float32)
    writer.update(home, [Change("a", embedding=vector, document="", uri="v")])
    assert one(writer, home) == ("", {"l": "scalar", "new": 2.5}, "v")
    found = writer.read(home, ["a"]).embeddings
    assert found is not None
    np.testing.assert_array_equal(found[0], vector)


def test_a_uri_can_be_cleared_a_document_cannot(writer: Writer, make: Make) -> None:
    """Clearing a uri leaves none; a null document leaves the old one."""
    home = make("a", documents=["one"], metadatas=[{"k": 1}], uris=["u"])
    writer.update(home, [Change("a", clear_uri=True)])
    writer.upsert(home, records("a", documents=[None]))
    assert one(writer, home) == ("one", {"k": 1}, None)
    writer.delete(home, ["a"])
    writer.upsert(home, records("a"))
    assert one(writer, home) == (None, {}, None)


def test_an_update_of_an_unknown_record_does_nothing(writer: Writer, make: Make) -> None:
    """Updating or deleting an id that is not there is no error and leaves the rest alone."""
    home = make("a")
    writer.update(home, [Change("ghost", document="x"), Change("a", document="y")])
    writer.delete(home, ["ghost"])
    assert writer.list_ids(home, offset=0, limit=9) == ["a"]
    assert one(writer, home)[0] == "y"


def test_records_stand_in_the_order_of_insertion(writer: Writer, make: Make) -> None:
    """Updates keep the place, a deleted and re-added record stands at the end."""
    home = make("c", "a", "b", "d")
    writer.upsert(home, records("c", documents=["x"]))
    writer.update(home, [Change("a", document="x")])
    writer.delete(home, ["a"])
    writer.upsert(home, records("e", "a"))
    assert writer.list_ids(home, offset=0, limit=9) == ["c", "b", "d", "e", "a"]
    assert writer.list_ids(home, offset=1, limit=2) == ["b", "d"]
    assert writer.list_ids(home, offset=9, limit=2) == []


def test_a_read_by_id_gives_the_server_s_own_order(writer: Writer, make: Make) -> None:
    """Asked ids come back once each, in internal order; unknown ones are left out."""
    home = make("c", "a", "b", documents=["1", "2", "3"])
    found = writer.read(home, ["b", "ghost", "c", "b"])
    assert (found.ids, found.documents) == (["c", "b"], ["1", "3"])
    assert found.embeddings is not None
    assert found.embeddings.shape == (2, 3)
    bare = writer.read(home, ["a"], embeddings=False)
    assert (bare.ids, bare.embeddings) == (["a"], None)
    assert len(writer.read(home, [])) == 0


def test_content_that_cannot_be_stored_is_refused_whole(writer: Writer, make: Make) -> None:
    """A wrong dimension, an empty id or a reserved key fails the write, and nothing is stored."""
    home = make("a")
    bad: list[Records] = [
        records("b", "c", dimension=4),
        records("b", ""),
        records("b", "c", metadatas=[{}, {"#x": 1}]),
        records("b", "c", metadatas=[{}, {"chroma:x": 1}]),
    ]
    for given in bad:
        with pytest.raises(RequestRefused):
            writer.upsert(home, given)
    with pytest.raises(RequestRefused):
        writer.update(home, [Change("a", metadata={"chroma:document": None})])
    assert writer.list_ids(home, offset=0, limit=9) == ["a"]


def test_names_are_taken_once(writer: Writer, make: Make) -> None:
    """A taken name is a conflict, on create and on rename; a freed one can be taken."""
    first, second = make("a"), make()
    taken = Definition(first.name, TENANT, DATABASE, {"other": 1})
    with pytest.raises(Conflict):
        writer.create_collection(taken)
    with pytest.raises(Conflict):
        writer.modify_collection(second, name=first.name)
    aside = f"aside{next(_names)}"
    writer.modify_collection(first, name=aside)
    writer.modify_collection(second, name=first.name)
    listed = {c.id: c.name for c in writer.list_collections(TENANT, DATABASE)}
    assert (listed[first.id], listed[second.id]) == (aside, first.name)
    assert writer.count(first) == 1


def test_a_redefined_collection_lists_its_new_definition(writer: Writer, make: Make) -> None:
    """Metadata is replaced whole, settings are changed one by one."""
    home = make()
    writer.modify_collection(home, metadata={"k": 1, "gone": 2})
    writer.modify_collection(home, metadata={"k": 3})
    writer.modify_collection(home, configuration={"hnsw": {"ef_search": 77}})
    (listed,) = [c for c in writer.list_collections(TENANT, DATABASE) if c.id == home.id]
    assert dict(listed.metadata) == {"k": 3}
    assert listed.configuration["hnsw"]["ef_search"] == 77
    writer.modify_collection(home, metadata={})
    (listed,) = [c for c in writer.list_collections(TENANT, DATABASE) if c.id == home.id]
    assert dict(listed.metadata) == {}


def test_the_first_write_fixes_the_dimension(writer: Writer, make: Make) -> None:
    """The dimension is unknown until a record is there, and stays when all are deleted."""
    home = make()
    dimension = {c.id: c.dimension for c in writer.list_collections(TENANT, DATABASE)}
    assert dimension[home.id] is None
    writer.upsert(home, records("a"))
    writer.delete(home, ["a"])
    dimension = {c.id: c.dimension for c in writer.list_collections(TENANT, DATABASE)}
    assert dimension[home.id] == 3


def test_a_dropped_collection_is_not_found(writer: Writer, make: Make) -> None:
    """After a drop its records can neither be read nor written; a second drop is fine."""
    home = make("a")
    writer.drop_collection(home)
    writer.drop_collection(home)
    attempts: list[Callable[[], object]] = [
        lambda: writer.count(home),
        lambda: writer.list_ids(home, offset=0, limit=9),
        lambda: writer.read(home, ["a"]),
        lambda: writer.upsert(home, records("a")),
        lambda: writer.update(home, [Change("a", document="x")]),
        lambda: writer.delete(home, ["a"]),
        lambda: writer.modify_collection(home, metadata={"k": 1}),
    ]
    for attempt in attempts:
        with pytest.raises(NotFound):
            attempt()


def test_databases_are_created_where_missing(writer: Writer) -> None:
    """A place exists once it was ensured; before, it lists as empty and takes nothing."""
    tenant, database = f"tenant{next(_names)}", f"database{next(_names)}"
    assert writer.list_databases(tenant) == []
    assert writer.list_collections(tenant, database) == []
    lost = Definition("things", tenant, database, {})
    with pytest.raises(RequestRefused):
        writer.create_collection(lost)
    writer.ensure_database(tenant, database)
    writer.ensure_database(tenant, database)
    assert writer.list_databases(tenant) == [database]
    created = writer.create_collection(lost)
    assert [c.id for c in writer.list_collections(tenant, database)] == [created.id]


def test_a_refused_permit_stops_writes_alone(writer: Writer, make: Make) -> None:
    """A view whose permit refuses writes nothing, and reads as ever; the writer itself goes on."""
    home = make("a")

    def refuse() -> float:
        raise LeaseLost("over")

    view = writer.permitted_by(refuse)
    attempts: list[Callable[[], object]] = [
        lambda: view.upsert(home, records("b")),
        lambda: view.update(home, [Change("a", document="x")]),
        lambda: view.delete(home, ["a"]),
        lambda: view.modify_collection(home, metadata={"k": 1}),
        lambda: view.create_collection(Definition(f"n{next(_names)}", TENANT, DATABASE, {})),
    ]
    for attempt in attempts:
        with pytest.raises(LeaseLost):
            attempt()
    assert view.read(home, ["a", "b"]).ids == ["a"]
    writer.upsert(home, records("b"))
    assert view.count(home) == 2


def test_batches_keep_every_record_once(writer: Writer) -> None:
    """Cutting into batches loses, repeats and reorders nothing, and no batch is too long."""
    most = writer.capabilities().max_batch_size
    given = records(*[str(n) for n in range(most + 1)], dimension=1)
    cut = writer.batches(given)
    assert [i for batch in cut for i in batch.ids] == given.ids
    assert all(0 < len(batch) <= most for batch in cut)
    changes = [Change(i, document="x") for i in given.ids]
    parts = writer.change_batches(changes)
    assert [c for part in parts for c in part] == changes
    assert all(0 < len(part) <= most for part in parts)

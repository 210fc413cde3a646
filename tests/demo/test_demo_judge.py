"""The independent judge: does it see every kind of difference?"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from chromadb import Collection
from chromadb.api import ClientAPI

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import connect, judge, same_embedding, same_metadata

ROW: list[Sequence[float]] = [[3.0, 4.0]]
names = (f"judged-{number}" for number in count())


@pytest.fixture(scope="module")
def clients() -> Iterator[tuple[ClientAPI, ClientAPI]]:
    with ChromaServer() as primary, ChromaServer() as replica:
        yield connect(primary.url), connect(replica.url)


@pytest.fixture
def pair(clients: tuple[ClientAPI, ClientAPI]) -> Iterator[tuple[Collection, Collection]]:
    """The same three records on both sides, in a collection of their own."""
    name = next(names)
    both = []
    for client in clients:
        collection = client.create_collection(
            name, metadata={"kind": "judged"}, embedding_function=None
        )
        collection.add(
            ids=["one", "two", "three"],
            embeddings=[[1.0, 2.0], *ROW, [5.0, 6.0]],
            documents=["first", "second", "third"],
            metadatas=[{"n": 1}, {"n": 2}, {"n": 3}],
            uris=["a:1", "a:2", "a:3"],
        )
        both.append(collection)
    yield both[0], both[1]
    for client in clients:
        for collection in client.list_collections():
            client.delete_collection(collection.name)


def test_equal_servers_are_identical(
    clients: tuple[ClientAPI, ClientAPI], pair: tuple[Collection, Collection]
) -> None:
    """Nothing is reported where nothing differs, and every record was looked at."""
    judgement = judge(*clients)
    assert judgement.identical
    assert str(judgement) == "identical"
    assert judgement.records == 3


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("missing", lambda c: c.delete(ids=["one"])),
        ("extra", lambda c: c.add(ids=["four"], embeddings=[[7.0, 8.0]])),
        ("embedding", lambda c: c.update(ids=["two"], embeddings=[[3.0, 4.0000005]])),
        ("document", lambda c: c.update(ids=["two"], embeddings=ROW, documents=["Second"])),
        ("metadata", lambda c: c.update(ids=["two"], metadatas=[{"n": 2.0}])),
        ("metadata", lambda c: c.update(ids=["two"], metadatas=[{"more": True}])),
        ("uri", lambda c: c.update(ids=["two"], uris=["a:22"])),
        ("definition", lambda c: c.modify(metadata={"kind": "spoilt"})),
    ],
)
def test_each_difference_is_named(
    kind: str,
    spoil: Callable[[Collection], None],
    clients: tuple[ClientAPI, ClientAPI],
    pair: tuple[Collection, Collection],
) -> None:
    """One change on the replica is one difference of its kind."""
    spoil(pair[1])
    judgement = judge(*clients)
    assert dict(judgement.differences) == {kind: 1}
    assert str(judgement) == f"1 {kind}"
    assert len(judgement.examples) == 1


def test_a_collection_on_one_side_is_reported(
    clients: tuple[ClientAPI, ClientAPI], pair: tuple[Collection, Collection]
) -> None:
    """A renamed collection is on neither list of the other side."""
    pair[1].modify(name=next(names))
    assert dict(judge(*clients).differences) == {"collection": 2}


def test_cosine_is_judged_with_its_own_tolerance() -> None:
    """A cosine collection may be off in the last place; l2 and ip may not."""
    assert same_embedding([3.0, 4.0], [3.0000002, 4.0], "cosine")
    assert not same_embedding([3.0, 4.0], [3.0001, 4.0], "cosine")
    assert not same_embedding([3.0, 4.0], [3.0000002, 4.0], "l2")
    assert not same_embedding([3.0, 4.0], [3.0], "cosine")


def test_metadata_is_compared_with_its_types() -> None:
    """1, 1.0, "1" and true are four values; arrays compare item by item."""
    assert same_metadata({"a": 1, "b": ["x"]}, {"b": ["x"], "a": 1})
    for other in (1.0, "1", True, [1]):
        assert not same_metadata({"a": 1}, {"a": other})
    assert not same_metadata({"a": ["x"]}, {"a": ["x", "y"]})
    assert same_metadata({"a": 0.1 + 0.2}, {"a": 0.30000000000000004})
    assert not same_metadata({"a": 0.3}, {"a": 0.3001})

"""The stand-in for Chroma Cloud: the official client finds there what is published of the Cloud."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from chromasync.lab.proxy import Answer, Request
from tests.support.cloud import BUSY, TOKEN, CloudStandIn, Quotas, cloud_client
from tests.support.stage import Servers, close_client, vectors

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

SMALL = Quotas(
    dimension=8, document=40, uri=10, id=10, name=20, value=12, collection_value=8, key=6, keys=3
)
PLAIN: dict[str, Any] = {"ids": ["a"], "embeddings": [[1.0, 2.0]]}
TOO_MUCH: list[tuple[dict[str, Any], str]] = [
    ({"ids": ["é" * 6]}, "'ID size (bytes)' … 12 exceeds limit of 10"),
    ({"embeddings": [[1.0] * 9]}, "'Embedding dimension' … 9 exceeds limit of 8"),
    ({"documents": ["x" * 41]}, "'Document size (bytes)' … 41 exceeds limit of 40"),
    ({"uris": ["x" * 11]}, "'URI size (bytes)' … 11 exceeds limit of 10"),
    (
        {"metadatas": [{"k" * 7: 1}]},
        "'Size of metadata dictionary key (bytes)' … 7 exceeds limit of 6",
    ),
    (
        {"metadatas": [{"k": "v" * 13}]},
        "'Size of metadata dictionary value (bytes)' … 13 exceeds limit of 12",
    ),
    (
        {"metadatas": [{f"k{n}": n for n in range(4)}]},
        "'Number of metadata dictionary keys' … 4 exceeds limit of 3",
    ),
]


@pytest.fixture(scope="module")
def cloud(servers: Servers) -> Iterator[CloudStandIn]:
    """A stand-in with the published quotas and three shards."""
    with CloudStandIn(servers.primary.url, shards=3) as cloud:
        yield cloud


@pytest.fixture
def official(cloud: CloudStandIn) -> Iterator[ClientAPI]:
    """The official client of the Cloud, which knows nothing but the token."""
    client = cloud_client(cloud)
    yield client
    for collection in client.list_collections():
        client.delete_collection(collection.name)
    close_client(client)


def refusal_of(act: Callable[[], object]) -> str:
    """The words with which the official client says that an act was refused."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- its classes are no promise
        act()
    return str(caught.value)


def test_the_token_is_enough(cloud: CloudStandIn, official: ClientAPI) -> None:
    """The official Cloud client finds tenant and database by the token, and an index of SPANN."""
    assert (official.tenant, official.database) == (cloud.tenant, "main")
    made = official.create_collection("found", embedding_function=None)
    made.add(ids=["a"], embeddings=[1.0, 2.0], documents=["text"])
    assert official.get_collection("found", embedding_function=None).count() == 1
    assert made.query(query_embeddings=[1.0, 2.0], n_results=1)["ids"] == [["a"]]
    index: Any = made.configuration
    assert (index["spann"]["space"], index.get("hnsw")) == ("l2", None)


def test_without_the_token_nothing_is_said(cloud: CloudStandIn, official: ClientAPI) -> None:
    """Another token is refused, and so is another tenant with the right token."""
    cloud.token = "ck-new"
    refused = refusal_of(official.count_collections)
    cloud.token = TOKEN
    assert "Permission denied" in refused
    assert official.count_collections() == 0
    for path in ("/api/v2/tenants/default_tenant", "/api/v2/tenants"):
        answer = cloud.fault_for(asked("GET", path))
        assert isinstance(answer, Answer)
        assert answer.status == 403


def test_a_write_and_a_read_have_three_hundred_records(official: ClientAPI) -> None:
    """One more is refused in Chroma's words; a read without a limit gets as many as allowed."""
    made = official.create_collection("many", embedding_function=None)
    rows = vectors(301, 4)
    said = "Quota exceeded: 'Number of records' exceeded quota limit for action 'Add': "
    added = refusal_of(lambda: made.add(ids=[f"r{n}" for n in range(301)], embeddings=rows))
    assert f"{said}current usage of 301 exceeds limit of 300" in added
    for at in range(0, 700, 100):
        made.add(ids=[f"r{n}" for n in range(at, at + 100)], embeddings=rows[:100])
    assert len(made.get()["ids"]) == 300
    assert "'Limit value' exceeded quota" in refusal_of(lambda: made.get(limit=301))
    assert len(made.get(ids=[f"r{n}" for n in range(700)])["ids"]) == 300


def test_records_come_shard_by_shard(official: ClientAPI) -> None:
    """Pages join to all records, in an order that is not that of insertion."""
    made = official.create_collection("shards", embedding_function=None)
    ids = [f"r{n}" for n in range(50)]
    made.add(ids=ids, embeddings=vectors(50, 4), documents=[f"text of {name}" for name in ids])
    pages = [made.get(limit=20, offset=at) for at in (0, 20, 40)]
    listed = [name for page in pages for name in page["ids"]]
    texts = [text for page in pages for text in page["documents"] or []]
    assert listed != ids
    assert sorted(listed) == sorted(ids)
    assert texts == [f"text of {name}" for name in listed]


def test_each_published_size_is_enforced(servers: Servers) -> None:
    """What is too long, too wide or too many is refused, and nothing of its request is kept."""
    with CloudStandIn(servers.primary.url, quotas=SMALL) as cloud:
        client = cloud_client(cloud)
        made = client.create_collection("sizes", embedding_function=None)
        for fields, words in TOO_MUCH:
            kind, numbers = words.split(" … ")
            said = refusal_of(lambda more=fields: made.upsert(**(PLAIN | more)))  # type: ignore[misc]
            assert f"{kind} exceeded quota limit for action 'Upsert'" in said
            assert numbers in said
        assert made.count() == 0
        named = refusal_of(lambda: client.create_collection("n" * 21, embedding_function=None))
        assert "'Name size (bytes)' exceeded quota limit for action 'Create Collection'" in named
        client.delete_collection("sizes")
        close_client(client)


def test_only_ten_requests_at_a_time_are_taken(cloud: CloudStandIn) -> None:
    """The eleventh read of a collection gets 429; its writes and other collections do not."""
    begun = [asked("GET", records_path(cloud, "one", "count")) for _ in range(11)]
    taken = [cloud.fault_for(request) for request in begun]
    assert taken[:10] == [None] * 10
    assert isinstance(taken[10], Answer)
    assert (taken[10].status, json.loads(taken[10].body)["message"]) == (429, BUSY)
    assert cloud.fault_for(asked("POST", records_path(cloud, "one", "delete"))) is None
    assert cloud.fault_for(asked("GET", records_path(cloud, "other", "count"))) is None


def asked(method: str, path: str) -> Request:
    """A request with the right token."""
    return Request(method, path, {"X-Chroma-Token": TOKEN}, b"", 0)


def records_path(cloud: CloudStandIn, collection: str, action: str) -> str:
    place = f"/api/v2/tenants/{cloud.tenant}/databases/main"
    return f"{place}/collections/{collection}/{action}"

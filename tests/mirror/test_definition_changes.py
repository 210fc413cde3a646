"""What may change of a collection's definition later, on either side: one request mends it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from chromasync.reports import Outcome
from tests.support.rest import Rest
from tests.support.stage import Stage, fill
from tests.support.writes import watched

FUNCTION = {"type": "known", "name": "default", "config": {}}
NONE = ({"type": "legacy"}, {"type": "unknown"}, None)
"""How a server says that nobody named an embedding function."""


def function_of(rest: Rest) -> Any:
    return rest.collections()["docs"]["configuration_json"]["embedding_function"]


def index_of(rest: Rest) -> dict[str, Any]:
    """The settings of the index as the schema tells them, which knows more of them."""
    types = rest.collections()["docs"]["schema"]["keys"]["#embedding"]["float_list"]
    found: dict[str, Any] = types["vector_index"]["config"]["hnsw"]
    return found


def sync_by_one_change(stage: Stage) -> None:
    """One cycle sends one change of a collection and no record; the next one nothing."""
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync().outcome is Outcome.IDENTICAL
    assert writes.to_records == []
    assert [method for method, _ in writes.to_collections] == ["PUT"]
    stage.assert_quiet()
    assert stage.verify().exit_code == 0


@pytest.mark.long
@pytest.mark.parametrize("word", ["legacy", "unknown"])
def test_an_embedding_function_that_is_taken_back(
    stage: Stage, on_primary: Rest, on_replica: Rest, word: str
) -> None:
    """Named, and later named no more: the replica's clients must not go on embedding with it."""
    on_primary.create(configuration={"hnsw": {"space": "l2"}, "embedding_function": FUNCTION})
    on_primary.write("add", ids=["a"], embeddings=[[1.0, 2.0]])
    stage.sync()
    assert function_of(on_replica) == FUNCTION
    on_primary.modify("docs", new_configuration={"embedding_function": {"type": word}})
    sync_by_one_change(stage)
    assert function_of(on_replica) in NONE


def test_an_embedding_function_that_only_the_replica_names(
    stage: Stage, on_primary: Rest, on_replica: Rest
) -> None:
    """An adopted collection is a difference when its clients would embed in another way."""
    on_primary.create(configuration={"hnsw": {"space": "l2"}})
    on_replica.create(configuration={"hnsw": {"space": "l2"}, "embedding_function": FUNCTION})
    assert stage.verify().exit_code == 1
    sync_by_one_change(stage)
    assert function_of(on_replica) in NONE


def test_a_changed_batch_size_of_the_index(
    stage: Stage, on_primary: Rest, on_replica: Rest
) -> None:
    """Only the schema tells it; it is carried into a new collection and into a living one."""
    on_primary.create(configuration={"hnsw": {"space": "l2", "batch_size": 50}})
    fill(stage.primary.get_collection("docs", embedding_function=None), 5)
    stage.sync()
    assert index_of(on_replica)["batch_size"] == 50
    on_primary.modify("docs", new_configuration={"hnsw": {"batch_size": 77, "ef_search": 20}})
    sync_by_one_change(stage)
    assert (index_of(on_replica)["batch_size"], index_of(on_replica)["ef_search"]) == (77, 20)


@pytest.mark.long
@pytest.mark.parametrize("tenant", ["über mieter", "a/b c", "T%20T", "new\nline", "x?y#z"])
def test_a_tenant_of_any_name(stage: Stage, tenant: str) -> None:
    """Chroma lets a tenant be named at will; paths stay whole, and the replica's is made alike."""
    place = f"/api/v2/tenants/{quote(tenant, safe='')}/databases"
    url = stage.servers.primary.url
    name = f"{stage.database}-of-tenant"
    httpx2.post(f"{url}/api/v2/tenants", json={"name": tenant}).raise_for_status()
    httpx2.post(url + place, json={"name": name}).raise_for_status()
    made = httpx2.post(f"{url}{place}/{name}/collections", json={"name": "docs"}).json()
    path = f"{place}/{name}/collections/{made['id']}"
    added = {"ids": ["a\nb"], "embeddings": [[1.0]]}
    httpx2.post(f"{url}{path}/add", json=added).raise_for_status()
    where = {"SYNC_TENANTS": tenant, "SYNC_DATABASES": name}
    assert stage.sync(**where).counts.inserted == 1
    stage.assert_quiet(**where)
    (copied,) = httpx2.get(f"{stage.servers.replica.url}{place}/{name}/collections").json()
    assert (copied["name"], copied["tenant"], copied["database"]) == ("docs", tenant, name)

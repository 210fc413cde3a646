"""The transport on Chroma Cloud, by its published behaviour: tenant, cut answers, refused ids."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from chromasync.chroma import ChromaWriter
from chromasync.definition import effective
from chromasync.errors import AccessRefused, Conflict, NotFound
from chromasync.lab.proxy import RecordingProxy, ResetAfter
from chromasync.model import Collection, Space
from tests.server.transport_samples import (
    DATABASE,
    TENANT,
    close_endpoints,
    definition,
    reader,
    records,
    writer,
)
from tests.support.cloud import TOKEN, CloudStandIn, Quotas
from tests.support.stage import Servers

_used = close_endpoints
IDENTITY = "/api/v2/auth/identity"


@pytest.fixture
def cloud(servers: Servers) -> Iterator[CloudStandIn]:
    """A stand-in with one empty database."""
    with CloudStandIn(servers.replica.url) as cloud:
        yield cloud


def made_in(cloud: CloudStandIn, count: int) -> tuple[ChromaWriter, Collection, list[str]]:
    """A writer, a collection, and the ids of its records."""
    at = writer(cloud.url, token=TOKEN)
    made = at.create_collection(definition(database="main"))
    sent = records([f"id-{n:03}" for n in range(count)])
    for start in range(0, count, 300):
        at.upsert(made, sent.take(range(start, min(start + 300, count))))
    return at, made, sent.ids


def asked_identity(proxy: RecordingProxy) -> int:
    return sum(request.path == IDENTITY for request in proxy.requests)


@pytest.mark.parametrize("cuts", [False, True], ids=["refuses", "cuts"])
def test_no_record_is_missed_in_a_capped_answer(cloud: CloudStandIn, cuts: bool) -> None:
    """Asked for 700 records, a fresh process gets all, whether the server refuses or just cuts."""
    _, made, ids = made_in(cloud, 700)
    cloud.cuts = cuts
    absent = ["not-there", *(f"gone-{n}" for n in range(20))]
    at = reader(cloud.url, token=TOKEN)
    assert sorted(at.read(made, [*ids, *absent]).ids) == ids
    assert at.read(made, absent).ids == []
    assert cloud.refused[422] == (0 if cuts else 1)


def test_the_tenant_of_the_token_stands_for_the_default_one(cloud: CloudStandIn) -> None:
    """Lists, creations and records go to that tenant; what is given back is of the default one."""
    at = writer(cloud.url, token=TOKEN)
    at.ensure_database(TENANT, "second")
    made = at.create_collection(definition(database="second"))
    assert at.list_databases(TENANT) == ["main", "second"]
    assert at.token_tenant == cloud.tenant
    assert [c.tenant for c in at.list_collections(TENANT, "second")] == [TENANT]
    assert (made.tenant, at.count(made)) == (TENANT, 0)
    assert asked_identity(cloud) == 1
    named = reader(cloud.url, token=TOKEN)
    assert [c.tenant for c in named.list_collections(cloud.tenant, "second")] == [cloud.tenant]
    assert (named.token_tenant, asked_identity(cloud)) == ("", 1)


def test_many_threads_at_once_find_the_tenant(cloud: CloudStandIn) -> None:
    """Each of them gets its answer, whichever of them has looked the tenant up."""
    at = reader(cloud.url, token=TOKEN)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(at.list_databases, [TENANT] * 8))
    assert found == [["main"]] * 8


def test_a_server_with_a_default_tenant_is_not_asked_for_it(servers: Servers) -> None:
    """What it has is enough; what it has not shows the first time, and then no more."""
    with RecordingProxy(servers.replica.url) as proxy:
        at = reader(proxy.url, token=TOKEN)
        assert DATABASE in at.list_databases(TENANT)
        assert at.list_collections(TENANT, "missing") == []
        assert asked_identity(proxy) == 0
        other = reader(proxy.url, token=TOKEN)
        gone = Collection("00000000-0000-4000-8000-000000000000", "gone", TENANT, DATABASE)
        for _ in range(2):
            with pytest.raises(NotFound):
                other.count(gone)
        assert (asked_identity(proxy), other.token_tenant) == (1, "")


def test_a_wrong_token_is_told_as_before(cloud: CloudStandIn) -> None:
    """The first refusal is the error; that of the identity settles nothing."""
    at = reader(cloud.url, token="ck-wrong")
    with pytest.raises(AccessRefused, match="Permission denied"):
        at.list_databases(TENANT)
    cloud.token = "ck-wrong"
    assert at.list_databases(TENANT) == ["main"]


def test_ids_that_are_too_long_to_exist_do_no_harm(cloud: CloudStandIn) -> None:
    """A server that refuses requests with such an id has no such record; the others are served."""
    at, made, ids = made_in(cloud, 5)
    long = ["x" * 129, "é" * 65]
    assert sorted(at.read(made, [*long, *ids]).ids) == ids
    assert at.read(made, long).ids == []
    other = writer(cloud.url, token=TOKEN)
    other.delete(made, [*long, *ids[:3]])
    assert at.count(made) == 2
    assert cloud.refused[422] == 2


def test_a_collection_is_recognised_after_its_answer_was_lost(cloud: CloudStandIn) -> None:
    """It has a SPANN index instead of the HNSW one that was asked for, and another distance not."""
    at = writer(cloud.url, token=TOKEN)
    asked: dict[str, Any] = {"hnsw": {"space": "cosine", "ef_construction": 50}}
    wanted = definition(database="main", configuration=asked)
    assert at.list_databases(TENANT) == ["main"]
    cloud.fault = lambda r: ResetAfter() if r.path.endswith("/collections") else None
    made = at.create_collection(wanted)
    assert effective(made).space is Space.COSINE
    with pytest.raises(Conflict):
        at.create_collection(replace(wanted, configuration={"hnsw": {"space": "ip"}}))


def test_a_list_of_collections_is_read_in_the_pages_that_a_server_gives(servers: Servers) -> None:
    """Three collections at a time join to all seven, each once."""
    with CloudStandIn(servers.replica.url, quotas=Quotas(results=3)) as cloud:
        at = writer(cloud.url, token=TOKEN)
        names = [f"things{n}" for n in range(7)]
        for name in names:
            at.create_collection(definition(name, database="main"))
        listed = at.list_collections(TENANT, "main")
        assert sorted(c.name for c in listed) == names

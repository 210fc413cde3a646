"""From and to Chroma Cloud, by its published behaviour: real servers behind the stand-in."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chromasync.lab.proxy import Request
from chromasync.model import MirrorStatus
from chromasync.reports import Outcome
from tests.support.cloud import TOKEN, WRITES, CloudStandIn, cloud_client
from tests.support.stage import (
    Servers,
    Stage,
    add_plain,
    client_of,
    close_client,
    fill,
    vectors,
)
from tests.support.writes import action_of, is_of_mark

pytestmark = pytest.mark.usefixtures("short_waits")

MOST = 300
"""Records in one write, and in one answer."""
_numbers = itertools.count()

Make = Callable[..., tuple[Stage, CloudStandIn]]


@pytest.fixture
def from_cloud(servers: Servers, tmp_path: Path) -> Iterator[Make]:
    """Makes a stage whose primary is the stand-in; nobody has written to it through the program."""
    with ExitStack() as stack:

        def make(**options: Any) -> tuple[Stage, CloudStandIn]:
            database = f"from-cloud{next(_numbers)}"
            cloud = CloudStandIn(servers.primary.url, databases=[database], **options)
            stack.enter_context(cloud)
            seen = Servers(servers.primary, servers.replica, cloud, servers.replica_proxy)
            stage = Stage(seen, tmp_path, database)
            stack.callback(stage.close)
            close_client(stage.primary)
            stage.primary = client_of(servers.primary.url, database, cloud.tenant)
            stage.overrides["PRIMARY_TOKEN"] = TOKEN
            return stage, cloud

        yield make


@pytest.fixture
def to_cloud(servers: Servers, tmp_path: Path) -> Iterator[Make]:
    """Makes a stage whose replica is the stand-in."""
    with ExitStack() as stack:

        def make(**options: Any) -> tuple[Stage, CloudStandIn]:
            database = f"to-cloud{next(_numbers)}"
            cloud = stack.enter_context(CloudStandIn(servers.replica.url, databases=[], **options))
            seen = Servers(servers.primary, servers.replica, servers.primary_proxy, cloud)
            stage = Stage(seen, tmp_path, database)
            stack.callback(stage.close)
            close_client(stage.replica)
            stage.replica = client_of(servers.replica.url, database, cloud.tenant)
            stage.overrides["REPLICA_TOKEN"] = TOKEN
            return stage, cloud

        yield make


def ids(first: int, count: int) -> list[str]:
    return [f"r{n}" for n in range(first, first + count)]


def size_of(request: Request) -> int:
    """How many records a request writes or asks for."""
    body = json.loads(request.body or b"{}")
    return int(body.get("limit") or len(body.get("ids") or []))


def refusals(requests: Iterable[Request], *actions: str) -> list[int]:
    """The sizes of the requests that were refused for a quota."""
    return [size_of(r) for r in requests if r.status == 422 and action_of(r) in actions]


def assert_learned(requests: Iterable[Request], *actions: str) -> None:
    """After the first refusal, no request of one process is larger than the quota."""
    sizes = [(r.status, size_of(r)) for r in requests if action_of(r) in actions]
    first = next((at for at, (status, _) in enumerate(sizes) if status == 422), len(sizes))
    assert [size for _, size in sizes[first + 1 :] if size > MOST] == []


@pytest.mark.long
def test_a_copy_from_the_cloud_follows_it(from_cloud: Make) -> None:
    """Tenant by the token, three shards, additions, changes and deletes: identical each time."""
    stage, cloud = from_cloud(shards=3)
    stage.overrides |= {"SYNC_WORKERS": "1", "SYNC_MAX_DELETE": "1000"}
    client = cloud_client(cloud)
    cosine: Any = {"spann": {"space": "cosine"}}
    client.create_collection("docs", embedding_function=None, configuration=cosine)
    close_client(client)
    docs = stage.primary.get_collection("docs", embedding_function=None)
    fill(docs, 700)
    cloud.reset()
    assert stage.sync().counts.inserted == 700
    stage.assert_identical()
    index: Any = stage.on_replica().configuration
    assert index["hnsw"]["space"] == "cosine"
    assert [action_of(r) for r in cloud.requests].count("identity") == 1
    assert (cloud.refused[403], len(refusals(cloud.requests, "get"))) == (1, 1)
    assert_learned(cloud.requests, "get")
    assert stage.assert_quiet().outcome is Outcome.IDENTICAL
    fill(docs, 40, start=700)
    docs.update(ids=ids(0, 40), metadatas=[{"n": -1}] * 40)
    docs.delete(ids=ids(300, 350))
    report = stage.sync(full=True)
    assert (report.counts.inserted, report.counts.updated, report.counts.deleted) == (40, 40, 350)
    stage.assert_identical()
    stage.assert_quiet()
    assert stage.verify().exit_code == 0
    assert cloud.writes() == []


def test_an_answer_that_is_cut_without_a_word_loses_nothing(from_cloud: Make) -> None:
    """A server that gives 300 records when more were asked for is asked again for the others."""
    stage, cloud = from_cloud(cuts=True)
    stage.create(count=500)
    assert stage.sync().counts.inserted == 500
    stage.assert_identical()
    assert cloud.refused[422] == 0


@pytest.mark.long
def test_a_copy_to_the_cloud_is_quarantined_record_by_record(to_cloud: Make) -> None:
    """What fits is identical, in the tenant of the token; what breaks a quota is named with it."""
    stage, cloud = to_cloud()
    stage.overrides |= {"SYNC_WORKERS": "1", "SYNC_MAX_DELETE": "1000"}
    docs = stage.create(count=700)
    bad: dict[str, dict[str, Any]] = {
        "long-document": {"documents": ["x" * 16_385]},
        "long-value": {"metadatas": [{"text": "y" * 8_183}]},
        "long-key": {"metadatas": [{"k" * 37: 1}]},
        "many-keys": {"metadatas": [{f"k{n}": n for n in range(33)}]},
        "long-uri": {"uris": ["u" * 257]},
        "l" * 129: {},
    }
    for name, fields in bad.items():
        docs.add(ids=[name], embeddings=vectors(1), **fields)
    report = stage.sync()
    assert report.counts.inserted == 700, report
    reasons = {one.record_id: one.reason for one in report.quarantined}
    assert reasons.keys() == bad.keys()
    assert all("Quota exceeded" in reason for reason in reasons.values()), reasons
    assert "'Document size (bytes)'" in reasons["long-document"]
    assert_learned(cloud.requests, *WRITES)
    before = cloud.writes()
    assert stage.sync().quarantined == report.quarantined
    assert [r for r in cloud.writes()[len(before) :] if not is_of_mark(r)] == []
    docs.delete(ids=[*bad, *ids(0, 320)])
    docs.update(ids=["r400"], metadatas=[{"n": -1, "name": None}])
    assert stage.sync(full=True).outcome is Outcome.IDENTICAL
    stage.assert_identical()
    assert stage.verify().exit_code == 0
    assert {r.status for r in cloud.requests if is_of_mark(r)} <= {200, 201}


@pytest.mark.long
def test_all_keys_of_many_records_may_be_renamed(to_cloud: Make) -> None:
    """Twenty keys go and twenty come, in writes that name no more than 32 of them."""
    stage, cloud = to_cloud()
    docs = stage.create()
    old, new = ({f"{word}{n}": n for n in range(20)} for word in ("old", "new"))
    docs.add(ids=ids(0, 30), embeddings=vectors(30), metadatas=[old] * 30)
    stage.sync()
    docs.update(ids=ids(0, 30), metadatas=[dict.fromkeys(old) | new] * 30)
    assert stage.sync_and_judge(SYNC_SCRUB_BUDGET="99%").counts.updated == 30
    assert refusals(cloud.requests, "update") == []


def test_a_target_on_the_cloud_is_in_the_tenant_of_the_token(to_cloud: Make) -> None:
    """A template with another database leads there, with or without the tenant by its name."""
    stage, cloud = to_cloud()
    stage.create(count=5)
    for tenant in (cloud.tenant, "{tenant}"):
        stage.overrides["SYNC_TARGET"] = f"{tenant}/prod-{stage.database}/{{name}}"
        assert stage.sync().outcome is Outcome.IDENTICAL
    there = client_of(stage.servers.replica.url, f"prod-{stage.database}", cloud.tenant)
    assert there.get_collection("docs", embedding_function=None).count() == 5
    assert stage.replica.list_collections() == []
    close_client(there)


@pytest.mark.parametrize("side", ["from", "to"])
def test_a_cloud_that_asks_to_slow_down_is_not_blamed_on_records(
    from_cloud: Make, to_cloud: Make, side: str
) -> None:
    """Every third new request gets 429: each is repeated, and nothing is quarantined."""
    stage, cloud = (from_cloud if side == "from" else to_cloud)()
    seen: set[tuple[str, bytes]] = set()
    stage.create(count=150)

    def throttle(request: Request) -> bool:
        before = len(seen)
        seen.add((request.path, request.body))
        return len(seen) > before and len(seen) % 3 == 0

    cloud.throttle = throttle
    report = stage.sync()
    assert (report.outcome, report.quarantined) == (Outcome.IDENTICAL, ())
    assert cloud.refused[429] > 1
    cloud.throttle = lambda _: False
    stage.assert_identical()


def test_a_name_that_the_cloud_refuses_stops_no_other(to_cloud: Make) -> None:
    """A collection and a database have too long names: both show it, the other is identical."""
    stage, _ = to_cloud()
    stage.create("fits", count=3)
    stage.create("n" * 129, count=3)
    inner = client_of(stage.servers.primary.url, f"{stage.database}-{'d' * 120}")
    add_plain(inner.create_collection("inside", embedding_function=None), 3)
    report = stage.sync(SYNC_DATABASES=f"{stage.database},{inner.database}")
    close_client(inner)
    states = {c.name: c.status for c in report.collections}
    refused = dict.fromkeys(["inside", "n" * 129], MirrorStatus.ERROR)
    assert states == refused | {"fits": MirrorStatus.IDENTICAL}
    messages = [c.message for c in report.collections if c.status is MirrorStatus.ERROR]
    assert all("'Name size (bytes)' exceeded quota limit" in message for message in messages)
    assert report.warnings[0].startswith(f"Database {inner.database!r} was not created: ")


def test_a_wrong_token_is_refused_at_once(from_cloud: Make) -> None:
    """One sentence says that the server refuses access; nothing is looked up or written."""
    stage, cloud = from_cloud()
    done = stage.command("sync", PRIMARY_TOKEN="ck-wrong")
    assert done.returncode != 0
    assert "refuses access" in done.stderr
    assert cloud.refused == {401: 2}

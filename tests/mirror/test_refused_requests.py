"""Servers with quotas, and servers that refuse one thing: the rest of a cycle goes through."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chromasync.chroma.limits import QUOTA_RECORDS
from chromasync.lab.proxy import Answer, Fault, Request
from chromasync.model import HoldKind, MirrorStatus
from chromasync.reports import Outcome
from tests.support.stage import Stage, drop, fill, vectors
from tests.support.writes import action_of, watched

pytestmark = pytest.mark.usefixtures("short_waits")

QUOTA = Answer(422, b'{"error":"ChromaError","message":"Quota exceeded: too many records"}')
TOO_LARGE = Answer(413, b"Payload too large")
REFUSED = Answer(400, b'{"error":"InvalidArgumentError","message":"refused on purpose"}')
SMALL_BODY = 70_000


def size_of(request: Request) -> int:
    """How many records a request writes or asks for."""
    body: dict[str, Any] = json.loads(request.body or b"{}")
    asked = body.get("ids")
    return len(asked) if asked is not None else int(body.get("limit") or 0)


def limit_records(stage: Stage) -> None:
    """Both sides take and give at most 300 records at a time, as Chroma Cloud does."""

    def fault(request: Request) -> Fault | None:
        limited = action_of(request) in ("get", "add", "upsert", "update", "delete")
        return QUOTA if limited and size_of(request) > QUOTA_RECORDS else None

    stage.servers.primary_proxy.fault = stage.servers.replica_proxy.fault = fault


def refuse_drops(stage: Stage) -> None:
    """The replica refuses to drop any collection."""

    def fault(request: Request) -> Fault | None:
        return REFUSED if request.method == "DELETE" else None

    stage.servers.replica_proxy.fault = fault


def refuse_names(stage: Stage, *names: str) -> None:
    """The replica refuses to give a collection one of these names."""

    def fault(request: Request) -> Fault | None:
        wanted = json.loads(request.body or b"{}").get("new_name") if request.body else None
        return REFUSED if request.method == "PUT" and wanted in names else None

    stage.servers.replica_proxy.fault = fault


def ids(first: int, count: int) -> list[str]:
    return [f"r{n}" for n in range(first, first + count)]


@pytest.mark.long
def test_quotas_on_both_sides_are_kept_to(stage: Stage) -> None:
    """A copy, changes and deletes go through in parts, each learned by a process of its own."""
    stage.overrides["SYNC_MAX_DELETE"] = "1000"
    limit_records(stage)
    docs = stage.create(count=1500)
    assert stage.sync_and_judge().counts.inserted == 1500
    docs.update(ids=ids(0, 700), metadatas=[{"n": -1}] * 700)
    assert stage.sync_and_judge().counts.updated == 700
    docs.delete(ids=ids(300, 400))
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync_and_judge().counts.deleted == 400
    assert max(size_of(request) for request in writes.to_records) > QUOTA_RECORDS
    assert stage.verify().exit_code == 0
    assert stage.plan().exit_code == 0


@pytest.mark.long
def test_a_collection_larger_than_the_quota_is_dropped(stage: Stage) -> None:
    """Approved, it goes; its records are deleted first, in parts that the replica takes."""
    for name in ("other", "more"):
        stage.create(name, count=2)
    stage.create(count=700)
    stage.sync()
    drop(stage.primary, "docs")
    stage.sync()
    (hold,) = stage.sync().holds
    assert hold.reason == "700 deletes are more than the limit of 100 for this collection"
    stage.approve("docs")
    limit_records(stage)
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 700)
    stage.assert_identical()


def test_deletes_of_long_ids_keep_to_the_largest_body(stage: Stage) -> None:
    """A body of ids that is refused for its size is sent in smaller ones."""

    def fault(request: Request) -> Fault | None:
        return TOO_LARGE if request.body_size > SMALL_BODY else None

    names = [f"{n}-{'long' * 250}" for n in range(90)]
    docs = stage.create()
    docs.add(ids=names, embeddings=vectors(90, 2))
    for name in ("other", "more"):
        stage.create(name, count=2)
    stage.sync()
    fill(stage.primary.get_collection("other", embedding_function=None), 1, start=2)
    stage.sync()
    docs.delete(ids=names)
    stage.servers.replica_proxy.fault = fault
    (hold,) = stage.sync().holds
    assert (hold.kind, hold.count, hold.unconfirmed) == (HoldKind.DELETES, 90, True)
    assert stage.sync_and_judge().counts.deleted == 90


@pytest.mark.long
@pytest.mark.parametrize("approved", [False, True])
def test_a_drop_that_is_refused_stops_nothing_else(stage: Stage, approved: bool) -> None:
    """The others are identical all the same, an approval is kept, and the next cycle tries."""
    gone = ["goes", "went"] if approved else ["goes"]
    kept = ["left", "stays"]
    made = {name: stage.create(name, count=6) for name in [*gone, *kept]}
    stage.sync()
    for name in gone:
        drop(stage.primary, name)
    holds = stage.sync().holds
    assert [(h.collection_name, h.unconfirmed) for h in holds] == [(n, not approved) for n in gone]
    if approved:
        assert holds[0].reason == "2 of 4 collections are gone or empty at once"
        stage.approve()
    refuse_drops(stage)
    made["stays"].update(ids=["r1"], metadatas=[{"n": -1}])
    report = stage.sync()
    assert (report.outcome, report.counts.updated) == (Outcome.FAILED, 1)
    states = {c.name: c.status for c in report.collections}
    wanted = dict.fromkeys(gone, MirrorStatus.ERROR) | dict.fromkeys(kept, MirrorStatus.IDENTICAL)
    assert states == wanted
    approvals = {h.kind: h.approved_count is not None for h in stage.status().holds}
    assert approvals == {HoldKind.DROP: approved}
    stage.servers.replica_proxy.fault = None
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL, report.holds
    assert sorted(c.name for c in stage.replica.list_collections()) == kept
    stage.assert_identical()
    stage.assert_quiet()


def test_a_refused_rename_stops_nothing_else(stage: Stage) -> None:
    """The collection's records follow under its old name, the others too; it shows its error."""
    docs, other = stage.create(count=5), stage.create("other", count=5)
    stage.sync()
    refuse_names(stage, "new-name")
    docs.modify(name="new-name")
    for collection in (docs, other):
        fill(collection, 1, start=5)
    report = stage.sync()
    assert report.outcome is Outcome.FAILED
    states = {c.name: c.status for c in report.collections}
    assert states == {"new-name": MirrorStatus.ERROR, "other": MirrorStatus.IDENTICAL}
    assert "refused on purpose" in report.collections[0].message
    assert [stage.on_replica(name).count() for name in ("docs", "other")] == [6, 6]
    stage.servers.replica_proxy.fault = None
    assert stage.sync_and_judge().outcome is Outcome.IDENTICAL


def test_an_old_collection_keeps_its_name_while_the_new_one_is_refused_it(stage: Stage) -> None:
    """Neither is without a name that people know, and nothing is dropped."""
    stage.create(count=30)
    stage.create("other", count=2)
    stage.sync()
    drop(stage.primary, "docs")
    stage.create(count=7, space="l2")
    (hold,) = stage.sync().holds
    assert (hold.kind, hold.count, hold.unconfirmed) == (HoldKind.REPLACE, 23, True)
    old_id = str(stage.on_replica("docs").id)
    refused: list[str] = []

    def fault(request: Request) -> Fault | None:
        wants = request.method == "PUT" and b'"new_name":"docs"' in (request.body or b"")
        if wants and not refused:
            refused.append(request.path)
            return REFUSED
        return None

    stage.servers.replica_proxy.fault = fault
    assert stage.sync().outcome is Outcome.FAILED
    assert refused
    assert (str(stage.on_replica("docs").id), stage.on_replica("docs").count()) == (old_id, 30)
    assert stage.sync_and_judge().outcome is Outcome.IDENTICAL
    assert stage.on_replica("docs").count() == 7

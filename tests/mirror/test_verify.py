"""Both sides compared record by record, trusting nothing that was remembered."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from chromasync.lab.proxy import Fault, RecordingProxy, Request
from chromasync.ledger.digest import payload_digests
from chromasync.model import HoldKind, Records
from chromasync.reports import Outcome, Sigil, VerifiedCollection, VerifyReport
from tests.support.stage import TENANT, Stage, fill, vectors


@pytest.fixture
def docs(stage: Stage) -> Any:
    """The primary's collection of an identical pair of 40 records."""
    docs = stage.create(count=40, metadata={"made": "here"})
    stage.sync()
    return docs


def the(report: VerifyReport) -> VerifiedCollection:
    (collection,) = report.collections
    return collection


def findings(report: VerifyReport) -> set[tuple[Sigil, str | None, str]]:
    return {(f.sigil, f.record_id, f.what) for f in report.findings}


def once(proxy: RecordingProxy, when: Callable[[Request], bool], act: Callable[[], Any]) -> None:
    """Do `act` right before the first request that `when` tells is forwarded."""
    waiting = [act]

    def fault(request: Request) -> Fault | None:
        if waiting and when(request):
            waiting.pop()()
        return None

    proxy.fault = fault


def asks_for(record_id: str, *, only: bool = False) -> Callable[[Request], bool]:
    """A read by id of this record, of nothing else when `only`."""

    def when(request: Request) -> bool:
        ids = json.loads(request.body or b"{}").get("ids") or []
        return ids == [record_id] if only else record_id in ids

    return when


def lists_ids(request: Request) -> bool:
    return request.path.endswith("/get") and b'"ids"' not in request.body


# ---- what it finds ---------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_an_identical_pair_is_the_same(stage: Stage, space: str) -> None:
    """All records of all collections, with exit code 0, and no write."""
    stage.create(space=space, count=1100)
    stage.create("more", count=3)
    stage.sync()
    before = len(stage.replica_writes())
    report = stage.verify()
    assert (report.different, report.inconclusive, report.exit_code) == (0, 0, 0)
    assert sum(c.same for c in report.collections) == 1103
    assert report.findings == ()
    assert len(stage.replica_writes()) == before


def test_every_kind_of_difference_is_named(stage: Stage, docs: Any) -> None:
    """Missing, extra, and each field that can change, by record id."""
    replica = stage.on_replica()
    replica.delete(ids=["r0"])
    fill(replica, 1, start=900)
    replica.update(ids=["r1"], embeddings=vectors(1, seed=5))
    replica.update(ids=["r2"], documents=["forged"], embeddings=vectors(3)[2:])
    replica.update(ids=["r3"], metadatas=[{"n": 3.0}])
    replica.update(ids=["r4"], metadatas=[{"foreign": "key"}])
    replica.update(ids=["r5"], metadatas=[{"tags": None}])
    replica.update(ids=["r6"], uris=["file:///forged"])
    report = stage.verify()
    assert findings(report) == {
        (Sigil.MISSING, "r0", "the replica does not have it"),
        (Sigil.EXTRA, "r900", "the primary does not have it"),
        (Sigil.CHANGED, "r1", "embedding differs"),
        (Sigil.CHANGED, "r2", "document differs"),
        (Sigil.CHANGED, "r3", "metadata differs"),
        (Sigil.CHANGED, "r4", "metadata differs"),
        (Sigil.CHANGED, "r5", "metadata differs"),
        (Sigil.CHANGED, "r6", "uri differs"),
    }
    found = the(report)
    assert (found.same, found.missing, found.extra, found.changed) == (33, 1, 1, 6)
    assert (report.different, report.exit_code) == (8, 1)


def test_a_document_and_a_null_document_differ(stage: Stage) -> None:
    """Null is not the empty text, on either side."""
    docs = stage.create()
    docs.add(ids=["null", "empty"], embeddings=vectors(2), documents=None)
    docs.update(ids=["empty"], documents=[""], embeddings=vectors(2)[1:])
    stage.sync()
    assert stage.verify().different == 0
    replica = stage.on_replica()
    replica.update(ids=["null"], documents=[""], embeddings=vectors(1))
    assert findings(stage.verify()) == {(Sigil.CHANGED, "null", "document differs")}


def test_definitions_and_whole_collections_are_compared(stage: Stage, docs: Any) -> None:
    """Metadata of a collection, a distance, a collection on one side only."""
    stage.on_replica().modify(metadata={"made": "there"})
    fill(stage.replica.create_collection("extra", embedding_function=None), 2)
    stage.create("missing", count=3)
    stage.create("kind", space="ip")
    stage.replica.create_collection("kind", embedding_function=None)
    report = stage.verify()
    assert report.exit_code == 1
    by_name = {c.name: (c.missing, c.extra, c.definition_differs) for c in report.collections}
    assert by_name == {
        "docs": (0, 0, True),
        "extra": (0, 2, True),
        "missing": (3, 0, True),
        "kind": (0, 0, True),
    }
    assert {(f.collection, f.sigil) for f in report.findings} >= {
        ("docs", Sigil.CHANGED),
        ("extra", Sigil.EXTRA),
        ("missing", Sigil.MISSING),
        ("kind", Sigil.CHANGED),
    }


@pytest.mark.long
def test_the_command_tells_and_ends_as_documented(stage: Stage, docs: Any) -> None:
    """One line per finding with its sigil; 1 when different, 0 after the repair."""
    stage.on_replica().delete(ids=["r7"])
    different = stage.command("verify")
    assert different.returncode == 1
    assert '"r7": the replica does not have it' in different.stdout
    assert "Different: 1 difference in 40 records" in different.stdout
    repaired = stage.command("verify", "--repair", "--json")
    assert repaired.returncode == 0
    document = json.loads(repaired.stdout)
    assert (document["repaired"], document["different"]) == (True, 0)
    stage.assert_identical()


# ---- samples ---------------------------------------------------------------------------------


def test_a_sample_compares_its_share(stage: Stage) -> None:
    """Half of the records are compared, give or take; an extra id is found all the same."""
    stage.create(count=1000)
    stage.sync()
    report = stage.verify(percent=50)
    assert 400 < the(report).same < 600
    assert report.sample_percent == 50
    assert report.exit_code == 0
    replica = stage.on_replica()
    replica.update(
        ids=[f"r{n}" for n in range(1000)], metadatas=[{"foreign": 1} for _ in range(1000)]
    )
    fill(replica, 1, start=5000)
    report = stage.verify(percent=20)
    assert 130 < the(report).changed < 270
    assert (the(report).same, the(report).extra) == (0, 1)


# ---- repair, and the ledger that lies --------------------------------------------------------


def test_a_repair_mends_everything_and_says_so(stage: Stage, docs: Any) -> None:
    """Missing and changed records at once, extra ones when approved; without any, nothing."""
    assert not stage.verify(repair=True).repaired
    replica = stage.on_replica()
    replica.delete(ids=["r0", "r1"])
    fill(replica, 2, start=900)
    replica.update(ids=["r9"], metadatas=[{"n": None, "more": 1}])
    report = stage.verify(repair=True)
    assert report.repaired
    assert (report.different, report.exit_code, the(report).same) == (2, 4, 40)
    assert (the(report).missing, the(report).changed, the(report).extra) == (0, 0, 2)
    assert [(h.kind, h.count) for h in stage.status().holds] == [(HoldKind.SURPLUS, 2)]
    stage.approve("docs")
    report = stage.verify(repair=True)
    assert report.repaired
    assert (report.different, report.exit_code, the(report).same) == (0, 0, 40)
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_a_repair_goes_through_the_guards(stage: Stage, docs: Any) -> None:
    """Surplus beyond the limit stays, is reported as different, and waits for an approval."""
    stage.overrides["SYNC_MAX_DELETE"] = "1"
    fill(stage.on_replica(), 2, start=900)
    report = stage.verify(repair=True)
    assert report.repaired
    assert (report.different, report.exit_code) == (2, 4)
    assert report.repair is not None
    assert [(h.collection_name, h.count) for h in report.repair.holds] == [("docs", 2)]
    assert [h.count for h in stage.status().holds] == [2]
    told = stage.command("verify", "--repair")
    assert told.returncode == 4
    assert "deleting 2 records that the primary never had" in told.stdout
    assert f"chromasync approve {TENANT}/{stage.database}/docs" in told.stdout
    stage.approve()
    stage.sync()
    assert stage.verify().different == 0


@pytest.mark.long
def test_a_ledger_that_lies_is_found_out(stage: Stage, docs: Any) -> None:
    """It claims that the replica got a change which it never got: no cycle sees it, verify does."""
    docs.update(ids=["r7"], metadatas=[{"n": -7}])
    _claim_copied(stage, docs, "r7")
    stage.assert_quiet()
    report = stage.verify()
    assert findings(report) == {(Sigil.CHANGED, "r7", "metadata differs")}
    assert stage.verify(repair=True).different == 0
    stage.assert_identical()
    stage.assert_quiet()


def _claim_copied(stage: Stage, docs: Any, record_id: str) -> None:
    """Put the digest of the primary's present record into the ledger."""
    got = docs.get(ids=[record_id], include=["documents", "metadatas", "uris"])
    records = Records([record_id], got["documents"], got["metadatas"], got["uris"], None)
    digest = payload_digests(records)
    with stage.state() as state, closing(state.cursor()) as cursor:
        key, digests = cursor.execute(
            "SELECT chunk_id, payload_digests FROM sync_applied_digests"
        ).fetchone()
        row = int(record_id[1:])
        lying = digests[: 16 * row] + digest + digests[16 * row + 16 :]
        assert lying != digests
        cursor.execute(
            "UPDATE sync_applied_digests SET payload_digests = ? WHERE chunk_id = ?", (lying, key)
        )


# ---- writes that are under way ---------------------------------------------------------------


def test_a_record_that_changes_meanwhile_is_inconclusive(stage: Stage, docs: Any) -> None:
    """It differs at the first look and is another at the second: nothing can be said of it."""
    docs.update(ids=["r7", "r8"], metadatas=[{"n": -7}, {"n": -8}])
    once(
        stage.servers.primary_proxy,
        lambda request: asks_for("r7")(request) and not asks_for("r1")(request),
        lambda: docs.update(ids=["r7"], metadatas=[{"n": -77}]),
    )
    report = stage.verify()
    assert findings(report) == {
        (Sigil.INCONCLUSIVE, "r7", "it changed during the comparison"),
        (Sigil.CHANGED, "r8", "metadata differs"),
    }
    assert (report.different, report.inconclusive, report.exit_code) == (1, 1, 1)


def test_a_write_that_arrives_meanwhile_is_inconclusive(stage: Stage, docs: Any) -> None:
    """The replica catches up between the two looks, and only that is left: exit code 1."""
    docs.update(ids=["r7"], metadatas=[{"n": -7}])
    replica = stage.on_replica()
    once(
        stage.servers.replica_proxy,
        asks_for("r7", only=True),
        lambda: replica.update(ids=["r7"], metadatas=[{"n": -7}]),
    )
    report = stage.verify(repair=True)
    assert (report.different, report.inconclusive, report.exit_code) == (0, 1, 1)
    assert not report.repaired
    assert stage.verify().inconclusive == 0


def test_a_record_deleted_meanwhile_is_inconclusive(stage: Stage, docs: Any) -> None:
    """The primary listed it, and has it no more when it is read."""
    once(stage.servers.primary_proxy, asks_for("r7"), lambda: docs.delete(ids=["r7"]))
    report = stage.verify()
    assert findings(report) == {(Sigil.INCONCLUSIVE, "r7", "it was deleted during the comparison")}
    assert findings(stage.verify()) == {(Sigil.EXTRA, "r7", "the primary does not have it")}


def test_a_record_added_meanwhile_is_inconclusive(stage: Stage, docs: Any) -> None:
    """The replica has it already, the primary's list is older."""

    def add() -> None:
        fill(docs, 1, start=900)
        fill(stage.on_replica(), 1, start=900)

    once(stage.servers.replica_proxy, lists_ids, add)
    report = stage.verify()
    assert findings(report) == {(Sigil.INCONCLUSIVE, "r900", "it was added during the comparison")}


@pytest.mark.long
def test_random_damage_is_found_whole(stage: Stage) -> None:
    """Whatever is damaged, the counts are those of what was done."""
    chance = random.Random(11)
    stage.create(space="l2", count=300)
    stage.sync()
    replica = stage.on_replica()
    shuffled = chance.sample([f"r{n}" for n in range(300)], 60)
    lost, changed = shuffled[:25], shuffled[25:]
    replica.delete(ids=lost)
    replica.update(ids=changed, metadatas=[{"n": -1.5}] * len(changed))
    fill(replica, 17, start=4000)
    found = the(stage.verify())
    assert (found.missing, found.changed, found.extra) == (25, 35, 17)
    assert found.same == 240
    report = stage.sync(full=True)
    assert [(h.kind, h.count) for h in report.holds] == [(HoldKind.SURPLUS, 17)]
    found = the(stage.verify())
    assert (found.missing, found.changed, found.extra, found.same) == (0, 0, 17, 300)
    stage.approve("docs")
    assert stage.sync(full=True).outcome is Outcome.IDENTICAL
    assert stage.verify().exit_code == 0

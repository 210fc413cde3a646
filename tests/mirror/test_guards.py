"""Nothing is deleted by mistake: what is held, for how long, and what an approval lets through."""

from __future__ import annotations

import json

import pytest

from chromasync import faultpoints
from chromasync.errors import AccessRefused, StoreUnavailable
from chromasync.lab.proxy import Answer, Fault, Request
from chromasync.model import HoldKind, MirrorStatus
from chromasync.reports import CycleReport, Outcome
from tests.support.stage import Stage, drop, fill

BROKEN = Answer(500, b'{"error":"InternalError","message":"broken on purpose"}')
REFUSED = Answer(400, b'{"error":"InvalidArgumentError","message":"refused on purpose"}')
FORBIDDEN = Answer(403, b'{"error":"AuthError","message":"refused on purpose"}')


def ids(first: int, count: int) -> list[str]:
    return [f"r{n}" for n in range(first, first + count)]


def only_hold(report: CycleReport) -> tuple[str, HoldKind, int]:
    """Name, kind and count of the one hold of a held cycle."""
    assert report.outcome is Outcome.HELD
    assert report.exit_code == 4
    (hold,) = report.holds
    return hold.collection_name, hold.kind, hold.count


def break_collection(stage: Stage, name: str, answer: Answer = BROKEN) -> None:
    """Every read of this collection on the primary fails, by way of the proxy."""
    key = str(stage.primary.get_collection(name, embedding_function=None).id)

    def fault(request: Request) -> Fault | None:
        return answer if key in request.path else None

    stage.servers.primary_proxy.fault = fault


def break_listing(stage: Stage) -> None:
    """The primary refuses to list its collections."""

    def fault(request: Request) -> Fault | None:
        return FORBIDDEN if request.path.endswith("/collections") else None

    stage.servers.primary_proxy.fault = fault


def mend(stage: Stage) -> None:
    stage.servers.primary_proxy.fault = None


# ---- the delete guard ------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("setting", "count", "passes", "holds"),
    [("10%", 1200, 120, 109), ("20%", 250, 100, 101), ("7", 30, 7, 8), ("0", 9, 0, 1)],
)
def test_the_threshold_itself_passes_and_one_more_is_held(
    stage: Stage, setting: str, count: int, passes: int, holds: int
) -> None:
    """A percentage never means less than 100, a count means itself, and both are inclusive."""
    stage.overrides["SYNC_MAX_DELETE"] = setting
    docs = stage.create(count=count)
    stage.sync()
    if passes:
        docs.delete(ids=ids(0, passes))
        report = stage.sync()
        assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, passes)
        stage.assert_identical()
    docs.delete(ids=ids(passes, holds))
    report = stage.sync()
    assert only_hold(report) == ("docs", HoldKind.DELETES, holds)
    assert report.counts.deleted == 0
    assert stage.on_replica().count() == count - passes


def test_adds_and_updates_go_on_while_deletes_are_held(stage: Stage) -> None:
    """A hold stops deletes only, and report and status tell its count and reason."""
    stage.overrides["SYNC_MAX_DELETE"] = "5"
    docs = stage.create(count=40)
    stage.sync()
    docs.delete(ids=ids(0, 10))
    docs.update(ids=["r20"], metadatas=[{"name": "another"}])
    fill(docs, 3, start=100)
    report = stage.sync()
    assert only_hold(report) == ("docs", HoldKind.DELETES, 10)
    assert report.counts.inserted == 3
    assert report.counts.updated == 1
    assert report.collections[0].status is MirrorStatus.HELD
    assert report.collections[0].held == 10
    replica = stage.on_replica()
    assert (replica.get(ids=["r20"])["metadatas"] or [{}])[0]["name"] == "another"
    assert replica.count() == 43
    docs.delete(ids=["r102"])
    assert only_hold(stage.sync()) == ("docs", HoldKind.DELETES, 11)
    status = stage.status()
    assert status.exit_code == 4
    (hold,) = status.holds
    assert hold.count == 11
    assert hold.reason == "11 deletes are more than the limit of 5 for this collection"
    assert hold.held_at is not None


def test_an_approval_lets_through_once_and_only_what_was_counted(stage: Stage) -> None:
    """More deletes after the approval are held again; what was approved is not approved twice."""
    stage.overrides["SYNC_MAX_DELETE"] = "5"
    docs = stage.create(count=60)
    stage.sync()
    docs.delete(ids=ids(0, 10))
    stage.sync()
    (approved,) = stage.approve("docs")
    assert approved.count == 10
    docs.delete(ids=ids(10, 1))
    assert only_hold(stage.sync()) == ("docs", HoldKind.DELETES, 11)
    assert stage.on_replica().count() == 60
    stage.approve("docs")
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 11)
    stage.assert_identical()
    docs.delete(ids=ids(20, 6))
    assert only_hold(stage.sync()) == ("docs", HoldKind.DELETES, 6)


def test_an_approval_waits_for_a_cycle_that_can_read_the_primary(stage: Stage) -> None:
    """A read error in between neither deletes what was approved nor forgets the approval."""
    stage.overrides |= {"SYNC_MAX_DELETE": "5", "SYNC_CHUNK_SIZE": "20"}
    docs = stage.create(count=60)
    stage.sync()
    docs.delete(ids=ids(0, 10))
    stage.sync()
    stage.approve()
    break_collection(stage, "docs")
    report = stage.sync()
    assert report.outcome is Outcome.FAILED
    assert stage.on_replica().count() == 60
    mend(stage)
    assert stage.sync().counts.deleted == 10
    stage.assert_identical()


@pytest.mark.long
def test_the_command_line_shows_and_approves_what_is_held(stage: Stage) -> None:
    """`sync` and `status` end with 4 and say why; `approve` with a name or --all opens the way."""
    stage.overrides["SYNC_MAX_DELETE"] = "2"
    docs = stage.create(count=20)
    more = stage.create("more", count=20)
    stage.sync()
    docs.delete(ids=ids(0, 3))
    more.delete(ids=ids(0, 4))
    held = stage.command("sync", "--json")
    assert held.returncode == 4
    document = json.loads(held.stdout)
    assert document["outcome"] == "held"
    assert sorted(hold["count"] for hold in document["holds"]) == [3, 4]
    status = stage.command("status")
    assert status.returncode == 4
    assert "deleting 3 records that the primary no longer has" in status.stdout
    assert "3 deletes are more than the limit of 2" in status.stdout
    unknown = stage.command("approve", "nothing")
    assert unknown.returncode == 4
    assert "Nothing is held in a collection named 'nothing'" in unknown.stderr
    assert stage.command("approve", "docs").returncode == 0
    report = stage.sync()
    assert only_hold(report) == ("more", HoldKind.DELETES, 4)
    assert report.counts.deleted == 3
    assert stage.command("approve", "--all").returncode == 0
    stage.sync()
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.crewed
def test_a_hold_that_grew_since_someone_looked_is_not_approved_by_its_name(stage: Stage) -> None:
    """What a timer's `sync` prints is not what a person saw; `status` is."""
    stage.overrides["SYNC_MAX_DELETE"] = "2"
    docs = stage.create(count=60)
    stage.sync()
    docs.delete(ids=ids(0, 3))
    stage.command("sync")
    stage.command("status")
    docs.delete(ids=ids(3, 30))
    stage.command("sync")
    refused = stage.command("approve", "docs")
    assert refused.returncode == 4
    assert "is not what was shown: now it is 33" in refused.stderr
    assert stage.command("status").returncode == 4
    assert stage.command("approve", "docs").returncode == 0


@pytest.mark.long
@pytest.mark.parametrize("budget", ["0", "25%"])
@pytest.mark.parametrize(("first", "count"), [(0, 20), (5, 10), (90, 10)])
def test_a_hold_ends_by_itself_when_the_records_come_back(
    stage: Stage, budget: str, first: int, count: int
) -> None:
    """Whole chunks, parts of chunks, the newest records: added again, nothing is held any more."""
    stage.overrides |= {
        "SYNC_MAX_DELETE": "5",
        "SYNC_CHUNK_SIZE": "20",
        "SYNC_SCRUB_BUDGET": budget,
    }
    docs = stage.create(count=100)
    stage.sync()
    stage.create("later", count=1)
    stage.sync()
    docs.delete(ids=ids(first, count))
    assert only_hold(stage.sync()) == ("docs", HoldKind.DELETES, count)
    fill(docs, count, start=first, seed=1)
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL, report
    assert report.holds == ()
    assert report.counts.deleted == 0
    stage.assert_identical()


def test_a_read_error_stops_the_deletes_of_its_collection_alone(stage: Stage) -> None:
    """The broken collection keeps everything, the other one follows; later both are done."""
    broken, sound = stage.create("broken", count=20), stage.create("sound", count=20)
    stage.sync()
    broken.delete(ids=ids(0, 3))
    sound.delete(ids=ids(0, 2))
    break_collection(stage, "broken")
    report = stage.sync()
    assert report.outcome is Outcome.FAILED
    assert report.exit_code == 4
    states = {c.name: c.status for c in report.collections}
    assert states == {"broken": MirrorStatus.ERROR, "sound": MirrorStatus.IDENTICAL}
    assert report.counts.deleted == 2
    assert stage.on_replica("broken").count() == 20
    assert stage.on_replica("sound").count() == 18
    mend(stage)
    assert stage.sync().counts.deleted == 3
    stage.assert_identical()


def test_a_chunk_that_cannot_be_read_holds_the_deletes_of_the_others(stage: Stage) -> None:
    """Deletes found in one chunk wait while another chunk of the collection fails."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    docs = stage.create(count=60)
    stage.sync()
    docs.delete(ids=["r1"])
    with stage.state() as state:  # nor is the index asked for records of it then
        state.execute(
            "UPDATE sync_replica_chunks SET suspect = TRUE WHERE chunk_id ="
            " (SELECT id FROM sync_chunks WHERE chunk_start_offset = 40)"
        )

    def fault(request: Request) -> Fault | None:
        last = any(f'"r{n}"'.encode() in request.body for n in range(40, 60))
        return REFUSED if request.path.endswith("/get") and last else None

    stage.servers.primary_proxy.fault = fault
    report = stage.sync()
    assert report.outcome is Outcome.FAILED
    assert stage.on_replica().count() == 60
    (hold,) = report.holds
    assert hold.count == 1
    assert "reading the primary failed in this cycle" in hold.reason
    mend(stage)
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 1)
    stage.assert_identical()


# ---- vanished collections --------------------------------------------------------------------


def test_a_vanished_collection_is_dropped_in_its_second_cycle(stage: Stage) -> None:
    """The first listing without it is only a hint."""
    for name in ("stays", "more", "goes"):
        stage.create(name, count=5)
    stage.sync()
    drop(stage.primary, "goes")
    report = stage.sync()
    assert only_hold(report) == ("goes", HoldKind.DROP, 5)
    assert {c.name: c.status for c in report.collections}["goes"] is MirrorStatus.VANISHED
    assert stage.on_replica("goes").count() == 5
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 5)
    stage.assert_identical()
    stage.assert_quiet()


def test_a_failed_cycle_confirms_nothing(stage: Stage) -> None:
    """A cycle whose listing failed is not the second one that did not see the collection."""
    for name in ("stays", "more", "goes"):
        stage.create(name, count=5)
    stage.sync()
    break_listing(stage)
    drop(stage.primary, "goes")
    with pytest.raises(AccessRefused):
        stage.sync()
    mend(stage)
    assert only_hold(stage.sync()) == ("goes", HoldKind.DROP, 5)
    break_listing(stage)
    with pytest.raises(AccessRefused):
        stage.sync()
    mend(stage)
    assert stage.on_replica("goes").count() == 5
    stage.sync()
    stage.assert_identical()


def test_a_collection_that_comes_back_in_time_loses_its_hold(stage: Stage) -> None:
    """A listing that once forgot a collection costs nothing."""
    for name in ("stays", "more", "flickers"):
        stage.create(name, count=5)
    stage.sync()
    stage.overrides["SYNC_SCRUB_BUDGET"] = "0"
    key = str(stage.primary.get_collection("flickers", embedding_function=None).id).encode()
    listed = _listing_without(stage, key)

    def fault(request: Request) -> Fault | None:
        if request.path.endswith("/collections"):
            return Answer(200, listed)
        return Answer(200, b"2") if request.path.endswith("/collections_count") else None

    stage.servers.primary_proxy.fault = fault
    assert only_hold(stage.sync()) == ("flickers", HoldKind.DROP, 5)
    mend(stage)
    writes = len(stage.replica_writes())
    report = stage.sync()
    assert (report.outcome, report.holds) == (Outcome.IDENTICAL, ())
    assert len(stage.replica_writes()) == writes
    stage.servers.primary_proxy.fault = fault
    assert only_hold(stage.sync()) == ("flickers", HoldKind.DROP, 5)


def _listing_without(stage: Stage, key: bytes) -> bytes:
    import httpx2

    path = f"/api/v2/tenants/default_tenant/databases/{stage.database}/collections"
    whole = json.loads(httpx2.get(stage.servers.primary.url + path).content)
    return json.dumps([c for c in whole if c["id"].encode() != key]).encode()


def test_many_collections_that_vanish_at_once_are_held(stage: Stage) -> None:
    """Most of them: no number of cycles confirms it, an approval does."""
    for number in range(4):
        stage.create(f"many{number}", count=2)
    stage.sync()
    for number in range(3):
        drop(stage.primary, f"many{number}")
    for _ in range(3):
        report = stage.sync()
        assert report.outcome is Outcome.HELD
        assert [h.count for h in report.holds] == [2, 2, 2]
        assert {h.reason for h in report.holds} == {"3 of 4 collections are gone or empty at once"}
    stage.approve()
    assert stage.sync().counts.deleted == 6
    stage.assert_identical()


def test_a_primary_without_collections_is_held_until_approved(stage: Stage) -> None:
    """A primary that lost its disk does not empty the replica."""
    stage.create(count=7)
    stage.sync()
    drop(stage.primary, "docs")
    for _ in range(3):
        report = stage.sync()
        assert only_hold(report) == ("docs", HoldKind.DROP, 7)
        assert report.holds[0].reason == "the primary has no records left in any collection"
    assert stage.on_replica().count() == 7
    stage.approve("docs")
    assert stage.sync().counts.deleted == 7
    stage.assert_identical()
    stage.assert_quiet()


def test_a_primary_whose_records_are_all_gone_is_held_until_approved(stage: Stage) -> None:
    """Few enough for the limit and for a part of the collections, but every one is empty."""
    first, second = stage.create("first", count=4), stage.create("second", count=3)
    stage.create("empty")
    stage.sync()
    first.delete(ids=ids(0, 4))
    assert only_hold(stage.sync()) == ("first", HoldKind.DELETES, 4)
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 4)
    second.delete(ids=ids(0, 3))
    for _ in range(2):
        assert only_hold(stage.sync()) == ("second", HoldKind.DELETES, 3)
    assert stage.status().holds[0].reason == "the primary has no records left in any collection"
    stage.approve("second")
    assert stage.sync().counts.deleted == 3
    stage.assert_identical()
    stage.assert_quiet()


# ---- re-created collections ------------------------------------------------------------------


def test_a_recreated_collection_with_far_fewer_records_is_held(stage: Stage) -> None:
    """The new one is built beside the old one, which keeps the name until someone approves."""
    stage.overrides["SYNC_MAX_DELETE"] = "10"
    stage.create(count=40)
    stage.create("other", count=3)
    stage.sync()
    drop(stage.primary, "docs")
    stage.create(space="l2", count=5)
    for _ in range(2):
        report = stage.sync()
        assert only_hold(report) == ("docs", HoldKind.REPLACE, 35)
        reason = "35 deletes are more than the limit of 10 for this collection"
        assert report.holds[0].reason == reason
        assert stage.on_replica().count() == 40
    stage.approve("docs")
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 35)
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_a_recreated_collection_of_the_same_size_takes_over_at_once(stage: Stage) -> None:
    """Other content under the same name, and no id is lost: nothing to ask."""
    stage.overrides["SYNC_MAX_DELETE"] = "10"
    stage.create(count=20)
    stage.create("other", count=3)
    stage.sync()
    drop(stage.primary, "docs")
    fill(stage.create(), 20, seed=9, dimension=4)
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    stage.assert_identical()
    stage.assert_quiet()


def test_a_recreated_collection_with_a_few_lost_records_waits_for_a_second_cycle(
    stage: Stage,
) -> None:
    """As many as the limit lets go: the next successful cycle confirms it, unasked."""
    stage.overrides["SYNC_MAX_DELETE"] = "10"
    stage.create(count=20)
    stage.create("other", count=3)
    stage.sync()
    drop(stage.primary, "docs")
    fill(stage.create(), 15, seed=9, dimension=4)
    report = stage.sync()
    assert only_hold(report) == ("docs", HoldKind.REPLACE, 5)
    assert report.holds[0].unconfirmed
    assert stage.on_replica().count() == 20
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()
    stage.assert_quiet()


def test_a_surplus_collection_is_held_and_an_approval_drops_it(stage: Stage) -> None:
    """What someone made on the replica is shown, never dropped unasked."""
    stage.create(count=3)
    stage.sync()
    fill(stage.replica.create_collection("foreign", embedding_function=None), 4)
    for _ in range(2):
        report = stage.sync()
        assert only_hold(report) == ("foreign", HoldKind.SURPLUS_COLLECTION, 4)
    assert stage.on_replica("foreign").count() == 4
    stage.approve("foreign")
    fill(stage.on_replica("foreign"), 1, start=50)
    assert only_hold(stage.sync()) == ("foreign", HoldKind.SURPLUS_COLLECTION, 5)
    stage.approve("foreign")
    assert stage.sync().counts.deleted == 5
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
@pytest.mark.parametrize("space", ["cosine", "l2"])
def test_a_replacement_that_died_between_its_renames_is_finished(stage: Stage, space: str) -> None:
    """The old collection, already without its name, is still dropped; nothing is left behind."""
    stage.create(count=10)
    for other in ("other", "more"):
        stage.create(other, count=2)
    stage.sync()
    drop(stage.primary, "docs")
    fill(stage.create(space=space), 10, seed=4)

    def fail(point: str) -> None:
        if point == faultpoints.BETWEEN_RENAMES:
            raise StoreUnavailable("gone on purpose")

    with faultpoints.injected(fail), pytest.raises(StoreUnavailable):
        stage.sync()
    _, report = stage.sync(), stage.sync()
    assert report.outcome is Outcome.IDENTICAL, report
    stage.assert_identical()
    stage.assert_quiet()

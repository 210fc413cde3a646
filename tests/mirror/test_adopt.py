"""A replica that already holds records, and no ledger that vouches for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chromasync import faultpoints
from chromasync.errors import ServerFault, StoreUnavailable
from chromasync.lab.chroma_server import ChromaServer
from chromasync.model import HoldKind, MirrorStatus, Side
from chromasync.reports import CycleReport, Outcome, PlannedAction
from tests.support.stage import Stage, client_of, close_client, fill, vectors


def index(space: str) -> Any:
    """A collection's configuration with this distance."""
    return {"hnsw": {"space": space}}


def populate(stage: Stage, name: str = "docs", *, count: int, space: str = "cosine") -> None:
    """Put the same collection on both sides, without the program."""
    for client in (stage.primary, stage.replica):
        collection = client.create_collection(
            name,
            embedding_function=None,
            configuration=index(space),
        )
        fill(collection, count)


def holds_of(report: CycleReport) -> list[tuple[str, HoldKind, int]]:
    return sorted((h.collection_name, h.kind, h.count) for h in report.holds)


@pytest.mark.long
@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_an_identical_replica_is_adopted_without_a_write(stage: Stage, space: str) -> None:
    """Both sides were filled by someone else: everything is compared, nothing written."""
    populate(stage, count=1200, space=space)
    before = len(stage.replica_writes())
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.applied == 0
    assert report.counts.read == 1200
    assert report.counts.drifted == 0
    assert stage.replica_writes()[before:] == []
    stage.assert_quiet()


def test_only_the_differences_are_written(stage: Stage) -> None:
    """Missing and changed records cost their own writes, and are no drift."""
    populate(stage, count=60)
    replica = stage.on_replica()
    replica.delete(ids=["r3", "r4"])
    replica.update(ids=["r10"], metadatas=[{"n": -1, "foreign": True}])
    replica.update(ids=["r20"], embeddings=vectors(1, seed=9))
    stage.servers.replica_proxy.keep_bodies = True
    before = len(stage.replica_writes())
    report = stage.sync()
    stage.servers.replica_proxy.keep_bodies = False
    written = stage.replica_writes()[before:]
    assert report.outcome is Outcome.IDENTICAL
    assert (report.counts.inserted, report.counts.updated) == (2, 2)
    assert report.counts.drifted == 0
    ids = sorted(i for request in written for i in json.loads(request.body)["ids"])
    assert ids == ["r10", "r20", "r3", "r4"]
    stage.assert_identical()
    stage.assert_quiet()


def test_surplus_records_are_held_however_few(stage: Stage) -> None:
    """What a replica held before it was first compared may be someone's; an approval deletes it."""
    populate(stage, count=20)
    fill(stage.on_replica(), 2, start=500)
    for _ in range(2):
        report = stage.sync()
        assert holds_of(report) == [("docs", HoldKind.SURPLUS, 2)]
        assert "before it was first compared" in report.holds[0].reason
        assert stage.on_replica().count() == 22
    stage.approve("docs")
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 2)
    stage.assert_identical()
    stage.assert_quiet()


def test_surplus_records_stay_held_after_a_cycle_that_failed(stage: Stage) -> None:
    """An error in between does not turn them into something that may be deleted."""
    populate(stage, count=20)
    fill(stage.on_replica(), 2, start=500)
    stage.sync()

    def fail(point: str) -> None:
        if point == faultpoints.AFTER_READ:
            raise ServerFault("broken on purpose", side=Side.PRIMARY)

    with faultpoints.injected(fail):
        assert stage.sync().outcome is Outcome.FAILED
    for _ in range(2):
        assert holds_of(stage.sync()) == [("docs", HoldKind.SURPLUS, 2)]
    assert stage.on_replica().count() == 22


@pytest.mark.parametrize(
    "point", [faultpoints.AFTER_WALK, faultpoints.AFTER_PLAN, faultpoints.BEFORE_CLOSE]
)
def test_surplus_records_are_held_when_the_first_cycle_ended_early(
    stage: Stage, point: str
) -> None:
    """An adoption that was interrupted anywhere is still an adoption."""
    populate(stage, count=20)
    fill(stage.on_replica(), 2, start=500)

    def fail(reached: str) -> None:
        if reached == point:
            raise StoreUnavailable("gone on purpose")

    with faultpoints.injected(fail), pytest.raises(StoreUnavailable):
        stage.sync()
    report = stage.sync()
    assert holds_of(report) == [("docs", HoldKind.SURPLUS, 2)]
    assert stage.on_replica().count() == 22
    assert report.counts.applied == 0


def test_a_surplus_collection_is_held_until_approved(stage: Stage) -> None:
    """A collection that only the replica has stays as it is."""
    populate(stage, count=5)
    fill(stage.replica.create_collection("old", embedding_function=None), 3)
    assert holds_of(stage.sync()) == [("old", HoldKind.SURPLUS_COLLECTION, 3)]
    stage.approve()
    assert stage.sync().counts.deleted == 3
    stage.assert_identical()


@pytest.mark.long
@pytest.mark.parametrize(
    ("space", "dimension"), [("cosine", 4), ("l2", 8)], ids=["dimension", "distance"]
)
def test_an_incompatible_collection_of_the_name_is_kept_until_approved(
    stage: Stage, space: str, dimension: int
) -> None:
    """The copy is built beside it and takes its name only when someone agrees."""
    stage.create(count=12)
    old = stage.replica.create_collection(
        "docs",
        embedding_function=None,
        configuration=index(space),
    )
    fill(old, 7, dimension=dimension)
    for _ in range(2):
        report = stage.sync()
        assert holds_of(report) == [("docs", HoldKind.REPLACE, 7)]
        assert report.exit_code == 4
    assert stage.on_replica().id == old.id
    assert stage.on_replica().count() == 7
    stage.approve("docs")
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 7)
    stage.assert_identical()
    stage.assert_quiet()


def test_an_empty_incompatible_collection_is_replaced_at_once(stage: Stage) -> None:
    """There is nothing in it that could be lost."""
    stage.create(space="ip", count=3)
    stage.replica.create_collection(
        "docs",
        embedding_function=None,
        configuration={"hnsw": {"space": "l2"}},
    )
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()
    stage.assert_quiet()


# ---- nobody vouches for it -----------------------------------------------------------------------


def foreign(stage: Stage, name: str = "docs", *, count: int = 40) -> None:
    """A collection of somebody else's on the replica, with the primary's name and ids."""
    theirs = stage.replica.create_collection(
        name, embedding_function=None, configuration=index("cosine"), metadata={"whose": "theirs"}
    )
    fill(theirs, count, seed=5)


def theirs(stage: Stage, name: str = "docs") -> Any:
    """All that the replica holds of a collection, as the official client gives it."""
    found: Any = stage.on_replica(name)
    got = found.get(include=["embeddings", "documents", "metadatas", "uris"])
    return found.id, found.metadata, {**got, "embeddings": got["embeddings"].tolist()}


@pytest.mark.crewed
def test_a_replica_that_is_another_one_is_left_alone(stage: Stage) -> None:
    """Neither its records of the same id nor its definition change; the others are mirrored."""
    stage.create(count=50)
    stage.create("mine", count=7)
    foreign(stage)
    before = theirs(stage)
    for _ in range(2):
        planned = {c.name: c for c in stage.plan().collections}
        assert (planned["docs"].action, planned["docs"].undecided) == (PlannedAction.HOLD, True)
        assert stage.plan().exit_code == 6
        report = stage.sync(full=True)
        assert (report.outcome, report.exit_code) == (Outcome.HELD, 6)
        assert holds_of(report) == [("docs", HoldKind.ADOPTION, 40)]
        assert "of 40 compared records, 0 are the same" in report.holds[0].reason
        assert {c.name: (c.status, c.identical_as_of is None) for c in report.collections} == {
            "docs": (MirrorStatus.HELD, True),
            "mine": (MirrorStatus.IDENTICAL, False),
        }
        assert theirs(stage) == before
        assert stage.status().exit_code == 6
    assert stage.on_replica("mine").count() == 7
    assert {c.name for c in stage.replica.list_collections()} == {"docs", "mine"}


@pytest.mark.long
def test_the_commands_end_with_6_and_say_what_to_do(stage: Stage) -> None:
    """Counts of both sides, the sample, and the two ways out are on the page."""
    stage.create(count=50)
    foreign(stage)
    for command in ("sync", "plan", "status"):
        ended = stage.command(command)
        assert ended.returncode == 6, ended
        assert "50 records on the primary, 40 on the replica" in ended.stdout, ended
    assert f"chromasync approve default_tenant/{stage.database}/docs" in ended.stdout
    assert "chromasync sync --adopt" in ended.stdout
    assert stage.command("sync", "--adopt").returncode == 0
    assert stage.command("status").returncode == 0
    stage.assert_identical()


def test_sync_adopt_takes_over_all_of_them(stage: Stage) -> None:
    """Everything is compared and made like the primary; surplus records are held as ever."""
    for name in ("docs", "more"):
        stage.create(name, count=20)
        foreign(stage, name, count=23)
    stage.sync()
    report = stage.sync(adopt=True)
    assert holds_of(report) == [("docs", HoldKind.SURPLUS, 3), ("more", HoldKind.SURPLUS, 3)]
    assert report.exit_code == 4
    assert report.counts.updated == 40
    assert holds_of(stage.sync()) == holds_of(report)
    stage.approve()
    assert stage.sync().counts.deleted == 6
    stage.assert_identical()
    stage.assert_quiet()


def test_an_approval_takes_over_one(stage: Stage) -> None:
    """The primary may go on meanwhile; the other collection stays as it is."""
    docs = stage.create(count=20)
    stage.create("more", count=20)
    foreign(stage, "docs", count=20)
    foreign(stage, "more", count=20)
    stage.sync()
    before = theirs(stage, "more")
    assert [h.kind for h in stage.approve("docs")] == [HoldKind.ADOPTION]
    fill(docs, 5, start=20)
    assert {c.name: c.undecided for c in stage.plan().collections} == {"docs": False, "more": True}
    report = stage.sync()
    assert holds_of(report) == [("more", HoldKind.ADOPTION, 20)]
    assert theirs(stage, "more") == before
    assert stage.on_replica("docs").count() == 25
    assert {c.name: c.status for c in report.collections}["docs"] is MirrorStatus.IDENTICAL


def test_an_approval_ends_when_the_replica_has_other_records(stage: Stage) -> None:
    """It was given for what was shown."""
    stage.create(count=20)
    foreign(stage, count=20)
    stage.sync()
    stage.approve("docs")
    fill(stage.on_replica(), 1, start=900, seed=5)
    report = stage.sync()
    assert holds_of(report) == [("docs", HoldKind.ADOPTION, 21)]
    assert report.holds[0].approved_digest is None


def test_a_hold_goes_when_its_cause_does(stage: Stage) -> None:
    """The other collection was moved away by its owner: the copy is made at once."""
    stage.create(count=20)
    foreign(stage)
    stage.sync()
    stage.on_replica().modify(name="theirs-again")
    report = stage.sync()
    assert holds_of(report) == [("theirs-again", HoldKind.SURPLUS_COLLECTION, 40)]
    assert stage.on_replica().count() == 20


@pytest.mark.parametrize(("same", "held"), [(20, False), (19, True)])
def test_half_of_the_sample_decides(stage: Stage, same: int, held: bool) -> None:
    """A replica of which half is the same is an old copy; of less, another collection."""
    stage.create(count=40)
    docs: Any = stage.replica.create_collection(
        "docs", embedding_function=None, configuration=index("cosine")
    )
    columns = ("embeddings", "documents", "metadatas", "uris")
    source: Any = stage.primary.get_collection("docs", embedding_function=None)
    got = source.get(include=list(columns))
    docs.add(**{column: got[column] for column in ("ids", *columns)})
    docs.update(ids=[f"r{n}" for n in range(same, 40)], metadatas=[{"n": -1}] * (40 - same))
    report = stage.sync()
    assert (report.exit_code == 6) is held
    if not held:
        assert report.counts.updated == 40 - same
        stage.assert_identical()


def test_an_empty_primary_takes_nothing_over(stage: Stage) -> None:
    """Before its first records come, somebody else's collection is not made its own."""
    docs = stage.create()
    foreign(stage)
    before = theirs(stage)
    assert holds_of(stage.sync()) == [("docs", HoldKind.ADOPTION, 40)]
    fill(docs, 30, dimension=4)
    stage.sync()
    assert theirs(stage) == before


@pytest.mark.crewed(in_ci=False)
def test_another_populated_replica_and_back(stage: Stage) -> None:
    """The wrong server is left alone, and the right one gets only what changed meanwhile."""
    docs = stage.create(count=60)
    stage.sync()
    with ChromaServer() as wrong:
        client = client_of(wrong.url, stage.database)
        other = client.create_collection(
            "docs", embedding_function=None, configuration=index("cosine")
        )
        fill(other, 60, seed=5)
        for _ in range(2):
            report = stage.sync(REPLICA_URL=wrong.url)
            assert report.exit_code == 6
            assert report.identical_as_of is None
            assert report.counts.applied == 0
        close_client(client)
    docs.update(ids=["r1"], metadatas=[{"n": -1}])
    report = stage.sync()
    assert (report.outcome, report.counts.applied, report.counts.read) == (Outcome.IDENTICAL, 1, 60)
    stage.assert_identical()
    stage.assert_quiet()


def test_verify_repair_obeys_the_same_rule(stage: Stage) -> None:
    """It mends by a full cycle, which writes nothing there and ends with exit code 6."""
    stage.create(count=20)
    foreign(stage)
    before = theirs(stage)
    report = stage.verify(repair=True)
    assert report.exit_code == 6
    assert theirs(stage) == before

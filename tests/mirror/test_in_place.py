"""A collection that was created again with mostly the same records: compared, not copied anew."""

from __future__ import annotations

import pytest

from chromasync import faultpoints
from chromasync.errors import StoreUnavailable
from chromasync.model import HoldKind
from chromasync.reports import Outcome, PlannedAction
from tests.support.exports import import_again
from tests.support.stage import Stage, fill
from tests.support.writes import watched


def arrange(stage: Stage, count: int = 60, *, space: str = "cosine") -> str:
    """An identical pair of three collections; the id of the replica's `docs`."""
    stage.create(count=count, space=space)
    stage.create("other", count=5)
    stage.create("more", count=5)
    stage.sync()
    return str(stage.on_replica().id)


@pytest.mark.long
@pytest.mark.parametrize("space", ["cosine", "l2"])
def test_the_same_records_cost_no_write(stage: Stage, space: str) -> None:
    """The replica's collection stays, and so does every record in it."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "25"
    replica_id = arrange(stage, space=space)
    import_again(stage, space=space)
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert any("created with mostly the same" in warning for warning in report.warnings)
    assert [r.path for r in writes.to_records] == []
    assert str(stage.on_replica().id) == replica_id
    assert len(stage.replica.list_collections()) == 3
    stage.assert_identical()
    stage.assert_quiet()
    with stage.app() as app:
        assert [m.name for m in app.store.mirrors()] == ["docs", "more", "other"]


@pytest.mark.long
@pytest.mark.crewed
def test_only_the_differences_are_written_as_the_plan_says(stage: Stage) -> None:
    """Changed, new and missing records cost their own writes, and nothing else does."""
    replica_id = arrange(stage)
    docs = import_again(stage, keep=lambda row: row not in (3, 4, 5))
    docs.update(ids=["r10", "r11"], metadatas=[{"n": -1}, {"n": -2}])
    fill(docs, 4, start=100)
    planned = {c.name: c for c in stage.plan().collections}["docs"]
    assert planned.action is PlannedAction.ADOPT
    assert (planned.create, planned.update, planned.delete, planned.held) == (4, 2, 3, False)
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert writes.actions == {"add": 4, "update": 2, "delete": 3}
    assert report.outcome is Outcome.IDENTICAL
    assert str(stage.on_replica().id) == replica_id
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_records_that_are_gone_pass_the_delete_guard(stage: Stage) -> None:
    """Mostly the same, but many fewer: what is missing is held as in any other collection."""
    arrange(stage, 400)
    import_again(stage, keep=lambda row: row % 3 != 0)
    planned = {c.name: c for c in stage.plan().collections}["docs"]
    assert (planned.delete, planned.held) == (134, True)
    for _ in range(2):
        report = stage.sync()
        assert [(h.collection_name, h.kind, h.count) for h in report.holds] == [
            ("docs", HoldKind.DELETES, 134)
        ]
        assert stage.on_replica().count() == 400
    stage.approve("docs")
    assert stage.sync().counts.deleted == 134
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_mostly_other_records_are_built_beside(stage: Stage) -> None:
    """A third of the old ones is not enough: the new one takes its place when confirmed."""
    replica_id = arrange(stage)
    docs = import_again(stage, keep=lambda row: row < 20)
    fill(docs, 40, start=500)
    report = stage.sync()
    assert (report.outcome, report.counts.inserted) == (Outcome.HELD, 60)
    assert [(h.kind, h.count, h.unconfirmed) for h in report.holds] == [
        (HoldKind.REPLACE, 40, True)
    ]
    assert str(stage.on_replica().id) == replica_id
    report = stage.sync()
    assert (report.outcome, report.counts.inserted) == (Outcome.IDENTICAL, 0)
    assert str(stage.on_replica().id) != replica_id
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
@pytest.mark.parametrize(
    "point", [faultpoints.BETWEEN_LEDGERS, faultpoints.AFTER_WALK, faultpoints.BEFORE_CLOSE]
)
def test_an_interruption_anywhere_is_healed(stage: Stage, point: str) -> None:
    """Between the steps of the take-over and after them: still no record is written."""
    replica_id = arrange(stage)
    docs = import_again(stage)

    def fail(reached: str) -> None:
        if reached == point:
            raise StoreUnavailable("gone on purpose")

    with watched(stage.servers.replica_proxy) as writes:
        with faultpoints.injected(fail), pytest.raises(StoreUnavailable):
            stage.sync()
        docs.update(ids=["r1"], metadatas=[{"n": -1}])
        report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert writes.actions == {"update": 1}
    assert str(stage.on_replica().id) == replica_id
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_every_record_is_compared_on_both_sides(stage: Stage) -> None:
    """What somebody changed on the replica is found, though the primary's digests are the same."""
    arrange(stage)
    stage.on_replica().update(ids=["r7"], metadatas=[{"n": 700}])
    import_again(stage)
    report = stage.sync()
    assert (report.outcome, report.counts.updated) == (Outcome.IDENTICAL, 1)
    stage.assert_identical()


@pytest.mark.long
def test_a_rename_at_the_same_time_is_a_rename(stage: Stage) -> None:
    """The old one lives on under another name, so the new one of its name takes over nothing."""
    arrange(stage)
    old = stage.primary.get_collection("docs", embedding_function=None)
    old.modify(name="archive")
    fill(stage.create(), 60)
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync().outcome is Outcome.IDENTICAL
    assert writes.actions == {"add": 60}
    stage.assert_identical()

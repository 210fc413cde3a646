"""A replica collection that can never become equal any more: planned as the cycle then does it."""

from __future__ import annotations

import pytest

from chromasync.model import HoldKind
from chromasync.reports import Outcome, PlannedAction
from tests.support.rest import Rest
from tests.support.stage import Stage, fill


def assert_same(stage: Stage) -> None:
    """Both sides hold the same, but for the words in which each server tells the distance."""
    names = [sorted(c.name for c in s.list_collections()) for s in (stage.primary, stage.replica)]
    assert names[0] == names[1]
    assert (stage.verify().exit_code, stage.plan().exit_code) == (0, 0)


def test_a_rebuild_replaces_the_old_collection(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan counts the copy, and what the new collection lacks, as the cycle does."""
    for name in ("docs", "less"):
        stage.create(name, count=30, space="l2")
    stage.create("other", count=2)
    stage.sync()
    # as if they went right after it was looked whether any is missing
    for module in ("cycle.match", "dryrun"):
        monkeypatch.setattr(f"chromasync.{module}.lacks_ledger_ids", lambda *_: False)
    less = stage.primary.get_collection("less", embedding_function=None)
    less.delete(ids=["r3", "r4"])
    fill(less, 2, start=30)
    planned = {c.name: c for c in stage.plan(rebuild=["docs", "less"]).collections}
    for name, create, delete, held in (("docs", 30, 0, False), ("less", 30, 2, True)):
        one = planned[name]
        assert (one.action, one.held) == (PlannedAction.REPLACE, held), one
        assert (one.create, one.delete) == (create, delete)
    report = stage.sync(rebuild=["docs", "less"])
    assert (report.counts.inserted, report.counts.deleted) == (60, 0)
    assert [(h.collection_name, h.kind, h.count, h.unconfirmed) for h in report.holds] == [
        ("less", HoldKind.REPLACE, 2, True)
    ]
    one = {c.name: c for c in stage.plan().collections}["less"]
    assert (one.action, one.create, one.delete, one.held) == (PlannedAction.REPLACE, 0, 2, False)
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 2)
    assert stage.plan().exit_code == 0
    assert_same(stage)


def test_an_old_collection_under_another_name_is_planned_as_held(
    stage: Stage, on_primary: Rest
) -> None:
    """Renamed at the same time, the old copy is dropped in the second cycle, unasked."""
    stage.create(count=30, space="l2")
    stage.create("other", count=2)
    stage.sync()
    on_primary.modify("docs", new_name="moved")
    report = stage.plan(rebuild=["moved"])
    assert report.exit_code == 4
    planned = {(c.action, c.create, c.delete, c.held) for c in report.collections}
    assert planned == {
        (PlannedAction.CREATE, 30, 0, False),
        (PlannedAction.HOLD, 0, 0, True),
        (PlannedAction.NONE, 0, 0, False),
    }
    done = stage.sync(rebuild=["moved"])
    assert (done.outcome, done.counts.inserted, done.counts.deleted) == (Outcome.HELD, 30, 0)
    assert [(h.kind, h.count, h.unconfirmed) for h in done.holds] == [(HoldKind.DROP, 0, True)]
    planned = {(c.action, c.create, c.delete, c.held) for c in stage.plan().collections}
    assert (PlannedAction.DROP, 0, 0, False) in planned
    done = stage.sync()
    assert (done.outcome, done.counts.deleted) == (Outcome.IDENTICAL, 0)
    assert_same(stage)
    stage.assert_quiet()


@pytest.mark.long
def test_an_old_collection_with_records_of_others_waits_for_an_approval(
    stage: Stage, on_primary: Rest
) -> None:
    """The same with a record of unknown origin in it: plan and cycle hold it again and again."""
    stage.create(count=30, space="l2")
    stage.create("other", count=2)
    stage.sync()
    fill(stage.on_replica(), 1, start=900)
    on_primary.modify("docs", new_name="moved")
    for rebuild in (["moved"], [], []):
        held = [(c.delete, c.reason) for c in stage.plan(rebuild=rebuild).collections if c.held]
        report = stage.sync(rebuild=rebuild)
        assert [(h.count, h.reason) for h in report.holds] == held
        ((count, reason),) = held
        assert (count, "1 record in it are" in reason) == (1, True), reason
    stage.approve()
    assert stage.sync().outcome is Outcome.IDENTICAL
    assert_same(stage)

"""A replica collection that can never become equal any more: planned as the cycle then does it."""

from __future__ import annotations

from chromasync.model import HoldKind
from chromasync.reports import Outcome, PlannedAction
from tests.support.rest import Rest
from tests.support.stage import Stage


def test_another_distance_replaces_the_old_collection(stage: Stage, on_primary: Rest) -> None:
    """The plan counts the copy, and what leaves with the old one, as the cycle does."""
    stage.create(count=30, space="l2")
    stage.create("other", count=2)
    stage.sync()
    on_primary.modify("docs", new_metadata={"hnsw:space": "cosine"})
    planned = {c.name: c for c in stage.plan().collections}["docs"]
    assert (planned.action, planned.held) == (PlannedAction.REPLACE, False), planned
    assert (planned.create, planned.delete) == (30, 30)
    counts = stage.sync().counts
    assert (counts.inserted, counts.deleted) == (30, 30)
    assert stage.plan().exit_code == 0


def test_an_old_collection_under_another_name_is_planned_as_held(
    stage: Stage, on_primary: Rest
) -> None:
    """Renamed at the same time, the old one is not replaced by anything: the cycle holds it."""
    stage.create(count=30, space="l2")
    stage.create("other", count=2)
    stage.sync()
    on_primary.modify("docs", new_name="moved", new_metadata={"hnsw:space": "cosine"})
    report = stage.plan()
    assert report.exit_code == 4
    planned = {c.name: c for c in report.collections}
    assert (planned["moved"].create, planned["moved"].held) == (30, False)
    assert (planned["docs"].delete, planned["docs"].held) == (30, True)
    report_of_cycle = stage.sync()
    assert report_of_cycle.outcome is Outcome.HELD
    assert [(h.kind, h.count) for h in report_of_cycle.holds] == [(HoldKind.SURPLUS_COLLECTION, 30)]

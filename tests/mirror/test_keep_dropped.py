"""SYNC_KEEP_DROPPED: what leaves the replica as a whole stays there for a while."""

from __future__ import annotations

import pytest

from chromasync import faultpoints
from chromasync.errors import StoreUnavailable
from chromasync.lab.proxy import Answer, Fault, Request
from chromasync.plan.pairing import BUILDING_MARK
from chromasync.reports import Outcome, PlannedAction
from tests.support.stage import Stage, drop, fill

REFUSED = Answer(400, b'{"error":"InvalidArgumentError","message":"refused on purpose"}')
LONG = {"SYNC_KEEP_DROPPED": "100000"}
SHORT = {"SYNC_KEEP_DROPPED": "0.000001"}


def arrange(stage: Stage) -> None:
    """Three collections, identical on both sides."""
    for name in ("docs", "other", "more"):
        stage.create(name, count=30)
    stage.sync()


def replace_docs(stage: Stage) -> None:
    """`docs` is created again with another distance."""
    drop(stage.primary, "docs")
    stage.create("docs", space="l2", count=30)


def kept_names(stage: Stage) -> list[str]:
    """What the replica has under names that say so."""
    mark = f"{BUILDING_MARK}kept-"
    return sorted(c.name for c in stage.replica.list_collections() if mark in c.name)


def assert_all_but_kept_identical(stage: Stage) -> None:
    """By the official client, with what is kept put out of its sight for the moment."""
    kept = {c.id for c in stage.replica.list_collections() if BUILDING_MARK in c.name}
    names = {c.name for c in stage.replica.list_collections() if c.id not in kept}
    assert names == {c.name for c in stage.primary.list_collections()}
    report = stage.verify()
    assert (report.exit_code, report.different) == (0, 0)
    assert {c.name for c in report.collections} == names


@pytest.mark.long
def test_a_replaced_collection_stays_whole_under_another_name(stage: Stage) -> None:
    """Nobody mirrors, counts, holds or verifies it, in any of the commands."""
    stage.overrides |= LONG
    arrange(stage)
    old_id = stage.on_replica().id
    replace_docs(stage)
    planned = {c.name: c for c in stage.plan().collections}["docs"]
    assert (planned.action, planned.delete) == (PlannedAction.REPLACE, 0)
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 0)
    (name,) = kept_names(stage)
    assert any(name in warning for warning in report.warnings)
    kept = stage.on_replica(name)
    assert (kept.id, kept.count()) == (old_id, 30)
    assert stage.on_replica().id != old_id
    for _ in range(2):
        assert_all_but_kept_identical(stage)
        assert stage.plan().exit_code == 0
        stage.assert_quiet()
    assert stage.status().exit_code == 0
    assert kept_names(stage) == [name]


@pytest.mark.long
def test_a_dropped_collection_stays_until_its_time_is_over(stage: Stage) -> None:
    """Overdue, it goes with the next cycle, records first; while it is off, it stays."""
    arrange(stage)
    drop(stage.primary, "docs")
    stage.sync(**LONG)
    report = stage.sync(**LONG)
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 0)
    (name,) = kept_names(stage)
    assert stage.on_replica(name).count() == 30
    stage.sync(**LONG)
    report = stage.sync()
    assert any("They stay there" in warning for warning in report.warnings)
    assert kept_names(stage) == [name]
    stage.sync(**SHORT)
    assert kept_names(stage) == []
    stage.assert_identical()
    stage.assert_quiet()


def test_off_drops_at_once(stage: Stage) -> None:
    """As it ever was."""
    arrange(stage)
    replace_docs(stage)
    report = stage.sync(SYNC_KEEP_DROPPED="off")
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 0)
    assert kept_names(stage) == []
    assert len(stage.replica.list_collections()) == 3
    stage.assert_identical()


@pytest.mark.long
def test_several_of_one_name_are_kept_side_by_side(stage: Stage) -> None:
    """Each has a name of its own."""
    stage.overrides |= LONG
    arrange(stage)
    for seed in (1, 2):
        drop(stage.primary, "docs")
        fill(stage.create("docs", space="l2"), 30, seed=seed)
        assert stage.sync().outcome is Outcome.IDENTICAL
    assert len(kept_names(stage)) == 2
    assert_all_but_kept_identical(stage)


@pytest.mark.long
@pytest.mark.parametrize("vanished", [False, True], ids=["replaced", "vanished"])
def test_an_interruption_before_the_rename_is_healed(stage: Stage, vanished: bool) -> None:
    """It is remembered already: the next cycle renames it before it looks at names."""
    stage.overrides |= LONG
    arrange(stage)
    if vanished:
        drop(stage.primary, "docs")
        stage.sync()
    else:
        replace_docs(stage)

    def fail(reached: str) -> None:
        if reached == faultpoints.BEFORE_KEEP:
            raise StoreUnavailable("gone on purpose")

    with faultpoints.injected(fail), pytest.raises(StoreUnavailable):
        stage.sync()
    if vanished:
        stage.create("docs", count=3)  # the name is wanted again
    for _ in range(2):
        report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 0), report.holds
    (name,) = kept_names(stage)
    assert stage.on_replica(name).count() == 30
    assert_all_but_kept_identical(stage)


@pytest.mark.long
def test_a_rename_that_is_refused_keeps_it_where_it_was(stage: Stage) -> None:
    """The others go on, and the next cycle tries again."""
    stage.overrides |= LONG
    arrange(stage)
    drop(stage.primary, "docs")
    stage.sync()

    def fault(request: Request) -> Fault | None:
        return REFUSED if request.method == "PUT" else None

    stage.servers.replica_proxy.fault = fault
    assert stage.sync().outcome is Outcome.FAILED
    assert stage.on_replica().count() == 30
    stage.servers.replica_proxy.fault = None
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL, report.holds
    assert len(kept_names(stage)) == 1

"""Writes to the primary at full speed while cycles run: nothing is lost, nothing comes back."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from chromasync import faultpoints
from chromasync.ledger import paging
from chromasync.reports import CycleReport, Outcome
from tests.chaos.profile import NIGHTLY
from tests.chaos.writers import BusyWriter
from tests.support.stage import Stage, fill, vectors

CYCLES = 20 if NIGHTLY else 2
KEPT = 40
SPACES = {"one": "cosine", "two": "l2", "three": "ip"}
SMALL = {"SYNC_CHUNK_SIZE": "20", "SYNC_WORKERS": "4", "SYNC_MAX_DELETE": "100000"}


def arrange(stage: Stage) -> None:
    """Collections whose kept records stand among those that will be deleted and moved."""
    for name, space in SPACES.items():
        collection = stage.create(name, space=space)
        for part in range(4):
            fill(collection, 40, start=40 * part)
            kept = [f"keep{part}-{n}" for n in range(KEPT // 4)]
            collection.add(
                ids=kept,
                embeddings=vectors(len(kept), seed=part),
                documents=[f"the text of {record_id}" for record_id in kept],
            )


def assert_kept(stage: Stage, gone: dict[str, set[str]]) -> None:
    """No record that nobody touched is lost; none that was gone before the cycle is left."""
    for name in SPACES:
        ids = set(stage.on_replica(name).get(include=[])["ids"])
        assert len([i for i in ids if i.startswith("keep")]) == KEPT, name
        assert not ids & gone[name], name


def assert_no_writes(stage: Stage) -> CycleReport:
    before = len(stage.replica_writes())
    report = stage.sync(full=False, **SMALL)
    assert report.counts.applied == 0, report
    assert len(stage.replica_writes()) == before, stage.replica_writes()[before:]
    return report


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.parametrize("page_ids", [7, 64, 100_000] if NIGHTLY else [7])
def test_one_cycle_after_the_writers_stop_is_enough(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, page_ids: int
) -> None:
    """Adds, updates, deletes and re-adds race cycles; small pages let survivors shift unseen."""
    monkeypatch.setattr(paging, "PAGE_IDS", page_ids)
    arrange(stage)
    stage.sync(full=False, **SMALL)
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(BusyWriter(stage.servers, stage.database, name, seed))
            for seed, name in enumerate(SPACES)
        }
        for _ in range(CYCLES):
            gone = {name: set(writer.gone_for_good) for name, writer in writers.items()}
            report = stage.sync(full=False, **SMALL)
            assert report.outcome is not Outcome.FAILED, report
            assert_kept(stage, gone)
    assert all(writer.steps > CYCLES for writer in writers.values())

    stage.sync(full=False, **SMALL)
    stage.assert_identical()
    assert_no_writes(stage)
    stage.assert_identical()

    report = assert_no_writes(stage)
    assert report.outcome is Outcome.IDENTICAL, report
    for name in SPACES:
        listed = stage.primary.get_collection(name, embedding_function=None).get(include=[])["ids"]
        held = [record_id for ids in stage.ledger_ids(name) for record_id in ids]
        assert sorted(held) == sorted(listed), name


def test_a_chunk_is_not_handed_out_while_the_walk_may_still_take_records_from_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that moved to the end leaves its chunk for good, however slow the workers are."""
    monkeypatch.setattr(paging, "PAGE_IDS", 10)
    collection = stage.create(count=15)
    stage.sync(SYNC_CHUNK_SIZE="10")
    collection.delete(ids=["r12"])
    fill(collection, 10, start=15)
    fill(collection, 1, start=12)
    walked = threading.Event()

    def hook(point: str) -> None:
        if point == faultpoints.AFTER_WALK:
            walked.set()
        if point == faultpoints.AFTER_READ:
            assert walked.wait(30.0)

    with faultpoints.injected(hook):
        stage.sync(SYNC_CHUNK_SIZE="10")
    stage.assert_identical()
    listed = collection.get(include=[])["ids"]
    assert [record_id for ids in stage.ledger_ids() for record_id in ids] == listed


def test_a_record_that_comes_back_before_its_delete_stays(stage: Stage) -> None:
    """It was gone when its chunk was read; the primary is asked again right before the delete."""
    collection = stage.create(count=20)
    stage.sync()
    collection.delete(ids=["r5", "r6"])

    def hook(point: str) -> None:
        if point == faultpoints.AFTER_COMPLETE:
            fill(collection, 1, start=5, seed=9)

    with faultpoints.injected(hook):
        report = stage.sync()
    assert report.counts.deleted == 1
    assert "r5" in stage.on_replica().get(include=[])["ids"]
    stage.sync_and_judge()

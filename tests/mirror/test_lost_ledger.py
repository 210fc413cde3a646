"""A ledger that was lost or damaged: it is built anew by comparing, and what is there stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromasync import faultpoints
from chromasync.errors import StoreUnavailable
from chromasync.model import HoldKind
from chromasync.reports import CycleReport, Outcome
from tests.support.stage import Stage, fill


def forget_state(stage: Stage) -> None:
    """Lose the state file."""
    for file in stage.folder.iterdir():
        file.unlink()


def test_a_lost_state_file_costs_no_write(stage: Stage) -> None:
    """The ledger is rebuilt by comparing both sides, in several chunks and collections."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "30"
    stage.create(count=100)
    stage.create("more", space="l2", count=40, metadata={"made": "here"})
    stage.create("empty")
    stage.sync()
    forget_state(stage)
    before = len(stage.replica_writes())
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert (report.counts.applied, report.counts.drifted) == (0, 0)
    assert stage.replica_writes()[before:] == []
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
@pytest.mark.parametrize("column", ["ids", "embedding_digests", "payload_digests"])
@pytest.mark.parametrize("interval", ["86400", "0.000001"])
def test_a_damaged_chunk_is_rebuilt(stage: Stage, column: str, interval: str) -> None:
    """Bytes that flip in the state file lose nothing, whoever meets them first, walk or worker."""
    stage.overrides |= {"SYNC_CHUNK_SIZE": "30", "SYNC_REPLICA_CHECK_INTERVAL": interval}
    docs = stage.create(count=100)
    stage.create("sound", count=5)
    stage.sync()
    _flip_bytes(stage, column)
    docs.update(ids=["r40"], metadatas=[{"n": -40}])
    before = len(stage.replica_writes())
    outcomes = [stage.sync().outcome for _ in range(2)]
    assert outcomes[-1] is Outcome.IDENTICAL, outcomes
    assert len(stage.replica_writes()) == before + 1
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_a_damaged_list_of_deletes_is_rebuilt(stage: Stage) -> None:
    """What waited for an approval is found again by comparing."""
    stage.overrides["SYNC_MAX_DELETE"] = "1"
    docs = stage.create(count=20)
    stage.sync()
    docs.delete(ids=["r0", "r1", "r2"])
    stage.sync()
    with stage.state() as state:
        state.execute("UPDATE sync_deletions SET ids = x'00ff00ff'")
    reports: list[CycleReport] = []
    for _ in range(2):
        reports.append(stage.sync())
        assert stage.on_replica().count() == 20
    assert [h.count for h in reports[-1].holds] == [3]
    stage.approve()
    stage.sync()
    stage.assert_identical()


def _flip_bytes(stage: Stage, column: str) -> None:
    table = "sync_chunk_ids" if column == "ids" else "sync_applied_digests"
    with stage.state() as state:
        (key, blob) = state.execute(
            f"SELECT chunk_id, {column} FROM {table} ORDER BY chunk_id LIMIT 1 OFFSET 1"
        ).fetchone()
        middle = len(blob) // 2
        flipped = blob[:middle] + bytes(255 - byte for byte in blob[middle : middle + 8])
        assert len(flipped) <= len(blob)
        flipped += blob[middle + 8 :]
        state.execute(f"UPDATE {table} SET {column} = ? WHERE chunk_id = ?", (flipped, key))


def test_the_folder_of_the_state_is_made_when_missing(stage: Stage, tmp_path: Path) -> None:
    """A fresh SYNC_DATA_DIR is a fresh ledger, and a second one adopts without a write."""
    stage.create(count=4)
    stage.sync(SYNC_DATA_DIR=str(tmp_path / "a" / "b"))
    before = len(stage.replica_writes())
    stage.sync(SYNC_DATA_DIR=str(tmp_path / "c"))
    assert stage.replica_writes()[before:] == []
    stage.assert_identical()


def test_a_crash_before_a_new_collection_is_remembered_heals(stage: Stage) -> None:
    """It is empty, so whose it is does not matter: it is taken over and filled."""
    stage.create(count=20)

    def fail(point: str) -> None:
        if point == faultpoints.AFTER_COLLECTION_CREATED:
            raise StoreUnavailable("gone on purpose")

    with faultpoints.injected(fail), pytest.raises(StoreUnavailable):
        stage.sync()
    assert stage.on_replica().count() == 0
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()
    stage.assert_quiet()


def test_a_lost_ledger_in_the_middle_of_a_copy_heals(stage: Stage) -> None:
    """What is there already is the primary's, however little that is."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "10"
    stage.create(count=100)

    def fail(point: str) -> None:
        if point == faultpoints.AFTER_COMPLETE:
            raise StoreUnavailable("gone on purpose")

    with faultpoints.injected(fail), pytest.raises(StoreUnavailable):
        stage.sync()
    forget_state(stage)
    assert 0 < stage.on_replica().count() < 100
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()


def test_a_lost_ledger_costs_no_question_when_the_primary_went_on(stage: Stage) -> None:
    """Much changed and much is new: compared and written, because the replica has nothing more."""
    docs = stage.create(count=100)
    stage.sync()
    forget_state(stage)
    docs.update(ids=[f"r{n}" for n in range(20, 45)], metadatas=[{"n": -1}] * 25)
    fill(docs, 30, start=100)
    report = stage.sync()
    assert (report.outcome, report.counts.inserted, report.counts.updated) == (
        Outcome.IDENTICAL,
        30,
        25,
    )
    stage.assert_identical()


def test_a_lost_ledger_asks_when_the_replica_may_have_gone_on(stage: Stage) -> None:
    """It has records that the primary lacks, so what differs may be newer there, too."""
    docs = stage.create(count=100)
    stage.sync()
    forget_state(stage)
    docs.delete(ids=[f"r{n}" for n in range(20)])
    docs.update(ids=[f"r{n}" for n in range(20, 45)], metadatas=[{"n": -1}] * 25)
    fill(docs, 30, start=100)
    (planned,) = stage.plan().collections
    assert (planned.undecided, planned.create, planned.update) == (True, 30, 0)
    for inserted in (30, 0):
        report = stage.sync()
        assert report.exit_code == 6
        assert (report.counts.inserted, report.counts.updated) == (inserted, 0)
        kinds = {hold.kind for hold in report.holds}
        assert kinds >= {HoldKind.DIVERGED}
    stage.approve("docs")
    for _ in range(2):
        report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    stage.assert_identical()
    stage.assert_quiet()

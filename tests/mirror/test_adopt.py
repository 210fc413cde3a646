"""A replica that already holds records, and no ledger that vouches for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chromasync import faultpoints
from chromasync.errors import ServerFault, StoreUnavailable
from chromasync.model import HoldKind, Side
from chromasync.reports import CycleReport, Outcome
from tests.support.stage import Stage, fill, vectors


def forget_state(stage: Stage) -> None:
    """Lose the state file."""
    for file in stage.folder.iterdir():
        file.unlink()


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
    with stage.state() as state:
        (key, blob) = state.execute(
            f"SELECT chunk_id, {column} FROM sync_chunk_contents ORDER BY chunk_id LIMIT 1 OFFSET 1"
        ).fetchone()
        middle = len(blob) // 2
        flipped = blob[:middle] + bytes(255 - byte for byte in blob[middle : middle + 8])
        assert len(flipped) <= len(blob)
        flipped += blob[middle + 8 :]
        state.execute(
            f"UPDATE sync_chunk_contents SET {column} = ? WHERE chunk_id = ?", (flipped, key)
        )


def test_the_folder_of_the_state_is_made_when_missing(stage: Stage, tmp_path: Path) -> None:
    """A fresh SYNC_DATA_DIR is a fresh ledger, and a second one adopts without a write."""
    stage.create(count=4)
    stage.sync(SYNC_DATA_DIR=str(tmp_path / "a" / "b"))
    before = len(stage.replica_writes())
    stage.sync(SYNC_DATA_DIR=str(tmp_path / "c"))
    assert stage.replica_writes()[before:] == []
    stage.assert_identical()

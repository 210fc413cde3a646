"""The replica changes on its own: noticed, shown and mended from the primary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.model import HoldKind, MirrorStatus
from chromasync.reports import CycleReport, Outcome
from tests.support.stage import Stage, drop, fill, vectors

AT_ONCE = "0.000001"
"""A SYNC_REPLICA_CHECK_INTERVAL with which each cycle looks at the replica's side too."""


def settled(stage: Stage, count: int = 60, **settings: str) -> None:
    """A pair that is identical, read again after its first copy, with nothing left to do."""
    stage.overrides |= {"SYNC_CHUNK_SIZE": "20"} | settings
    stage.create(count=count)
    stage.sync()
    stage.assert_quiet()


def message_of(report: CycleReport) -> str:
    return report.collections[0].message


# ---- a replica that lost something whole -----------------------------------------------------


def test_a_replica_that_lost_its_disk_is_copied_anew(fragile: Stage, tmp_path: Path) -> None:
    """Every collection, and the database itself, is made again; the report says why."""
    stage = fragile
    stage.create(count=50)
    stage.create("more", space="l2", count=30, metadata={"made": "here"})
    stage.create("empty")
    stage.sync_and_judge()
    stage.close()
    port = int(stage.servers.replica.url.rpartition(":")[2])
    stage.servers.replica.stop()
    with ChromaServer(tmp_path / "replica1", port=port):
        report = stage.sync()
        assert report.outcome is Outcome.IDENTICAL
        assert report.counts.inserted == 80
        mark, *copies = report.warnings
        assert mark.startswith("The replica does not carry the mark that this store left in")
        assert len(copies) == 3
        assert all("no longer exists. Copying it anew." in w for w in copies)
        again = Stage(stage.servers, stage.folder, stage.database)
        try:
            again.assert_identical()
            again.assert_quiet()
        finally:
            again.close()


def test_a_dropped_replica_collection_is_copied_anew(stage: Stage) -> None:
    """The others are not touched, and the report says what happened."""
    settled(stage)
    stage.create("other", count=5)
    stage.sync()
    drop(stage.replica, "docs")
    before = len(stage.replica_writes())
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.inserted == 60
    assert report.warnings == ("docs: The replica's collection no longer exists. Copying it anew.",)
    other = str(stage.on_replica("other").id)
    assert not any(other in request.path for request in stage.replica_writes()[before:])
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
@pytest.mark.parametrize("filled", [0, 25, 60])
def test_a_recreated_replica_collection_is_compared_and_completed(
    stage: Stage, filled: int
) -> None:
    """Same name, another id: what it holds already is not written again."""
    settled(stage)
    drop(stage.replica, "docs")
    made: Any = {"hnsw": {"space": "cosine"}}
    fill(
        stage.replica.create_collection("docs", embedding_function=None, configuration=made),
        filled,
    )
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.applied == 60 - filled
    assert "no longer exists" in report.warnings[0]
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.crewed
def test_a_recreated_replica_collection_of_another_kind_is_kept_until_approved(
    stage: Stage,
) -> None:
    """Someone's own collection under our name is not dropped unasked."""
    settled(stage)
    drop(stage.replica, "docs")
    fill(stage.replica.create_collection("docs", embedding_function=None), 4, dimension=3)
    report = stage.sync()
    assert [(h.kind, h.count) for h in report.holds] == [(HoldKind.REPLACE, 4)]
    stage.approve()
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()
    stage.assert_quiet()


# ---- records ---------------------------------------------------------------------------------


def test_lost_records_are_written_again_in_the_same_cycle(stage: Stage) -> None:
    """Fewer records than at the last close: all are compared at once, and it is told."""
    settled(stage, SYNC_SCRUB_BUDGET="0")
    stage.on_replica().delete(ids=["r0", "r33", "r59"])
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert (report.counts.inserted, report.counts.drifted) == (3, 3)
    assert report.counts.applied == 3
    assert "the replica lost 3 records" in message_of(report)
    stage.assert_identical()
    assert stage.status().cycles[0].counts.drifted == 3
    stage.assert_quiet()


def test_a_replica_emptied_of_records_is_filled_again(stage: Stage) -> None:
    """All of them gone, the collection still there."""
    settled(stage)
    stage.on_replica().delete(ids=[f"r{n}" for n in range(60)])
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert (report.counts.inserted, report.counts.drifted) == (60, 60)
    stage.assert_identical()
    stage.assert_quiet()


NEVER_HAD = "the primary never had them, as far as is known"
"""Why records that others added on the replica are held."""


def test_added_records_within_the_limit_are_held_too(stage: Stage) -> None:
    """More records than at the last close: found at once, and deleted when someone agrees."""
    settled(stage, SYNC_SCRUB_BUDGET="0", SYNC_MAX_DELETE="5")
    fill(stage.on_replica(), 5, start=900)
    report = stage.sync()
    assert (report.outcome, report.exit_code) == (Outcome.HELD, 4)
    assert [(h.kind, h.count, h.reason) for h in report.holds] == [(HoldKind.SURPLUS, 5, NEVER_HAD)]
    assert report.counts.applied == 0
    assert "the replica has 5 records that the primary lacks" in message_of(report)
    assert stage.on_replica().count() == 65
    stage.approve("docs")
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert (report.counts.deleted, report.counts.applied) == (5, 5)
    assert report.collections[0].counts.deleted == 5
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_added_records_beyond_the_limit_are_held(stage: Stage) -> None:
    """Held with count and reason until approved, then deleted."""
    settled(stage, SYNC_MAX_DELETE="5")
    fill(stage.on_replica(), 6, start=900)
    for _ in range(2):
        report = stage.sync()
        (hold,) = report.holds
        assert (hold.kind, hold.count) == (HoldKind.SURPLUS, 6)
        assert hold.reason == NEVER_HAD
        assert report.collections[0].status is MirrorStatus.HELD
    assert stage.on_replica().count() == 66
    stage.approve("docs")
    assert stage.sync().counts.deleted == 6
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_records_added_to_an_empty_mirror_are_held(stage: Stage) -> None:
    """A collection without records has no ledger either, and is no adoption for that."""
    stage.create("other", count=3)
    settled(stage, count=0)
    fill(stage.on_replica(), 2)
    report = stage.sync()
    assert [(h.collection_name, h.kind, h.count, h.reason) for h in report.holds] == [
        ("docs", HoldKind.SURPLUS, 2, NEVER_HAD)
    ]
    assert stage.on_replica().count() == 2
    stage.approve("docs")
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 2)
    stage.assert_identical()


def test_a_surplus_record_that_the_primary_gets_too_stays(stage: Stage) -> None:
    """What was held as surplus is asked for on the primary before it is deleted."""
    settled(stage, SYNC_MAX_DELETE="0")
    replica = stage.on_replica()
    fill(replica, 2, start=900)
    assert stage.sync().outcome is Outcome.HELD
    stage.approve()
    fill(stage.primary.get_collection("docs", embedding_function=None), 1, start=900)
    report = stage.sync()
    assert report.counts.deleted == 1
    assert replica.get(ids=["r900", "r901"])["ids"] == ["r900"]
    stage.sync()
    stage.assert_identical()
    assert stage.status().holds == ()


def _new_vector(replica: Any) -> None:
    replica.update(ids=["r7"], embeddings=vectors(1, seed=77))


def _new_document(replica: Any) -> None:
    replica.update(ids=["r7"], documents=["forged"], embeddings=vectors(8)[7:])


def _new_value(replica: Any) -> None:
    replica.update(ids=["r7"], metadatas=[{"n": 7.0}])


def _foreign_key(replica: Any) -> None:
    replica.update(ids=["r7"], metadatas=[{"foreign": True, "tags2": ["a", "b"]}])


def _lost_key(replica: Any) -> None:
    replica.update(ids=["r7"], metadatas=[{"name": None, "tags": None}])


def _new_uri(replica: Any) -> None:
    replica.update(ids=["r7"], uris=["file:///forged"])


def _swapped(replica: Any) -> None:
    replica.delete(ids=["r7"])
    fill(replica, 1, start=900)


CHANGES = [_new_vector, _new_document, _new_value, _foreign_key, _lost_key, _new_uri, _swapped]


@pytest.mark.long
@pytest.mark.parametrize(
    ("way", "change"),
    [("the check", change) for change in CHANGES]
    + [("sync --full", _swapped), ("verify --repair", _swapped), ("verify --repair", _foreign_key)],
    ids=lambda value: value if isinstance(value, str) else value.__name__.strip("_"),
)
def test_a_change_with_equal_counts_is_found_by_a_look(stage: Stage, way: str, change: Any) -> None:
    """The usual cycle sees nothing; the daily look, a full cycle and a verify mend that record.

    The one that was swapped for it was never the primary's, and is held.
    """
    surplus = 1 if change is _swapped else 0
    stage.overrides |= {"SYNC_CHUNK_SIZE": "20"}
    stage.create(count=40)
    stage.sync()
    change(stage.on_replica())
    stage.assert_quiet()
    before = len(stage.replica_writes())
    if way == "verify --repair":
        assert stage.verify().different > 0
        assert stage.verify(repair=True).different == surplus
    else:
        report = (
            stage.sync(full=True)
            if way == "sync --full"
            else stage.sync(SYNC_REPLICA_CHECK_INTERVAL=AT_ONCE)
        )
        assert report.outcome is (Outcome.HELD if surplus else Outcome.IDENTICAL)
        assert report.counts.drifted == 1
        assert report.counts.applied == 1
        assert stage.status().cycles[0].counts.drifted == 1
    if surplus:
        assert [(h.kind, h.count) for h in stage.status().holds] == [(HoldKind.SURPLUS, 1)]
        assert set(stage.on_replica().get(include=[])["ids"]) >= {"r7", "r900"}
        stage.approve("docs")
        assert stage.sync().counts.deleted == 1
    assert len(stage.replica_writes()) - before <= 2
    stage.assert_identical()
    stage.assert_quiet()


def test_a_full_cycle_looks_at_chunks_that_changed_a_moment_ago(stage: Stage) -> None:
    """Right after a copy everything is due to be read again anyway; that is no excuse."""
    stage.create(count=10)
    stage.sync()
    _foreign_key(stage.on_replica())
    assert stage.sync(full=True).counts.updated == 1
    stage.assert_identical()


def test_a_chunk_that_changes_in_every_cycle_is_checked_too(stage: Stage) -> None:
    """The replica's side of a busy chunk gets its look although it is never scrubbed."""
    stage.create(count=10)
    stage.sync()
    docs = stage.primary.get_collection("docs", embedding_function=None)
    docs.update(ids=["r1"], metadatas=[{"n": -1}])
    _new_uri(stage.on_replica())
    stage.sync(SYNC_REPLICA_CHECK_INTERVAL=AT_ONCE)
    stage.assert_identical()


def test_a_change_and_a_drift_of_the_same_record_end_as_the_primary_has_it(stage: Stage) -> None:
    """The replica's present state is read before what changed is sent."""
    settled(stage)
    docs = stage.primary.get_collection("docs", embedding_function=None)
    docs.update(ids=["r7"], metadatas=[{"n": -7}])
    _foreign_key(stage.on_replica())
    report = stage.sync()
    assert report.counts.updated == 1
    stage.assert_identical()


def test_collection_metadata_and_names_drift_too(stage: Stage) -> None:
    """Changed by someone else on the replica, put back by the next cycle."""
    stage.create(count=3, metadata={"made": "here"})
    stage.sync()
    stage.on_replica().modify(name="renamed", metadata={"made": "there", "more": 1})
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.applied == 0
    stage.assert_identical()
    stage.assert_quiet()


def test_phantom_metadata_of_a_dead_collection_is_removed(stage: Stage) -> None:
    """Lists that a dropped collection left behind, and that Chroma gives to new records, go."""
    secret = stage.replica.create_collection("secret", embedding_function=None)
    fill(secret, 30)
    stage.replica.delete_collection("secret")
    docs = stage.create(space="l2")
    docs.add(ids=[f"r{n}" for n in range(40)], embeddings=vectors(40))
    stage.sync()
    stage.assert_identical()
    stage.assert_quiet()


def test_a_first_copy_and_an_adoption_are_no_drift(stage: Stage) -> None:
    """Drift is a replica that was equal and is no more."""
    stage.create(count=30)
    assert stage.sync().counts.drifted == 0
    for file in stage.folder.iterdir():
        file.unlink()
    stage.on_replica().delete(ids=["r3"])
    stage.on_replica().update(ids=["r4"], metadatas=[{"n": -4}])
    report = stage.sync()
    assert report.counts.applied == 2
    assert report.counts.drifted == 0

"""What the replica has already, with a coordinator and a worker."""

from __future__ import annotations

import signal

import pytest

from chromasync.model import HoldKind, MirrorStatus
from tests.distributed.fleet import Fleet
from tests.support.exports import import_again
from tests.support.stage import Stage, fill


@pytest.mark.long
def test_a_replica_that_is_another_one_is_left_alone_until_approved(
    stage: Stage, fleet: Fleet
) -> None:
    """Nothing is written there in any cycle; the approval of another process lets it through."""
    stage.create("docs", count=60)
    stage.create("other", count=60)
    theirs = stage.replica.create_collection(
        "docs", embedding_function=None, configuration={"hnsw": {"space": "cosine"}}
    )
    fill(theirs, 60, seed=5)
    fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    fleet.worker()

    def is_held() -> bool:
        states = {m.name: m.status for m in fleet.store.mirrors()}
        return states == {"docs": MirrorStatus.HELD, "other": MirrorStatus.IDENTICAL}

    fleet.until(is_held, "one is held and the other identical")
    assert stage.on_replica("docs").get(ids=["r3"])["documents"] == ["the text of record 3"]
    (hold,) = fleet.store.holds()
    assert (hold.kind, hold.count) == (HoldKind.ADOPTION, 60)
    paths = {r.path for r in stage.replica_writes() if str(theirs.id) in r.path}
    assert paths == set()
    assert fleet.store.approve(hold)
    fleet.assert_converges()
    assert stage.on_replica("docs").id == theirs.id


def test_a_collection_imported_again_is_compared_in_place(stage: Stage, fleet: Fleet) -> None:
    """Workers compare what the old one left; the replica's collection stays."""
    for name in ("docs", "other", "more"):
        stage.create(name, count=60)
    coordinator = fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    fleet.worker()
    fleet.assert_converges()
    coordinator.send(signal.SIGTERM)  # a cycle in the middle of the import would see half of it
    coordinator.ended()
    before = stage.on_replica("docs").id
    written = len(stage.replica_writes())
    import_again(stage, "docs")
    fleet.coordinator("next", SYNC_COORDINATOR_WORKS="false")
    fleet.assert_converges()
    assert stage.on_replica("docs").id == before
    paths = [r.path for r in stage.replica_writes()[written:]]
    assert [path for path in paths if path.endswith(("add", "upsert", "delete"))] == []

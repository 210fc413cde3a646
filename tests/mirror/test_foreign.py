"""What others wrote on a real replica is told from what was copied there, without the primary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.ledger.plan import extended
from chromasync.model import UNKNOWN_DIGEST, Chunk, ChunkResult, HoldKind, Task
from chromasync.reconcile.chunk import ChunkReconciler, pair_of
from chromasync.reports import Outcome
from tests.support.stage import Stage, fill, vectors

SPACES = ["cosine", "l2", "ip"]
As = Callable[[Chunk], Chunk]


def chunks_of(stage: Stage) -> list[Chunk]:
    """The ledger's chunks of the only collection."""
    with stage.app() as app:
        (mirror,) = app.store.mirrors()
        heads = app.store.chunk_heads(mirror.collection_id)
        loaded = [app.store.load_chunk(head.id) for head in heads]
    return [chunk for chunk in loaded if chunk is not None]


def remembered(stage: Stage) -> dict[str, bytes]:
    """What the ledger remembers of the replica's answers, by id."""
    return {
        record_id: chunk.applied.replica.row(row)
        for chunk in chunks_of(stage)
        for row, record_id in enumerate(chunk.ids)
    }


def hold(
    stage: Stage, *, check: bool = True, change: As = lambda chunk: chunk
) -> list[ChunkResult]:
    """Reconcile every chunk as a task that holds what is foreign, and keep the results.

    `change` is what happened to the ledger's chunk before.
    """
    results = []
    with stage.app() as app:
        reconciler = ChunkReconciler(*app.servers)
        (mirror,) = app.store.mirrors()
        pair = pair_of(mirror)
        assert pair is not None
        for head in app.store.chunk_heads(mirror.collection_id):
            chunk = app.store.load_chunk(head.id)
            assert chunk is not None
            task = Task(
                1, 1, mirror.collection_id, mirror.name, head.id, check, 0, app.store.now(),
                hold_foreign=True,
            )  # fmt: skip
            results.append(reconciler.reconcile(pair, change(chunk), task, lambda: 60.0, {}))
        app.store.save_chunks([result.chunk for result in results])
    return results


def foreign_of(results: list[ChunkResult]) -> set[str]:
    return {record_id for result in results for record_id in result.foreign}


def on_primary(stage: Stage) -> Any:
    return stage.primary.get_collection("docs", embedding_function=None)


def settled(stage: Stage, space: str, count: int = 60) -> None:
    """A pair that is identical and was compared once after its first copy."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    stage.create(space=space, count=count)
    stage.sync()
    stage.sync(full=True)
    assert UNKNOWN_DIGEST not in remembered(stage).values()


@pytest.mark.long
@pytest.mark.parametrize("space", SPACES)
def test_what_a_replica_returns_stays_the_same(stage: Stage, space: str) -> None:
    """Compared again, an untouched replica gives the digests that were remembered at its copy."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    stage.create(space=space, count=60)
    stage.sync()
    first = remembered(stage)
    assert UNKNOWN_DIGEST not in first.values()
    stage.sync(full=True)
    assert remembered(stage) == first
    assert foreign_of(hold(stage)) == set()
    assert remembered(stage) == first
    stage.assert_quiet()


def test_a_restart_of_the_replica_changes_no_digest(fragile: Stage, tmp_path: Path) -> None:
    """Neither what its index had written to disk nor what it reads from its log comes back else."""
    fragile.create(space="cosine", count=1_300)
    fragile.sync()
    first = remembered(fragile)
    fragile.close()
    port = int(fragile.servers.replica.url.rpartition(":")[2])
    fragile.servers.replica.stop()
    with ChromaServer(tmp_path / "replica", port=port):
        fragile.sync(full=True)
        assert remembered(fragile) == first


@pytest.mark.long
@pytest.mark.parametrize("space", SPACES)
def test_changes_of_the_primary_go_through_and_those_of_others_stay(
    stage: Stage, space: str
) -> None:
    """The drill in small: both sides were edited, the primary has its side when it is approved."""
    settled(stage, space)
    primary, replica = on_primary(stage), stage.on_replica()
    for number in (1, 2, 3, 21, 22):
        primary.update(
            ids=[f"r{number}"],
            embeddings=vectors(1, seed=number),
            documents=[f"new {number}"],
            metadatas=[{"share": number / 3}],
        )
    primary.delete(ids=["r5", "r6", "r7"])
    replica.update(ids=["r2"], metadatas=[{"n": -2}])
    replica.update(ids=["r6"], metadatas=[{"theirs": True}])
    replica.update(ids=["r40"], embeddings=vectors(1, seed=99))
    replica.delete(ids=["r3", "r7", "r41"])
    foreign = {"r2", "r3", "r6", "r40", "r41"}
    before = _contents(replica, foreign)
    results = hold(stage)
    assert foreign_of(results) == foreign
    assert {i for result in results for i in result.gone} == {"r5", "r7"}
    assert _contents(replica, foreign) == before
    assert sum(result.counts.updated for result in results) == 3
    again = hold(stage, check=False)
    assert foreign_of(again) == foreign
    assert _contents(replica, foreign) == before
    (found,) = stage.sync().holds
    assert (found.kind, found.count) == (HoldKind.DIVERGED, len(foreign))
    assert _contents(replica, foreign) == before
    stage.approve("docs")
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL, report.holds
    stage.assert_identical()
    stage.assert_quiet()


def test_a_new_record_under_an_id_that_others_took_is_not_written(stage: Stage) -> None:
    """Others added the same id meanwhile; it is read before it is inserted, and held."""
    settled(stage, "cosine")
    fill(on_primary(stage), 2, start=60)
    fill(stage.on_replica(), 1, start=60, seed=5)
    before = _contents(stage.on_replica(), {"r60"})

    def grown(chunk: Chunk) -> Chunk:
        return extended(chunk, ["r60", "r61"], {}) if "r59" in chunk.ids else chunk

    results = hold(stage, check=False, change=grown)
    assert foreign_of(results) == {"r60"}
    assert sum(result.counts.inserted for result in results) == 1
    assert _contents(stage.on_replica(), {"r60"}) == before
    stage.sync_and_judge()


def test_a_chunk_that_was_in_our_hands_is_mended(stage: Stage) -> None:
    """What a cut-off worker had written is compared and overwritten, not held."""
    settled(stage, "cosine")
    stage.on_replica().update(ids=["r2"], metadatas=[{"half": "done"}])

    def in_hand(chunk: Chunk) -> Chunk:
        return replace(chunk, head=chunk.head.with_replica(suspect=True, in_hand=True))

    assert foreign_of(hold(stage, change=in_hand)) == set()
    stage.assert_identical()


def _contents(collection: Any, ids: set[str]) -> dict[str, Any]:
    """These records as the official client sees them."""
    got = collection.get(ids=sorted(ids), include=["embeddings", "documents", "metadatas", "uris"])
    columns = got["embeddings"].tolist(), got["documents"], got["metadatas"], got["uris"]
    return dict(zip(got["ids"], zip(*columns, strict=True), strict=True))

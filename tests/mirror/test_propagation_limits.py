"""Records that are too large, refused, or lost: named with a reason, and the rest goes through."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromadb.errors import InternalError

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import judge
from chromasync.lab.proxy import Answer, Fault, RecordingProxy, Request
from chromasync.model import MirrorStatus
from chromasync.reports import CycleReport, Outcome
from tests.support.limited import command_with_limit
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage, fill, running_servers, vectors
from tests.support.writes import action_of, watched

if TYPE_CHECKING:
    from chromadb import Collection

pytestmark = pytest.mark.usefixtures("short_waits")

MOST_BYTES = 40 * 1024 * 1024
"""What Chroma takes in one body unless it is told otherwise."""
SMALL_LIMIT = 1_000_000
UNFINDABLE = Answer(500, b'{"error":"InternalError","message":"Error finding id"}')
REFUSED = Answer(422, b'{"error":"InvalidArgumentError","message":"it is refused on purpose"}')


def names_id(request: Request, record_id: str) -> bool:
    """Whether the ids in a request's body include this one."""
    return record_id in (json.loads(request.body or b"{}").get("ids") or [])


def refuse(stage: Stage, record_id: str) -> None:
    """The replica refuses every write that carries this record."""

    def fault(request: Request) -> Fault | None:
        writes = action_of(request) in ("add", "update")
        return REFUSED if writes and names_id(request, record_id) else None

    stage.servers.replica_proxy.fault = fault


def lose_vectors(stage: Stage, *record_ids: str) -> None:
    """The primary fails on every read of these records' embeddings, as when its index lost them."""

    def fault(request: Request) -> Fault | None:
        wanted = json.loads(request.body or b"{}")
        asked = action_of(request) == "get" and "embeddings" in wanted.get("include", [])
        return UNFINDABLE if asked and set(record_ids) & set(wanted["ids"]) else None

    stage.servers.primary_proxy.fault = fault


def aside(report: CycleReport) -> dict[str, bool]:
    """The quarantined ids, and whether each is absent from the replica."""
    return {record.record_id: record.absent for record in report.quarantined}


def assert_limited_and_quiet(stage: Stage, *, differing: dict[str, int]) -> CycleReport:
    """Another cycle sends nothing, and exactly these differences remain, by the judge's kinds."""
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert writes.requests == []
    assert report.outcome is Outcome.LIMITED
    assert report.counts.applied == 0
    assert [c.status for c in report.collections] == [MirrorStatus.LIMITED]
    assert dict(judge(stage.primary, stage.replica).differences) == differing
    return report


@contextmanager
def stage_with(
    servers: Servers, folder: Path, *, primary: ChromaServer | None = None, limit: int = 0
) -> Iterator[Stage]:
    """A stage with a server of its own on one side: this primary, or a replica with this limit."""
    with ExitStack() as stack:
        if primary is not None:
            proxy = stack.enter_context(RecordingProxy(primary.url, refuse_writes=True))
            servers = replace(servers, primary=primary, primary_proxy=proxy)
        if limit:
            replica = stack.enter_context(ChromaServer(command=command_with_limit(limit)))
            proxy = stack.enter_context(RecordingProxy(replica.url))
            servers = replace(servers, replica=replica, replica_proxy=proxy)
        stage = Stage(servers, folder)
        stack.callback(stage.close)
        yield stage


# ---- sizes -----------------------------------------------------------------------------------


@pytest.fixture
def own_servers() -> Iterator[Servers]:
    """Servers for one test: Chroma merges the text index of large documents in later writes.

    After one of 40 MB each write may take half a minute, whichever collection it is for.
    """
    with running_servers() as servers:
        yield servers


@pytest.fixture
def large(own_servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A stage for large documents."""
    stage = Stage(own_servers, tmp_path)
    yield stage
    stage.close()
    assert own_servers.primary_proxy.writes() == []


@pytest.mark.long
def test_documents_near_the_largest_body(large: Stage) -> None:
    """A document that just fits, some that share requests, and later only what changed of them."""
    stage = large
    docs = stage.create(space="l2", count=20)
    sizes = {"most": MOST_BYTES - 1000, "few": 5_000_000, "more": 5_000_000}
    with Rest(stage.servers.primary.url, stage.database) as on_primary:
        for name, size in sizes.items():
            on_primary.write("add", ids=[name], embeddings=[[0.5] * 8], documents=["x" * size])
    docs.add(ids=["lines"], embeddings=vectors(1), documents=["\n" * 2_000_000])
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync().counts.inserted == 24
    sizes_sent = [request.body_size for request in writes.to_records]
    assert MOST_BYTES - 1000 < max(sizes_sent) <= MOST_BYTES
    assert len(sizes_sent) < 12
    docs.update(ids=["most", "few"], metadatas=[{"k": 1}] * 2)
    with watched(stage.servers.replica_proxy) as changed:
        stage.sync()
    assert changed.body_bytes < 1000
    stage.assert_identical()
    stage.assert_quiet()


@pytest.fixture
def small(own_servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A stage whose replica takes bodies of at most a megabyte."""
    with stage_with(own_servers, tmp_path, limit=SMALL_LIMIT) as stage:
        yield stage


@pytest.mark.long
def test_a_small_replica_gets_small_bodies(small: Stage) -> None:
    """What a lower limit refuses as a whole is sent in parts, in the copy and in a change."""
    docs = small.create(space="l2", count=100)
    names = [f"large{n}" for n in range(12)]
    docs.add(ids=names, embeddings=vectors(12), documents=["x" * 300_000] * 12)
    small.sync_and_judge()
    docs.update(ids=names, embeddings=vectors(12, seed=1), documents=["y" * 300_000] * 12)
    assert small.sync_and_judge().counts.updated == 12


@pytest.mark.long
def test_a_record_too_large_for_the_replica_is_set_aside(small: Stage) -> None:
    """It is named with its reason, does not loop, and goes through once it is small enough."""
    docs = small.create(space="l2", count=30)
    huge, fits = "x" * SMALL_LIMIT, "x" * (SMALL_LIMIT - 1000)
    docs.add(ids=["huge", "fits"], embeddings=vectors(2), documents=[huge, fits])
    report = small.sync()
    assert aside(report) == {"huge": True}
    assert "size" in report.quarantined[0].reason
    assert report.counts.inserted == 31
    assert_limited_and_quiet(small, differing={"missing": 1})
    docs.update(ids=["huge"], embeddings=vectors(1), documents=["small enough"])
    assert aside(small.sync_and_judge()) == {}
    docs.update(ids=["r3"], metadatas=[{"huge": huge}])
    report = small.sync()
    assert aside(report) == {"r3": False}
    assert_limited_and_quiet(small, differing={"metadata": 1})


# ---- a record that the replica refuses -------------------------------------------------------


@pytest.mark.long
def test_a_refused_record_is_set_aside_and_the_rest_goes_through(stage: Stage) -> None:
    """Its reason is kept, it is not sent again while unchanged, and tried again when it changes."""
    docs = stage.create(space="l2", count=60)
    refuse(stage, "r33")
    report = stage.sync()
    assert (report.outcome, report.counts.inserted) == (Outcome.LIMITED, 59)
    assert aside(report) == {"r33": True}
    assert "it is refused on purpose" in report.quarantined[0].reason
    assert stage.status().quarantined == report.quarantined
    assert_limited_and_quiet(stage, differing={"missing": 1})
    docs.update(ids=["r33"], metadatas=[{"n": -33}])
    with watched(stage.servers.replica_proxy) as writes:
        assert aside(stage.sync()) == {"r33": True}
    assert set(writes.by_id) == {"r33"}
    stage.servers.replica_proxy.fault = None
    assert_limited_and_quiet(stage, differing={"missing": 1})
    docs.update(ids=["r33"], metadatas=[{"n": -34}])
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync().outcome is Outcome.IDENTICAL
    assert set(writes.by_id) == {"r33"}
    assert stage.status().quarantined == ()
    stage.assert_identical()
    stage.assert_quiet()


def test_a_refused_change_leaves_the_older_state(stage: Stage) -> None:
    """The other changes of its batch go through; a full cycle tries it again unchanged."""
    docs = stage.create(space="l2", count=60)
    stage.sync()
    refuse(stage, "r7")
    docs.update(ids=["r6", "r7", "r8"], metadatas=[{"n": -1}] * 3)
    report = stage.sync()
    assert (aside(report), report.counts.updated) == ({"r7": False}, 2)
    assert_limited_and_quiet(stage, differing={"metadata": 1})
    stage.servers.replica_proxy.fault = None
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync(full=True).outcome is Outcome.IDENTICAL
    assert writes.by_id == {"r7": [("update", {"metadata": {"n": -1}})]}
    stage.assert_identical()
    stage.assert_quiet()


def gone(docs: Collection) -> None:
    docs.delete(ids=["r7"])


def undone(docs: Collection) -> None:
    docs.update(ids=["r7"], metadatas=[{"n": 7}])


@pytest.mark.long
@pytest.mark.parametrize("way_out", [gone, undone])
def test_a_record_leaves_the_quarantine_with_its_cause(
    stage: Stage, way_out: Callable[[Collection], None]
) -> None:
    """Deleted on the primary, or changed back to what the replica has: nothing is wrong now."""
    docs = stage.create(space="l2", count=20)
    stage.sync()
    refuse(stage, "r7")
    docs.update(ids=["r7"], metadatas=[{"n": -1}])
    assert aside(stage.sync()) == {"r7": False}
    way_out(docs)
    report = stage.sync()
    assert (report.outcome, aside(report)) == (Outcome.IDENTICAL, {})
    stage.assert_identical()
    stage.assert_quiet()


# ---- a record that the primary cannot give ---------------------------------------------------


@pytest.mark.long
def test_one_lost_vector_is_found_and_named(stage: Stage) -> None:
    """A page that fails because of one record is read in halves; the record comes back healed."""
    docs = stage.create(space="l2", count=16)
    lose_vectors(stage, "r11")
    report = stage.sync()
    assert (aside(report), report.counts.inserted) == ({"r11": True}, 15)
    assert "cannot return it" in report.quarantined[0].reason
    assert "Error finding id" in report.quarantined[0].reason
    docs.update(ids=["r3"], metadatas=[{"n": -3}])
    with watched(stage.servers.replica_proxy) as writes:
        stage.sync()
    assert set(writes.by_id) == {"r3"}
    assert_limited_and_quiet(stage, differing={"missing": 1})
    stage.servers.primary_proxy.fault = None
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert (aside(report), set(writes.by_id)) == ({}, {"r11"})
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_a_vector_that_is_lost_later_stays_on_the_replica(stage: Stage) -> None:
    """The replica may be the only one that still has it: it is kept, and said to be so."""
    docs = stage.create(space="l2", count=16)
    stage.sync()
    lose_vectors(stage, "r5", "r6")
    docs.delete(ids=["r10"])
    report = stage.sync()
    assert aside(report) == {"r5": False, "r6": False}
    assert report.counts.deleted == 1
    assert_limited_and_quiet(stage, differing={})
    stage.servers.primary_proxy.fault = None
    report = stage.sync()
    assert (report.outcome, report.counts.applied) == (Outcome.IDENTICAL, 0)
    stage.assert_quiet()


@pytest.mark.long
def test_a_vector_beyond_what_a_cosine_index_keeps_is_named(stage: Stage, on_primary: Rest) -> None:
    """Chroma answers with nulls for a vector whose length it could not hold."""
    stage.create(space="cosine", count=20)
    on_primary.write("add", ids=["endless"], embeddings=[[3e38] * 8], documents=["d"])
    report = stage.sync()
    assert (aside(report), report.counts.inserted) == ({"endless": True}, 20)
    assert "'endless'" in report.quarantined[0].reason
    with watched(stage.servers.replica_proxy) as writes:
        stage.sync()
    assert writes.requests == []
    on_primary.write("update", ids=["endless"], embeddings=[[3.0] * 8])
    assert aside(stage.sync_and_judge()) == {}


@pytest.mark.long
def test_a_primary_that_lost_its_index_files_gives_what_it_has(
    servers: Servers, tmp_path: Path
) -> None:
    """Records whose vectors are gone from a real server's disk are named; newer ones are copied."""
    with (
        ChromaServer(tmp_path / "primary") as primary,
        stage_with(servers, tmp_path / "state", primary=primary) as stage,
    ):
        docs = stage.create(space="l2", count=4, hnsw={"sync_threshold": 2, "batch_size": 2})
        primary.stop()
        for folder in (f for f in primary.path.iterdir() if f.is_dir()):
            shutil.rmtree(folder)
        primary.start()
        fill(docs, 12, start=4)
        lost = [name for name in docs.get(include=[])["ids"] if is_lost(docs, name)]
        assert 0 < len(lost) <= 4
        report = stage.sync()
        assert sorted(aside(report)) == sorted(lost)
        assert report.counts.inserted == 16 - len(lost)
        with watched(stage.servers.replica_proxy) as writes:
            assert sorted(aside(stage.sync())) == sorted(lost)
        assert writes.requests == []
        docs.delete(ids=lost)
        assert stage.sync().outcome is Outcome.IDENTICAL
        stage.assert_identical()
        stage.assert_quiet()


def is_lost(docs: Collection, record_id: str) -> bool:
    """Whether the server fails on this record's embedding."""
    try:
        docs.get(ids=[record_id], include=["embeddings"])
    except InternalError as error:
        return "Error finding id" in str(error)
    return False

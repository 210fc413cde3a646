"""Indexes that are dead while their records are there: noticed on either side, and built anew.

The index is killed as a lost disk would: the folder of its vector segment goes while its server is
stopped. Counts, documents and metadata stay right.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Answer, RecordingProxy, Request
from chromasync.model import MirrorStatus
from chromasync.quiet import Quiet
from chromasync.reports import Outcome, PlannedAction
from tests.support.crew import Crew
from tests.support.drills import fresh
from tests.support.stage import Servers, Stage, fill, vectors

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("short_waits")]

COUNT = 300
PERSISTED = {"sync_threshold": 20, "batch_size": 10}
"""With these, an index lies in files, and not in what was written last alone."""


@pytest.fixture
def own(tmp_path: Path, crew: Crew | None) -> Iterator[Stage]:
    """Servers that keep their data in folders of their own."""
    with ExitStack() as stack:
        primary = stack.enter_context(ChromaServer(tmp_path / "primary"))
        replica = stack.enter_context(ChromaServer(tmp_path / "replica"))
        first = stack.enter_context(RecordingProxy(primary.url, refuse_writes=True))
        second = stack.enter_context(RecordingProxy(replica.url))
        stage = Stage(Servers(primary, replica, first, second), tmp_path / "state")
        stage.folder.mkdir()
        stage.crew = crew
        stage.overrides["SYNC_CHUNK_SIZE"] = "100"
        yield stage
        stage.close()


def kill_index(server: ChromaServer, folder: Path) -> None:
    """Take the files of every vector index away."""
    server.stop()
    segments = [path for path in folder.iterdir() if path.is_dir()]
    assert segments
    for path in segments:
        shutil.rmtree(path)
    server.start()


def assert_answers(stage: Stage) -> None:
    """Both sides name the same records, as the official client sees them."""
    asked = vectors(5, seed=77)
    found = []
    for client in (stage.primary, stage.replica):
        collection = client.get_collection("docs", embedding_function=None)
        got = collection.query(query_embeddings=asked, n_results=5, include=["distances"])
        found.append((got["ids"], np.round(np.array(got["distances"]), 3).tolist()))
    assert found[0] == found[1]


@pytest.mark.crewed
def test_a_dead_index_of_the_replica_is_told_and_built_anew(own: Stage, tmp_path: Path) -> None:
    """By sync, status, plan and verify; the collection is built beside the old one."""
    own.create(count=COUNT, hnsw=PERSISTED)
    own.sync_and_judge()
    kill_index(own.servers.replica, tmp_path / "replica")
    with fresh(own) as stage:
        stage.overrides = own.overrides
        report = stage.sync()
        assert report.outcome is Outcome.FAILED
        (docs,) = report.collections
        assert docs.status is MirrorStatus.UNANSWERING
        assert "chromasync sync --rebuild docs" in docs.message
        done = stage.command("status")
        assert (done.returncode, "does not answer" in done.stdout) == (4, True), done.stdout
        checked = stage.command("verify", "--queries", "5")
        assert checked.returncode == 1, checked.stdout
        planned = stage.command("plan", "--rebuild", "docs")
        assert (planned.returncode, "replace" in planned.stdout) == (1, True), planned.stdout
        built = stage.command("sync", "--rebuild", "docs")
        assert built.returncode == 0, built.stdout + built.stderr
        stage.assert_identical()
        assert_answers(stage)
        assert len(stage.replica.list_collections()) == 1
        stage.assert_quiet()
        assert stage.command("verify", "--queries").returncode == 0


def test_a_build_that_was_cut_off_goes_on(own: Stage) -> None:
    """The next cycle finishes it without being asked; until then the old one has the name."""
    own.create(count=COUNT)
    own.sync_and_judge()
    before = own.on_replica().id

    done = own.command("sync", "--rebuild", "docs", CHROMASYNC_FAULTPOINT="after-complete:1")
    assert done.returncode == -9
    assert own.on_replica().id == before
    for _ in range(2):
        own.sync()
    own.assert_identical()
    assert own.on_replica().id != before
    own.assert_quiet()


def test_a_plan_says_what_a_rebuild_does(own: Stage) -> None:
    """Everything is copied, and nothing is lost."""
    own.create(count=COUNT)
    own.sync_and_judge()
    (planned,) = own.plan(rebuild=["docs"]).collections
    assert (planned.action, planned.create, planned.delete) == (PlannedAction.REPLACE, COUNT, 0)
    report = own.sync(rebuild=[f"default_tenant/{own.database}/docs"])
    assert (report.outcome, report.counts.inserted) == (Outcome.IDENTICAL, COUNT)
    own.assert_identical()


def test_an_unknown_name_builds_nothing(own: Stage) -> None:
    """Nothing is written, and the words say where names are to be found."""
    own.create(count=5)
    own.sync_and_judge()
    before = len(own.replica_writes())
    done = own.command("sync", "--rebuild", "dosc")
    assert done.returncode == 2
    assert "There is no collection 'dosc'" in done.stderr
    assert len(own.replica_writes()) == before


@pytest.mark.crewed(in_ci=False)
def test_a_dead_index_of_the_primary_keeps_the_replica_whole(own: Stage, tmp_path: Path) -> None:
    """The replica may be the only copy of the vectors, so nothing is deleted there."""
    docs = own.create(count=COUNT, hnsw=PERSISTED)
    own.sync_and_judge()
    docs.delete(ids=["r1", "r2"])
    kill_index(own.servers.primary, tmp_path / "primary")
    with fresh(own) as stage:
        stage.overrides = own.overrides
        for _ in range(3):
            report = stage.sync()
            assert report.outcome is Outcome.FAILED
            assert "primary" in report.collections[0].message
            assert stage.on_replica().count() == COUNT
        status = stage.status()
        assert status.exit_code == 4


def test_collections_are_asked_in_turn(own: Stage) -> None:
    """A cycle of no length asks one, and after as many cycles each was asked."""
    for number in range(4):
        own.create(f"docs{number}", count=20)
    own.sync()
    for _ in range(4):
        own.sync()
    with own.app() as app:
        probed = [mirror.probed_cycle for mirror in app.store.mirrors()]
    assert None not in probed
    proxy = own.servers.replica_proxy
    before = len([r for r in proxy.requests if r.path.endswith("/query")])
    own.sync()
    asked = len([r for r in proxy.requests if r.path.endswith("/query")]) - before
    assert 0 < asked <= 2 * 3


def test_verify_asks_both_sides(own: Stage) -> None:
    """Sound indexes answer alike; one that lacks an embedding's change does not."""
    docs = own.create(count=COUNT)
    own.create("empty")
    own.sync_and_judge()
    with own.app() as app:
        report = app.verify(Quiet(), queries=10)
    found = {c.name: c for c in report.collections}
    assert report.exit_code == 0
    assert (found["docs"].queries, found["docs"].overlap) == (10, 1.0)
    assert (found["empty"].queries, found["empty"].overlap) == (0, None)
    fill(docs, 200, start=COUNT)
    done = own.command("verify", "--queries", "10", "--json")
    assert done.returncode == 1
    assert '"answers_differ":true' in done.stdout.replace(" ", "")


def test_nothing_is_built_anew_while_something_is_held(own: Stage) -> None:
    """A new copy would lack what is held, and the hold would be gone with the old one."""
    docs = own.create(count=COUNT)
    own.sync_and_judge()
    docs.delete(ids=[f"r{n}" for n in range(COUNT - 50, COUNT)])
    fill(docs, 20, start=COUNT)
    done = own.command("sync", "--rebuild", "docs")
    assert (done.returncode, "that it had in the last cycle" in done.stderr) == (2, True), (
        done.stderr
    )
    own.sync()
    before = [(hold.kind, hold.count) for hold in own.status().holds]
    assert before
    done = own.command("sync", "--rebuild", "docs")
    assert (done.returncode, "docs has a hold" in done.stderr) == (2, True), done.stderr
    assert [(hold.kind, hold.count) for hold in own.status().holds] == before
    assert own.on_replica().count() == COUNT
    assert all(not c.message for c in own.status().collections), "a wrong question is no error"


def test_the_only_copy_of_a_record_is_not_replaced(own: Stage) -> None:
    """The primary cannot give two records any more; a new copy lacks them, the old one does not."""
    own.create(count=COUNT)
    own.sync_and_judge()
    lost = re.compile(rb'"(r7|r8)"')
    proxy = own.servers.primary_proxy
    proxy.keep_bodies = True

    def fail(request: Request) -> Answer | None:
        asked = request.path.endswith("/get") and b"embeddings" in request.body
        if asked and lost.search(request.body):
            return Answer(500, b'{"error":"InternalError","message":"Error finding id"}')
        return None

    proxy.fault = fail
    for rebuild in (["docs"], [], []):
        own.sync(rebuild=rebuild)
        assert {"r7", "r8"} <= set(own.on_replica().get(ids=["r7", "r8"], include=[])["ids"])
    (hold,) = own.status().holds
    assert "could not be copied" in hold.reason
    proxy.fault, proxy.keep_bodies = None, False

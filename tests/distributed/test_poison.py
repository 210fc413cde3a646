"""Chunks that are large, fail, or kill their worker: they never block the others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from chromasync.model import MirrorStatus
from chromasync.store.schema import tasks
from tests.chaos.profile import NIGHTLY
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet, Member
from tests.store.samples import look
from tests.support.stage import Stage, vectors

POISONED = """
import os, signal
from chromasync.reconcile import chunk as reconciling
from chromasync.store import retry_charges
retry_charges.MAX_RETRIES = 2
whole = reconciling.ChunkReconciler.reconcile
def reconcile(self, pair, chunk, task, permit, set_aside, **more):
    if "poison" in chunk.ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, pair, chunk, task, permit, set_aside, **more)
reconciling.ChunkReconciler.reconcile = reconcile
"""
"""A process that is killed by one record, as by one that needs too much memory."""


@pytest.fixture
def fleet(make_fleet: MakeFleet, database_url: str) -> Fleet:
    """Processes with short leases and a few threads each."""
    return make_fleet(database_url, SYNC_LEASE_SECONDS="1", SYNC_CHUNK_SIZE="10")


@contextmanager
def supervised(start: Callable[..., Member]) -> Iterator[None]:
    """Starts the poisoned process again whenever it was killed, as a platform does."""
    done = threading.Event()

    def supervise() -> None:
        number = 0
        while not done.is_set():
            number += 1
            member = start(f"mortal-{number}", prelude=POISONED)
            while member.running and not done.wait(0.05):
                pass

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.longest
@pytest.mark.long
def test_a_chunk_that_kills_its_workers_fails_alone(stage: Stage, fleet: Fleet) -> None:
    """Every other chunk goes through, the culprit fails with its reason, and is tried anew."""
    docs = stage.create("docs", space="l2", count=100)
    docs.add(ids=["poison"], embeddings=vectors(1), documents=["a heavy one"])
    with supervised(fleet.worker):
        fleet.coordinator(SYNC_COORDINATOR_WORKS="false", prelude=POISONED)

        def failed() -> bool:
            states = {mirror.status for mirror in fleet.store.mirrors()}
            return states == {MirrorStatus.ERROR}

        fleet.until(failed, "the cycle closes with an error in this collection")
        outcome = select(tasks.c.task_status, tasks.c.retry_count, tasks.c.error_message)
        rows = look(fleet.store, outcome.order_by(tasks.c.id))
        failures = [row for row in rows if row[0] == "failed"]
        assert [(row[0], row[1]) for row in failures] == [("failed", 3)]
        assert "lease expired" in failures[0][2]
        assert set(stage.on_replica().get(include=[])["ids"]) == {f"r{n}" for n in range(100)}
    for member in fleet.members:
        member.send(signal.SIGTERM)
    fleet.coordinator("sound")
    fleet.assert_converges()


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.parametrize(
    "role", ["single with SQLite", "coordinator", *(["single"] if NIGHTLY else [])]
)
def test_a_chunk_that_kills_whoever_plans_fails_alone(
    stage: Stage, make_fleet: MakeFleet, database_url: str, role: str
) -> None:
    """Started again each time, the process closes a cycle in the end; the rest is done by then."""
    url = f"sqlite:///{stage.folder}.db" if role.endswith("SQLite") else database_url
    # leases so long that nobody rescues: it is the new leader who calls back
    fleet = make_fleet(url, SYNC_LEASE_SECONDS="25", SYNC_CHUNK_SIZE="10")
    docs = stage.create("docs", space="l2", count=100)
    docs.add(ids=["poison"], embeddings=vectors(1), documents=["a heavy one"])
    stage.create("books", count=50)
    with supervised(fleet.coordinator if role == "coordinator" else fleet.single):

        def closed() -> bool:
            states = {mirror.name: mirror.status for mirror in fleet.store.mirrors()}
            return states == {"books": MirrorStatus.IDENTICAL, "docs": MirrorStatus.ERROR}

        fleet.until(closed, "a cycle closes, with an error in one collection")
    (failed,) = (mirror for mirror in fleet.store.mirrors() if mirror.name == "docs")
    assert "the process ended while held by" in (failed.last_error or "")
    culprit = fleet.store.chunk_heads(failed.collection_id)[-1].id
    history = select(tasks.c.task_status, tasks.c.retry_count).where(tasks.c.chunk_id == culprit)
    former = look(fleet.store, history.order_by(tasks.c.id).limit(4))
    assert former == [("failed", 1), ("failed", 2), ("failed", 3), ("failed", 3)]
    assert set(stage.on_replica().get(include=[])["ids"]) == {f"r{n}" for n in range(100)}
    assert stage.on_replica("books").count() == 50
    for member in fleet.members:
        member.send(signal.SIGTERM)
    fleet.single("sound") if role != "coordinator" else fleet.coordinator("sound")
    fleet.assert_converges()

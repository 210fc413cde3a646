"""Chunks that are large, fail, or kill their worker: they never block the others."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import select

from chromasync.model import MirrorStatus
from chromasync.store.schema import tasks
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet
from tests.store.samples import look
from tests.support.stage import Stage, vectors

POISONED = """
import os, signal
from chromasync.reconcile import chunk as reconciling
from chromasync.worker import attempt, heartbeat
attempt.MAX_RETRIES = heartbeat.MAX_RETRIES = 2
whole = reconciling.ChunkReconciler.reconcile
def reconcile(self, pair, chunk, task, permit, set_aside):
    if "poison" in chunk.ids:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(self, pair, chunk, task, permit, set_aside)
reconciling.ChunkReconciler.reconcile = reconcile
"""
"""A worker whose process is killed by one record, as one that needs too much memory would do."""


@pytest.fixture
def fleet(make_fleet: MakeFleet, database_url: str) -> Fleet:
    """Processes with short leases and a few threads each."""
    return make_fleet(database_url, SYNC_LEASE_SECONDS="1", SYNC_CHUNK_SIZE="10")


@contextmanager
def supervised(fleet: Fleet) -> Iterator[None]:
    """Starts the poisoned worker again whenever it was killed, as a platform does."""
    done = threading.Event()

    def supervise() -> None:
        number = 0
        while not done.is_set():
            number += 1
            member = fleet.worker(f"mortal-{number}", prelude=POISONED)
            while member.running and not done.wait(0.05):
                pass

    thread = threading.Thread(target=supervise)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_chunk_that_kills_its_workers_fails_alone(stage: Stage, fleet: Fleet) -> None:
    """Every other chunk goes through, the culprit fails with its reason, and is tried anew."""
    docs = stage.create("docs", space="l2", count=100)
    docs.add(ids=["poison"], embeddings=vectors(1), documents=["a heavy one"])
    with supervised(fleet):
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

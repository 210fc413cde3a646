"""A coordinator runs already: the self-test joins it, and gets out of its way again."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from chromasync import __version__
from chromasync.model import CycleStatus, WorkerBeat, WorkerStatus
from chromasync.store import open_store
from chromasync.worker.heartbeat import process_name
from tests.distributed.fleet import QUICK, Fleet
from tests.selftest.processes import (
    COMMAND,
    assert_guide,
    assert_nothing_left,
    configured,
    run,
    spoken,
)
from tests.support.stage import Stage

STEADY = QUICK | {"SYNC_INTERVAL": "3"}


@pytest.mark.long
def test_beside_a_running_coordinator_two_workers_join_it(
    stage: Stage, fleet: Fleet, scratch: Path
) -> None:
    """Its cycles do the work, no hold or mirror is left to it, and it goes on undisturbed."""
    stage.create("docs", count=100)
    coordinator = fleet.coordinator(**STEADY)
    fleet.until_identical()
    begun_at = fleet.store.now()
    settings = configured(stage) | STEADY | {"DATABASE_URL": fleet.database_url}
    result = run(scratch, *COMMAND, "--json", "--timeout", "60", **settings)
    assert result.returncode == 0, spoken(result)
    assert_guide(result.stderr.splitlines())
    document = json.loads(result.stdout)
    assert document["coordinator"] == "running"
    assert len(document["workers"]) == 3
    assert f"worker-{coordinator.process.pid}" in document["workers"]
    assert len(document["completed_by"]) > 1
    assert coordinator.running
    fleet.assert_converges()
    assert_nothing_left(stage, scratch)
    cycles = [c for c in fleet.store.cycles(100) if c.started_at > begun_at]
    assert {c.status for c in cycles} <= {CycleStatus.COMPLETED, CycleStatus.RUNNING}, cycles


def test_names_that_the_running_coordinator_would_pass_over_are_refused(
    stage: Stage, scratch: Path
) -> None:
    """Settings that leave the test's collections out end it before it writes or waits."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    store = open_store(f"sqlite:///{stage.folder / 'chromasync.db'}")
    name = process_name()
    assert store.take_lead(name, 60)
    beat = (WorkerStatus.ACTIVE, None, 1.0, 0.0, socket.gethostname(), os.getpid(), __version__)
    store.beat(WorkerBeat(name, *beat))
    result = run(scratch, *COMMAND, **configured(stage, SYNC_EXCLUDE="tmp-*,chromasync-*"))
    store.close()
    assert result.returncode == 2, spoken(result)
    assert "SYNC_INCLUDE or SYNC_EXCLUDE leave out collections" in result.stdout
    assert list(stage.primary.list_collections()) == []

"""SIGTERM: what is at hand is finished or handed back, in time, and nobody is charged for it."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from sqlalchemy import func, select

from chromasync.lab.proxy import Hang
from chromasync.model import WorkerStatus
from chromasync.store.schema import tasks
from tests.distributed.fleet import Fleet, Member
from tests.store.samples import look
from tests.support.stage import Stage
from tests.support.writes import writes_records

PLATFORM_LIMIT_SECONDS = 30.0
"""What hosting platforms wait between SIGTERM and SIGKILL."""


def started_tasks(fleet: Fleet) -> int:
    """Tasks that some worker is at."""
    ((count,),) = look(fleet.store, select(func.count()).where(tasks.c.task_status == "processing"))
    return int(count)


def charged(fleet: Fleet) -> list[tuple[int]]:
    """Tasks that lost an attempt."""
    return look(fleet.store, select(tasks.c.id).where(tasks.c.retry_count > 0))


@pytest.mark.long
def test_a_worker_told_to_stop_finishes_what_it_has(stage: Stage, fleet: Fleet) -> None:
    """In the middle of a first copy it ends with 0, hands nothing unfinished on, and says so."""
    stage.create("docs", count=1000)
    stage.servers.replica_proxy.latency_seconds = 0.05
    leaving, staying = fleet.worker("leaving"), fleet.worker("staying")
    fleet.until_active(leaving, staying)
    fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    fleet.until(lambda: started_tasks(fleet) >= 3, "both are at work")
    leaving.send(signal.SIGTERM)
    assert leaving.ended() == 0, leaving.log
    assert [beat.status for beat in fleet.beats(leaving)] == [WorkerStatus.STOPPED]
    fleet.assert_converges()
    assert charged(fleet) == []
    held = select(tasks.c.worker_id).where(tasks.c.task_status == "processing")
    assert not {f for (f,) in look(fleet.store, held) if f":{leaving.process.pid}:" in f}


class Hanging:
    """Lets every write of records to the replica hang until it is released."""

    def __init__(self, stage: Stage) -> None:
        self.proxy = stage.servers.replica_proxy
        self.release = threading.Event()

    def __enter__(self) -> None:
        self.proxy.fault = lambda r: Hang(self.release) if writes_records(r) else None

    def __exit__(self, *_: object) -> None:
        self.proxy.fault = None
        self.release.set()


def stop_in_a_hanging_write(stage: Stage, fleet: Fleet) -> Member:
    """A worker that is told to stop while the replica answers nothing."""
    stage.create("docs", count=100)
    long_lease = {"SYNC_LEASE_SECONDS": "300", "SYNC_HTTP_TIMEOUT": "200"}
    stuck = fleet.worker("stuck", **long_lease)
    fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    fleet.until(lambda: started_tasks(fleet) == 2, "two tasks hang")
    stuck.send(signal.SIGTERM)
    return stuck


@pytest.mark.long
def test_a_hanging_server_does_not_keep_a_worker_from_stopping(stage: Stage, fleet: Fleet) -> None:
    """Its tasks are handed back before the platform would kill it; another does them."""
    with Hanging(stage):
        stuck = stop_in_a_hanging_write(stage, fleet)
        told_at = time.monotonic()
        assert stuck.ended() == 0, stuck.log
        assert time.monotonic() - told_at < PLATFORM_LIMIT_SECONDS
        assert (started_tasks(fleet), charged(fleet)) == (0, [])
    fleet.worker("heir")
    fleet.assert_converges()


@pytest.mark.long
def test_a_second_signal_stops_at_once(stage: Stage, fleet: Fleet) -> None:
    """It waits for nothing; the lease of what it held runs out and another worker takes over."""
    with Hanging(stage):
        stage.create("docs", count=100)
        stuck = fleet.worker("stuck")
        fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
        fleet.until(lambda: started_tasks(fleet) == 2, "two tasks hang")
        stuck.send(signal.SIGTERM)
        fleet.until(
            lambda: [b.status for b in fleet.beats(stuck)] == [WorkerStatus.DRAINING], "it drains"
        )
        stuck.send(signal.SIGTERM)
        assert stuck.ended() == 130, stuck.log
    fleet.worker("heir")
    fleet.assert_converges()

"""Real service processes with real holds and real deaths: each is told once, by one of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update

from chromasync.store.schema import Later, workers
from tests.alerts.post import SECRET, Post
from tests.chaos.faults import calm
from tests.distributed.fleet import Fleet
from tests.store.samples import arrange
from tests.support.stage import Servers, Stage

pytestmark = pytest.mark.long

QUICKLY = """
from chromasync.alerts import watcher
from chromasync.alerts.state import Times
from chromasync.alerts.watcher import Rhythm
watcher.Rhythm = lambda: Rhythm(look=0.2, lease=5, patience=1, pause=0.2, times=Times(quiet=3))
"""
"""Python that a process runs first: its alerts are told in seconds, as they would be in minutes."""


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A database of its own on both servers."""
    stage = Stage(servers, tmp_path / "state")
    yield stage
    stage.close()
    calm(servers.primary_proxy, servers.replica_proxy)


@pytest.fixture
def fleet(stage: Stage, make_database: Callable[..., str], post: Post) -> Iterator[Fleet]:
    """Processes over PostgreSQL that tell their alerts to `post`."""
    fleet = Fleet(stage, make_database(), SYNC_WEBHOOK_URL=post.url, SYNC_ALERT_LAG="3600")
    yield fleet
    fleet.close()


def logs_of(fleet: Fleet) -> str:
    return "".join(member.log for member in fleet.members)


def start(fleet: Fleet, role: str) -> None:
    """A coordinator or a worker with quick alerts, once it is active."""
    member = getattr(fleet, role)(f"{role}{len(fleet.members)}", prelude=QUICKLY)
    fleet.until_active(member)


def fill(stage: Stage, name: str = "docs", count: int = 400) -> None:
    """A collection of the primary."""
    ids = [f"r{n}" for n in range(count)]
    made = stage.primary.create_collection(name)
    made.add(ids=ids, embeddings=np.array([[n, 1.0] for n in range(count)], np.float32))


def until_copied(fleet: Fleet, count: int = 400) -> None:
    """Wait for the first copy."""

    def copied() -> bool:
        mirrors = fleet.store.mirrors()
        return bool(mirrors) and all(m.replica_count == count for m in mirrors)

    fleet.until(copied, "a first copy")


def test_a_hold_is_told_once_by_two_processes_and_ends_once(
    fleet: Fleet, stage: Stage, post: Post
) -> None:
    """A coordinator and a worker have the same settings; the secret address is in no log."""
    fill(stage)
    start(fleet, "coordinator")
    start(fleet, "worker")
    until_copied(fleet)
    docs = stage.primary.get_collection("docs")
    docs.delete(ids=[f"r{n}" for n in range(300)])
    (told,) = post.wait(1)
    assert "Deletes are held" in told
    assert "`default_tenant/" in told
    assert "deleting 300 records that the primary no longer has" in told
    (hold,) = fleet.store.holds()
    assert f"@{hold.set_digest[:8]}`" in told
    assert fleet.store.approve(hold)
    _, ended = post.wait(2)
    assert "Deletes are no longer held" in ended
    cycles = fleet.store.cycles(1)[0].id
    fleet.until(lambda: fleet.store.cycles(1)[0].id > cycles + 4, "some more cycles")
    assert len(post.texts) == 2
    assert logs_of(fleet).count('"alert sent"') == 2
    assert not any(part in logs_of(fleet) for part in SECRET.split("/"))


def test_when_the_leader_is_killed_a_worker_tells_it(
    fleet: Fleet, stage: Stage, post: Post
) -> None:
    """The one that is left takes the lease, and says what it sees; once."""
    fill(stage)
    start(fleet, "coordinator")
    start(fleet, "worker")
    until_copied(fleet)
    coordinator, _ = fleet.members
    (beat,) = fleet.beats(coordinator)
    coordinator.kill()
    silent = update(workers).where(workers.c.worker_id == beat.worker_id)
    arrange(fleet.store, silent.values(last_heartbeat=Later(-90)))
    told = post.wait(1)
    assert "A process was lost" in "".join(told) or "The coordinator was lost" in "".join(told)
    assert f"{beat.pid}`" in told[0]
    texts = post.wait(2) if beat.role else told
    assert len({text.partition("\n")[0] for text in texts}) == len(texts)


def test_a_receiver_that_hangs_delays_no_cycle(fleet: Fleet, stage: Stage, post: Post) -> None:
    """Cycles go on meanwhile, and the message arrives when the receiver is back."""
    fill(stage)
    post.is_hanging = True
    start(fleet, "single")
    until_copied(fleet)
    stage.primary.get_collection("docs").delete(ids=[f"r{n}" for n in range(300)])
    post.wait_for_request()
    cycles = fleet.store.cycles(1)[0].id
    began = time.monotonic()
    fleet.until(
        lambda: fleet.store.cycles(1)[0].id > cycles + 3, "cycles beside a hanging receiver"
    )
    assert not post.texts, f"the receiver came back within {time.monotonic() - began} s"
    post.is_hanging = False
    assert "Deletes are held" in post.wait(1)[0]


def test_a_restart_repeats_nothing(fleet: Fleet, stage: Stage, post: Post) -> None:
    """The store remembers what was told, and an orderly end hands the lease on."""
    fill(stage)
    start(fleet, "single")
    until_copied(fleet)
    stage.primary.get_collection("docs").delete(ids=[f"r{n}" for n in range(300)])
    post.wait(1)
    (first,) = fleet.members
    first.send(signal.SIGTERM)
    assert first.ended() == 0
    start(fleet, "single")
    cycles = fleet.store.cycles(1)[0].id
    fleet.until(lambda: fleet.store.cycles(1)[0].id > cycles + 3, "cycles after a restart")
    assert len(post.texts) == 1

"""`sync` and `fence` beside real services: whoever leads runs the cycle, and proves it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chromasync.model import CycleStatus
from tests.chaos.processes import environment
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet, Member
from tests.distributed.test_pause import command
from tests.support.forked import Forked
from tests.support.stage import Stage, client_of, close_client, fill, vectors

LONG = {"SYNC_INTERVAL": "3600", "SYNC_SCRUB_BUDGET": "0", "SYNC_REPLICA_CHECK_INTERVAL": "86400"}
"""No cycle begins by itself, and none but a full one reads unchanged records again."""


class Command:
    """A command in a process of its own."""

    def __init__(self, stage: Stage, fleet: Fleet, *arguments: str) -> None:
        self.fleet = fleet
        self.log = stage.folder / f"{arguments[0]}-{len(list(stage.folder.iterdir()))}.log"
        env = environment(stage, DATABASE_URL=fleet.database_url, **fleet.settings)
        self.process = Forked([*arguments, "--json"], env, self.log)

    def ended(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; its exit code and its document."""
        self.fleet.until(lambda: self.process.poll() is not None, "the command ends")
        output = self.log.read_text()
        document: dict[str, Any] = json.loads(output[output.index("{\n") :])
        return self.process.wait(), document


@pytest.fixture(params=["fleet", "single"])
def service(
    request: pytest.FixtureRequest, make_fleet: MakeFleet, database_url: str, tmp_path: Path
) -> tuple[Fleet, Member]:
    """A service that has run its first cycle and waits for an hour; and the process that leads."""
    if request.param == "single":
        fleet = make_fleet(f"sqlite:///{tmp_path}/state.db", **LONG)
        leader = fleet.single()
    else:
        fleet = make_fleet(database_url, **LONG)
        leader = fleet.coordinator()
        fleet.worker()
    fleet.until(lambda: ended(fleet), "the first cycle")
    return fleet, leader


def ended(fleet: Fleet) -> int:
    """Cycles that have been completed."""
    return sum(c.status is CycleStatus.COMPLETED for c in fleet.store.cycles(50))


@contextmanager
def writers(stage: Stage, names: list[str]) -> Iterator[None]:
    """Others write to the primary all the time: new records, and changes in place."""
    over = threading.Event()

    def write() -> None:
        client = client_of(stage.servers.primary.url, stage.database)
        try:
            number = 0
            while not over.is_set():
                for name in names:
                    docs = client.get_collection(name, embedding_function=None)
                    docs.update(ids=["r0"], metadatas=[{"count": number}])
                    docs.add(ids=[f"w{number}"], embeddings=vectors(1, seed=number))
                number += 1
        finally:
            close_client(client)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.long
def test_sync_beside_a_service_asks_it_for_a_cycle(
    stage: Stage, service: tuple[Fleet, Member]
) -> None:
    """The service begins at once, inside its interval; the report and the exit code are as ever."""
    fleet, leader = service
    stage.create("docs", count=120)
    code, document = Command(stage, fleet, "sync").ended()
    assert (code, document["outcome"]) == (0, "identical")
    assert document["counts"]["inserted"] == 120
    assert [c["name"] for c in document["collections"]] == ["docs"]
    stage.assert_identical()
    assert "cycle begins on request" in leader.log
    assert ended(fleet) == 2
    assert Command(stage, fleet, "sync", "--adopt").ended()[0] == 5
    assert Command(stage, fleet, "sync").ended()[0] == 0  # what was written is read once more
    docs = stage.primary.get_collection("docs", embedding_function=None)
    docs.update(ids=["r5"], metadatas=[{"changed": "in place"}])
    assert Command(stage, fleet, "sync").ended()[1]["counts"]["updated"] == 0
    code, document = Command(stage, fleet, "sync", "--full").ended()
    assert (code, document["counts"]["updated"]) == (0, 1)
    stage.assert_identical()


@pytest.mark.long
def test_sync_goes_on_when_the_service_is_killed(
    stage: Stage, service: tuple[Fleet, Member]
) -> None:
    """The command leads when the lead of the dead process has run out, and finishes the cycle."""
    fleet, leader = service
    stage.create("docs", count=600)
    stage.servers.replica_proxy.latency_seconds = 0.1
    waiting = Command(stage, fleet, "sync")
    fleet.until(lambda: len(fleet.store.cycles(5)) == 2, "the cycle has begun")
    leader.send(signal.SIGKILL)
    code, document = waiting.ended()
    assert (code, document["outcome"]) == (0, "identical")
    assert "nobody leads now" in waiting.log.read_text()
    stage.assert_identical()


@pytest.mark.long
def test_sync_says_that_the_service_was_paused(stage: Stage, service: tuple[Fleet, Member]) -> None:
    """In the middle of its cycle, too."""
    fleet, _ = service
    stage.create("docs", count=600)
    stage.servers.replica_proxy.latency_seconds = 0.1
    waiting = Command(stage, fleet, "sync")
    fleet.until(lambda: len(fleet.store.cycles(5)) == 2, "the cycle has begun")
    command(stage, fleet, "pause", "--reason", "disk swap")
    code, document = waiting.ended()
    assert code == 4
    assert document["error"]["kind"] == "Paused"
    assert "disk swap" in document["error"]["what"]
    command(stage, fleet, "resume")
    assert Command(stage, fleet, "sync").ended()[0] == 0
    stage.assert_identical()


@pytest.mark.long
@pytest.mark.parametrize("serviced", [True, False], ids=["beside a service", "alone"])
def test_a_fence_proves_that_earlier_writes_are_there(
    stage: Stage, service: tuple[Fleet, Member], serviced: bool
) -> None:
    """Updates in place, deletes, new and dropped collections, beside writers that go on writing."""
    fleet, _ = service
    kept, busy, gone = (stage.create(n, count=90) for n in ("kept", "busy", "gone"))
    assert Command(stage, fleet, "sync").ended()[0] == 0
    if not serviced:
        for member in fleet.members:
            member.send(signal.SIGTERM)
            assert member.ended() == 0, member.log
    with writers(stage, ["busy"]):
        kept.update(ids=["r3"], metadatas=[{"fence": "before"}])
        busy.update(ids=["r4"], metadatas=[{"fence": "before"}])
        kept.delete(ids=["r7"])
        stage.primary.delete_collection(gone.name)
        fill(stage.create("new"), 30)
        code, document = Command(stage, fleet, "fence").ended()
    assert (code, document["outcome"], document["reason"]) == (0, "verified", "")
    assert document["identical_as_of"] >= document["asked_at"]
    for name in ("kept", "busy"):
        found = stage.on_replica(name).get(ids=["r3", "r4", "r7"], include=["metadatas"])
        values = dict(zip(found["ids"], found["metadatas"] or [], strict=True))
        changed = {"kept": "r3", "busy": "r4"}[name]
        assert values[changed]["fence"] == "before"
        assert ("r7" in values) == (name == "busy")
    assert stage.on_replica("new").count() == 30
    assert "gone" not in {c.name for c in stage.replica.list_collections()}


@pytest.mark.long
def test_a_fence_that_cannot_be_verified_says_why(
    stage: Stage, service: tuple[Fleet, Member]
) -> None:
    """Held deletes end it; the time may run out; a pause ends it, too."""
    fleet, _ = service
    docs = stage.create("docs", count=300)
    assert Command(stage, fleet, "fence").ended()[0] == 0
    stage.servers.primary_proxy.latency_seconds = 0.5
    code, document = Command(stage, fleet, "fence", "--timeout", "0.5").ended()
    assert (code, document["outcome"]) == (1, "timed out")
    stage.servers.primary_proxy.latency_seconds = 0.0
    docs.delete(ids=docs.get(limit=200, include=[])["ids"])
    code, document = Command(stage, fleet, "fence").ended()
    assert (code, document["outcome"]) == (4, "held")
    assert "docs" in document["reason"]
    command(stage, fleet, "pause")
    assert Command(stage, fleet, "fence").ended()[0] == 4

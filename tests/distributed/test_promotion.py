"""A promotion beside a coordinator and workers at work: from then on, none of them writes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromasync.model import DirectionState
from tests.chaos.test_promotion import pair, turned
from tests.distributed.fleet import Fleet, Member
from tests.support.drills import ADDED, application_goes_on, every
from tests.support.stage import Stage
from tests.support.writes import watched

DECIDE = 6
RECORDS = 600


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Two servers of the test's own; either may become the primary."""
    with pair(tmp_path) as stage:
        yield stage


@pytest.fixture
def fleet(stage: Stage, database_url: str) -> Iterator[Fleet]:
    """Processes over PostgreSQL."""
    fleet = Fleet(stage, database_url)
    yield fleet
    fleet.close()


def told_of_promotion(member: Member) -> int:
    """How often a process said that the replica was promoted."""
    lines = [json.loads(line) for line in member.log.splitlines() if line.startswith("{")]
    return sum("was promoted by" in str(line.get("reason", "")) for line in lines)


@pytest.mark.long
def test_a_fleet_at_work_stops_for_a_promotion(stage: Stage, fleet: Fleet) -> None:
    """The service goes on without writing, other commands end with 6, and new settings turn."""
    stage.create("docs", count=RECORDS)
    stage.servers.replica_proxy.latency_seconds = 0.02
    members = [
        fleet.coordinator(), fleet.worker("one"), fleet.worker("two")
    ]  # fmt: skip
    fleet.until(lambda: len(stage.replica_writes()) > 3, "all are at work")
    mode = {"DATABASE_URL": fleet.database_url, "SYNC_DISTRIBUTED": "true"}
    mode |= {"SYNC_COORDINATOR": "true"}
    done = stage.command("promote", "--wait-for-fence", **mode)
    assert done.returncode == 0, done.stdout + done.stderr
    stage.servers.replica_proxy.latency_seconds = 0.0
    before = len(stage.replica_writes())
    stage.assert_identical()

    application_goes_on(stage)
    mine = every(stage)
    fleet.until(lambda: told_of_promotion(members[0]), "the coordinator tries in vain")
    assert stage.command("sync", **mode).returncode == DECIDE
    assert all(member.running for member in members)
    for member in members:
        member.send(signal.SIGTERM)
    assert [member.ended() for member in members] == [0, 0, 0]
    assert stage.replica_writes()[before:] == []
    assert every(stage) == mine
    assert fleet.store.direction().state is DirectionState.PROMOTED

    with watched(stage.servers.primary_proxy) as writes:
        fleet.coordinator("turned", **turned(stage))
        fleet.worker("turned-worker", **turned(stage))
        fleet.assert_converges()
    assert every(stage) == mine
    sent = {write.record_id for write in writes.records}
    made = set(mine["made-by-the-app"])
    assert sent == {*ADDED, "r3", "r7"} | made

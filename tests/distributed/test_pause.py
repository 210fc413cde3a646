"""A pause of real processes: all of them are quiet, stay quiet, and go on where they stopped."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from chromasync.app import Application
from chromasync.config import load_settings
from chromasync.model import CycleStatus
from chromasync.store.schema import tasks
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet, Member
from tests.store.samples import look
from tests.support.stage import Stage, fill, invoke_command
from tests.support.writes import watched

RECORDS = 1500
QUIET_SECONDS = 3.0
"""Longer than several intervals: processes that are not paused would ask the servers again."""


def command(stage: Stage, fleet: Fleet, *arguments: str) -> Any:
    """A command of an operator of this store, and its document."""
    done = invoke_command(*arguments, "--json", **stage.values(DATABASE_URL=fleet.database_url))
    return done.returncode, json.loads(done.stdout)


def lines(member: Member, event: str) -> list[dict[str, Any]]:
    """The log lines of one kind."""
    found = [json.loads(line) for line in member.log.splitlines() if line.startswith("{")]
    return [line for line in found if line["event"] == event]


def until_paused(fleet: Fleet, *members: Member) -> None:
    """Until each of them has noticed the pause, and no cycle and no task is in progress."""

    def quiet() -> bool:
        noticed = all(len(lines(m, "paused")) > len(lines(m, "resumed")) for m in members)
        processing = select(func.count()).where(tasks.c.task_status == "processing")
        running = [c for c in fleet.store.cycles(1) if c.status is CycleStatus.RUNNING]
        return noticed and not running and look(fleet.store, processing) == [(0,)]

    fleet.until(quiet, "all processes are paused")


def requests_of(stage: Stage) -> int:
    """Requests to either server so far."""
    servers = stage.servers
    return len(servers.primary_proxy.requests) + len(servers.replica_proxy.requests)


def assert_quiet(stage: Stage, fleet: Fleet) -> None:
    """For a while no request goes to either server."""
    before, since = requests_of(stage), fleet.store.now()
    fleet.until(
        lambda: (fleet.store.now() - since).total_seconds() > QUIET_SECONDS, "the time goes by"
    )
    assert requests_of(stage) == before


@pytest.fixture(params=["fleet", "single"])
def members(
    request: pytest.FixtureRequest, make_fleet: MakeFleet, database_url: str, tmp_path: Path
) -> Iterator[tuple[Fleet, list[Member]]]:
    """A coordinator with two workers over PostgreSQL, or one process over SQLite; not started."""
    if request.param == "single":
        fleet = make_fleet(f"sqlite:///{tmp_path}/state.db", SYNC_INTERVAL="0.2")
        yield fleet, [fleet.single()]
        return
    fleet = make_fleet(database_url, SYNC_INTERVAL="0.2")
    yield fleet, [fleet.coordinator(), fleet.worker("one"), fleet.worker("two")]


@pytest.mark.long
def test_a_pause_in_a_first_copy(stage: Stage, members: tuple[Fleet, list[Member]]) -> None:
    """All processes stop with tasks in hand, stay quiet through a restart, and lose nothing."""
    fleet, crew = members
    stage.servers.replica_proxy.latency_seconds = 0.05
    fleet.until_active(*crew)
    stage.create("docs", count=RECORDS)
    with watched(stage.servers.replica_proxy) as writes:
        before = len(stage.replica_writes())
        fleet.until(lambda: len(stage.replica_writes()) > before + 5, "the copy is under way")
        code, document = command(stage, fleet, "pause", "--reason", "disk swap")
        assert (code, document["is_paused"]) == (0, True)
        until_paused(fleet, *crew)
        assert len(stage.on_replica().get(include=[])["ids"]) < RECORDS, "it was in the middle"
        assert_quiet(stage, fleet)

        crew[0].send(signal.SIGTERM)
        assert crew[0].ended() == 0, crew[0].log
        crew[0] = fleet.start("again", **roles_of(crew[0]))
        fleet.until_active(crew[0])
        until_paused(fleet, *crew)
        assert_quiet(stage, fleet)
        (line,) = lines(crew[0], "paused")
        assert line["reason"] == "disk swap"

        lag = command(stage, fleet, "status")[1]
        assert lag["is_paused"]
        assert lag["control"]["pause_reason"] == "disk swap"
        assert command(stage, fleet, "sync")[0] == 4
        assert command(stage, fleet, "resume")[1]["was_paused"]
        fleet.assert_converges()
    sent = Counter(w.record_id for w in writes.records if w.action != "delete")
    assert sum(sent.values()) < 1.3 * RECORDS, "what was copied before is not copied again"
    assert look(fleet.store, select(func.max(tasks.c.retry_count))) == [(0,)]


def roles_of(member: Member) -> dict[str, str]:
    """The environment of a process that takes this one's place."""
    if member.name == "single":
        return {"SYNC_DISTRIBUTED": "false"}
    return {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "true"}


@pytest.mark.long
def test_a_pause_ends_by_itself_and_the_lag_grows_in_it(
    stage: Stage, members: tuple[Fleet, list[Member]]
) -> None:
    """Identical as of stays where it was; when the time is over, changes are copied again."""
    fleet, crew = members
    docs = stage.create("docs", count=60)
    fleet.until_active(*crew)
    fleet.until_identical()
    with Application.open(load_settings(stage.values(DATABASE_URL=fleet.database_url))) as app:
        app.pause(600.0)
        until_paused(fleet, *crew)
        before = app.status()
        fill(docs, 30, start=60)
        assert_quiet(stage, fleet)
        after = app.status()
        assert before.identical_as_of == after.identical_as_of
        assert before.lag_seconds is not None
        assert after.lag_seconds is not None
        assert after.lag_seconds > before.lag_seconds + QUIET_SECONDS - 0.5
        report = app.pause(2.0)
        assert report.was_paused
        fleet.until(lambda: not app.status().is_paused, "the pause ran out")
    fleet.assert_converges()


@pytest.mark.long
def test_the_users_own_reads_go_on_in_a_pause(stage: Stage, fleet: Fleet) -> None:
    """`plan` and `verify` are asked for by hand, so a pause of the service does not stop them."""
    stage.create("docs", count=60)
    leader = fleet.coordinator()
    fleet.until_identical()
    command(stage, fleet, "pause")
    until_paused(fleet, leader)
    assert command(stage, fleet, "plan")[0] == 0
    assert command(stage, fleet, "verify")[0] == 0

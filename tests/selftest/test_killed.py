"""A self-test is killed with all its processes: who minds what it leaves, and who removes it."""

from __future__ import annotations

import json
import signal
from datetime import datetime
from pathlib import Path

import pytest

from chromasync.model import Cycle, CycleStatus
from chromasync.reports import Outcome
from chromasync.trials import PREFIX
from tests.chaos.profile import NIGHTLY
from tests.distributed.fleet import Fleet
from tests.selftest.processes import (
    COMMAND,
    assert_nothing_left,
    configured,
    read_until,
    run,
    running,
    spoken,
    until_gone,
)
from tests.selftest.test_running_coordinator import STEADY
from tests.support.stage import Stage

IN_THE_MIDDLE = "\nimport chromasync.lab.selftest.acts as acts\nacts.Play.change = wait\n"
IN_THE_CLEAN_UP = """
import chromasync.lab.selftest.cleanup as cleanup
drop = cleanup._drop
def half(writer, trials, places):
    drop(writer, trials, places)
    wait()
cleanup._drop = half
"""
"""It has dropped its collections on the primary, and not yet on the replica."""
PAUSED = """
import sys, threading
def wait(*_):
    print("paused", flush=True)
    threading.Event().wait()
"""
KILLS = {"middle": (IN_THE_MIDDLE, [2, 2])}
if NIGHTLY:
    KILLS["end"] = (IN_THE_CLEAN_UP, [0, 2])


def names(stage: Stage) -> list[list[str]]:
    """The names of the self-tests' collections on either side."""
    return [
        sorted(c.name for c in client.list_collections() if c.name.startswith(PREFIX))
        for client in (stage.primary, stage.replica)
    ]


def kill_one(stage: Stage, folder: Path, where: str, **settings: str) -> None:
    """Run a self-test up to there, and kill it; its processes end by themselves."""
    program = f"{PAUSED}{where}from chromasync.cli import main\nmain()"
    values = configured(stage) | settings
    with running(folder, "-c", program, "selftest", **values) as process:
        read_until(process, "paused")
        process.send_signal(signal.SIGKILL)
        process.wait()
    until_gone(folder)


def assert_left_alone(stage: Stage) -> None:
    """Cycles, plans and the status know nothing of what is there."""
    before = names(stage)
    for _ in range(3):
        report = stage.sync()
        assert (report.outcome, report.holds, report.counts.applied) == (Outcome.IDENTICAL, (), 0)
        assert [c.name for c in report.collections] == ["docs"]
    assert [r.exit_code for r in (stage.plan(), stage.verify(), stage.status())] == [0, 0, 0]
    with stage.app() as app:
        (told,) = (c for c in app.doctor().checks if c.name == "collections")
    assert told.ok
    assert "1 on the primary, 1 on the replica" in told.detail
    assert "The next `chromasync selftest` removes" in told.detail
    assert names(stage) == before


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.parametrize(("where", "left"), KILLS.values(), ids=KILLS)
def test_what_a_killed_self_test_left_is_left_alone_and_removed_by_the_next(
    stage: Stage, scratch: Path, where: str, left: list[int]
) -> None:
    """No cycle mirrors, holds, drops or counts it; the next self-test removes it and passes."""
    stage.create("docs", count=60)
    stage.sync()
    kill_one(stage, scratch / "killed", where)
    assert [len(side) for side in names(stage)] == left
    assert_left_alone(stage)
    result = run(scratch / "next", *COMMAND, **configured(stage))
    assert result.returncode == 0, spoken(result)
    assert "Removed first: 2 collections" in result.stdout
    assert_nothing_left(stage, scratch / "next")
    with stage.app() as app:
        assert app.store.known_trials() == set()
    stage.assert_quiet()


@pytest.mark.longest
@pytest.mark.long
def test_a_self_test_with_another_store_does_not_touch_a_living_one(
    stage: Stage, scratch: Path
) -> None:
    """Its collections say that they may be in use; after its time, or with its store, they go."""
    kill_one(stage, scratch / "killed", IN_THE_MIDDLE)
    before = names(stage)
    elsewhere = {"SYNC_DATA_DIR": str(scratch / "other-state")}
    result = run(scratch / "other", *COMMAND, **configured(stage) | elsewhere)
    assert result.returncode == 0, spoken(result)
    assert names(stage) == before
    assert run(scratch / "next", *COMMAND, **configured(stage)).returncode == 0
    assert names(stage) == [[], []]


def ended_after(fleet: Fleet, instant: datetime) -> list[Cycle]:
    """Cycles that began after that and have ended."""
    cycles = fleet.store.cycles(50)
    return [c for c in cycles if c.started_at > instant and c.finished_at is not None]


@pytest.mark.longest
@pytest.mark.long
def test_beside_a_coordinator_and_a_worker_a_killed_one_leaves_no_hold(
    stage: Stage, fleet: Fleet, scratch: Path
) -> None:
    """The coordinator had mirrored its collections; from then on it leaves them alone."""
    stage.create("docs", count=100)
    members = [fleet.coordinator(**STEADY), fleet.worker(**STEADY)]
    fleet.until_identical()
    settings = STEADY | {"DATABASE_URL": fleet.database_url}
    kill_one(stage, scratch / "killed", IN_THE_MIDDLE, **settings)
    assert [len(side) for side in names(stage)] == [2, 2]
    asked_at = fleet.store.now()
    fleet.until(lambda: len(ended_after(fleet, asked_at)) > 2, "three cycles after the kill")
    assert {c.status for c in ended_after(fleet, asked_at)} == {CycleStatus.COMPLETED}
    assert fleet.store.holds() == []
    with stage.app(**settings) as app:
        assert [c.name for c in app.status().collections] == ["docs"]
    result = run(
        scratch / "next", *COMMAND, "--json", "--timeout", "60", **configured(stage) | settings
    )
    assert result.returncode == 0, spoken(result)
    assert json.loads(result.stdout)["coordinator"] == "running"
    assert "Removed first: 2 collections" in result.stderr
    fleet.assert_converges()
    assert_nothing_left(stage, scratch / "next")
    assert all(member.running for member in members)

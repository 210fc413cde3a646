"""Roles by environment alone: who leads, who works, and how the work is shared."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from sqlalchemy import func, select

from chromasync.model import WorkerStatus
from chromasync.store.schema import leases, tasks
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet, skewed
from tests.store.samples import look
from tests.support.stage import Stage, fill, invoke_command


def tasks_by_worker(fleet: Fleet) -> dict[str, int]:
    """Completed tasks by worker, as the guide counts them."""
    counted = select(tasks.c.worker_id, func.count()).where(tasks.c.task_status == "completed")
    return dict(look(fleet.store, counted.group_by(tasks.c.worker_id)))


def term(fleet: Fleet) -> tuple[str, int]:
    """Who leads, and in which term."""
    ((holder, token),) = look(fleet.store, select(leases.c.holder, leases.c.token))
    return holder, token


@pytest.mark.long
def test_one_process_with_distributed_mode_on_completes_its_own_tasks(
    stage: Stage, fleet: Fleet
) -> None:
    """The guide's phase 1: the coordinator works, too."""
    stage.create("docs", count=110)
    alone = fleet.coordinator()
    fleet.assert_converges()
    (beat,) = fleet.beats(alone)
    assert tasks_by_worker(fleet) == {beat.worker_id: 5}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["postgresql", "sqlite"])
def test_workers_share_the_work_evenly(
    stage: Stage, make_fleet: MakeFleet, database_url: str, tmp_path: Path, kind: str
) -> None:
    """A coordinator that only plans and three workers: each does its part of a first copy."""
    url = database_url if kind == "postgresql" else f"sqlite:///{tmp_path}/shared.db"
    fleet = make_fleet(url, SYNC_WORKERS="1", SYNC_CHUNK_SIZE="10")
    workers = [fleet.worker(f"worker-{n}") for n in range(3)]
    fleet.until_active(*workers)
    stage.create("docs", count=1500)
    planner = fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    fleet.assert_converges()
    done = tasks_by_worker(fleet)
    assert set(done) == {beat.worker_id for beat in fleet.beats(*workers)}
    assert sum(done.values()) >= 150
    assert max(done.values()) < 2 * min(done.values()), done
    assert all(beat.memory_mb > 20 for beat in fleet.beats(planner, *workers))


@pytest.mark.long
def test_a_second_coordinator_stands_by_and_works(stage: Stage, fleet: Fleet) -> None:
    """One leads; when it is told to stop, the other leads at once and nothing is stuck."""
    stage.create("docs", count=500)
    first = fleet.coordinator("first")
    fleet.until(lambda: fleet.store.cycles(1), "a first cycle")
    second = fleet.coordinator("second")
    fleet.until_active(first, second)
    fleet.assert_converges()
    holder, number = term(fleet)
    assert f":{first.process.pid}:" in holder
    first.send(signal.SIGTERM)
    assert first.ended() == 0
    fill(stage.primary.get_collection("docs", embedding_function=None), 100, start=500)
    fleet.assert_converges()
    holder, later = term(fleet)
    assert f":{second.process.pid}:" in holder
    assert later == number + 1
    assert [beat.status for beat in fleet.beats(first)] == [WorkerStatus.STOPPED]


@pytest.mark.long
def test_two_workers_of_the_same_name_do_no_harm(stage: Stage, fleet: Fleet) -> None:
    """Rights hang on fences, never on names: both work, nothing is lost, nobody is charged."""
    same_name = "from chromasync import role\nrole.process_name = lambda: 'twin'"
    twins = [fleet.worker(f"twin-{n}", prelude=same_name) for n in range(2)]
    fleet.until(lambda: len(fleet.store.workers()) == 1, "a proof of life")
    stage.create("docs", count=1000)
    stage.servers.replica_proxy.latency_seconds = 0.02
    fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    fleet.assert_converges()
    assert set(tasks_by_worker(fleet)) == {"twin"}
    assert look(fleet.store, select(func.count()).where(tasks.c.retry_count > 0)) == [(0,)]
    for twin in twins:
        twin.send(signal.SIGTERM)
        assert twin.ended() == 0, twin.log


@pytest.mark.long
def test_clocks_that_differ_do_not_matter(stage: Stage, fleet: Fleet) -> None:
    """A coordinator ten minutes behind, a worker ten minutes ahead: the database's time counts."""
    stage.create("docs", count=300)
    fleet.coordinator("behind", prelude=skewed(-600), SYNC_COORDINATOR_WORKS="false")
    ahead = fleet.worker("ahead", prelude=skewed(600))
    fleet.assert_converges()
    before = fleet.store.now()
    fleet.until(
        lambda: all(
            b.last_heartbeat_at and b.last_heartbeat_at > before for b in fleet.beats(ahead)
        ),
        "another proof of life",
    )
    retried = select(func.count()).where(tasks.c.retry_count > 0)
    assert look(fleet.store, retried) == [(0,)]
    (beat,) = fleet.beats(ahead)
    assert beat.last_heartbeat_at is not None
    assert abs((fleet.store.now() - beat.last_heartbeat_at).total_seconds()) < 300


@pytest.mark.long
def test_a_one_off_cycle_in_distributed_mode(stage: Stage, fleet: Fleet) -> None:
    """`sync` leads for one cycle; beside another leader, only a cycle of its own is refused."""
    stage.create("docs", count=110)
    roles = {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "true", "SYNC_CHUNK_SIZE": "25"}
    settings = stage.values(DATABASE_URL=fleet.database_url) | roles
    done = invoke_command("sync", **settings)
    assert done.returncode == 0, done.stderr
    stage.assert_identical()
    fleet.coordinator()
    fleet.until_identical()
    refused = invoke_command("sync", "--adopt", **settings)
    assert refused.returncode == 5, refused.stderr


@pytest.mark.long
def test_a_second_single_process_ends(stage: Stage, fleet: Fleet) -> None:
    """It waits as long as a leader that was killed would keep the lead, then ends with 5."""
    stage.create("docs", count=30)
    first = fleet.single("first", SYNC_LEAD_SECONDS="2")
    fleet.until_identical()
    second = fleet.single("second", SYNC_LEAD_SECONDS="2")
    assert second.ended() == 5, second.log
    assert "leads on this state store" in second.log
    assert first.running
    third = fleet.single("third", SYNC_LEAD_SECONDS="60")
    fleet.until(lambda: "waits for the lead" in third.log, "it waits")
    third.send(signal.SIGTERM)
    assert third.ended() == 0, third.log


def test_a_worker_needs_a_store_that_others_share(stage: Stage) -> None:
    """Without DATABASE_URL it would wait for ever on a file of its own: it says so, exit 2."""
    roles = {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "false"}
    refused = invoke_command("run", **(stage.values() | roles))
    assert refused.returncode == 2
    assert "DATABASE_URL" in refused.stderr
    planning = invoke_command("sync", **(stage.values() | roles))
    assert planning.returncode == 2
    assert "does not plan" in planning.stderr

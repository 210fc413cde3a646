"""Processes frozen past their lease: when they wake, they can do no harm that stays."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import select

from chromasync import faultpoints
from chromasync.model import CycleStatus
from chromasync.store.schema import leases, tasks
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet, Member
from tests.store.samples import look
from tests.support.stage import Stage, vectors

SHORT = {"SYNC_LEASE_SECONDS": "2", "SYNC_LEAD_SECONDS": "2", "SYNC_WORKERS": "1"}
POINTS = [
    faultpoints.AFTER_READ,
    faultpoints.BEFORE_SEND,
    faultpoints.MID_WRITE,
    faultpoints.AFTER_WRITE,
]


@pytest.fixture
def fleet(make_fleet: MakeFleet, database_url: str) -> Fleet:
    """Processes with short leases."""
    return make_fleet(database_url, **SHORT)


def until_frozen(fleet: Fleet, member: Member) -> None:
    """Until a process has stopped itself."""

    def frozen() -> bool:
        with open(f"/proc/{member.process.pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] == "T"

    fleet.until(frozen, f"{member.name} is frozen")


@pytest.mark.long
@pytest.mark.parametrize("point", POINTS)
def test_a_worker_that_wakes_too_late(stage: Stage, fleet: Fleet, point: str) -> None:
    """Frozen with old content in its hands, rescued from, and woken: the newer content stays."""
    docs = stage.create("docs", space="l2", count=50)
    zombie = fleet.worker("zombie", CHROMASYNC_FAULTPOINT=point, CHROMASYNC_FAULT="stop")
    fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    until_frozen(fleet, zombie)
    ((task_id, fence),) = look(
        fleet.store, select(tasks.c.id, tasks.c.fence).where(tasks.c.task_status == "processing")
    )
    docs.update(
        ids=[f"r{n}" for n in range(50)],
        embeddings=vectors(50, seed=99),
        documents=[f"newer text {n}" for n in range(50)],
    )
    fleet.worker("heir")
    fleet.assert_converges()

    zombie.send(signal.SIGCONT)
    fleet.until(lambda: '"lease lost"' in zombie.log or '"completion refused"' in zombie.log, point)
    fleet.assert_converges()

    row = select(tasks.c.task_status, tasks.c.worker_id, tasks.c.fence).where(tasks.c.id == task_id)
    ((status, worker, later_fence),) = look(fleet.store, row)
    assert status == "completed"
    assert later_fence > fence
    assert f":{zombie.process.pid}:" not in worker, "the zombie's completion was refused"
    assert zombie.running, "it goes on as a worker"


@pytest.mark.long
@pytest.mark.parametrize("point", [faultpoints.AFTER_PLAN, faultpoints.MID_PRUNE])
def test_a_leader_that_wakes_too_late(stage: Stage, fleet: Fleet, point: str) -> None:
    """It is replaced within its time, and when it wakes it can do nothing but stand by."""
    docs = stage.create("docs", count=200)
    fleet.single("first").send(signal.SIGCONT)
    fleet.assert_converges()
    fleet.members[0].send(signal.SIGTERM)
    fleet.members[0].ended()
    docs.delete(ids=["r7", "r8"])
    frozen = fleet.coordinator("frozen", CHROMASYNC_FAULTPOINT=point, CHROMASYNC_FAULT="stop")
    until_frozen(fleet, frozen)
    ((_, term),) = look(fleet.store, select(leases.c.holder, leases.c.token))
    doomed_cycle = fleet.store.cycles(1)[0]

    heir = fleet.coordinator("heir")
    docs.add(ids=["r7"], embeddings=vectors(1, seed=3), documents=["it is back"])
    fleet.assert_converges()

    frozen.send(signal.SIGCONT)
    fleet.until(lambda: "no longer leads" in frozen.log, "the frozen leader notices")
    fleet.assert_converges()
    ((holder, later),) = look(fleet.store, select(leases.c.holder, leases.c.token))
    assert later == term + 1
    assert f":{heir.process.pid}:" in holder
    cycles = {cycle.id: cycle.status for cycle in fleet.store.cycles(1000)}
    assert cycles[doomed_cycle.id] is CycleStatus.ABANDONED

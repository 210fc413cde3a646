"""Processes killed at named points: their work goes on elsewhere and nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from chromasync import faultpoints
from chromasync.model import WorkerStatus
from chromasync.store.schema import leases, tasks
from tests.chaos.profile import NIGHTLY
from tests.chaos.scenes import SETTINGS, arrange_changes, arrange_first_copy
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet
from tests.store.samples import look
from tests.support.stage import Stage

SHORT = {"SYNC_LEASE_SECONDS": "4", "SYNC_LEAD_SECONDS": "4"}
OF_A_WORKER = {
    faultpoints.AFTER_CLAIM: 3,
    faultpoints.AFTER_READ: 3,
    faultpoints.BEFORE_SEND: 3,
    faultpoints.MID_WRITE: 3,
    faultpoints.AFTER_WRITE: 3,
    faultpoints.AFTER_COMPLETE: 3,
    faultpoints.AFTER_COMMIT: 11,
}
LEAVES_A_TASK = set(OF_A_WORKER) - {faultpoints.AFTER_COMPLETE, faultpoints.AFTER_COMMIT}
OF_A_LEADER = [
    faultpoints.AFTER_OPEN,
    faultpoints.AFTER_COLLECTION_CREATED,
    faultpoints.BETWEEN_RENAMES,
    faultpoints.AFTER_WALK,
    faultpoints.AFTER_PLAN,
    faultpoints.MID_PRUNE,
    faultpoints.BEFORE_DROP,
    faultpoints.BEFORE_CLOSE,
]
IN_CI = {faultpoints.AFTER_COLLECTION_CREATED, faultpoints.AFTER_PLAN, faultpoints.MID_PRUNE}


@pytest.fixture
def fleet(make_fleet: MakeFleet, database_url: str) -> Iterator[Fleet]:
    """Processes with short leases; when all is over, no task is left without a live holder."""
    fleet = make_fleet(database_url, **SHORT, SYNC_WORKERS="1")
    yield fleet
    for member in fleet.members:
        member.kill()
    held = select(tasks.c.id, tasks.c.worker_id).where(tasks.c.task_status == "processing")
    dead = {b.worker_id for b in fleet.store.workers() if b.status is WorkerStatus.DEAD}
    assert not dead.intersection(worker for _, worker in look(fleet.store, held))


@pytest.mark.long
@pytest.mark.parametrize(("point", "nth"), OF_A_WORKER.items(), ids=list(OF_A_WORKER))
def test_a_killed_workers_chunk_runs_elsewhere(
    stage: Stage, fleet: Fleet, point: str, nth: int
) -> None:
    """After SIGKILL in the middle of a task another worker does it; both sides are identical."""
    arrange_first_copy(stage)
    doomed = fleet.worker("doomed", CHROMASYNC_FAULTPOINT=f"{point}:{nth}")
    fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
    assert doomed.ended() == -signal.SIGKILL, doomed.log
    fleet.worker("heir")
    fleet.assert_converges()
    retried = select(tasks.c.error_message, tasks.c.retry_count).where(tasks.c.retry_count > 0)
    charged = look(fleet.store, retried)
    if point in LEAVES_A_TASK:
        assert charged == [(None, 1)], "the one task at hand was charged once, and then completed"
    else:
        assert len(charged) <= 1


@pytest.mark.long
@pytest.mark.parametrize("point", OF_A_LEADER if NIGHTLY else sorted(IN_CI))
def test_a_killed_leader_is_replaced(stage: Stage, fleet: Fleet, point: str) -> None:
    """After SIGKILL of the leader at any step, the one that stands by finishes the work."""
    stage.overrides["DATABASE_URL"] = fleet.database_url
    arrange_changes(stage)
    ((before,),) = look(fleet.store, select(leases.c.token))
    doomed = fleet.coordinator("doomed", CHROMASYNC_FAULTPOINT=point, **SETTINGS)
    fleet.until(
        lambda: look(fleet.store, select(leases.c.token)) == [(before + 1,)], "the first leads"
    )
    fleet.coordinator("heir", **SETTINGS)
    assert doomed.ended() == -signal.SIGKILL, doomed.log
    fleet.assert_converges()
    assert look(fleet.store, select(leases.c.token)) == [(before + 2,)]


@pytest.mark.long
def test_leaders_killed_again_and_again(stage: Stage, fleet: Fleet) -> None:
    """Three leaders in a row die in the middle of a first copy; what was done is not done again."""
    arrange_first_copy(stage)
    for nth in range(3):
        doomed = fleet.coordinator(
            f"doomed-{nth}", CHROMASYNC_FAULTPOINT=f"{faultpoints.AFTER_COMPLETE}:2"
        )
        assert doomed.ended() == -signal.SIGKILL, doomed.log
    fleet.coordinator("heir")
    fleet.assert_converges()

"""A service that ran well outlasts what servers and people do to it."""

from __future__ import annotations

import pytest

from chromasync.model import CycleStatus
from tests.chaos.faults import chroma_error
from tests.distributed.fleet import Fleet
from tests.support.stage import Stage, drop


def failed_cycles(fleet: Fleet) -> int:
    """Cycles that ended with an error, among the latest."""
    return sum(cycle.status is CycleStatus.FAILED for cycle in fleet.store.cycles(50))


@pytest.mark.long
def test_a_collection_dropped_on_the_replica_under_way(stage: Stage, fleet: Fleet) -> None:
    """Again and again, at any moment: each time it is copied anew, and no process ends."""
    stage.create("docs", count=200)
    stage.create("other", count=50)
    service = fleet.coordinator(SYNC_INTERVAL="0.1")
    fleet.assert_converges()
    for _ in range(4):
        drop(stage.replica, "docs")
        fleet.assert_converges()
    assert service.running, service.log


@pytest.mark.long
def test_a_server_that_refuses_for_a_while_is_waited_for(stage: Stage, fleet: Fleet) -> None:
    """Credentials that are refused end a service at its start, but not one that has worked."""
    stage.create("docs", count=50)
    proxy = stage.servers.replica_proxy
    service = fleet.coordinator()
    fleet.assert_converges()
    proxy.fault = lambda _: chroma_error(401, "not today")
    fleet.until(lambda: failed_cycles(fleet) > 0, "a cycle fails")
    late = fleet.single("late", SYNC_DATA_DIR=str(stage.folder / "late"), DATABASE_URL="")
    assert late.ended() == 4, late.log
    assert service.running, service.log
    proxy.fault = None
    fleet.assert_converges()

"""From one process to many and back, tasks in flight: nothing is lost, nothing copied again."""

from __future__ import annotations

import signal
from collections import Counter

import pytest
from sqlalchemy import select

from chromasync.store.schema import tasks
from tests.distributed.conftest import MakeFleet
from tests.distributed.fleet import Fleet, Member
from tests.store.samples import look
from tests.support.stage import Stage, fill
from tests.support.writes import watched

RECORDS = 1200


def switch(fleet: Fleet, members: list[Member], how: signal.Signals) -> None:
    """End processes in the middle of their work: each has done a task and is at another."""

    def at_work() -> bool:
        names = {beat.worker_id for beat in fleet.beats(*members)}
        rows = look(fleet.store, select(tasks.c.worker_id, tasks.c.task_status).distinct())
        wanted = {(name, status) for name in names for status in ("completed", "processing")}
        return len(names) == len(members) and wanted <= {(n, str(s)) for n, s in rows}

    fleet.until(at_work, "all are at work")
    for member in members:
        member.send(how)
    for member in members:
        member.ended()


@pytest.mark.long
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
def test_every_phase_and_back_with_tasks_in_flight(
    stage: Stage, fleet: Fleet, how: signal.Signals
) -> None:
    """Single, phase 1, phase 2 with other chunk sizes, and the rollback: each record goes once."""
    stage.create("docs", count=RECORDS)
    stage.create("notes", space="l2", count=300)
    stage.servers.replica_proxy.latency_seconds = 0.02
    with watched(stage.servers.replica_proxy) as writes:
        switch(fleet, [fleet.single("phase-0")], how)
        switch(fleet, [fleet.coordinator("phase-1", SYNC_CHUNK_SIZE="40")], how)
        phase_2 = [
            fleet.coordinator("phase-2", SYNC_CHUNK_SIZE="10"),
            fleet.worker("worker-1", SYNC_CHUNK_SIZE="10"),
            fleet.worker("worker-2", SYNC_CHUNK_SIZE="10"),
        ]
        switch(fleet, phase_2, how)
        fleet.single("rollback")
        fleet.assert_converges()
    sent = Counter(write.record_id for write in writes.records if write.action != "delete")
    assert sum(sent.values()) == RECORDS + 300, "each record of both collections was sent once"
    stage.servers.replica_proxy.latency_seconds = 0.0

    docs = stage.primary.get_collection("docs", embedding_function=None)
    fill(docs, 30, start=RECORDS)
    docs.delete(ids=["r3"])
    fleet.assert_converges()


@pytest.mark.long
def test_a_fresh_store_adopts_what_is_there(
    stage: Stage, make_fleet: MakeFleet, fleet: Fleet, database_url_2: str
) -> None:
    """Another DATABASE_URL knows nothing; both sides are compared, and nothing is written."""
    stage.create("docs", count=300)
    first = fleet.single()
    fleet.assert_converges()
    first.send(signal.SIGTERM)
    first.ended()
    other = make_fleet(database_url_2)
    with watched(stage.servers.replica_proxy) as writes:
        other.coordinator()
        other.worker()
        other.assert_converges()
    assert writes.requests == []

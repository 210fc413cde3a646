"""A named database is deleted on the primary while a coordinator and workers share the work."""

from __future__ import annotations

import httpx2

from chromasync.model import CycleStatus, MirrorStatus
from tests.distributed.conftest import MakeFleet
from tests.support.stage import TENANT, Stage, add_plain, client_of, close_client, fill


def test_the_workers_go_on_with_the_others(
    stage: Stage, make_fleet: MakeFleet, database_url: str
) -> None:
    """New records of other databases arrive, what is missing stays, and no process ends."""
    gone = f"{stage.database}-hr"
    clients = [client_of(s.url, gone) for s in (stage.servers.primary, stage.servers.replica)]
    add_plain(clients[0].create_collection("people", embedding_function=None), 60)
    docs = stage.create("docs", count=100)
    fleet = make_fleet(database_url, SYNC_DATABASES=f"{stage.database},{gone}")
    members = [fleet.coordinator(SYNC_COORDINATOR_WORKS="false"), fleet.worker(), fleet.worker("b")]
    fleet.assert_converges()
    path = f"/api/v2/tenants/{TENANT}/databases/{gone}"
    httpx2.delete(f"{stage.servers.primary.url}{path}").raise_for_status()
    fill(docs, 100, start=100)

    def settled() -> bool:
        newest = fleet.store.cycles(1)[0]
        states = {mirror.name: mirror.status for mirror in fleet.store.mirrors()}
        ended = newest.status is CycleStatus.FAILED and gone in str(newest.error)
        there = clients[1].get_collection("people", embedding_function=None).count() == 60
        assert there
        copied = stage.on_replica("docs").count() == 200
        wanted = {"docs": MirrorStatus.IDENTICAL, "people": MirrorStatus.ERROR}
        return ended and copied and states == wanted

    fleet.until(settled, "the others are copied, and the cycle says what is missing")
    stage.assert_identical()
    assert fleet.store.holds() == []
    assert all(member.running for member in members)
    for client in clients:
        close_client(client)

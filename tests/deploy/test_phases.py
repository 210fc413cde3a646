from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from chromasync.lab.judge import judge
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.lab.proxy import RecordingProxy, Request
from tests.deploy.blueprint import PHASE_1, PHASE_2, ROLLBACK, Addresses, Blueprint
from tests.deploy.platform import Platform, platform
from tests.support.stage import Servers, client_of, close_client, fill, vectors
from tests.support.writes import is_of_mark

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

COLLECTIONS = 12
RECORDS = 250
LATENCY_SECONDS = 0.02
"""As between machines, so that one worker alone cannot be done before the others begin."""


class Scene:
    """Two real servers, a real PostgreSQL, and the platform that runs chromasync between them."""

    def __init__(self, servers: Servers, store_url: str, folder: Path) -> None:
        self.primary = client_of(servers.primary.url, "default_database")
        self.replica = client_of(servers.replica.url, "default_database")
        self.replica_proxy = servers.replica_proxy
        self.primary_proxy = servers.primary_proxy
        self.store = psycopg.connect(store_url, autocommit=True)
        addresses = Addresses(
            services={
                "chroma-primary": _host_and_port(servers.primary_proxy.url),
                "chroma-replica": _host_and_port(servers.replica_proxy.url),
            },
            databases={"chroma-sync-state": store_url},
        )
        self._running = platform(addresses, folder)
        self.platform: Platform = self._running.__enter__()

    def close(self) -> None:
        """End every process and connection."""
        self._running.__exit__(None, None, None)
        self.store.close()
        close_client(self.primary)
        close_client(self.replica)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows of a query, as an operator would see them; none while there is no table."""
        try:
            return list(self.store.execute(query.encode(), values))
        except psycopg.errors.UndefinedTable:
            return []

    def deploy(self, blueprint: Blueprint) -> list[str]:
        """Deploy, and wait until a cycle that began since found everything identical.

        Gives the ids of the workers that completed tasks since.
        """
        ((began,),) = self.ask("SELECT clock_timestamp()")
        self.platform.deploy(blueprint, self._works)
        self.platform.wait_until("a cycle that ends identical", lambda: self._identical(began))
        finished = "SELECT DISTINCT worker_id FROM sync_tasks WHERE task_status = 'completed'"
        return [worker for (worker,) in self.ask(f"{finished} AND completed_at > %s", began)]

    def _works(self, pid: int) -> bool:
        return bool(self.ask("SELECT 1 FROM sync_workers WHERE pid = %s", pid))

    def _identical(self, since: object) -> bool:
        query = "SELECT sync_status, last_sync_attempt > %s AND last_successful_sync > %s"
        rows = self.ask(f"{query} FROM sync_collections", since, since)
        names = self.primary.count_collections()
        return len(rows) == names and all(row == ("identical", True) for row in rows)

    def active(self) -> int:
        """How many workers say that they are active."""
        ((count,),) = self.ask("SELECT count(*) FROM sync_workers WHERE worker_status = 'active'")
        return int(count)

    def assert_expected_results(self, workers: int) -> None:
        """The guide's expected results: workers active, nothing pending, both sides equal."""
        self.platform.wait_until(f"{workers} active workers", lambda: self.active() == workers)
        assert not self.ask("SELECT * FROM sync_tasks WHERE task_status <> 'completed'")
        counts = "SELECT collection_name, primary_document_count, replica_document_count"
        rows = self.ask(f"{counts} FROM sync_collections")
        assert len(rows) == self.primary.count_collections()
        assert all(ours == theirs for _, ours, theirs in rows)
        judgement = judge(self.primary, self.replica)
        assert judgement.identical, (str(judgement), judgement.examples)
        assert self.primary_proxy.writes() == []

    def writes_but_marks(self) -> list[Request]:
        """What was written to the replica since the proxy was reset, but for the mark."""
        return [request for request in self.replica_proxy.writes() if not is_of_mark(request)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A deployment of its own, and everything it stands on."""
    from chromasync.lab.chroma_server import ChromaServer

    with (
        ChromaServer() as primary,
        ChromaServer() as replica,
        RecordingProxy(primary.url, refuse_writes=True) as reads,
        RecordingProxy(replica.url, latency_seconds=LATENCY_SECONDS) as writes,
        LocalPostgres(durable=False) as postgres,
    ):
        servers = Servers(primary, replica, reads, writes)
        scene = Scene(servers, postgres.database("state"), tmp_path_factory.mktemp("platform"))
        try:
            yield scene
        finally:
            scene.close()


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_phases_of_the_guide_and_the_way_back(scene: Scene) -> None:
    """Phase 0, 1, 2 and the rollback, each by the guide's edit, give the guide's results."""
    shipped = Blueprint.shipped()
    for number in range(COLLECTIONS):
        collection = scene.primary.create_collection(f"docs-{number}", embedding_function=None)
        fill(collection, RECORDS, seed=number)
    assert scene.platform.is_healthy(shipped)  # before the first cycle, too
    assert len(scene.deploy(shipped)) == 1
    scene.assert_expected_results(workers=1)

    phase_1 = shipped.with_values(PHASE_1)
    scene.replica_proxy.reset()
    scene.deploy(phase_1)
    scene.assert_expected_results(workers=1)
    assert scene.writes_but_marks() == []  # what was copied in phase 0 is not copied again

    change(scene.primary)
    phase_2 = phase_1.with_service(PHASE_2)
    assert len(scene.deploy(phase_2)) >= 2
    scene.assert_expected_results(workers=3)
    assert scene.platform.is_healthy(phase_2)

    scene.replica_proxy.reset()
    scene.deploy(phase_2.with_values(ROLLBACK))  # the guide leaves the workers' service in place
    scene.assert_expected_results(workers=3)
    assert scene.writes_but_marks() == []

    change(scene.primary, start=2 * RECORDS)
    scene.deploy(shipped)
    scene.assert_expected_results(workers=1)
    assert {path.suffix for path in scene.platform.folder.iterdir()} == {".log"}  # no state here


def change(primary: ClientAPI, start: int = RECORDS) -> None:
    """Add, change and delete some records of every collection, and add a collection."""
    for found in primary.list_collections():
        collection = primary.get_collection(found.name, embedding_function=None)
        fill(collection, RECORDS, start=start)
        collection.update(ids=["r1", "r2"], documents=["one", "two"], embeddings=vectors(2))
        collection.delete(ids=[f"r{start - 1}", f"r{start - 2}"])
    fill(primary.create_collection(f"new-{start}", embedding_function=None), 50)


def _host_and_port(url: str) -> str:
    """As the platform gives the address of a private service: without a scheme."""
    return url.removeprefix("http://")

"""Servers and networks that misbehave during cycles: a clear end, no wrong delete, then identical."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from chromasync.app import Application
from chromasync.chroma import Connection
from chromasync.errors import ChromasyncError, ServerUnreachable
from chromasync.model import Side
from chromasync.reports import Outcome
from chromasync.testing.proxy import Fault, RecordingProxy, Request
from tests.chaos.faults import GATEWAY, MAKERS, RandomFaults, calm
from tests.chaos.profile import NIGHTLY
from tests.support.rest import Rest
from tests.support.stage import Stage, fill, vectors

SETTINGS = {"SYNC_CHUNK_SIZE": "20", "SYNC_HTTP_TIMEOUT": "0.3"}
KEPT = {f"r{n}" for n in range(60, 100)}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated as often as ever, but sooner."""
    real = Application.connection

    def connection(app: Application, side: Side) -> Connection:
        return replace(real(app, side), wait_initial_seconds=0.005, wait_max_seconds=0.02)

    monkeypatch.setattr(Application, "connection", connection)


def arrange(stage: Stage) -> None:
    """An identical pair, then changes of every kind; `KEPT` stay on the primary untouched."""
    stage.create(count=100)
    stage.create("notes", space="l2", count=30)
    stage.sync(**SETTINGS)
    docs = stage.primary.get_collection("docs", embedding_function=None)
    docs.delete(ids=[f"r{n}" for n in range(10)])
    with Rest(stage.servers.primary.url, stage.database) as rest:
        rest.write("update", ids=[f"r{n}" for n in range(20, 40)], documents=["new"] * 20)
    fill(docs, 60, start=200)
    fill(docs, 20, start=40, seed=3)
    stage.create("later", space="ip", count=30)
    stage.primary.get_collection("notes", embedding_function=None).modify(name="renamed")


def sync_among_faults(stage: Stage, proxy: RecordingProxy, faults: RandomFaults) -> None:
    """One cycle that finishes, or ends with an error that people can act on."""
    proxy.fault = faults
    try:
        report = stage.sync(**SETTINGS)
        assert report.exit_code in (0, 4)
    except ChromasyncError as error:
        assert error.exit_code in (3, 4), error
        assert error.what
        assert error.hint or error.untouched, error
    finally:
        calm(proxy)
    assert set(stage.on_replica().get(include=[])["ids"]) >= KEPT


def assert_clean_afterwards(stage: Stage) -> None:
    """One clean cycle converges, and the next one has nothing to do."""
    stage.overrides = {"SYNC_CHUNK_SIZE": SETTINGS["SYNC_CHUNK_SIZE"]}
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL, (report.collections, report.quarantined)
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.parametrize("side", ["primary", "replica"])
@pytest.mark.parametrize("kind", MAKERS)
def test_one_kind_of_fault_again_and_again(stage: Stage, kind: str, side: str) -> None:
    """A third of the requests to one side fails in one way, from the first to the last."""
    arrange(stage)
    servers = stage.servers
    proxy = servers.primary_proxy if side == "primary" else servers.replica_proxy
    faults = RandomFaults(seed=1, share=0.33, kinds=[kind])
    sync_among_faults(stage, proxy, faults)
    assert faults.played > 0
    assert_clean_afterwards(stage)


@pytest.mark.parametrize("seed", range(40 if NIGHTLY else 3))
def test_a_mix_of_faults_on_both_sides(stage: Stage, seed: int) -> None:
    """Several cycles among all kinds of faults, the primary changing in between."""
    arrange(stage)
    servers = stage.servers
    servers.replica_proxy.fault = faults = RandomFaults(seed, share=0.1, kinds=list(MAKERS))
    servers.replica_proxy.latency_seconds = 0.005
    docs = stage.primary.get_collection("docs", embedding_function=None)
    for cycle in range(4):
        sync_among_faults(
            stage, servers.primary_proxy, RandomFaults(100 + seed + cycle, 0.1, list(MAKERS))
        )
        docs.delete(ids=[f"r{200 + cycle}"])
        docs.update(ids=[f"r{210 + cycle}"], metadatas=[{"n": None, "cycle": cycle}])  # type: ignore[dict-item]
        fill(docs, 5, start=300 + 5 * cycle)
    calm(servers.replica_proxy)
    assert faults.played > 0
    assert_clean_afterwards(stage)


@pytest.mark.parametrize("side", ["primary", "replica"])
@pytest.mark.parametrize("ending", ["/get", "/upsert", "/update", "/delete", "/count", ""])
def test_a_server_that_fails_one_kind_of_request_for_a_whole_cycle(
    stage: Stage, side: str, ending: str
) -> None:
    """Each of these requests is answered with 500 throughout; afterwards nothing is set aside."""
    arrange(stage)
    servers = stage.servers
    proxy = servers.primary_proxy if side == "primary" else servers.replica_proxy

    def is_one(request: Request) -> bool:
        return request.path.endswith(ending) if ending else request.method == "GET"

    sync_among_faults(stage, proxy, RandomFaults(0, 1.0, ["500"], is_one))
    assert_clean_afterwards(stage)


@pytest.mark.parametrize("ending", ["/upsert", "/update", "/delete", "/get"])
def test_a_server_that_was_broken_is_not_blamed_on_the_records(stage: Stage, ending: str) -> None:
    """Few records, none of which got through: as soon as the server takes them, they are sent."""
    small = stage.create(count=5, metadata=None)
    if ending != "/upsert":
        stage.sync()
        small.update(ids=["r0"], metadatas=[{"n": 100}])
        small.delete(ids=["r1", "r2"])
        small.add(ids=["r1"], embeddings=vectors(1))
    faults = RandomFaults(0, 1.0, ["500"], lambda request: request.path.endswith(ending))
    stage.servers.replica_proxy.fault = faults
    report = stage.sync()
    calm(stage.servers.replica_proxy)
    assert faults.played > 0
    assert report.outcome is not Outcome.IDENTICAL
    assert_clean_afterwards(stage)


def test_what_a_broken_off_chunk_had_written_is_not_forgotten(stage: Stage) -> None:
    """A record that was written, and deleted on the primary before it was recorded, goes too."""
    docs = stage.create(count=1500)
    stage.servers.replica_proxy.fault = faults = AfterFirstWrite()
    with pytest.raises(ServerUnreachable):
        stage.sync()
    stage.servers.replica_proxy.fault = None
    written = stage.on_replica().get(limit=20, include=[])["ids"]
    assert faults.failed
    assert len(written) == 20
    docs.delete(ids=written)
    assert_clean_afterwards(stage)


class AfterFirstWrite:
    """A fault hook: only the first write of records gets through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._through = False
        self.failed = False

    def __call__(self, request: Request) -> Fault | None:
        """What shall go wrong with this request."""
        if not request.path.endswith("/upsert"):
            return None
        with self._lock:
            self.failed = self._through
            self._through = True
            return GATEWAY if self.failed else None

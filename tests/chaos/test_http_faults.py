"""Servers and networks that misbehave in a cycle: a clear end, no wrong delete, then identical."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from chromasync.errors import ChromasyncError, ServerUnreachable
from chromasync.lab.proxy import Fault, RecordingProxy, Request
from chromasync.reconcile.read import LARGEST_BATCH
from chromasync.reports import Outcome
from tests.chaos.faults import GATEWAY, MAKERS, RandomFaults, calm
from tests.chaos.profile import NIGHTLY
from tests.support.rest import Rest
from tests.support.stage import Stage, fill, vectors
from tests.support.writes import writes_records

if TYPE_CHECKING:
    from chromadb import Collection

SETTINGS = {"SYNC_CHUNK_SIZE": "20", "SYNC_HTTP_TIMEOUT": "0.3"}
IN_CI = [
    "answer lost after it was applied",
    "truncated JSON",
    "web page with 200",
    "too many requests",
    "503",
    "applied, no answer before the timeout",
]
"""Faults that play alone in CI; the others do so each night, and all of them play in the mix."""
KEPT = {f"r{n}" for n in range(60, 100)}


pytestmark = pytest.mark.usefixtures("short_waits")


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


def change(docs: Collection, number: int) -> None:
    """A few more changes, other ones for each number."""
    docs.delete(ids=[f"r{200 + number}"])
    docs.update(ids=[f"r{210 + number}"], metadatas=[{"n": None, "number": number}])
    fill(docs, 5, start=300 + 5 * number)


@contextmanager
def reports_or_explains() -> Iterator[None]:
    """Whatever goes wrong is an error with a sentence, a hint and the right exit code."""
    failure: ChromasyncError | None = None
    try:
        yield
    except ChromasyncError as error:
        failure = error
    if failure is not None:
        assert failure.exit_code in (3, 4), failure
        assert failure.what
        assert failure.hint, failure


def sync_among_faults(stage: Stage, proxy: RecordingProxy, faults: RandomFaults) -> None:
    """One cycle that finishes, or ends with an error that people can act on."""
    proxy.fault = faults
    with reports_or_explains():
        report = stage.sync(**SETTINGS)
        assert report.exit_code in (0, 4)
    calm(proxy)
    assert set(stage.on_replica().get(include=[])["ids"]) >= KEPT


def assert_clean_afterwards(stage: Stage) -> None:
    """One clean cycle converges, and the next one has nothing to do."""
    stage.overrides = {"SYNC_CHUNK_SIZE": SETTINGS["SYNC_CHUNK_SIZE"]}
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL, (report.collections, report.quarantined)
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
@pytest.mark.parametrize("kind", MAKERS if NIGHTLY else IN_CI)
def test_one_kind_of_fault_again_and_again(stage: Stage, kind: str) -> None:
    """A third of the requests to one side, then to the other, fails in one way."""
    arrange(stage)
    docs = stage.primary.get_collection("docs", embedding_function=None)
    for seed, proxy in enumerate([stage.servers.primary_proxy, stage.servers.replica_proxy]):
        faults = RandomFaults(seed, share=0.33, kinds=[kind])
        sync_among_faults(stage, proxy, faults)
        assert faults.played > 0
        change(docs, seed)
    assert_clean_afterwards(stage)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(40 if NIGHTLY else 1))
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
        change(docs, cycle)
    calm(servers.replica_proxy)
    assert faults.played > 0
    assert_clean_afterwards(stage)


@pytest.mark.long
@pytest.mark.parametrize(
    ("side", "ending"),
    [
        *(("primary", ending) for ending in ("/get", "/count", "/collections")),
        *(("replica", ending) for ending in ("/get", "/count", "/collections")),
        *(("replica", ending) for ending in ("/add", "/update", "/delete")),
    ],
)
def test_a_server_that_fails_one_kind_of_request_for_a_whole_cycle(
    stage: Stage, side: str, ending: str
) -> None:
    """Each of these requests is answered with 500 throughout; afterwards nothing is set aside."""
    arrange(stage)
    servers = stage.servers
    proxy = servers.primary_proxy if side == "primary" else servers.replica_proxy
    faults = RandomFaults(0, 1.0, ["500"], lambda request: request.path.endswith(ending))
    sync_among_faults(stage, proxy, faults)
    assert faults.played > 0
    assert_clean_afterwards(stage)


@pytest.mark.long
@pytest.mark.parametrize("ending", ["/add", "/delete", *(["/update", "/get"] if NIGHTLY else [])])
def test_a_server_that_was_broken_is_not_blamed_on_the_records(stage: Stage, ending: str) -> None:
    """Few records, none of which got through: as soon as the server takes them, they are sent."""
    small = stage.create(count=5, metadata=None)
    if ending != "/add":
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


@pytest.mark.long
def test_what_a_broken_off_chunk_had_written_is_not_forgotten(stage: Stage) -> None:
    """A record that was written, and deleted on the primary before it was recorded, goes too."""
    stage.overrides = {"SYNC_CHUNK_SIZE": "5000"}
    docs = stage.create(count=100)
    stage.sync_and_judge()
    fill(docs, LARGEST_BATCH, start=100)
    stage.servers.replica_proxy.fault = faults = AfterFirstWrite()
    with pytest.raises(ServerUnreachable):
        stage.sync()
    stage.servers.replica_proxy.fault = None
    written = stage.on_replica().get(offset=100, limit=20, include=[])["ids"]
    assert faults.failed
    assert len(written) == 20
    docs.delete(ids=written)
    stage.sync_and_judge()


class AfterFirstWrite:
    """A fault hook: only the first write of records gets through."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._through = False
        self.failed = False

    def __call__(self, request: Request) -> Fault | None:
        """What shall go wrong with this request."""
        if not writes_records(request):
            return None
        with self._lock:
            self.failed = self._through
            self._through = True
            return GATEWAY if self.failed else None

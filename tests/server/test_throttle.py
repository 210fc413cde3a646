"""A server that refuses or is limited is asked less: by all threads, and by all processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from chromasync.chroma import ChromaReader, Connection, Pace, Pacer
from chromasync.chroma.pace import FIRST_PAUSE_SECONDS
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Answer, Fault, Hang, RecordingProxy, Request
from chromasync.lease import monotonic
from chromasync.model import Side
from chromasync.shares import RESERVE, ShareKeeper
from chromasync.store import open_store
from tests.conftest import ProxyMaker
from tests.server.transport_samples import (
    DATABASE,
    TENANT,
    close_endpoints,  # noqa: F401 -- a fixture that is used by being here
    create,
    reader,
    records,
    writer,
)

LIMIT = 40.0


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ChromaServer]:
    """One server for all tests of this module."""
    with ChromaServer() as server:
        yield server


@pytest.fixture
def proxy(shared_server: ChromaServer, make_proxy: ProxyMaker) -> RecordingProxy:
    """A proxy in front of the server."""
    return make_proxy(shared_server.url)


class Arrivals:
    """A fault hook that notes when requests arrive, and refuses the first ones."""

    def __init__(self, *refusals: Fault) -> None:
        self.at: list[float] = []
        self._refusals = list(refusals)
        self._lock = threading.Lock()

    def __call__(self, _: Request) -> Fault | None:
        with self._lock:
            self.at.append(monotonic())
            return self._refusals.pop(0) if self._refusals else None


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_holds_the_other_threads_too(proxy: RecordingProxy, status: int) -> None:
    """Whoever asks next waits as long as the server asked one of them to wait."""
    ours = reader(proxy.url)
    proxy.fault = arrivals = Arrivals(Answer(status, b"slow down", {"Retry-After": "1"}))
    refused = threading.Event()

    def ask() -> object:
        return ours.list_databases(TENANT)

    def ask_after() -> object:
        refused.wait()
        return ask()

    with ThreadPoolExecutor(2) as threads:
        outcomes = [threads.submit(ask), threads.submit(ask_after)]
        while not ours.traffic().refused:
            time.sleep(0.001)
        refused.set()
        assert all(outcome.result() for outcome in outcomes)
    first, *others = arrivals.at
    assert len(others) == 2
    assert min(others) - first >= 0.99
    assert ours.traffic().throttled_seconds > 0
    assert "fewer requests" in ours.pacing.reason


def test_a_server_that_does_not_answer_in_time_is_asked_less(proxy: RecordingProxy) -> None:
    """A timeout is a sign of load, like a refusal."""
    ours = reader(proxy.url, timeout_seconds=0.2)
    proxy.fault = Arrivals(Hang(threading.Event()))
    assert ours.list_databases(TENANT)
    assert "did not answer in time" in ours.pacing.reason
    assert ours.traffic().throttled_seconds > FIRST_PAUSE_SECONDS / 2


def test_a_server_that_is_not_there_is_no_sign_of_load(proxy: RecordingProxy) -> None:
    """The pool backs off by itself then."""
    ours = reader(proxy.url)
    assert ours.list_databases(TENANT)
    assert ours.pacing.reason == ""


def test_a_refused_write_holds_the_writes(proxy: RecordingProxy) -> None:
    """The replica's pace follows refusals, too."""
    theirs = writer(proxy.url)
    collection = create(theirs, "held-writes")
    proxy.fault = Arrivals(Answer(429, b"slow down"))
    theirs.upsert(collection, records(["a", "b", "c"]))
    assert theirs.count(collection) == 3
    assert "fewer requests" in theirs.pacing.reason
    theirs.drop_collection(collection)


def most_within(arrivals: list[float], seconds: float) -> int:
    """The most arrivals in any window of so many seconds."""
    ordered, most, first = sorted(arrivals), 0, 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.long
def test_two_processes_share_the_limit(proxy: RecordingProxy, tmp_path: Path) -> None:
    """Also when the second one starts, and when it ends; the proxy counts what arrives."""
    proxy.fault = arrivals = Arrivals()
    place = tmp_path / "state.db"
    stop = threading.Event()

    def work(name: str, count: int) -> None:
        """Send so many requests, as a process of this name."""
        pacer = Pacer(Pace())
        connection = Connection(Side.PRIMARY, proxy.url)
        with (
            closing(open_store(place)) as store,
            ShareKeeper(store, name, LIMIT, pacer),
            ChromaReader(connection, pacer) as ours,
        ):
            for _ in range(count):
                ours.list_collections(TENANT, DATABASE)  # two requests
                if stop.is_set():
                    return

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(work, "one", 60)
        while len(arrivals.at) < 20:
            time.sleep(0.01)
        second = threads.submit(work, "two", 15)
        try:
            second.result()
            first.result()
        finally:
            stop.set()
    assert len(arrivals.at) == 2 * (60 + 15)
    # what waits in a socket may arrive together with what comes after it
    allowed = LIMIT * (1 - RESERVE)
    for seconds in (1.0, 2.0):
        assert most_within(arrivals.at, seconds) <= seconds * allowed + 2 + 3

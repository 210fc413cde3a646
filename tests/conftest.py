"""Fixtures for tests against real Chroma servers; each stops what it started, failure or not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest

from chromasync.app import Application
from chromasync.chroma import Connection
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.lab.proxy import RecordingProxy
from chromasync.model import Side
from tests.compat_servers import INSTALLED, command
from tests.support import measured, order, programs, remains, statements
from tests.support.stage import Servers, close_client, running_servers

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

_numbers = count(1)


class ServerMaker(Protocol):
    def __call__(self, version: str = INSTALLED, **options: Any) -> ChromaServer: ...


class ProxyMaker(Protocol):
    def __call__(self, upstream_url: str, **options: Any) -> RecordingProxy: ...


def pytest_configure(config: pytest.Config) -> None:
    """Measure what counts where the run is measured, and leave out what cannot run here."""
    measured.measure_what_counts(config)
    statements.share()
    config.pluginmanager.register(programs.LeaveOut())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest begins first, whatever the random order says."""
    order.begin_with_the_longest(items, order.processes_of(config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that skips itself has proven nothing: it fails, unless a mark says where it is so."""
    report = yield
    expected = hasattr(report, "wasxfail") or item.get_closest_marker("skipif") is not None
    if report.outcome == "skipped" and not expected:
        report.outcome = "failed"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """So does a file that skips itself."""
    report = yield
    if report.outcome == "skipped" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", autouse=True)
def nothing_remains() -> Iterator[None]:
    """When all else has been ended, no process is left that a test or a fixture has started."""
    with remains.none_remain():
        yield


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Two real servers for the whole session; at its end, nobody has tried to write the primary."""
    with running_servers() as servers:
        yield servers
        assert servers.primary_proxy.writes() == []


@pytest.fixture(scope="session")
def shared_postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server for all tests that leave it alone."""
    with LocalPostgres(durable=False) as server:
        yield server


@pytest.fixture
def make_database(shared_postgres: LocalPostgres) -> Callable[..., str]:
    """Makes empty databases for state stores, or copies of the one whose name is given."""

    def make(template: str = "template1") -> str:
        return shared_postgres.database(f"state{next(_numbers)}", template)

    return make


@pytest.fixture
def cleanup() -> Iterator[ExitStack]:
    """Things to stop at the end of the test, last started first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def make_server(cleanup: ExitStack) -> ServerMaker:
    """Starts real Chroma servers: `make_server("1.0.20")`, by default the installed version."""

    def make(version: str = INSTALLED, **options: Any) -> ChromaServer:
        return cleanup.enter_context(ChromaServer(command=command(version), **options))

    return make


@pytest.fixture
def make_proxy(cleanup: ExitStack) -> ProxyMaker:
    """Starts recording proxies in front of a URL."""

    def make(upstream_url: str, **options: Any) -> RecordingProxy:
        return cleanup.enter_context(RecordingProxy(upstream_url, **options))

    return make


@pytest.fixture
def server(make_server: ServerMaker) -> ChromaServer:
    """One fresh server of the installed version."""
    return make_server()


@pytest.fixture
def primary_server(make_server: ServerMaker) -> ChromaServer:
    """A fresh server of the installed version to be the primary."""
    return make_server()


@pytest.fixture
def replica_server(make_server: ServerMaker) -> ChromaServer:
    """A fresh server of the installed version to be the replica."""
    return make_server()


@pytest.fixture
def official() -> Iterator[Callable[..., ClientAPI]]:
    """The official client of a server's URL, the judge of what was written; closed afterwards."""
    import chromadb

    made: list[ClientAPI] = []

    def connect(url: str, **options: Any) -> ClientAPI:
        parts = urlsplit(url)
        made.append(chromadb.HttpClient(parts.hostname or "", parts.port or 80, **options))
        return made[-1]

    yield connect
    for client in made:
        close_client(client)


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated as often as ever, but sooner."""
    real = Application.connection

    def connection(app: Application, side: Side) -> Connection:
        return replace(real(app, side), wait_initial_seconds=0.005, wait_max_seconds=0.02)

    monkeypatch.setattr(Application, "connection", connection)

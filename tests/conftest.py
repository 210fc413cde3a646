"""Fixtures for tests against real Chroma servers; each stops what it started, failure or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import pytest

from chromasync.localserver import ChromaServer
from chromasync.testing.proxy import RecordingProxy
from tests.compat_servers import INSTALLED, command
from tests.support.stage import Servers, running_servers

if TYPE_CHECKING:
    from chromadb.api import ClientAPI


class ServerMaker(Protocol):
    def __call__(self, version: str = INSTALLED, **options: Any) -> ChromaServer: ...


class ProxyMaker(Protocol):
    def __call__(self, upstream_url: str, **options: Any) -> RecordingProxy: ...


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Two real servers for the whole session; at its end, nobody has tried to write the primary."""
    with running_servers() as servers:
        yield servers
        assert servers.primary_proxy.writes() == []


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
def official() -> Callable[..., ClientAPI]:
    """The official client of a server's URL, the judge of what was written."""
    import chromadb

    def connect(url: str, **options: Any) -> ClientAPI:
        parts = urlsplit(url)
        return chromadb.HttpClient(parts.hostname or "", parts.port or 80, **options)

    return connect

"""Fixtures for tests that make things fail: servers of their own, and threads that write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from chromasync.app import Application
from chromasync.chroma import Connection
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from chromasync.model import Side
from tests.chaos.faults import calm
from tests.support.stage import Servers, Stage


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A database of its own on both servers; the engine never writes to the primary's."""
    stage = Stage(servers, tmp_path / "state")
    yield stage
    stage.close()
    calm(servers.primary_proxy, servers.replica_proxy)
    assert servers.primary_proxy.writes() == []


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose servers keep their data in named folders and may be killed and restarted."""
    with ExitStack() as stack:
        primary = stack.enter_context(ChromaServer(tmp_path / "primary"))
        replica = stack.enter_context(ChromaServer(tmp_path / "replica"))
        servers = Servers(
            primary,
            replica,
            stack.enter_context(RecordingProxy(primary.url, refuse_writes=True)),
            stack.enter_context(RecordingProxy(replica.url)),
        )
        stage = Stage(servers, tmp_path / "state")
        stack.callback(stage.close)
        yield stage
        assert servers.primary_proxy.writes() == []


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are repeated as often as ever, but sooner."""
    real = Application.connection

    def connection(app: Application, side: Side) -> Connection:
        return replace(real(app, side), wait_initial_seconds=0.005, wait_max_seconds=0.02)

    monkeypatch.setattr(Application, "connection", connection)

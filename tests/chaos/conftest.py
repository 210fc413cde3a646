"""Fixtures for tests that make things fail: servers of their own, and threads that write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
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

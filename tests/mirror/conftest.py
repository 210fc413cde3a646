"""Fixtures for tests of whole cycles against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.stage import Servers, Stage, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Two real servers for the whole session; at its end, nobody has tried to write the primary."""
    with running_servers() as servers:
        yield servers
        assert servers.primary_proxy.writes() == []


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A database of its own on both servers; the engine never writes to the primary's."""
    stage = Stage(servers, tmp_path)
    yield stage
    stage.close()
    servers.primary_proxy.fault = servers.replica_proxy.fault = None
    assert servers.primary_proxy.writes() == []

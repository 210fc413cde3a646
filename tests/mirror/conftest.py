"""Fixtures for tests of whole cycles against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rest import Rest
from tests.support.stage import Servers, Stage


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A database of its own on both servers; the engine never writes to the primary's."""
    stage = Stage(servers, tmp_path)
    yield stage
    stage.close()
    servers.primary_proxy.fault = servers.replica_proxy.fault = None
    assert servers.primary_proxy.writes() == []


@pytest.fixture
def on_primary(stage: Stage) -> Iterator[Rest]:
    """The stage's database on the primary over plain REST, past the proxy."""
    with Rest(stage.servers.primary.url, stage.database) as rest:
        yield rest


@pytest.fixture
def on_replica(stage: Stage) -> Iterator[Rest]:
    """The stage's database on the replica over plain REST, past the proxy."""
    with Rest(stage.servers.replica.url, stage.database) as rest:
        yield rest

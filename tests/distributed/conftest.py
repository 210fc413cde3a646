"""Fixtures for tests with several real processes, a real PostgreSQL and real Chroma servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chromasync.lab.postgres_server import LocalPostgres
from tests.chaos.faults import calm
from tests.distributed.fleet import Fleet
from tests.support.stage import Servers, Stage


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server for one test that stops and starts it."""
    with LocalPostgres(durable=False) as server:
        yield server


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A database of its own on both servers; the engine never writes to the primary's."""
    stage = Stage(servers, tmp_path / "state")
    yield stage
    stage.close()
    calm(servers.primary_proxy, servers.replica_proxy)
    assert servers.primary_proxy.writes() == []


@pytest.fixture
def database_url(make_database: Callable[..., str]) -> str:
    """An empty database for the state store."""
    return make_database()


@pytest.fixture
def database_url_2(make_database: Callable[..., str]) -> str:
    """Another empty database."""
    return make_database()


MakeFleet = Callable[..., Fleet]


@pytest.fixture
def make_fleet(stage: Stage) -> Iterator[MakeFleet]:
    """Makes fleets on one stage; every process is gone when the test ends."""
    fleets: list[Fleet] = []

    def make(url: str, **settings: str) -> Fleet:
        fleets.append(Fleet(stage, url, **settings))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()


@pytest.fixture
def fleet(make_fleet: MakeFleet, database_url: str) -> Fleet:
    """Processes over PostgreSQL."""
    return make_fleet(database_url)

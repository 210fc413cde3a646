"""Fixtures for tests of whole cycles against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from tests.chaos.profile import NIGHTLY
from tests.support.crew import Crew
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests marked `crewed` twice: in one process, and with a coordinator and workers."""
    mark = metafunc.definition.get_closest_marker("crewed")
    if mark is not None:
        with_workers = NIGHTLY or mark.kwargs.get("in_ci", True)
        workers = pytest.param("workers", marks=pytest.mark.long)
        ways = ["single", workers] if with_workers else ["single"]
        metafunc.parametrize("crew", ways, indirect=True)


@pytest.fixture
def crew(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Crew | None]:
    """Workers over PostgreSQL where the test runs with them; none in one process."""
    if getattr(request, "param", "single") == "single":
        yield None
        return
    make_database = request.getfixturevalue("make_database")
    crew = Crew(make_database, tmp_path)
    yield crew
    crew.close()


@pytest.fixture
def stage(servers: Servers, tmp_path: Path, crew: Crew | None) -> Iterator[Stage]:
    """A database of its own on both servers; the engine never writes to the primary's."""
    stage = Stage(servers, tmp_path)
    stage.crew = crew
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


@pytest.fixture
def fragile(tmp_path: Path, crew: Crew | None) -> Iterator[Stage]:
    """A stage whose replica server is the test's own, with its data in a known folder."""
    with ExitStack() as stack:
        primary = stack.enter_context(ChromaServer())
        replica = stack.enter_context(ChromaServer(tmp_path / "replica"))
        first = stack.enter_context(RecordingProxy(primary.url, refuse_writes=True))
        second = stack.enter_context(RecordingProxy(replica.url))
        (tmp_path / "state").mkdir()
        stage = Stage(Servers(primary, replica, first, second), tmp_path / "state", "wares")
        stage.crew = crew
        stack.callback(stage.close)
        yield stage
        assert first.writes() == []

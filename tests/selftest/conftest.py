"""Fixtures for the self-test: a stage whose servers hold other collections, too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.fleet import Fleet
from tests.support.stage import Servers, Stage


@pytest.fixture
def stage(servers: Servers, tmp_path: Path) -> Iterator[Stage]:
    """A database of its own on both servers, and a state folder."""
    stage = Stage(servers, tmp_path / "state")
    yield stage
    stage.close()
    servers.replica_proxy.fault = None


@pytest.fixture
def fleet(stage: Stage) -> Iterator[Fleet]:
    """Processes on one store, killed at the end."""
    stage.folder.mkdir(parents=True, exist_ok=True)
    fleet = Fleet(stage, f"sqlite:///{stage.folder / 'chromasync.db'}")
    yield fleet
    fleet.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the self-test stands, and where all that it makes for a while must go."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder

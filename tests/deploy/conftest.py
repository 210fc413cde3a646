"""Fixtures for tests of the applications' way to the replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy.gate_world import World, enter_world


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world whose switch stays where it is."""
    with ExitStack() as stack:
        yield enter_world(stack, tmp_path_factory.mktemp("gate"))


@pytest.fixture
def world(shared: World) -> World:
    """The shared world, with an empty record of what reached the server."""
    shared.seen.reset()
    return shared


@pytest.fixture
def own(tmp_path: Path, cleanup: ExitStack) -> World:
    """A world of one's own."""
    return enter_world(cleanup, tmp_path)

"""Every store must pass this folder; a new one joins by a parameter of `places`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from chromasync.store import SqlStore, open_store

Opener = Callable[[], SqlStore]
Places = Callable[[], str]


@pytest.fixture(params=["sqlite"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Places:
    """Names a new place, at each call, where a state store may be created."""
    numbers = count(1)
    return lambda: f"sqlite:///{tmp_path}/state-{next(numbers)}.db"


@pytest.fixture
def place(places: Places) -> str:
    """Where an empty state store may be created."""
    return places()


@pytest.fixture
def opener(place: str) -> Iterator[Opener]:
    """Opens the same store again and again, as other processes would; closes all in the end."""
    opened: list[SqlStore] = []

    def open_again() -> SqlStore:
        opened.append(open_store(place))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> SqlStore:
    """An empty store."""
    return opener()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that is not there yet, for what is true of SQLite alone."""
    return tmp_path / "state.db"


@pytest.fixture
def file_store(path: Path) -> Iterator[SqlStore]:
    """An empty store in that file."""
    store = open_store(path)
    yield store
    store.close()

"""Every store must pass this folder; a new one joins by a parameter of `places`.

In the long runs, PostgreSQL joins once more behind a real pgbouncer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from chromasync.store import SqlStore, open_store
from tests.chaos.profile import NIGHTLY
from tests.support.pgbouncer import PgBouncer
from tests.support.postgres import Databases, running_postgres

Opener = Callable[[], SqlStore]
Places = Callable[[], str]


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A PostgreSQL server for the whole session of one test process."""
    with running_postgres() as databases:
        yield databases


@pytest.fixture(scope="session")
def pgbouncer(databases: Databases) -> Iterator[PgBouncer]:
    """A real pgbouncer in transaction mode before that server."""
    with PgBouncer(databases.server.url) as pooler:
        yield pooler


@pytest.fixture(params=["sqlite", "postgresql", *(["pgbouncer"] if NIGHTLY else [])])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Places]:
    """Names a new place, at each call, where a state store may be created."""
    if request.param == "sqlite":
        numbers = count(1)
        yield lambda: f"sqlite:///{tmp_path}/state-{next(numbers)}.db"
        return
    databases: Databases = request.getfixturevalue("databases")
    pooled = request.param == "pgbouncer"
    pooler: PgBouncer | None = request.getfixturevalue("pgbouncer") if pooled else None
    taken: list[str] = []

    def take() -> str:
        taken.append(databases.take())
        return pooler.url_of(taken[-1]) if pooler else taken[-1]

    yield take
    for url in taken:
        databases.give_back(url)


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


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    """The URL of an empty database, for what is true of PostgreSQL alone."""
    url = databases.take()
    yield url
    databases.give_back(url)


@pytest.fixture
def pg_store(database: str) -> Iterator[SqlStore]:
    """An empty store in that database."""
    store = open_store(database)
    yield store
    store.close()

"""A real PostgreSQL for a test session, and an empty database for each test.

Making a database takes longer than most tests, so that emptied ones are used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import psycopg

from chromasync.lab.postgres_server import LocalPostgres

SETTINGS = {"max_connections": 60, "shared_buffers": "64MB", "max_wal_size": "4GB"}
_EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public"
_END_OTHERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


class Databases:
    """Empty databases of one server, used again and again."""

    def __init__(self, server: LocalPostgres) -> None:
        self.server = server
        self._free: list[str] = []
        self._numbers = count(1)

    def take(self) -> str:
        """The URL of an empty database."""
        return self._free.pop() if self._free else self.server.database(f"t{next(self._numbers)}")

    def give_back(self, url: str) -> None:
        """End all sessions of a database and empty it."""
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(_END_OTHERS)
            connection.execute(_EMPTY)
        self._free.append(url)


@contextmanager
def running_postgres() -> Iterator[Databases]:
    """One server, gone when the block ends."""
    with LocalPostgres(settings=SETTINGS, durable=False) as server:
        yield Databases(server)

"""Processes that reach PostgreSQL through a connection pooler in transaction mode."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from urllib.parse import urlsplit

import psycopg
import pytest

from chromasync.lab.postgres_server import LocalPostgres
from tests.chaos.profile import NIGHTLY
from tests.distributed.conftest import MakeFleet
from tests.support.pgbouncer import PgBouncer
from tests.support.pooler import Pooler
from tests.support.stage import Stage, fill, invoke_command

Through = Callable[[str], AbstractContextManager[tuple[str, Callable[[], int]]]]


@contextmanager
def strict(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """Our own, stricter than any: its URL, and how many transactions it has handed on."""
    with Pooler(url) as pooler:
        yield pooler.url, lambda: pooler.transactions


@contextmanager
def pgbouncer(url: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """The real one that most people have: its URL, and how many transactions it handed on."""
    with PgBouncer(url) as pooler:
        yield pooler.url_of(url), pooler.transactions


@pytest.mark.long
@pytest.mark.parametrize("through", [strict, *([pgbouncer] if NIGHTLY else [])])
def test_a_coordinator_and_a_worker_behind_a_transaction_pooler(
    stage: Stage,
    make_fleet: MakeFleet,
    shared_postgres: LocalPostgres,
    database_url: str,
    through: Through,
) -> None:
    """They share a first copy and changes, one is replaced, and the database speaks German."""
    name = urlsplit(database_url).path[1:]
    with psycopg.connect(shared_postgres.url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET DateStyle = 'German'".encode())
    docs = stage.create("docs", count=400)
    with through(database_url) as (url, transactions):
        fleet = make_fleet(url, SYNC_CHUNK_SIZE="20")
        examined = invoke_command("doctor", **stage.values(DATABASE_URL=url))
        assert examined.returncode == 0, examined.stdout
        fleet.coordinator()
        worker = fleet.worker()
        fleet.assert_converges()
        fill(docs, 60, start=400)
        docs.delete(ids=["r1", "r399"])
        docs.update(ids=["r2"], metadatas=[{"n": "another"}])
        worker.send(signal.SIGTERM)
        assert worker.ended() == 0, worker.log
        fleet.worker("another")
        fleet.assert_converges()
        assert transactions() > 200
        fleet.close()

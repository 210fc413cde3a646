"""PostgreSQL in use: connections, limits, poolers, outages."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from sqlalchemy import event, text

from chromasync.errors import StoreUnavailable, StoreUnusable
from chromasync.model import TaskCounts, Term
from chromasync.store import SqlStore, chunkrows, core, open_store, store_exists
from chromasync.store.migrations import STEPS
from chromasync.store.postgres import Limits, PostgresBackend
from tests.store.samples import (
    COLLECTION,
    chunk_of,
    claim,
    claim_one,
    expire,
    loaded,
    look,
    planned,
    result_for,
)
from tests.support.pooler import Pooler
from tests.support.postgres import Databases

THREADS = 8


def work_off(store: SqlStore, name: str = "w") -> int:
    """Claim, renew and complete until there is nothing left; returns how many."""
    done = 0
    while claimed := claim(store, 2, name):
        assert store.urgent().renew_tasks(claimed, 60) == {task.id for task in claimed}
        for task in claimed:
            assert store.complete_task(task, result_for(store, task))
            done += 1
    return done


def sessions(url: str) -> int:
    """How many other sessions there are on a database."""
    with psycopg.connect(url) as judge:
        row = judge.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'chromasync'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_process_has_two_connections_however_many_its_threads(
    pg_store: SqlStore, database: str
) -> None:
    """Eight threads claim, renew, complete and read over one connection and an urgent one."""
    cycle = planned(pg_store, 100)
    with ThreadPoolExecutor(THREADS) as pool:
        done = list(pool.map(lambda n: work_off(pg_store, f"w{n}"), range(THREADS)))
    assert sum(done) == 100
    assert pg_store.task_counts(cycle.id) == TaskCounts(completed=100)
    assert sessions(database) == 2


def test_what_is_urgent_does_not_wait_for_the_pool(pg_store: SqlStore) -> None:
    """A lease is renewed and the lead is taken while a long transaction has the connection."""
    planned(pg_store, 1)
    task = claim_one(pg_store)
    term = pg_store.take_lead("me", 60)
    assert term is not None
    with pg_store.led_by(term)._leading():
        assert pg_store.urgent().renew_tasks([task], 60) == {task.id}
        assert pg_store.urgent().take_lead("me", 60) == term
    assert pg_store.led_by(term).urgent().led_by(term).mirrors() == []


def test_a_write_in_progress_keeps_the_lead_from_passing_on(
    pg_store: SqlStore, database: str
) -> None:
    """Even an expired lead does not pass on while a write that checked it is not finished."""
    view = pg_store.led_by(pg_store.take_lead("one", 60) or Term("", 0))
    other = SqlStore(PostgresBackend(database, Limits(lock=1, retry=0)))
    with view._leading():
        with psycopg.connect(database, autocommit=True) as judge:
            judge.execute("UPDATE sync_leases SET expires_at = clock_timestamp()")
        with pytest.raises(StoreUnavailable, match="holds a lock"):
            other.take_lead("two", 60)
    assert other.take_lead("two", 60) == Term("two", 2)
    other.close()


def test_every_transaction_carries_its_limits(pg_store: SqlStore) -> None:
    """No statement, lock or idle transaction lasts for ever; planning may take longer."""
    shown = text(
        "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
        " current_setting('idle_in_transaction_session_timeout'),"
        " current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    )
    with pg_store._writing() as tx:
        assert tuple(tx.execute(shown).one()) == ("10s", "3s", "10s", "read committed", "off")
    with pg_store._leading() as tx:
        assert tx.execute(shown).one()[0] == "2min"
    with pg_store._reading() as tx:
        assert tuple(tx.execute(shown).one())[3:] == ("repeatable read", "on")
    with pg_store.urgent()._writing() as tx:
        assert tx.execute(shown).one()[0] == "5s"


def test_a_transaction_begins_with_one_message(pg_store: SqlStore) -> None:
    """BEGIN and its limits are one round trip, and the commit reaches the server."""
    planned(pg_store, 1)
    sent: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(pg_store._backend.engine, "before_cursor_execute", note)
    pg_store.distrust(COLLECTION)
    assert len(sent) == 2
    assert sent[0].startswith("BEGIN")
    ((suspect,),) = look(pg_store, text("SELECT count(*) FROM sync_replica_chunks WHERE suspect"))
    assert suspect == 1


def test_a_connection_that_nobody_gives_back_is_reported(database: str) -> None:
    """Waiting for another thread ends too."""
    open_store(database).close()
    store = SqlStore(PostgresBackend(database, Limits(pool=0.05)))
    with store._reading(), pytest.raises(StoreUnavailable, match="released the connection"):
        store.mirrors()
    assert store.mirrors() == []
    store.close()


def test_an_error_rolls_back_on_the_server(pg_store: SqlStore, database: str) -> None:
    """What was written before an error is gone, and the connection is idle again."""

    def forget_too_much() -> None:
        with pg_store._writing() as tx:
            tx.execute(text("DELETE FROM sync_schema"))
            tx.execute(text("DELETE FROM nowhere"))

    with pytest.raises(StoreUnusable, match="nowhere"):
        forget_too_much()
    with psycopg.connect(database) as judge:
        assert judge.execute("SELECT count(*) FROM sync_schema").fetchone() == (len(STEPS),)
        states = judge.execute(
            "SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'chromasync'"
            " AND datname = current_database()"
        ).fetchall()
    assert states == [("idle",)]


def test_the_store_works_behind_a_transaction_pooler(database: str) -> None:
    """Each transaction on another server connection, with nothing left from the one before."""
    with Pooler(database) as pooler:
        store = open_store(pooler.url)
        cycle = planned(store, 20)
        assert work_off(store) == 20
        assert store.task_counts(cycle.id) == TaskCounts(completed=20)
        planned(store, 1)
        late = claim_one(store)
        expire(store, late)
        assert store.rescue_tasks() == 1
        assert loaded(store, late.chunk_id).head.replica.suspect
        store.close()
        assert pooler.transactions > 100
    assert store_exists(database)


def test_a_store_exists_once_it_was_opened(database: str) -> None:
    """Asking creates nothing."""
    assert not store_exists(database)
    assert not store_exists(database)
    open_store(database).close()
    assert store_exists(database)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_every_usual_scheme_is_understood(database: str, scheme: str) -> None:
    """Platforms hand out the same URL in three spellings; libpq's parameters are passed on."""
    rest = database.partition("://")[2]
    store = open_store(f"{scheme}://{rest}?sslmode=prefer&application_name=ours")
    assert look(store, text("SELECT current_setting('application_name')")) == [("ours",)]
    store.close()


# ---- how many connections there are -----------------------------------------------------------


@contextmanager
def role(databases: Databases, url: str, limit: int) -> Iterator[str]:
    """The URL of a role that is no superuser and may have `limit` connections."""
    name, password = f"r{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}' CONNECTION LIMIT {limit};"
            f"GRANT ALL ON SCHEMA public TO {name}".encode()
        )
    parts = urlsplit(url)
    netloc = f"{name}:{password}@{parts.hostname}:{parts.port}"
    yield urlunsplit(parts._replace(netloc=netloc))
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_the_connections_are_counted_for_people(pg_store: SqlStore) -> None:
    """What we need, what there may be, what is in use."""
    assert pg_store.connections() == "2 of 60 connections, 1 in use"
    pg_store.urgent().now()
    assert pg_store.connections() == "2 of 60 connections, 2 in use"


def test_a_role_without_room_for_two_is_told_so_at_the_start(
    databases: Databases, database: str
) -> None:
    """Not in the middle of a cycle, and with what to do."""
    with role(databases, database, 1) as url:
        with pytest.raises(StoreUnavailable, match="Of 1 connections 1 are in use") as caught:
            open_store(url)
        assert "needs 2 for each of its processes" in str(caught.value)
    with role(databases, database, 2) as url:
        store = open_store(url)
        assert store.connections() == "2 of 2 connections, 1 in use"
        store.close()


def test_a_server_without_a_connection_left_says_how_many_are_needed(
    databases: Databases, database: str
) -> None:
    """A refused connection is an outage that may pass, and it is explained."""
    with role(databases, database, 1) as url, psycopg.connect(url):
        backend = PostgresBackend(url, Limits(retry=0))
        with pytest.raises(StoreUnavailable, match="No connection is left") as caught:
            SqlStore(backend).now()
        assert "2 connections for each of its processes" in str(caught.value)
        backend.close()


# ---- outages ----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("how", ["restart", "kill"])
def test_calls_outlast_a_restart_of_the_server(
    databases: Databases, database: str, how: str
) -> None:
    """Threads go on as if nothing had been, and nothing is done twice."""
    open_store(database).close()
    # as long as a busy machine may take for it
    store = SqlStore(PostgresBackend(database, Limits(retry=90)))
    cycle = planned(store, 300)
    half_done = threading.Event()

    def work(n: int) -> int:
        done = 0
        while claimed := claim(store, 1, f"w{n}"):
            assert store.complete_task(claimed[0], result_for(store, claimed[0]))
            done += 1
            if done == 20:
                half_done.set()
        return done

    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(work, n) for n in range(4)]
        assert half_done.wait(60)
        if how == "restart":
            databases.server.restart()
        else:
            databases.server.kill()
            databases.server.start()
        assert sum(job.result() for job in jobs) == 300
    assert store.task_counts(cycle.id) == TaskCounts(completed=300)
    store.close()


@pytest.mark.long
def test_what_is_urgent_is_not_repeated_but_finds_the_server_again(
    databases: Databases, pg_store: SqlStore
) -> None:
    """A renewal fails at once while the server is away, and works at once when it is back."""
    planned(pg_store, 1)
    task = claim_one(pg_store)
    urgent = pg_store.urgent()
    assert urgent.renew_tasks([task], 60) == {task.id}
    databases.server.kill()
    try:
        with pytest.raises(StoreUnavailable):
            urgent.renew_tasks([task], 60)
    finally:
        databases.server.start()
    assert urgent.renew_tasks([task], 60) == {task.id}
    databases.server.restart()
    assert urgent.renew_tasks([task], 60) == {task.id}


def test_planning_outlasts_a_restart_of_the_server(
    databases: Databases, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that were being added when the server went down are added once, in order."""
    open_store(database).close()
    store = SqlStore(PostgresBackend(database, Limits(retry=90)))
    planned(store, 1)
    whole, calls = chunkrows._add_head, iter((1, 2))

    def add(*args: Any) -> int:
        if next(calls, None) == 2:
            databases.server.restart()
        return whole(*args)

    monkeypatch.setattr(chunkrows, "_add_head", add)
    ids = store.save_chunks([chunk_of(["a"]), chunk_of(["b"])])
    assert [loaded(store, chunk_id).ids for chunk_id in ids] == [["a"], ["b"]]
    assert len(store.chunk_heads(COLLECTION)) == 3
    store.close()


def test_a_commit_that_is_still_under_way_is_waited_for(pg_store: SqlStore, database: str) -> None:
    """A connection was cut, and the server has not heard of it: the repeat adds nothing twice."""
    planned(pg_store, 0)
    lost = SqlStore(PostgresBackend(database, Limits(retry=0)))
    chunk, newest = chunk_of(["a"]), pg_store._newest_chunk()
    content = chunkrows.content_of(chunk)
    waits = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    judge = psycopg.connect(database, autocommit=True)
    with ThreadPoolExecutor(1) as pool, judge:
        with lost._writing() as tx:
            tx.execute(core.PLANNING).all()
            added = chunkrows.save(tx, [chunk], [content])
            repeat = pool.submit(pg_store._save_chunks_after, newest, [chunk], [content])
            while judge.execute(waits).fetchone() is None:
                assert not repeat.done()
        assert repeat.result() == added
    assert [head.id for head in pg_store.chunk_heads(COLLECTION)] == added
    lost.close()

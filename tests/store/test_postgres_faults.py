"""PostgreSQL gone wrong: bad URLs, refused connections, locks, lost tables, standbys."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import closing
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import errors as pg

from chromasync.errors import (
    ChromasyncError,
    SettingsError,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from chromasync.lab.chroma_server import free_port
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.model import NewTask, Quarantined, TaskCounts
from chromasync.store import SqlStore, chunkrows, open_store, store_exists
from chromasync.store.postgres import Limits, PostgresBackend
from chromasync.store.postgres_errors import store_error
from chromasync.store.retry import retry_while_away
from tests.store.samples import (
    COLLECTION,
    chunk_of,
    claim_one,
    loaded,
    planned,
    result_for,
)
from tests.support.ledgers import mirror_of

SECRET = "s3cr3t"


def said(error: ChromasyncError) -> str:
    """The error's text, which must say what to do next and name no internals or secrets."""
    assert error.hint
    for hidden in (SECRET, "sqlalche.me", "[SQL", "psycopg"):
        assert hidden not in str(error)
    return str(error)


def changed(url: str, **parts: object) -> str:
    """The URL with another user, password, host, port or path."""
    old = urlsplit(url)
    new: dict[str, object] = {"user": old.username, "password": old.password}
    new |= {"host": old.hostname, "port": old.port, **parts}
    netloc = f"{new['user']}:{new['password']}@{new['host']}:{new['port']}"
    return urlunsplit(old._replace(netloc=netloc, path=str(parts.get("path", old.path))))


def impatient(url: str, **limits: int) -> PostgresBackend:
    """A backend that reports at once what fails."""
    return PostgresBackend(url, Limits(retry=0, **limits))


# ---- where the database may be ----------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@host:port/db",
        f"postgres://user:{SECRET}@[host/db",
        f"postgresql+psycopg://user:{SECRET}%@host/db",
        f"postgresql+asyncpg://user:{SECRET}@host/db",
        f"postgresql://user:{SECRET}@host/db?no_such_parameter=1",
    ],
)
@pytest.mark.parametrize("ask", [open_store, store_exists])
def test_a_url_that_cannot_be_read_is_a_setting_to_correct(
    url: str, ask: Callable[[str], object]
) -> None:
    """The message says how to write it and does not repeat a password."""
    with pytest.raises(SettingsError) as caught:
        ask(url)
    assert "DATABASE_URL" in said(caught.value)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"postgresql://user:{SECRET}/{SECRET}@host/db", "%2F for /"),
        (f"postgresql://user:12/{SECRET}@host:1/db", "%2F for /"),
        (f"postgresql://user:{SECRET}@{SECRET}@host/db", "%40 for @"),
        (f"postgresql://user:{SECRET}@host%2Fname/db", "unusable host"),
        ("postgresql:///db?host=one@two", "unusable host"),
        ("postgresql://user@host:99999/db", "unusable port"),
        (f"postgresql+asyncpg://user:{SECRET}@host/db", "driver 'asyncpg'"),
        (f"postgresql://user:{SECRET}@host/db?foo=bar", "unknown parameter, 'foo'"),
        (f"postgresql://user:1/a?{SECRET}=b@host/db", "Percent-encode"),
        ("postgres://user@host/db?connect_timeout=abc", "unusable connect_timeout"),
        ("postgres://user@host/db?connect_timeout=9999999999", "unusable connect_timeout"),
        ("postgres://user@host/db?keepalives_idle=abc", "unusable keepalives_idle"),
        ("postgres://user@host/db?sslmode=on", "It takes disable, allow"),
    ],
)
def test_what_is_wrong_with_a_url_is_named(url: str, words: str) -> None:
    """The part to correct is told before anything is connected, and no password."""
    with pytest.raises(SettingsError) as caught:
        store_exists(url)
    assert words in said(caught.value)


def test_a_folder_of_sockets_and_several_hosts_are_hosts() -> None:
    """What libpq takes beside names stays allowed."""
    for url in (
        "postgresql:///db?host=/run/postgresql&connect_timeout=-1",
        "postgresql://%2Frun%2Fpostgresql/db",
        "postgresql://u:p%40ss@one,two:5433/db?sslmode=verify-full&user=a@b",
        "postgresql://one:1,two:2/db",
    ):
        PostgresBackend(url).close()


def test_a_server_that_is_not_there_is_an_outage(database: str) -> None:
    """A refused connection may pass; the message names the place."""
    port = free_port()
    backend = impatient(changed(database, port=port, password=SECRET))
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}") as caught:
        SqlStore(backend).now()
    assert "refused" in said(caught.value)
    backend.close()


@pytest.mark.parametrize(
    ("parts", "cause"),
    [
        ({"password": SECRET}, "password authentication failed"),
        ({"user": "nobody-here", "password": SECRET}, "authentication failed"),
        ({"path": "/no-such-database"}, "does not exist"),
    ],
)
def test_a_refusal_names_its_cause(database: str, parts: dict[str, str], cause: str) -> None:
    """Wrong password, unknown user, unknown database: for good, with the server's reason."""
    with pytest.raises(StoreUnusable, match=cause) as caught:
        open_store(changed(database, **parts))
    assert "DATABASE_URL" in said(caught.value)


def test_a_role_that_may_create_nothing_is_told_what_it_needs(database: str) -> None:
    """PostgreSQL grants nothing on a schema by itself; the message names the grant."""
    name = f"r{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA public TO {name}".encode())
        try:
            with pytest.raises(StoreUnusable, match="denies") as caught:
                open_store(changed(database, user=name, password=SECRET))
            assert "Grant" in said(caught.value)
        finally:
            admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_a_database_of_another_program_is_left_alone(database: str) -> None:
    """Only names that we need are in the way; other tables may be there."""
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE customers (id int)")
        other.execute("CREATE TABLE performance_metrics (id int)")
        with pytest.raises(StoreUnusable, match="performance_metrics") as caught:
            open_store(database)
        assert "customers" not in said(caught.value)
        other.execute("DROP TABLE performance_metrics")
    open_store(database).close()


# ---- what goes wrong meanwhile ----------------------------------------------------------------


def test_a_lock_of_a_foreign_session_is_waited_for_and_then_reported(
    pg_store: SqlStore, database: str
) -> None:
    """A database tool with an open transaction is named as the cause; nothing is half written."""
    cycle = planned(pg_store, 1)
    task = claim_one(pg_store)
    result = result_for(pg_store, task)
    store = SqlStore(impatient(database, lock=1))
    with closing(psycopg.connect(database)) as other:
        other.execute("SELECT * FROM sync_chunks FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="holds a lock") as caught:
            store.complete_task(task, result)
        assert "pg_locks" in said(caught.value)
    assert store.task_counts(cycle.id) == TaskCounts(processing=1)
    assert store.complete_task(task, result)
    store.close()


def test_a_statement_that_takes_too_long_is_ended(pg_store: SqlStore, database: str) -> None:
    """A server that hangs in one statement does not hang us."""
    store = SqlStore(impatient(database, statement=1, lock=30))
    with closing(psycopg.connect(database)) as other:
        other.execute("LOCK TABLE sync_mirrors")
        with pytest.raises(StoreUnavailable, match="took too long") as caught:
            store.mirrors()
        assert said(caught.value)
    assert store.mirrors() == []
    store.close()


def test_a_deadlock_is_undone_and_repeated(pg_store: SqlStore, database: str) -> None:
    """PostgreSQL ends one of two; when it is ours, it is done again."""
    one, two = pg_store.save_chunks([chunk_of(["a"]), chunk_of(["b"])])
    touch = "UPDATE sync_chunks SET recheck = true WHERE id = %d"
    tries = 0

    def cross(other: psycopg.Connection) -> None:
        nonlocal tries
        tries += 1
        with pg_store._writing() as tx:
            tx.exec_driver_sql(touch % one)
            if tries == 1:
                other.pgconn.send_query((touch % one).encode())
            tx.exec_driver_sql(touch % two)

    with closing(psycopg.connect(database)) as other:
        other.execute("SET deadlock_timeout = '1h'")
        other.execute((touch % two).encode())
        backend = pg_store.backend

        def freed() -> None:
            if tries == 1:
                other.close()
            cross(other)

        with pytest.raises(StoreUnavailable, match="in favour of another") as caught:
            cross(other)
        assert backend.passes(caught.value.__cause__)
        retry_while_away(backend, freed)
    assert tries >= 2, "the other session may take a moment to end"
    assert loaded(pg_store, two).head.recheck


@pytest.mark.parametrize(
    "damage",
    ["DROP TABLE sync_quarantine", "ALTER TABLE sync_quarantine DROP COLUMN reason CASCADE"],
)
def test_lost_tables_are_an_error_of_ours(pg_store: SqlStore, database: str, damage: str) -> None:
    """Someone tampers while we run: no raw exception, nothing half written."""
    cycle = planned(pg_store, 1)
    task = claim_one(pg_store)
    aside = [Quarantined(COLLECTION, "0-a", "bad", absent=True)]
    result = result_for(pg_store, task, quarantined=aside)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute(damage.encode())
    with pytest.raises(StoreUnusable, match=r"lacks (tables|columns) of chromasync") as caught:
        pg_store.complete_task(task, result)
    assert "built anew" in said(caught.value)
    assert pg_store.task_counts(cycle.id) == TaskCounts(processing=1)


def test_missing_tables_are_noticed_at_once(pg_store: SqlStore, database: str) -> None:
    """A store that someone has emptied is refused at the start, not in the middle of a cycle."""
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("DROP TABLE sync_tasks")
    with pytest.raises(StoreUnusable, match=r"missing.*sync_tasks") as caught:
        open_store(database)
    assert said(caught.value)


def test_a_standby_is_read_but_not_written() -> None:
    """After a failover the URL may lead to the wrong server: an outage, and why."""
    with LocalPostgres(durable=False) as server:
        store = open_store(server.url)
        store.save_mirror(mirror_of(COLLECTION, "t", "d", "n"))
        store.close()
        server.interrupted_by((server.path / "data" / "standby.signal").touch)
        store = SqlStore(impatient(server.url))
        assert [mirror.name for mirror in store.mirrors()] == ["n"]
        with pytest.raises(StoreUnavailable, match="takes no writes") as caught:
            store.take_lead("me", 60)
        assert "standby" in said(caught.value)
        store.close()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("40001", StoreUnavailable),
        ("57P01", StoreUnavailable),
        ("57P05", StoreUnavailable),
        ("08006", StoreUnavailable),
        ("53200", StoreUnavailable),
        ("53100", StoreUnavailable),
        ("58030", StoreUnavailable),
        ("28000", StoreUnusable),
        ("3D000", StoreUnusable),
        ("XX001", StoreUnusable),
        ("23514", StoreUnusable),
        ("22021", StoreUnusable),
    ],
)
def test_every_code_has_its_place_in_our_tree(code: str, expected: type[StoreError]) -> None:
    """What may pass is told from what will not."""
    error = store_error(
        pg.lookup(code)("as the server says it"), "the PostgreSQL database d at h:1"
    )
    assert type(error) is expected
    assert "d at h:1" in said(error)


# ---- text that PostgreSQL does not take -------------------------------------------------------


STRANGE = {
    "nul": "nul\0",
    "lone surrogate": "\ud800lone",
    "escape": "\x1a0000\x1a",
    "all": "ü\0\udfff\x1a🎉",
    "long": secrets.token_hex(50_000),
}


@pytest.mark.parametrize("bad", STRANGE.values(), ids=STRANGE)
def test_any_id_can_be_set_aside(store: SqlStore, bad: str) -> None:
    """Ids come from servers: whatever they hold comes back unchanged, and can be released."""
    (chunk_id,) = store.save_chunks([chunk_of(["a"])])
    cycle = store.open_cycle()
    aside = Quarantined(COLLECTION, bad, f"because of {bad}", absent=True)
    for _ in range(2):
        store.add_tasks(cycle.id, [NewTask(COLLECTION, f"n{bad}", chunk_id, 0, 1)])
        task = claim_one(store)
        assert store.complete_task(task, result_for(store, task, quarantined=[aside]))
        assert [q.record_id for q in store.quarantined(COLLECTION)] == [bad]
    with store._writing() as tx:
        chunkrows.release(tx, COLLECTION, [bad])
    assert store.quarantined() == []

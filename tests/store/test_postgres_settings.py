"""PostgreSQL set up in another way than ours: its own settings, and those that lead to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import select

from chromasync.errors import (
    ChromasyncError,
    SettingsError,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.model import MirrorStatus, Quarantined
from chromasync.store import SqlStore, open_store, rehearse_store
from chromasync.store.postgres_errors import store_error
from chromasync.store.schema import PROCESSING, tasks
from tests.store.samples import (
    COLLECTION,
    chunk_of,
    claim_one,
    loaded,
    look,
    planned,
    result_for,
)
from tests.store.test_postgres import work_off
from tests.store.test_postgres_faults import changed, said
from tests.support.ledgers import mirror_of
from tests.support.pooler import Pooler

ALIEN = {
    "DateStyle": "German",
    "IntervalStyle": "sql_standard",
    "TimeZone": "<-0330>+03:30",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "client_encoding": "LATIN1",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "search_path": "nowhere, public",
    "client_min_messages": "debug1",
    "synchronous_commit": "off",
    "plan_cache_mode": "force_generic_plan",
    "row_security": "off",
}
"""Settings that a role or a database may bring along."""

STYLES = ["German", "Postgres, DMY", "SQL, MDY"]
MOMENT = datetime(2026, 3, 1, 2, 3, 4, 567891, tzinfo=UTC)
MIRROR = mirror_of(
    COLLECTION,
    "t",
    "d",
    r"back\slash ' ü…🎉",
    status=MirrorStatus.IDENTICAL,
    walked_at=MOMENT,
    identical_as_of=MOMENT,
    duration_seconds=0.1 + 0.2,
)

Alter = Callable[..., str]


@pytest.fixture
def altered(database: str) -> Iterator[Alter]:
    """Gives an empty database settings of its own, for sessions to come; takes them back."""
    name = sql.Identifier(database.rpartition("/")[2])

    def alter(**settings: str) -> str:
        with psycopg.connect(database, autocommit=True) as admin:
            for setting, value in settings.items():
                statement = sql.SQL("ALTER DATABASE {} SET {} = {}")
                # a list of names is several values, and not one with a comma
                values = sql.SQL(", ").join(sql.Literal(part) for part in value.split(", "))
                admin.execute(statement.format(name, sql.Identifier(setting), values))
        return database

    yield alter
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(sql.SQL("ALTER DATABASE {} RESET ALL").format(name))


def all_comes_back(store: SqlStore) -> None:
    """Whatever kinds of value there are come back as they were given, and time is the server's."""
    store.save_mirror(MIRROR)
    assert store.mirrors() == [MIRROR]
    strange = chunk_of([r"\x00", "'", "ü…🎉"])
    (chunk_id,) = store.save_chunks([strange])
    assert loaded(store, chunk_id).ids == strange.ids
    planned(store, 3)
    task = claim_one(store)
    ((lease_expires_at,),) = look(store, select(tasks.c.lease_expires_at).where(PROCESSING))
    assert timedelta(seconds=0) < lease_expires_at - store.now() <= timedelta(seconds=60)
    aside = Quarantined(COLLECTION, "\\ü…🎉", "because \\", absent=True)
    assert store.complete_task(task, result_for(store, task, quarantined=[aside]))
    assert [found.record_id for found in store.quarantined()] == [aside.record_id]
    assert work_off(store) == 2


# ---- what does not matter ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [*({"DateStyle": style} for style in STYLES), ALIEN],
    ids=[*STYLES, "all that there are"],
)
def test_how_a_session_likes_to_write_does_not_matter(
    altered: Alter, settings: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Instants, numbers, bytes and text are read as they were written, without a word about it."""
    url = altered(**settings)
    assert rehearse_store(url).schema_version == 0
    store = open_store(url)
    all_comes_back(store)
    store.close()
    assert rehearse_store(url).is_current
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "options",
    [
        ("-c DateStyle=German", "-c DateStyle=ISO"),
        ("-c DateStyle=ISO", "-c DateStyle=SQL"),
        ("-c TimeZone=Asia/Kathmandu", "-c TimeZone=UTC"),
        ("-c client_encoding=LATIN1", "-c client_encoding=LATIN1"),
    ],
    ids=str,
)
def test_behind_a_pooler_each_session_may_like_something_else(
    database: str, options: tuple[str, str]
) -> None:
    """The pooler reports what one server connection says, and the other says something else."""
    with Pooler(database, options) as pooler:
        store = open_store(pooler.url)
        all_comes_back(store)
        store.close()


def test_another_encoding_in_the_url_does_not_matter(database: str) -> None:
    """Ids may hold any character, so that text is always exchanged in one encoding."""
    store = open_store(f"{database}?client_encoding=LATIN1")
    all_comes_back(store)
    store.close()


# ---- what is an error -------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [open_store, rehearse_store])
@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"search_path": "nowhere"}, StoreUnusable, "ALTER ROLE ... SET search_path"),
        ({"default_transaction_read_only": "on"}, StoreUnavailable, "take default_transaction_"),
    ],
    ids=str,
)
def test_what_a_setting_forbids_is_said(
    altered: Alter,
    ask: Callable[[str], object],
    settings: dict[str, str],
    kind: type[StoreError],
    words: str,
) -> None:
    """The message names the setting, and no defect of ours."""
    url = altered(**settings)
    with pytest.raises(kind) as caught:
        ask(url)
    assert words in said(caught.value)
    assert "defect" not in said(caught.value)


FORBIDDING = {
    "a sequence of the same name": (
        ["CREATE SEQUENCE sync_tasks"],
        "another object with the name of a table of chromasync",
    ),
    "an event trigger": (
        [
            """CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no tables here'; END $$""",
            """CREATE EVENT TRIGGER refusing ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
            EXECUTE FUNCTION refuse()""",
        ],
        "a trigger that forbids a statement of chromasync (no tables here)",
    ),
    "a publication of all tables": (
        ["CREATE PUBLICATION everything FOR ALL TABLES"],
        "set REPLICA IDENTITY FULL",
    ),
}


@pytest.mark.parametrize("what", FORBIDDING)
@pytest.mark.filterwarnings("ignore:wal_level")
def test_a_database_that_forbids_our_tables_is_found_beforehand(database: str, what: str) -> None:
    """Trying it finds what no look at rights and settings would."""
    statements, words = FORBIDDING[what]
    with psycopg.connect(database, autocommit=True) as admin:
        try:
            for statement in statements:
                admin.execute(statement.encode())
            with pytest.raises(StoreUnusable) as caught:
                rehearse_store(database)
        finally:
            admin.execute("DROP PUBLICATION IF EXISTS everything")
            admin.execute("DROP EVENT TRIGGER IF EXISTS refusing")
    assert words in said(caught.value)
    assert "defect" not in said(caught.value)


def test_a_database_that_cannot_hold_every_character_is_found_beforehand() -> None:
    """Some day an id or a message has such a character, and then the work would stop."""
    with LocalPostgres(durable=False) as server:
        with psycopg.connect(server.url, autocommit=True) as admin:
            admin.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
        url = server.url_of("latin")
        with pytest.raises(StoreUnusable, match="cannot hold a character") as caught:
            rehearse_store(url)
        assert "Use ENCODING 'UTF8'" in said(caught.value)
        store = open_store(url)
        planned(store, 1)
        task = claim_one(store)
        with pytest.raises(StoreUnusable, match="cannot hold a character"):
            store.fail_task(task, "because 🎉", final=True)
        store.close()


# ---- what leads to no connection --------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("target_session_attrs=read-only", "It takes any, read-write, primary"),
        ("target_session_attrs=foo", "It takes any, read-write, primary"),
        ("require_auth=foo", 'invalid require_auth value: "foo"'),
        ("require_auth=md5", "Correct require_auth"),
        ("service=nope", 'definition of service "nope" not found'),
        ("options=-c%20foo%3Dbar", 'unrecognized configuration parameter "foo"'),
        ("options=-c%20DateStyle%3Dbar", 'invalid value for parameter "DateStyle"'),
        ("sslmode=require", "server does not support SSL"),
        ("channel_binding=require", "channel binding required"),
        ("sslnegotiation=direct", 'weak sslmode "prefer"'),
        ("hostaddr=1.2.3.999", "could not parse network address"),
        ("load_balance_hosts=foo", 'invalid load_balance_hosts value: "foo"'),
    ],
)
def test_a_parameter_that_leads_to_no_connection_is_a_setting(
    database: str, query: str, words: str
) -> None:
    """Told at once, with exit code 2, and never taken for an outage that passes."""
    with pytest.raises(SettingsError) as caught:
        open_store(f"{database}?{query}")
    assert caught.value.exit_code == 2
    assert words in said(caught.value)


ATTEMPT = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("words", "kind", "hint"),
    [
        ("SSL error: certificate verify failed", SettingsError, "certificates"),
        ('root certificate file "/a" does not exist', SettingsError, "certificates"),
        ('FATAL:  permission denied to set parameter "a"', SettingsError, "DATABASE_URL"),
        ("FATAL:  connection requires a valid client certificate", StoreUnusable, "pg_hba.conf"),
        ("FATAL:  Tenant or user not found", StoreUnusable, "user and password"),
        ("FATAL:  no more connections allowed (max_client_conn)", StoreUnavailable, "pooler"),
        ('FATAL:  role "ruth" does not exist', StoreUnusable, "user and password"),
        ('FATAL:  database "d" does not exist', StoreUnusable, "CREATE DATABASE"),
        ("Connection refused", StoreUnavailable, "Check the server"),
        ("session is read-only", StoreUnavailable, "leads"),
    ],
)
def test_a_refused_connection_is_understood_by_its_words(
    words: str, kind: type[ChromasyncError], hint: str
) -> None:
    """There is nothing else to go by; of several hosts, the one with words we know counts."""
    refusals = (ATTEMPT + words, f"{ATTEMPT}Connection refused\n- host: 'one': {ATTEMPT}{words}")
    for refusal in refusals:
        error = store_error(psycopg.OperationalError(refusal), "the PostgreSQL database d")
        assert isinstance(error, kind)
        assert f"({words.removeprefix('FATAL:  ')})" in error.what
        assert hint in said(error)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PGTARGETSESSIONATTRS", "standby", "Leave target_session_attrs out"),
        ("PGREQUIREAUTH", "foo", "invalid require_auth value"),
        ("PGSERVICE", "nope", 'definition of service "nope" not found'),
        ("PGOPTIONS", "-c geqo=foo", "requires a Boolean value"),
        ("PGDATESTYLE", "foo", 'invalid value for parameter "DateStyle"'),
    ],
)
def test_so_is_a_variable_of_libpq(
    database: str, monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """What the environment adds is no outage either, and the message points there."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="lead to no connection") as caught:
        open_store(database)
    assert words in said(caught.value)


def test_a_start_parameter_that_a_pooler_refuses_is_a_setting(database: str) -> None:
    """Which one it is stands in the pooler's own words."""
    with Pooler(database) as pooler:
        with pytest.raises(SettingsError, match="unsupported startup parameter") as caught:
            open_store(f"{pooler.url}?options=-c%20geqo%3Don")
        assert "options" in said(caught.value)


def test_a_service_without_a_host_is_named(database: str) -> None:
    """A message does not name a machine that nobody has asked."""
    with pytest.raises(SettingsError) as caught:
        open_store("postgresql:///?service=nope")
    assert "of the service nope" in said(caught.value)
    assert "localhost" not in said(caught.value)


def test_a_missing_password_is_a_refusal(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What libpq says before it has sent one does not look like an outage."""
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(StoreUnusable, match="no password supplied") as caught:
        open_store(changed(database).replace(f":{_password(database)}@", "@"))
    assert "Check user and password" in said(caught.value)


def _password(url: str) -> str:
    return url.partition("//")[2].partition("@")[0].partition(":")[2]


@pytest.mark.long
@pytest.mark.parametrize("attributes", ["read-write", "primary"])
def test_no_leading_server_is_an_outage(attributes: str) -> None:
    """During a failover all servers may be standbys for a while."""
    with LocalPostgres(durable=False) as server:
        server.interrupted_by((server.path / "data" / "standby.signal").touch)
        with pytest.raises(ChromasyncError, match="No server was found that takes writes"):
            rehearse_store(f"{server.url}?target_session_attrs={attributes}")

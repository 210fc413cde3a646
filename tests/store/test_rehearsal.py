"""What a cycle needs of a store is tried beforehand, and undone."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import MetaData, select, text

from chromasync.errors import SettingsError, StoreUnavailable, StoreUnusable
from chromasync.store import (
    SqlStore,
    migrations,
    open_store,
    rehearsal,
    rehearse_store,
    sqlite,
    store_exists,
)
from chromasync.store.schema import metadata, schema_versions
from tests.store.conftest import Places
from tests.store.samples import COLLECTION, look, planned
from tests.store.test_postgres_faults import changed, said
from tests.support.ledgers import mirror_of
from tests.support.postgres import Databases
from tests.support.stage import ROOT

SECRET = "s3cr3t"


def everything(store: SqlStore) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables."""
    return {name: look(store, select(table)) for name, table in metadata.tables.items()}


def test_an_empty_place_stays_empty(places: Places) -> None:
    """The schema can be made, and is not."""
    place = places()
    for _ in range(2):
        found = rehearse_store(place)
        assert (found.schema_version, found.is_current) == (0, False)
        assert not store_exists(place)
    open_store(place).close()


def test_a_store_in_use_stays_as_it_is(place: str) -> None:
    """Rows of a running cycle are neither waited for nor changed."""
    store = open_store(place)
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n"))
    planned(store, 3)
    assert store.take_lead("me", 60)
    before = everything(store)
    found = rehearse_store(place)
    assert (found.schema_version, found.is_current) == (len(migrations.STEPS), True)
    assert (found.connections is None) == (store.connections() is None)
    assert everything(store) == before
    store.close()


def test_an_older_store_is_not_brought_up_to_date(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs of its version go on working; that the steps can be applied is seen all the same."""
    place = places()
    with monkeypatch.context() as older:
        older.setattr(migrations, "STEPS", migrations.STEPS[:1])
        older.setattr(migrations, "metadata", MetaData())
        open_store(place).close()
    found = rehearse_store(place)
    assert (found.schema_version, found.is_current) == (1, False)
    assert rehearse_store(place) == found
    step = migrations.Step(99, ("ALTER TABLE sync_holds ADD COLUMN more NONSENSE()",))
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, step))
    with pytest.raises(StoreUnusable):
        rehearse_store(place)


def test_every_kind_of_column_is_tried(place: str) -> None:
    """A column of a new type would be written as text, so that it must get a sample of its own."""
    text_types = {"Text", "Printed", "Verbatim"}
    for table in metadata.tables.values():
        kinds = {type(column.type) for column in table.columns}
        others = {kind.__name__ for kind in kinds - set(rehearsal._SAMPLES)}
        assert others <= text_types, table.name


# ---- PostgreSQL -------------------------------------------------------------------------------


@pytest.fixture
def role(database: str) -> Iterator[tuple[psycopg.Connection, str, str]]:
    """A superuser's connection, a role that may only look into the schema, and its URL."""
    name = f"r{secrets.token_hex(4)}"
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA public TO {name}".encode())
        yield admin, name, changed(database, user=name, password=SECRET)
        admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_what_the_documentation_grants_is_enough(databases: Databases) -> None:
    """Its statements make a role and a database that need nothing else."""
    page = (ROOT / "docs" / "distributed.md").read_text(encoding="utf-8")
    written = page.partition("```sql\n")[2].partition("```")[0].replace("…", SECRET)
    url = changed(databases.server.url_of("sync"), user="sync", password=SECRET)
    with psycopg.connect(databases.server.url, autocommit=True) as admin:
        for statement in filter(str.strip, written.split(";")):
            admin.execute(statement.encode())
        assert rehearse_store(url).schema_version == 0
        open_store(url).close()
        assert rehearse_store(url).is_current
        admin.execute("DROP DATABASE sync WITH (FORCE)")
        admin.execute("DROP ROLE sync")


def test_a_right_that_is_missing_is_found(
    role: tuple[psycopg.Connection, str, str], database: str
) -> None:
    """To see the schema, to create in it; and where others created, each right on each table."""
    admin, name, url = role
    admin.execute(f"REVOKE ALL ON SCHEMA public FROM PUBLIC, {name}".encode())
    with pytest.raises(StoreUnusable, match="no schema for the tables of chromasync") as caught:
        rehearse_store(url)
    assert "Grant this role USAGE and CREATE" in said(caught.value)
    admin.execute(f"GRANT USAGE ON SCHEMA public TO {name}".encode())
    with pytest.raises(StoreUnusable, match="permission denied for schema public") as caught:
        rehearse_store(url)
    assert "Grant this role CREATE on the schema" in said(caught.value)
    open_store(database).close()
    with pytest.raises(StoreUnusable, match="permission denied for table"):
        rehearse_store(url)
    admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}".encode())
    assert rehearse_store(url).is_current
    for right in ("SELECT", "INSERT", "UPDATE", "DELETE"):
        admin.execute(f"REVOKE {right} ON sync_deletions FROM {name}".encode())
        with pytest.raises(StoreUnusable, match="permission denied for table sync_deletions"):
            rehearse_store(url)
        admin.execute(f"GRANT {right} ON sync_deletions TO {name}".encode())


def test_rows_that_a_policy_hides_are_found(
    role: tuple[psycopg.Connection, str, str], database: str
) -> None:
    """What is written must be there when it is read."""
    admin, name, url = role
    open_store(database).close()
    admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {name}".encode())
    admin.execute("ALTER TABLE sync_holds ENABLE ROW LEVEL SECURITY")
    admin.execute("CREATE POLICY blind ON sync_holds FOR INSERT WITH CHECK (true)")
    with pytest.raises(StoreUnusable, match="returns other values than were written") as caught:
        rehearse_store(url)
    assert "sync_holds" in said(caught.value)


@pytest.mark.parametrize(
    "made",
    ["TABLE sync_tasks (id int)", "VIEW sync_tasks AS SELECT 1", "TABLE sync_collections ()"],
)
def test_a_table_of_another_program_is_found(database: str, made: str) -> None:
    """As by a cycle, whatever else could be tried; one that looks like a table is, too."""
    with psycopg.connect(database, autocommit=True) as other:
        other.execute(f"CREATE {made}".encode())
    with pytest.raises(StoreUnusable, match="tables of another program"):
        rehearse_store(database)


# ---- SQLite -----------------------------------------------------------------------------------


def test_a_place_for_a_file_is_tried_with_a_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one is made where it would be, is named like it in messages, and goes again."""

    def no_log(backend: sqlite.SqliteBackend) -> str:
        return "delete" if backend.place == f"the state file {path}" else "wal"

    monkeypatch.setattr(sqlite.SqliteBackend, "_journal_mode", no_log)
    with pytest.raises(SettingsError, match="cannot keep a write-ahead log") as caught:
        rehearse_store(path)
    assert str(path) in said(caught.value)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_full_disk_is_found(path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    """What a transaction undoes was never on the disk; room for it is tried apart."""
    if is_there:
        open_store(path).close()

    class Full:
        def __init__(self, **_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(sqlite, "TemporaryFile", Full)
    with pytest.raises(StoreUnavailable, match="The disk is full") as caught:
        rehearse_store(path)
    assert "Free some space" in said(caught.value)
    assert str(path) in said(caught.value)


def test_a_file_that_others_keep_locked_is_found(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cycle would wait for it, too, and in vain."""
    open_store(path).close()
    monkeypatch.setattr(sqlite.SqliteBackend.__init__, "__defaults__", (0.2, None))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="kept it locked"):
            rehearse_store(path)
    assert rehearse_store(path).is_current


def test_a_file_in_use_is_not_changed(path: Path) -> None:
    """Not even by a page that says the same."""
    store = open_store(path)
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n"))
    before = look(store, text("PRAGMA data_version"))
    log = path.with_name(f"{path.name}-wal").stat().st_size
    rehearse_store(path)
    assert look(store, text("PRAGMA data_version")) == before
    assert path.with_name(f"{path.name}-wal").stat().st_size == log
    assert len(look(store, select(schema_versions))) == len(migrations.STEPS)
    store.close()

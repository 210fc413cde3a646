"""A store of version 7, which had the facts about both sides in one row, goes on as it was."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import MetaData, Select, Table, delete, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from chromasync.dryrun import DryRun
from chromasync.errors import StoreUnusable
from chromasync.lab.fake import MODERN
from chromasync.model import HoldKind, MirrorStatus, StoreSnapshot
from chromasync.quiet import Quiet
from chromasync.store import SqlStore, migrations, open_store
from chromasync.store.schema import cycles, deletions, metadata, schema_versions, tasks
from chromasync.store.schema_history import metrics
from chromasync.store.schema_ledger import (
    applied_digests,
    chunk_ids,
    chunks,
    collections,
    mirrors,
    primary_collections,
    replica_chunks,
)
from chromasync.store.schema_servers import direction, restored
from tests.store import former
from tests.store.conftest import Places
from tests.store.samples import arrange, claim_one, look, task_for
from tests.store.test_postgres_faults import changed
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record

FORMER_VERSION = 7
FLAGS = {"SYNC_MAX_DELETE": "5"}
SIDES = (primary_collections, mirrors, chunks, replica_chunks, chunk_ids, applied_digests)
LATER = (direction, restored)
NUMBERED = (chunks, tasks, cycles, deletions, metrics)
FORMER_NAMES = {
    "primary_document_count": primary_collections.c.record_count,
    "replica_document_count": mirrors.c.replica_count,
    "last_successful_sync": mirrors.c.last_successful_sync_at,
    "last_sync_attempt": mirrors.c.last_attempt_at,
    "sync_duration_seconds": mirrors.c.duration_seconds,
    "last_error_message": mirrors.c.last_error,
}
PUBLISHED = [
    column.name
    for column in collections.columns
    if column.name in former.collections.c and column.name != "replica"
]
TAKEN_BY = [
    "UPDATE sync_chunks SET suspect = TRUE",
    "UPDATE sync_chunks SET read_at = NULL, distrusted_at = NULL",
    "SELECT id, suspect, in_hand FROM sync_chunks",
    "DELETE FROM sync_chunk_contents",
    "SELECT ids, payload_digests FROM sync_chunk_contents",
    "UPDATE sync_collections SET sync_status = 'new'",
    "DELETE FROM sync_collections",
    "SELECT ordered, settled_cycle FROM sync_collections",
]
"""What a program of version 7 does with the three tables, in short."""


# ---- a store with something of everything ------------------------------------------------------


def live_in(house: House) -> None:
    """Let two servers and a store get into every state that the ledger knows."""
    primary, store = house.primary, house.store
    for name in ("steady", "grown", "dropped", "lists"):
        primary.put(primary.make(name), joined(*map(record, names(35, name))))
    house.fill(60)
    house.replica.broken.refused = {"r3"}
    house.replica.become(replace(MODERN, arrays=False))
    by_name = {c.name: c for c in primary.list_collections("default_tenant", "default_database")}
    primary.put(by_name["lists"], record("lists2", metadata={"tags": ["x", "y"]}))
    for _ in range(3):
        house.sync()
    primary.remove(house.home, names(60)[20:45])  # held: more than five at once
    primary.unmake(by_name["dropped"])
    primary.put(by_name["grown"], joined(*map(record, names(12, "new"))))
    primary.put(by_name["grown"], record("grown1", "changed"))
    house.sync()
    house.pool.drain()
    first, second, third, *_ = store.chunk_heads(by_name["steady"].id)
    store.distrust(by_name["steady"].id, [first.id])
    store.distrust(by_name["steady"].id, [second.id], in_hand=True)
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [task_for(head.id, head.collection_id) for head in (second, third)])
    claim_one(store)


def rows_of(store: SqlStore, wanted: Select[Any]) -> list[dict[str, Any]]:
    with store._reading() as tx:
        return [dict(row) for row in tx.execute(wanted).mappings()]


def facts_of_version_7(store: SqlStore) -> dict[Table, list[dict[str, Any]]]:
    """The rows of the three tables that version 7 had instead."""
    mirrored = select(
        primary_collections,
        *(column for column in mirrors.c if column.name != "collection_id"),
        *(column.label(name) for name, column in FORMER_NAMES.items()),
    ).join_from(
        primary_collections, mirrors, mirrors.c.collection_id == primary_collections.c.collection_id
    )
    heads = select(chunks, replica_chunks).join_from(
        chunks, replica_chunks, replica_chunks.c.chunk_id == chunks.c.id
    )
    contents = select(chunk_ids.c.ids, applied_digests).join_from(
        chunk_ids, applied_digests, applied_digests.c.chunk_id == chunk_ids.c.chunk_id
    )
    found = {former.collections: mirrored, former.chunks: heads, former.chunk_contents: contents}
    return {
        table: [
            {name: value for name, value in row.items() if name in table.c}
            for row in rows_of(store, wanted)
        ]
        for table, wanted in found.items()
    }


@pytest.fixture
def version_7(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Within this block, stores are opened as a program of version 7 does."""

    @contextmanager
    def program() -> Iterator[None]:
        with monkeypatch.context() as older:
            older.setattr(migrations, "STEPS", migrations.STEPS[:FORMER_VERSION])
            older.setattr(migrations, "metadata", MetaData())
            yield

    return program


def write_version_7(older: SqlStore, model: SqlStore) -> None:
    """Write into a store of version 7 what another store holds."""
    content = facts_of_version_7(model)
    for table in metadata.sorted_tables:
        if not (table in SIDES or table in LATER or table.is_view or table is schema_versions):
            content[table] = rows_of(model, select(table))
    for table, rows in content.items():
        arrange(older, delete(table))
        if rows:
            with older._writing() as tx:
                tx.execute(insert(table), rows)
    if older.backend.engine.dialect.name == "postgresql":
        for table in NUMBERED:
            number = f"pg_get_serial_sequence('{table.name}', 'id')"
            arrange(older, text(f"SELECT setval({number}, max(id)) FROM {table.name}"))


@pytest.fixture
def before(places: Places) -> Iterator[House]:
    """Two servers and a store of this version that they were kept equal with."""
    store = open_store(places())
    with house_of(store, 1, **FLAGS) as house:
        live_in(house)
        # version 7 knows neither the last change nor the texts of answers
        arrange(store, update(mirrors).values(last_changed_at=None))
        arrange(store, update(chunks).values(text_digests=None))
        yield house
    store.close()


@pytest.fixture
def after(before: House, places: Places, version_7: Any) -> Iterator[SqlStore]:
    """The store as version 7 wrote it, opened by this one."""
    place = places()
    with version_7():
        older = open_store(place)
        write_version_7(older, before.store)
        assert older.schema_version() == FORMER_VERSION
        older.close()
    store = open_store(place)
    yield store
    store.close()


# ---- nothing is lost ---------------------------------------------------------------------------


def known(store: SqlStore) -> dict[str, object]:
    """All that a store holds, as its methods tell it."""
    ids = [mirror.collection_id for mirror in store.mirrors()]
    heads, theirs = store.heads_of(ids), replica_chunks.c
    return {
        "mirrors": store.mirrors(),
        "heads": heads,
        "chunks": store.load_chunks([head.id for part in heads.values() for head in part]),
        "deletions": [store.deletions(key) for key in ids],
        "quarantined": store.quarantined(),
        "holds": store.holds(),
        "suspicions": store.suspicions(),
        "distrusted": sorted(look(store, select(theirs.chunk_id, theirs.distrusted_at)), key=str),
        "deployment": store.deployment(),
        "sides": store.sides_of(ids),
        "marks": store.marks(),
        "distances": store.distances(),
        "tasks": sorted(look(store, select(tasks))),
        "snapshot": without_instant(store.snapshot(10)),
    }  # fmt: skip


def without_instant(seen: StoreSnapshot) -> StoreSnapshot:
    return replace(seen, taken_at=seen.cycles[0].started_at, workers=())


def test_the_store_had_something_of_everything(before: House) -> None:
    """What the tests below compare is not empty."""
    store = before.store
    found = {mirror.name: mirror for mirror in store.mirrors()}
    heads = [
        h
        for part in store.heads_of([m.collection_id for m in found.values()]).values()
        for h in part
    ]
    assert {mirror.status for mirror in found.values()} >= {
        MirrorStatus.HELD, MirrorStatus.LIMITED, MirrorStatus.VANISHED,
    }  # fmt: skip
    assert found["dropped"].primary.missing_cycles == 1
    for name in ("suspect", "in_hand", "gone_count", "reduced_count", "checked_at"):
        assert any(getattr(head.replica, name) for head in heads), name
    for name in ("recheck", "recheck_ids", "looked_cycle", "added_cycle", "read_at"):
        assert any(getattr(head, name) for head in heads), name
    assert {hold.kind for hold in store.holds()} >= {HoldKind.DELETES, HoldKind.DROP}
    assert store.quarantined()
    assert store.deletions(before.home.id)
    assert store.task_counts(store.cycles(1)[0].id).processing == 1


def test_everything_is_carried_over(before: House, after: SqlStore) -> None:
    """Mirrors, chunks, contents, suspicion, rechecks, holds and tasks are as they were."""
    assert after.schema_version() == len(migrations.STEPS)
    expected, found = known(before.store), known(after)
    for name, value in expected.items():
        assert found[name] == value, name


def test_the_published_columns_say_the_same(before: House, after: SqlStore) -> None:
    """`sync_collections` is a view now, which any query may use as it used the table."""
    assert len(PUBLISHED) == 16
    found = rows_of(after, select(*(collections.c[name] for name in PUBLISHED)))
    table = facts_of_version_7(before.store)[former.collections]
    expected = [{name: row[name] for name in PUBLISHED} for row in table]

    def by_id(row: dict[str, Any]) -> str:
        return str(row["collection_id"])

    assert sorted(found, key=by_id) == sorted(expected, key=by_id)


def test_the_next_cycle_copies_nothing_and_finds_everything_as_before(
    before: House, after: SqlStore
) -> None:
    """It plans what it would have planned, writes no record, and holds what was held."""
    parts = (before.primary, before.replica)
    plans = [DryRun(*parts, s, before.settings).plan(Quiet()) for s in (before.store, after)]
    assert plans[0] == plans[1]
    states = {mirror.name: mirror.status for mirror in before.store.mirrors()}
    copies = contents(before)
    with house_of(after, 1, **FLAGS) as house:
        house.primary, house.replica, house.home = *parts, before.home
        house.reconnect()
        report = house.sync()
    assert (report.counts.applied, report.counts.drifted) == (0, 0)
    assert contents(house) == copies
    found = {c.name: c.status for c in report.collections}
    assert found == {name: states[name] for name in found} | {"steady": MirrorStatus.SYNCING}
    held = {(hold.kind, hold.collection_id, hold.set_digest) for hold in before.store.holds()}
    assert {(hold.kind, hold.collection_id, hold.set_digest) for hold in after.holds()} == held


def contents(house: House) -> dict[str, tuple[Any, ...]]:
    """The records of each collection of the replica."""
    listed = house.replica.list_collections("default_tenant", "default_database")
    found = {collection.name: house.replica.contents(collection) for collection in listed}
    return {name: (r.ids, r.documents, r.metadatas, r.uris) for name, r in found.items()}


# ---- programs of version 7 ---------------------------------------------------------------------


def test_a_program_of_version_7_refuses_the_store(
    after: SqlStore, version_7: Any, before: House
) -> None:
    """It says which program to run instead, and changes nothing."""
    expected = known(before.store)
    with version_7(), pytest.raises(StoreUnusable) as caught:
        migrations.migrate(after.backend)
    assert f"has version {len(migrations.STEPS)}; this program knows 7" in caught.value.what
    assert caught.value.untouched == "It was left as it is."
    assert caught.value.hint == "Run the newer chromasync that wrote it."
    assert known(after) == expected


def test_a_program_of_version_7_that_still_runs_writes_nothing(before: House) -> None:
    """Its statements fail, for each names a column or a table that is elsewhere now."""
    expected = known(before.store)
    for statement in TAKEN_BY:
        with pytest.raises(DatabaseError), before.store.backend.engine.begin() as tx:
            tx.exec_driver_sql(statement)
    assert known(before.store) == expected


# ---- PostgreSQL --------------------------------------------------------------------------------


@pytest.fixture
def reader(database: str) -> Iterator[tuple[psycopg.Connection, str, str]]:
    """A superuser's connection, a role without rights, and its URL."""
    name, secret = f"Reader-{secrets.token_hex(4)}", secrets.token_hex(8)
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE \"{name}\" LOGIN PASSWORD '{secret}'".encode())
        admin.execute(f'GRANT USAGE ON SCHEMA public TO "{name}"'.encode())
        yield admin, name, changed(database, user=name, password=secret)
        admin.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"'.encode())


@pytest.mark.parametrize("public", [False, True])
def test_whoever_might_read_the_collections_still_may(
    reader: tuple[psycopg.Connection, str, str], database: str, version_7: Any, public: bool
) -> None:
    """A dashboard with a role of its own goes on, and may do no more than before."""
    admin, name, url = reader
    with version_7():
        open_store(database).close()
    to = "PUBLIC" if public else f'"{name}"'
    admin.execute(f"GRANT SELECT ON sync_collections TO {to}".encode())
    open_store(database).close()
    with psycopg.connect(url, autocommit=True) as dashboard:
        assert dashboard.execute("SELECT * FROM sync_collections").fetchall() == []
        for forbidden in ("SELECT * FROM sync_mirrors", "DELETE FROM sync_primary_collections"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                dashboard.execute(forbidden.encode())


def test_a_view_of_others_is_named_and_nothing_is_migrated(database: str, version_7: Any) -> None:
    """PostgreSQL keeps a table that others look through; they can make their view anew."""
    with version_7():
        open_store(database).close()
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE VIEW mine AS SELECT collection_name FROM sync_collections")
        with pytest.raises(StoreUnusable, match="other objects depend on it") as caught:
            open_store(database)
        assert "DROP" in str(caught.value.hint)
        with version_7():
            open_store(database).close()
        other.execute("DROP VIEW mine")
        open_store(database).close()
        other.execute("CREATE VIEW mine AS SELECT collection_name FROM sync_collections")


def test_what_is_being_written_is_not_lost(database: str, version_7: Any) -> None:
    """The step waits for transactions that write, or ends and is tried again; it copies all."""
    with version_7():
        older = open_store(database)
    arrange(older, insert(former.chunk_contents).values(
        chunk_id=1, ids=b"", embedding_digests=b"", payload_digests=b"",
    ))  # fmt: skip
    with closing(psycopg.connect(database)) as worker:
        worker.execute("UPDATE sync_chunk_contents SET payload_digests = 'late'")
        threading.Timer(0.5, worker.commit).start()
        store = open_store(database)
    assert look(store, select(applied_digests.c.payload_digests)) == [(b"late",)]
    older.close()
    store.close()

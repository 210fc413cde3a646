"""The steps lead to the schema that the code speaks, from any version, and never backwards."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from sqlalchemy import Engine, MetaData, event, inspect, select, text

from chromasync.errors import StoreUnusable
from chromasync.model import (
    ChunkHead,
    Deployment,
    Hold,
    Kept,
    MarkRow,
    Mirror,
    MirrorStatus,
    OpCounts,
    PrimaryCollection,
    Quarantined,
    Removal,
    ReplicaChunk,
    TaskCounts,
    TaskStatus,
    WorkerBeat,
)
from chromasync.store import SqlStore, migrations, open_store, postgres, rows
from chromasync.store.schema import (
    COUNT_COLUMNS,
    Later,
    Now,
    metadata,
    schema_versions,
    tasks,
)
from tests.store.conftest import Opener, Places
from tests.store.former import chunks, collections
from tests.store.samples import arrange, claim_one, look, planned, result_for
from tests.support.ledgers import mirror_of

NEXT_STEP = migrations.Step(99, ("ALTER TABLE sync_holds ADD COLUMN more BIGINT",))
"""What a newer program might add; it allows no older one."""

_NO_COUNTS = dict.fromkeys(COUNT_COLUMNS.values(), 0)
FIRST_VERSION = (
    collections.insert().values(
        collection_id="c",
        collection_name="n",
        primary_document_count=0,
        replica_document_count=0,
        sync_status=MirrorStatus.NEW,
        sync_duration_seconds=0,
        consecutive_errors=0,
        tenant="t",
        database_name="d",
        ordered=True,
        missing_cycles=0,
        reduced_count=0,
        adopting=False,
    ),
    chunks.insert().values(
        collection_id="c",
        chunk_start_offset=0,
        record_count=1,
        ids_digest=bytes(16),
        read_seconds=0,
        suspect=False,
        recheck=False,
        gone_count=0,
        reduced_count=0,
    ),
    tasks.insert().values(
        collection_id="c",
        collection_name="n",
        chunk_start_offset=0,
        chunk_end_offset=1,
        task_status=TaskStatus.PROCESSING,
        worker_id="w",
        started_at=Later(-60),
        retry_count=0,
        created_at=Later(-60),
        cycle_id=1,
        chunk_id=1,
        check_replica=False,
        fence=1,
        available_at=Later(-60),
        lease_seconds=30,
        lease_expires_at=Later(-30),
        **_NO_COUNTS,
    ),
)
"""What a program of the first version leaves behind when it is killed."""


def shape_of(engine: Engine) -> dict[str, Any]:
    """Everything that the database itself says about its tables."""
    found = inspect(engine)
    return {
        table: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            },
            "order": [column["name"] for column in found.get_columns(table)],
            "key": found.get_pk_constraint(table)["constrained_columns"],
            "foreign keys": found.get_foreign_keys(table),
            "checks": {
                check["name"]: " ".join(check["sqltext"].split())
                for check in found.get_check_constraints(table)
            },
            "indexes": {
                index["name"]: (
                    index["column_names"],
                    index["unique"],
                    {key: str(value) for key, value in index.get("dialect_options", {}).items()},
                )
                for index in found.get_indexes(table)
            },
        }
        for table in found.get_table_names()
        if not table.startswith("sqlite_")
    }


def views_of(engine: Engine) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """What the database says about its views: their definitions and columns."""
    found = inspect(engine)
    return {
        view: (
            " ".join(str(found.get_view_definition(view)).split()),
            [(column["name"], str(column["type"])) for column in found.get_columns(view)],
        )
        for view in found.get_view_names()
    }


def test_the_steps_lead_to_the_schema_that_the_code_speaks(opener: Opener) -> None:
    """Walking through all migrations gives exactly what `metadata.create_all` gives."""
    store = opener()
    engine = store._backend.engine
    if engine.dialect.name == "postgresql":
        # looking up indexes needs results in text
        event.remove(engine, "do_execute", postgres._execute)
    stepwise, views = shape_of(engine), views_of(engine)
    assert {*stepwise, *views} == set(metadata.tables)
    with store._writing() as tx:
        metadata.drop_all(tx)
        metadata.create_all(tx)
    assert (shape_of(engine), views_of(engine)) == (stepwise, views)


def test_opening_again_migrates_nothing(opener: Opener) -> None:
    """A store of the present schema is used as it is."""
    first = look(opener(), select(schema_versions))
    assert look(opener(), select(schema_versions)) == first
    assert len(first) == len(migrations.STEPS)


def test_an_older_store_is_brought_up_to_date_with_its_content(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the missing steps run, and what was stored is still there."""
    place = places()
    store = open_store(place)
    store.save_mirror(mirror_of("c", "t", "d", "n"))
    store.close()
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, NEXT_STEP))
    store = open_store(place)
    assert store.mirrors() == [mirror_of("c", "t", "d", "n")]
    assert look(store, text("SELECT more FROM sync_holds")) == []
    store.close()
    monkeypatch.undo()
    with pytest.raises(StoreUnusable, match="newer"):
        open_store(place)


def test_a_program_of_the_version_before_goes_on_working(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer program has migrated: an older one works on, and one that starts joins it."""
    place = places()
    running = open_store(place)
    cycle = planned(running, 3)
    coping = NEXT_STEP._replace(oldest_program=len(migrations.STEPS))
    with monkeypatch.context() as newer:
        newer.setattr(migrations, "STEPS", (*migrations.STEPS, coping))
        open_store(place).close()
    started = open_store(place)
    for store in (running, started):
        task = claim_one(store)
        assert store.complete_task(task, result_for(store, task))
        assert store.schema_version() == len(migrations.STEPS) + 1
    assert started.task_counts(cycle.id) == TaskCounts(pending=1, completed=2)
    running.close()
    started.close()


@pytest.mark.parametrize("version", [len(migrations.STEPS) + 1, 99])
def test_a_newer_store_that_names_no_oldest_program_is_refused(
    store: SqlStore, version: int
) -> None:
    """Whoever wrote it did not say that we may use it."""
    arrange(store, schema_versions.insert().values(version=version, applied_at=Now()))
    with pytest.raises(StoreUnusable, match=f"version {version}"):
        migrations.migrate(store._backend)


def test_a_store_of_the_first_version_keeps_what_it_holds(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks that are held, chunks and mirrors of the released version are used as they are."""
    place = places()
    with monkeypatch.context() as older:
        older.setattr(migrations, "STEPS", migrations.STEPS[:1])
        older.setattr(migrations, "metadata", MetaData())
        store = open_store(place)
    for statement in FIRST_VERSION:
        arrange(store, statement)
    store.close()
    store = open_store(place)
    assert store.schema_version() == len(migrations.STEPS)
    assert store.mirror("c") == mirror_of("c", "t", "d", "n")
    assert store.rescue_tasks() == 1
    assert [head.replica.suspect for head in store.chunk_heads("c")] == [True]
    store.close()


def test_a_step_that_fails_leaves_the_store_as_it_was(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps or none: a failed upgrade can be tried again."""
    place = places()
    open_store(place).close()
    broken = NEXT_STEP._replace(
        statements=(*NEXT_STEP.statements, "ALTER TABLE nowhere ADD COLUMN x BIGINT")
    )
    monkeypatch.setattr(migrations, "STEPS", (*migrations.STEPS, broken))
    with pytest.raises(StoreUnusable, match="nowhere"):
        open_store(place)
    monkeypatch.undo()
    store = open_store(place)
    assert len(look(store, select(schema_versions))) == len(migrations.STEPS)
    assert "more" not in [
        c["name"] for c in inspect(store._backend.engine).get_columns("sync_holds")
    ]
    store.close()


def test_a_newer_schema_that_appears_while_opening_is_refused(store: SqlStore) -> None:
    """Between looking and migrating, a newer program may have been faster."""
    newer = schema_versions.insert().values(version=99, applied_at=Now(), oldest_program=98)
    arrange(store, newer)
    with pytest.raises(StoreUnusable, match="version 99"):
        migrations.migrate(store._backend)


@pytest.mark.parametrize(
    ("model", "shape", "part"),
    [(Mirror, rows.MIRROR, rows.PRIMARY), (ChunkHead, rows.HEAD, rows.REPLICA_CHUNK)],
)
def test_every_field_of_both_sides_has_its_column(
    model: Any, shape: rows.RowShape[Any], part: rows.RowShape[Any]
) -> None:
    """A part with a table of its own stands for all of its columns, in the place of its field."""
    assert len(shape.columns) == len(fields(model)) - 1 + len(part.columns)
    assert len(set(shape.columns)) == len(shape.columns)
    assert {column.table.name for column in part.columns}.isdisjoint(
        column.table.name for column in set(shape.columns) - set(part.columns)
    )


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (PrimaryCollection, rows.PRIMARY),
        (ReplicaChunk, rows.REPLICA_CHUNK),
        (Hold, rows.HOLD),
        (Deployment, rows.DEPLOYMENT),
        (MarkRow, rows.MARK),
        (Removal, rows.REMOVAL),
        (Kept, rows.KEPT),
        (Quarantined, rows.QUARANTINED),
        (WorkerBeat, rows.WORKER),
    ],
)
def test_every_field_of_the_model_has_its_column(model: Any, shape: rows.RowShape[Any]) -> None:
    """A field added to the model without a column is noticed here, at the latest."""
    assert len(shape.columns) == len(fields(model))
    assert len(set(shape.columns)) == len(shape.columns)


def test_every_count_has_its_column() -> None:
    """OpCounts and the count columns go together."""
    assert list(COUNT_COLUMNS) == [field.name for field in fields(OpCounts)]

"""The steps lead to the schema that the code speaks, from any version, and never backwards."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from sqlalchemy import Engine, inspect, select, text

from chromasync.errors import StoreUnusable
from chromasync.model import ChunkHead, Hold, Mirror, OpCounts, Quarantined, WorkerBeat
from chromasync.store import SqlStore, migrations, open_store, rows
from chromasync.store.schema import COUNT_COLUMNS, metadata, schema_versions
from tests.store.conftest import Opener, Places
from tests.store.samples import arrange, look


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


def test_the_steps_lead_to_the_schema_that_the_code_speaks(opener: Opener) -> None:
    """Walking through all migrations gives exactly what `metadata.create_all` gives."""
    engine = opener()._backend.engine
    stepwise = shape_of(engine)
    assert set(stepwise) == set(metadata.tables)
    metadata.drop_all(engine)
    metadata.create_all(engine)
    assert shape_of(engine) == stepwise


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
    store.save_mirror(Mirror("c", "t", "d", "n"))
    store.close()
    later = (*migrations.STEPS, ("ALTER TABLE sync_holds ADD COLUMN more BIGINT",))
    monkeypatch.setattr(migrations, "STEPS", later)
    store = open_store(place)
    assert store.mirrors() == [Mirror("c", "t", "d", "n")]
    assert look(store, text("SELECT more FROM sync_holds")) == []
    store.close()
    monkeypatch.undo()
    with pytest.raises(StoreUnusable, match="newer"):
        open_store(place)


def test_a_step_that_fails_leaves_the_store_as_it_was(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All steps or none: a failed upgrade can be tried again."""
    place = places()
    open_store(place).close()
    broken = ("ALTER TABLE sync_holds ADD COLUMN more BIGINT", "ALTER TABLE nowhere ADD COLUMN x")
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
    arrange(store, text("INSERT INTO sync_schema SELECT 99, applied_at FROM sync_schema"))
    with pytest.raises(StoreUnusable, match="version 99"):
        migrations.migrate(store._backend)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Mirror, rows.MIRROR),
        (ChunkHead, rows.HEAD),
        (Hold, rows.HOLD),
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

"""Tries all that a cycle needs of a state store, and undoes it.

One transaction creates or migrates the schema. In each table, it writes, reads, changes and deletes
one row. Then it is rolled back. So a missing schema, table or right, a read-only database, and a
database that changes instants are found before a cycle meets them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    Integer,
    LargeBinary,
    Table,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.types import TypeEngine

from chromasync.errors import StoreUnusable
from chromasync.store.core import Backend, translated
from chromasync.store.idlists import IdsOrAll
from chromasync.store.migrations import STEPS, upgrade, version_of
from chromasync.store.schema import Instant, Word, metadata
from chromasync.store.schema_history import Phases

_WHEN = datetime(2001, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
"""All its parts differ, so that exchanged parts are detected."""

_SAMPLES: Mapping[type[TypeEngine[Any]], Callable[[Any], object]] = {
    Instant: lambda _: _WHEN,
    # the last word is a final state, so that the row does not disturb other processes
    Word: lambda kind: list(kind.words)[-1],
    Boolean: lambda _: False,
    Integer: lambda _: -1,
    BigInteger: lambda _: -1,
    Double: lambda _: 0.1,
    IdsOrAll: lambda _: ("one", "two"),
    Phases: lambda _: {"walk": 0.5},
    LargeBinary: lambda _: b"\\\0\xff",
}
"""Sample values by column type. Other columns get a unique word with characters that names, ids and
messages may have, and that some encodings lack."""


class Rehearsed(NamedTuple):
    """The result of a successful rehearsal.

    Attributes:
        schema_version: the store's version; 0 if it does not exist yet.
        is_current: whether the next cycle will leave the schema as it is.
        connections: how many a process needs, may have, and are in use; None on SQLite.
    """

    schema_version: int
    is_current: bool
    connections: str | None


def rehearse(backend: Backend) -> Rehearsed:
    """Do all that a cycle may do to a store, and undo it.

    Raises:
        StoreUnusable, StoreUnavailable: the error that would stop a cycle.
    """
    with translated(backend), backend.migrating() as tx:
        version = version_of(tx, backend)
        upgrade(tx, backend)
        for table in metadata.sorted_tables:
            if table.is_view:
                tx.execute(select(table).limit(1)).all()
            else:
                _use(tx, table, backend)
        tx.rollback()
    return Rehearsed(version, version >= len(STEPS), backend.connections())


def _use(tx: Connection, table: Table, backend: Backend) -> None:
    """Write, read, change and delete one row."""
    row = {
        column.name: _sample(column)
        for column in table.columns
        if not column.nullable and column.identity is None
    }
    made = tx.execute(insert(table).values(row)).inserted_primary_key or ()
    ours = [column == value for column, value in zip(table.primary_key.columns, made, strict=True)]
    read = tx.execute(select(table).where(*ours)).mappings().first()
    changed = tx.execute(update(table).where(*ours).values(row)).rowcount
    deleted = tx.execute(delete(table).where(*ours)).rowcount
    if read is None or (changed, deleted) != (1, 1) or any(read[name] != row[name] for name in row):
        raise StoreUnusable(
            f"{backend.place[0].upper()}{backend.place[1:]} returns other values than"
            f" were written to {table.name}.",
            untouched="All was undone.",
            hint="Look for policies, rules or triggers on this table, or name another database in"
            " DATABASE_URL.",
        )


def _sample(column: Column[Any]) -> object:
    kind = _SAMPLES.get(type(column.type))
    return kind(column.type) if kind else f"{secrets.token_hex(8)} é…🎉"

"""Tries what a cycle needs of a state store, and undoes it.

In one transaction that is rolled back the schema is made or brought up to date, and in each table a
row is written, read back, changed and deleted. What denies us a schema, a table or a right, what
forbids writing, and what gives back another instant than it was given is found by that, without
waiting for a cycle to meet it.
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

_WHEN = datetime(2001, 2, 3, 4, 5, 6, 789000, tzinfo=UTC)
"""No two of its parts can be taken for each other."""

_SAMPLES: Mapping[type[TypeEngine[Any]], Callable[[Any], object]] = {
    Instant: lambda _: _WHEN,
    # the last word is that of something over, which is in nobody's way
    Word: lambda kind: list(kind.words)[-1],
    Boolean: lambda _: False,
    Integer: lambda _: -1,
    BigInteger: lambda _: -1,
    Double: lambda _: 0.1,
    IdsOrAll: lambda _: ("one", "two"),
    LargeBinary: lambda _: b"\\\0\xff",
}
"""What to write into a column, by its type; into any other a word that nobody else writes, with
characters that names, ids and messages may hold and some encodings do not."""


class Rehearsed(NamedTuple):
    """A store that would do.

    Attributes:
        schema_version: what is there; 0 where there is none yet.
        is_current: whether the next cycle will leave the schema as it is.
        connections: how many it takes, there are and are in use, where anyone counts.
    """

    schema_version: int
    is_current: bool
    connections: str | None


def rehearse(backend: Backend) -> Rehearsed:
    """Do to a store all that a cycle may do, and undo it.

    Raises:
        StoreUnusable, StoreUnavailable: what would stop a cycle.
    """
    with translated(backend), backend.migrating() as tx:
        version = version_of(tx, backend)
        upgrade(tx, backend)
        for table in metadata.sorted_tables:
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
            f"{backend.place[0].upper()}{backend.place[1:]} does not give back what is written to"
            f" {table.name}.",
            untouched="All was undone.",
            hint="Look for policies, rules or triggers on this table, or name another database in"
            " DATABASE_URL.",
        )


def _sample(column: Column[Any]) -> object:
    kind = _SAMPLES.get(type(column.type))
    return kind(column.type) if kind else f"{secrets.token_hex(8)} é…🎉"

"""Migrations to the present schema: numbered steps, forward only, run by any process at its start.

All steps run in one transaction that only one process at a time can begin. So racing processes
wait, and then they find the schema migrated. `steps` has the statements.

A step adds columns and tables; a later one removes the old. So programs of the previous version
keep working after a newer one has migrated. Each step names the oldest program that may use its
result. An older program refuses the store, and so does a program that finds a newer store which
names no oldest program.
"""

from __future__ import annotations

import uuid

from sqlalchemy import Connection, func, inspect, select

from chromasync.errors import StoreUnusable
from chromasync.store.core import Backend, names_in, translated
from chromasync.store.schema import Now, metadata, schema_versions
from chromasync.store.schema_servers import deployment
from chromasync.store.step import Step
from chromasync.store.steps import STEPS

__all__ = ["STEPS", "Step", "migrate", "upgrade", "version_of"]

_NAMED_SINCE = 3
"""The version that gives a store an id of its own."""


def migrate(backend: Backend) -> None:
    """Migrate the store to the present schema; a newer schema that we may use stays as it is.

    Raises:
        StoreUnusable: its schema is too new for this program, or tables are missing.
        StoreUnavailable: it cannot be locked or written.
    """
    with translated(backend), backend.engine.begin() as tx:
        is_current = version_of(tx, backend) >= len(STEPS)
    if not is_current:
        with translated(backend), backend.migrating() as tx:
            upgrade(tx, backend)


def upgrade(tx: Connection, backend: Backend) -> None:
    """Apply the steps that the store lacks, in a transaction that only this process can hold."""
    for version in range(version_of(tx, backend) + 1, len(STEPS) + 1):
        _apply(tx, version, backend)


def version_of(tx: Connection, backend: Backend) -> int:
    """The version of the store's schema; 0 if it has none.

    Raises:
        StoreUnusable: it is too new for this program, or tables are missing.
    """
    version = _version(tx, backend)
    missing = set(metadata.tables) - names_in(tx)
    if version >= len(STEPS) and missing:
        raise StoreUnusable(
            f"Tables are missing in {backend.place}: {', '.join(sorted(missing))}.",
            untouched="It was left as it is.",
            hint="Move it away: a new one is built by comparing both sides, without a new copy.",
        )
    return version


def _version(tx: Connection, backend: Backend) -> int:
    if not inspect(tx).has_table(schema_versions.name):
        return 0
    version = tx.execute(select(func.max(schema_versions.c.version))).scalar() or 0
    if version > len(STEPS) and len(STEPS) < _oldest_program(tx, version):
        raise StoreUnusable(
            f"The schema of {backend.place} has version {version}; this program knows"
            f" {len(STEPS)}.",
            untouched="It was left as it is.",
            hint="Run the newer chromasync that wrote it.",
        )
    return version


def _oldest_program(tx: Connection, version: int) -> int:
    columns = {column["name"] for column in inspect(tx).get_columns(schema_versions.name)}
    if schema_versions.c.oldest_program.name not in columns:
        return version
    named = select(schema_versions.c.oldest_program).where(schema_versions.c.version == version)
    return tx.execute(named).scalar() or version


def _apply(tx: Connection, version: int, backend: Backend) -> None:
    oldest_program, statements = STEPS[version - 1]
    for statement in statements:
        if isinstance(statement, str):
            tx.exec_driver_sql(statement.format_map(backend.types))
        elif statement.dialect == tx.dialect.name:
            tx.exec_driver_sql(statement.statement.format_map(backend.types))
    applied = {"version": version, "applied_at": Now()}
    if version > 1:  # the first version has no such column
        applied["oldest_program"] = oldest_program
    tx.execute(schema_versions.insert().values(applied))
    if version == _NAMED_SINCE:
        tx.execute(deployment.insert().values(id=1, store_id=str(uuid.uuid4())))

"""Copies the rows of a state store to another one, to see there what a change would lead to.

Tasks are left out, because there may be a million of them, and so is what receivers of alerts were
told. No plan depends on either.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from chromasync.store.schema import metadata, schema_versions, tasks
from chromasync.store.schema_service import alerts

ROWS = 100
"""Rows in memory at a time; the row of a chunk may have thousands of ids."""

_LEFT_OUT = {schema_versions, tasks, alerts}
COPIED = [table for table in metadata.sorted_tables if not table.is_view and table not in _LEFT_OUT]
"""The tables that a copy has."""


def copy_rows(source: Connection, target: Connection) -> None:
    """Make the tables of `target` equal to those of `source`; both have the same schema."""
    for table in COPIED:
        target.execute(delete(table))
        found = source.execute(select(table), execution_options={"yield_per": ROWS})
        for rows in found.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in rows])

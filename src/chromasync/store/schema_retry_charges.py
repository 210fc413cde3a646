"""The table of what chunks are charged with while no task of theirs does; see `retry_charges`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table

from chromasync.store.schema import Printed, metadata

retry_charges = Table(
    "sync_retry_charges",
    metadata,
    Column("chunk_id", BigInteger, primary_key=True, autoincrement=False),
    Column("retry_count", Integer, nullable=False),
    Column("error_message", Printed, nullable=False),
    # the cycle of the task that was called back, or given up, last
    Column("cycle_id", BigInteger, nullable=False),
    # the cycle in which the task failed as soon as it was planned
    Column("given_up_in_cycle", BigInteger),
)

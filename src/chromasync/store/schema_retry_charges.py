"""The table of retries that outlive a chunk's task; see `retry_charges`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table

from chromasync.store.schema import Printed, metadata

retry_charges = Table(
    "sync_retry_charges",
    metadata,
    Column("chunk_id", BigInteger, primary_key=True, autoincrement=False),
    Column("retry_count", Integer, nullable=False),
    Column("error_message", Printed, nullable=False),
    # the cycle of the task that was last called back or given up
    Column("cycle_id", BigInteger, nullable=False),
    # the cycle in which the task failed as soon as it was planned
    Column("given_up_in_cycle", BigInteger),
)

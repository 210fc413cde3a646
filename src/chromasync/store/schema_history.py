"""The published tables of metrics and recommendations; see `schema` for the others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, Table, Text

from chromasync.store.schema import Instant, Printed, key, metadata

metrics = Table(
    "performance_metrics",
    metadata,
    key(),
    Column("recorded_at", Instant, nullable=False),
    Column("cycle_id", BigInteger, nullable=False),
    Column("duration_seconds", Double, nullable=False),
    Column("records_read", BigInteger, nullable=False),
    Column("records_written", BigInteger, nullable=False),
    Column("records_per_second", Double, nullable=False),
    Column("tasks_completed", BigInteger, nullable=False),
    Column("tasks_failed", BigInteger, nullable=False),
    Column("primary_document_count", BigInteger, nullable=False),
    Column("active_workers", Integer, nullable=False),
    Column("memory_usage_mb", Double),
    Column("cpu_percent", Double),
    sqlite_autoincrement=True,
)

recommendations = Table(
    "upgrade_recommendations",
    metadata,
    key(),
    Column("created_at", Instant, nullable=False),
    Column("current_phase", Text, nullable=False),
    Column("recommended_phase", Text, nullable=False),
    Column("reason", Printed, nullable=False),
    Column("estimated_monthly_cost", Text),
    Column("evidence", Text),
    sqlite_autoincrement=True,
)

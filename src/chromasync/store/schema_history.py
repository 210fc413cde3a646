"""The published tables of metrics and recommendations; see `schema` for the others."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, Table, Text

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
    # NULL = the row of a whole cycle; otherwise the row of one process for some time
    Column("process_name", Text),
    Column("span_seconds", Double),
    Column("bytes_read", BigInteger),
    Column("bytes_written", BigInteger),
    Column("primary_requests", BigInteger),
    Column("replica_requests", BigInteger),
    Column("refused_requests", BigInteger),
    # seconds that threads waited for answers of either server, and for the throttle
    Column("primary_seconds", Double),
    Column("replica_seconds", Double),
    Column("throttled_seconds", Double),
    # JSON: seconds by phase of the cycle
    Column("phase_seconds", Text),
    Column("lag_seconds", Double),
    Column("memory_limit_mb", Double),
    Index("performance_metrics_age", "recorded_at"),
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

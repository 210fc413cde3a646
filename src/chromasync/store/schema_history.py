"""The published tables of metrics and recommendations; see `schema` for the others."""

# ruff: noqa: ARG002 (SQLAlchemy gives the signatures)

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Double,
    Index,
    Integer,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from chromasync.store.schema import Instant, Now, Printed, key, metadata


class Phases(TypeDecorator[Mapping[str, float]]):
    """Seconds by phase, as JSON; none are NULL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, float] | None, dialect: Dialect) -> str | None:
        """The driver's value."""
        return orjson.dumps(dict(value)).decode() if value else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> Mapping[str, float]:
        """The seconds by phase."""
        return orjson.loads(value) if value else {}


class SecondsSince(FunctionElement[float]):
    """Seconds from an instant to the database's present time."""

    type = Double()
    name = "seconds_since"
    inherit_cache = True


@compiles(SecondsSince, "sqlite")
def _since_sqlite(element: SecondsSince, compiler: Any, **kw: Any) -> str:
    now = compiler.process(Now(), **kw)
    return f"({now} - {compiler.process(element.clauses, **kw)})"


@compiles(SecondsSince, "postgresql")
def _since_postgresql(element: SecondsSince, compiler: Any, **kw: Any) -> str:
    instant = compiler.process(element.clauses, **kw)
    return f"CAST(extract(epoch FROM (clock_timestamp() - {instant})) AS double precision)"


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
    Column("phase_seconds", Phases),
    Column("lag_seconds", Double),
    Column("memory_limit_mb", Double),
    # the number of a process's row, or the number of the interval that a row of all covers
    Column("row_number", BigInteger),
    Index("performance_metrics_process", "process_name", "row_number", unique=True),
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

"""The tables of the service's own life: what operators asked for, and what they were told."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, Table, Text

from chromasync.store.schema import Instant, Printed, Verbatim, metadata

# One row: the pause in force, and the cycles that operators asked for.
control = Table(
    "sync_control",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    # unknown while there is no pause
    Column("paused_at", Instant),
    Column("paused_by", Printed),
    Column("pause_reason", Printed),
    # NULL = until someone resumes
    Column("paused_until", Instant),
    # requests so far, and whether one that no cycle has begun for yet is for reading everything
    Column("wanted_number", BigInteger, nullable=False),
    Column("wanted_full", Boolean, nullable=False),
    Column("wanted_at", Instant),
    Column("wanted_by", Printed),
    # the newest request that a cycle has begun for, and that cycle
    Column("begun_number", BigInteger, nullable=False),
    Column("begun_cycle", BigInteger),
)

# Alerts, each once for every receiver: those that hold, and ended ones until a day after their end.
alerts = Table(
    "sync_alerts",
    metadata,
    Column("receiver", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    # what it is about: a collection, a host; '' = the whole deployment
    Column("subject", Verbatim, primary_key=True),
    Column("name", Printed, nullable=False),
    Column("message", Printed, nullable=False),
    Column("since_at", Instant, nullable=False),
    # NULL = it was there at the last look
    Column("ended_at", Instant),
    # NULL = this receiver was not told yet
    Column("told_at", Instant),
    Column("told_count", Integer, nullable=False),
    # NULL = its end was not told yet
    Column("over_at", Instant),
    # it is there again, although its end was not told yet
    Column("back_at", Instant),
    # how often it came back within a day after its end was told
    Column("return_count", Integer, nullable=False),
)

# The requests a second that each process may send to the primary, until it asks again.
request_shares = Table(
    "sync_request_shares",
    metadata,
    Column("holder", Text, primary_key=True),
    Column("per_second", Double, nullable=False),
    Column("ttl_seconds", Double, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

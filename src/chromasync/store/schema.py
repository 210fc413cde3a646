"""The tables of the state store, for every database: published columns first, then ours.

Users query `sync_tasks`, `sync_workers`, `sync_collections`, `performance_metrics` and
`upgrade_recommendations`; their published columns are never renamed. This module and its siblings
`schema_ledger`, `schema_history`, `schema_servers` and `schema_retry_charges` define the present
schema. `migrations` has the steps that lead to it. A test compares the two.

Instants are aware UTC datetimes in Python, unix seconds (REAL) on SQLite and `timestamptz` on
PostgreSQL, so that `AVG(completed_at - started_at)` means something on both.
"""

# ruff: noqa: ARG001, ARG002 (SQLAlchemy gives the signatures)

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    REAL,
    TIMESTAMP,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Dialect,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    TypeDecorator,
    func,
    literal_column,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from chromasync.model import (
    CycleStatus,
    DeletionKind,
    HoldKind,
    OpCounts,
    TaskStatus,
    WorkerStatus,
)
from chromasync.store.idlists import IdsOrAll

MAX_ERROR_LENGTH = 4000


class Instant(TypeDecorator[datetime]):
    """An aware UTC datetime; a naive one is an error."""

    impl = REAL
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """`timestamptz` on PostgreSQL, REAL elsewhere."""
        postgres = dialect.name == "postgresql"
        return dialect.type_descriptor(TIMESTAMP(timezone=True) if postgres else REAL())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """The driver's value; raises ValueError for a naive datetime."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        return value if dialect.name == "postgresql" else value.timestamp()

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """The driver's value as an aware UTC datetime."""
        if value is None:
            return None
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        return datetime.fromtimestamp(value, UTC)


def printable(words: str) -> str:
    """`words` in a form that every database accepts: valid, no NUL, cut to MAX_ERROR_LENGTH."""
    clean = words.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")
    return clean[:MAX_ERROR_LENGTH]


class Printed(TypeDecorator[str]):
    """Text for people; stored in the form that `printable` returns."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The driver's value."""
        return None if value is None else printable(value)


class Verbatim(TypeDecorator[str]):
    """Text that is read exactly as written, although PostgreSQL takes neither NUL nor surrogates.

    These characters, and the escape character itself, are stored as the escape character and four
    hexadecimal digits. All other text is stored as it is.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The driver's value."""
        return None if value is None else _REFUSED.sub(_escaped, value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it was written."""
        return None if value is None else _ESCAPED.sub(_unescaped, value)


_REFUSED = re.compile("[\x00\x1a\ud800-\udfff]")
_ESCAPED = re.compile("\x1a([0-9a-f]{4})")


def _escaped(found: re.Match[str]) -> str:
    return f"\x1a{ord(found[0]):04x}"


def _unescaped(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


class Word(TypeDecorator[StrEnum]):
    """A member of an enumeration, stored as its word."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        """The word of the member."""
        return None if value is None else self.words(value).value

    def process_result_value(self, value: Any, dialect: Dialect) -> StrEnum | None:
        """The member for a stored word; raises ValueError for an unknown one."""
        return None if value is None else self.words(value)


class Now(FunctionElement[datetime]):
    """The database's present time (not the time at the start of the transaction).

    `unixepoch('subsec')` would be shorter, but is NULL before SQLite 3.42.
    """

    type = Instant()
    name = "now"
    inherit_cache = True


class Later(FunctionElement[datetime]):
    """The database's time so many seconds from now."""

    type = Instant()
    name = "later"
    inherit_cache = True


_SQLITE_NOW = "round((julianday('now') - 2440587.5) * 86400.0, 3)"


@compiles(Now, "sqlite")
def _now_sqlite(element: Now, compiler: Any, **kw: Any) -> str:
    return _SQLITE_NOW


@compiles(Now, "postgresql")
def _now_postgresql(element: Now, compiler: Any, **kw: Any) -> str:
    return "clock_timestamp()"


@compiles(Later, "sqlite")
def _later_sqlite(element: Later, compiler: Any, **kw: Any) -> str:
    return f"({_SQLITE_NOW} + {compiler.process(element.clauses, **kw)})"


@compiles(Later, "postgresql")
def _later_postgresql(element: Later, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(clock_timestamp() + make_interval(secs => {seconds}))"


@compiles(CreateIndex, "postgresql")
def _index_postgresql(create: CreateIndex, compiler: Any, **kw: Any) -> str:
    """An index is partial on both; to say so in the table would load PostgreSQL's part always."""
    where = create.element.dialect_options["sqlite"]["where"]
    create.element.dialect_kwargs["postgresql_where"] = where
    return str(compiler.visit_create_index(create, **kw))


metadata = MetaData()

COUNT_COLUMNS = {name: f"{name}_count" for name in OpCounts.__slots__}
"""Columns by field of OpCounts, the same in sync_tasks and sync_cycles."""


def key() -> Column[int]:
    """A number that the database assigns, and never twice."""
    number = BigInteger().with_variant(Integer(), "sqlite")
    return Column("id", number, Identity(), primary_key=True)


def _counts() -> Sequence[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in COUNT_COLUMNS.values()]


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    allowed = ", ".join(f"'{word.value}'" for word in words)
    return CheckConstraint(f"{column} IN ({allowed})", name=f"{column}_is_known")


def _is(status: TaskStatus) -> ColumnElement[bool]:
    # A literal, not a parameter: SQLite matches a partial index only against literals.
    return literal_column("task_status") == literal_column(f"'{status.value}'")


PENDING = _is(TaskStatus.PENDING)
PROCESSING = _is(TaskStatus.PROCESSING)
LIVE = literal_column("task_status").in_(
    [literal_column("'pending'"), literal_column("'processing'")]
)
FINISHED = literal_column("task_status").in_(
    [literal_column("'completed'"), literal_column("'failed'")]
)
CLAIMED = literal_column("claim_number").is_not(None)
RUNNING = literal_column("cycle_status") == literal_column("'running'")

schema_versions = Table(
    "sync_schema",
    metadata,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("applied_at", Instant, nullable=False),
    Column("oldest_program", Integer),
)

deletions = Table(
    "sync_deletions",
    metadata,
    key(),
    Column("collection_id", Text, nullable=False),
    Column("kind", Word(DeletionKind), nullable=False),
    Column("chunk_id", BigInteger),
    Column("ids", LargeBinary, nullable=False),
    Index("sync_deletions_collection", "collection_id", "id"),
    Index("sync_deletions_chunk", "chunk_id"),
    sqlite_autoincrement=True,
)

quarantine = Table(
    "sync_quarantine",
    metadata,
    Column("collection_id", Text, nullable=False),
    Column("record_id", Verbatim, nullable=False),
    Column("reason", Printed, nullable=False),
    Column("absent", Boolean, nullable=False),
    Column("since_at", Instant, nullable=False),
    PrimaryKeyConstraint("collection_id", "record_id").ddl_if(dialect="sqlite"),
)
# The digest of the id, because an id may be too long for an index of PostgreSQL.
Index(
    "sync_quarantine_record",
    quarantine.c.collection_id,
    func.md5(quarantine.c.record_id),
    unique=True,
).ddl_if(dialect="postgresql")

holds = Table(
    "sync_holds",
    metadata,
    Column("collection_id", Text, primary_key=True),
    Column("kind", Word(HoldKind), primary_key=True),
    Column("collection_name", Printed, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("reason", Printed, nullable=False),
    Column("held_at", Instant, nullable=False),
    # the three columns of an approval are set and cleared together
    Column("approved_count", BigInteger),
    Column("tenant", Printed, nullable=False, server_default=text("''")),
    Column("database_name", Printed, nullable=False, server_default=text("''")),
    # identifies the held set; an approval is for one digest
    Column("set_digest", Text, nullable=False, server_default=text("''")),
    # the hold waits until the next cycle confirms it, not for an approval
    Column("unconfirmed", Boolean, nullable=False, server_default=text("FALSE")),
    Column("seen_cycles", Integer, nullable=False, server_default=text("0")),
    # `record_count` when it was last shown to a person
    Column("shown_count", BigInteger),
    Column("approved_digest", Text),
    Column("approved_at", Instant),
)

leases = Table(
    "sync_leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("ttl_seconds", Double, nullable=False),
    Column("expires_at", Instant, nullable=False),
)

cycles = Table(
    "sync_cycles",
    metadata,
    key(),
    Column("cycle_status", Word(CycleStatus), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("error_message", Printed),
    *_counts(),
    # of the error that ended it early, as a command would end with it
    Column("exit_code", Integer),
    _one_of("cycle_status", CycleStatus),
    Index(
        "sync_cycles_one_running",
        "cycle_status",
        unique=True,
        sqlite_where=RUNNING,
    ),
    sqlite_autoincrement=True,
)

tasks = Table(
    "sync_tasks",
    metadata,
    key(),
    Column("collection_id", Text, nullable=False),
    Column("collection_name", Printed, nullable=False),
    Column("chunk_start_offset", BigInteger, nullable=False),
    Column("chunk_end_offset", BigInteger, nullable=False),
    Column("task_status", Word(TaskStatus), nullable=False),
    Column("worker_id", Text),
    Column("started_at", Instant),
    Column("completed_at", Instant),
    Column("retry_count", Integer, nullable=False),
    Column("error_message", Printed),
    Column("created_at", Instant, nullable=False),
    Column("cycle_id", BigInteger, nullable=False),
    Column("chunk_id", BigInteger, nullable=False),
    Column("check_replica", Boolean, nullable=False),
    Column("fence", BigInteger, nullable=False),
    Column("available_at", Instant, nullable=False),
    Column("lease_seconds", Double),
    Column("lease_expires_at", Instant),
    *_counts(),
    # the number of the claim, so that a claim whose answer was lost can be repeated
    Column("claim_number", BigInteger),
    # records that others wrote on the replica are reported, not overwritten
    Column("hold_foreign", Boolean, nullable=False, server_default=text("FALSE")),
    # the records that the task concerns
    Column("record_ids", IdsOrAll),
    _one_of("task_status", TaskStatus),
    CheckConstraint(
        "(task_status = 'processing') = (lease_expires_at IS NOT NULL)",
        name="lease_while_processing",
    ),
    Index("sync_tasks_ready", "id", sqlite_where=PENDING),
    Index("sync_tasks_lease", "lease_expires_at", sqlite_where=PROCESSING),
    Index("sync_tasks_live_chunk", "chunk_id", unique=True, sqlite_where=LIVE),
    Index(
        "sync_tasks_finished",
        "completed_at",
        "id",
        sqlite_where=FINISHED,
    ),
    Index("sync_tasks_cycle", "cycle_id", "task_status"),
    Index("sync_tasks_claim", "claim_number", sqlite_where=CLAIMED),
    sqlite_autoincrement=True,
)

workers = Table(
    "sync_workers",
    metadata,
    Column("worker_id", Text, primary_key=True),
    Column("worker_status", Word(WorkerStatus), nullable=False),
    Column("last_heartbeat", Instant, nullable=False),
    Column("current_task_id", BigInteger),
    Column("memory_usage_mb", Double, nullable=False),
    Column("cpu_percent", Double, nullable=False),
    Column("hostname", Printed, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Printed, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("role", Text, nullable=False, server_default=text("''")),
    Column("threads", Integer, nullable=False, server_default=text("0")),
    Column("tasks_done", BigInteger, nullable=False, server_default=text("0")),
    Column("memory_limit_mb", Double),
    # why it sends fewer requests than it could; NULL = it does not
    Column("throttle_reason", Printed),
    _one_of("worker_status", WorkerStatus),
)

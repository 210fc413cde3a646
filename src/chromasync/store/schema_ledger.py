"""The tables of the ledger: what the primary has, and apart from it what was applied to a replica.

Tables about a replica have its name in their key, because the primary's facts do not depend on a
replica. There is one replica so far (`REPLICA`).

`sync_collections` is published. It is a view of both sides, one row for each collection.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    and_,
    literal_column,
    select,
)
from sqlalchemy.schema import CreateView

from chromasync.model import MirrorStatus, Space
from chromasync.store.idlists import IdsOrAll
from chromasync.store.schema import Instant, Printed, Word, key, metadata

REPLICA = "default"
"""The name of the replica in keys."""


def _replica() -> Column[str]:
    return Column("replica", Text, primary_key=True, default=REPLICA)


# ---- collections -------------------------------------------------------------------------------

primary_collections = Table(
    "sync_primary_collections",
    metadata,
    Column("collection_id", Text, primary_key=True),
    Column("tenant", Printed, nullable=False),
    Column("database_name", Printed, nullable=False),
    Column("collection_name", Printed, nullable=False),
    Column("ordered", Boolean, nullable=False),
    Column("missing_cycles", Integer, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    Column("walked_at", Instant),
    Column("space", Word(Space)),
    Column("dimension", Integer),
    Column("first_cycle", BigInteger),
)

mirrors = Table(
    "sync_mirrors",
    metadata,
    Column("collection_id", Text, primary_key=True),
    _replica(),
    Column("replica_id", Text),
    Column("sync_status", Word(MirrorStatus), nullable=False),
    Column("replica_count", BigInteger, nullable=False),
    Column("replica_walked_at", Instant),
    Column("identical_as_of", Instant),
    Column("last_successful_sync_at", Instant),
    Column("last_attempt_at", Instant),
    Column("duration_seconds", Double, nullable=False),
    Column("consecutive_errors", Integer, nullable=False),
    Column("last_error", Printed),
    Column("reduced_count", BigInteger, nullable=False),
    Column("adopting", Boolean, nullable=False),
    # digest of the collection's definition on the replica when it was last defined there
    Column("definition_digest", LargeBinary),
    Column("settled_cycle", BigInteger),
    Column("probed_cycle", BigInteger),
    Column("unanswering", Printed),
    Column("last_changed_at", Instant),
)

SAME_COLLECTION = and_(
    mirrors.c.collection_id == primary_collections.c.collection_id, mirrors.c.replica == REPLICA
)
"""Joins both sides of a collection."""

_p, _m = primary_collections.c, mirrors.c
collections = CreateView(
    select(
        _p.collection_id,
        _p.collection_name,
        _p.record_count.label("primary_document_count"),
        _m.replica_count.label("replica_document_count"),
        _m.last_successful_sync_at.label("last_successful_sync"),
        _m.last_attempt_at.label("last_sync_attempt"),
        _m.sync_status,
        _m.duration_seconds.label("sync_duration_seconds"),
        _m.consecutive_errors,
        _m.last_error.label("last_error_message"),
        _p.tenant,
        _p.database_name,
        _m.replica,
        _m.replica_id,
        _p.walked_at,
        _m.replica_walked_at,
        _m.identical_as_of,
    ).join_from(primary_collections, mirrors, _m.collection_id == _p.collection_id),
    "sync_collections",
    metadata=metadata,
).table
"""Published: one row for each collection."""

# ---- chunks ------------------------------------------------------------------------------------

chunks = Table(
    "sync_chunks",
    metadata,
    key(),
    Column("collection_id", Text, nullable=False),
    Column("chunk_start_offset", BigInteger, nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("ids_digest", LargeBinary, nullable=False),
    Column("read_at", Instant),
    Column("read_seconds", Double, nullable=False),
    Column("recheck", Boolean, nullable=False),
    # the cycles that read it, and added its last records
    Column("read_cycle", BigInteger),
    Column("added_cycle", BigInteger),
    # the records that `recheck` is about, and the last cycle that read it or some of its records
    Column("recheck_ids", IdsOrAll),
    Column("looked_cycle", BigInteger),
    # digests of the answers in which its embeddings came; NULL = not known
    Column("text_digests", LargeBinary),
    Index("sync_chunks_collection", "collection_id", "id"),
    sqlite_autoincrement=True,
)

# A literal, not a column: SQLite matches a partial index only against the same words.
SUSPECT: ColumnElement[bool] = literal_column("suspect")
"""Few chunks are suspect, and each status counts them."""

replica_chunks = Table(
    "sync_replica_chunks",
    metadata,
    Column("chunk_id", BigInteger, primary_key=True, autoincrement=False),
    _replica(),
    Column("checked_at", Instant),
    Column("checked_cycle", BigInteger),
    Column("suspect", Boolean, nullable=False),
    # until this instant there may be writes that the ledger does not know
    Column("distrusted_at", Instant),
    # a worker was cut off while it had the chunk: unknown records of the replica may be ours
    Column("in_hand", Boolean, nullable=False),
    Column("gone_count", Integer, nullable=False),
    Column("reduced_count", Integer, nullable=False),
    Index("sync_replica_chunks_suspect", "chunk_id", sqlite_where=SUSPECT),
)

SAME_CHUNK = and_(replica_chunks.c.chunk_id == chunks.c.id, replica_chunks.c.replica == REPLICA)
"""Joins both sides of a chunk."""

# Ids and digests are apart from heads: a re-read changes the head but hardly ever these, and SQLite
# rewrites whole rows.
chunk_ids = Table(
    "sync_chunk_ids",
    metadata,
    Column("chunk_id", BigInteger, primary_key=True, autoincrement=False),
    Column("ids", LargeBinary, nullable=False),
)

applied_digests = Table(
    "sync_applied_digests",
    metadata,
    Column("chunk_id", BigInteger, primary_key=True, autoincrement=False),
    _replica(),
    # of the primary's records when they were applied
    Column("embedding_digests", LargeBinary, nullable=False),
    Column("payload_digests", LargeBinary, nullable=False),
    # of the records as the replica last returned them; NULL = all unknown
    Column("replica_digests", LargeBinary),
)

"""Tables that hold something else now, or are gone, with the columns of version 7."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
)

from chromasync.model import MirrorStatus, Space
from chromasync.store.idlists import IdsOrAll
from chromasync.store.schema import Instant, Printed, Word, key

former = MetaData()

collections = Table(
    "sync_collections",
    former,
    Column("collection_id", Text, primary_key=True),
    Column("collection_name", Printed, nullable=False),
    Column("primary_document_count", BigInteger, nullable=False),
    Column("replica_document_count", BigInteger, nullable=False),
    Column("last_successful_sync", Instant),
    Column("last_sync_attempt", Instant),
    Column("sync_status", Word(MirrorStatus), nullable=False),
    Column("sync_duration_seconds", Double, nullable=False),
    Column("consecutive_errors", Integer, nullable=False),
    Column("last_error_message", Printed),
    Column("tenant", Printed, nullable=False),
    Column("database_name", Printed, nullable=False),
    Column("replica_id", Text),
    Column("ordered", Boolean, nullable=False),
    Column("missing_cycles", Integer, nullable=False),
    Column("walked_at", Instant),
    Column("replica_walked_at", Instant),
    Column("identical_as_of", Instant),
    Column("reduced_count", BigInteger, nullable=False),
    Column("adopting", Boolean, nullable=False),
    Column("space", Word(Space)),
    Column("dimension", Integer),
    Column("first_cycle", BigInteger),
    # digest of the collection's definition on the replica when it was last defined there
    Column("definition_digest", LargeBinary),
    Column("settled_cycle", BigInteger),
    Column("probed_cycle", BigInteger),
    Column("unanswering", Printed),
)

chunks = Table(
    "sync_chunks",
    former,
    key(),
    Column("collection_id", Text, nullable=False),
    Column("chunk_start_offset", BigInteger, nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("ids_digest", LargeBinary, nullable=False),
    Column("read_at", Instant),
    Column("checked_at", Instant),
    Column("read_seconds", Double, nullable=False),
    Column("suspect", Boolean, nullable=False),
    Column("recheck", Boolean, nullable=False),
    Column("gone_count", Integer, nullable=False),
    Column("reduced_count", Integer, nullable=False),
    # until this instant there may be writes that the ledger does not know
    Column("distrusted_at", Instant),
    # the cycles that read it, read the replica's side of it, and added its last records
    Column("read_cycle", BigInteger),
    Column("checked_cycle", BigInteger),
    Column("added_cycle", BigInteger),
    # a worker was cut off while it had the chunk: unknown records of the replica may be ours
    Column("in_hand", Boolean, nullable=False, server_default=text("FALSE")),
    # the records that `recheck` is about, and the last cycle that read it or some of its records
    Column("recheck_ids", IdsOrAll),
    Column("looked_cycle", BigInteger),
    Index("sync_chunks_collection", "collection_id", "id"),
    sqlite_autoincrement=True,
)

# Contents are apart from heads: a re-read changes the head but hardly ever the content, and SQLite
# rewrites whole rows.
chunk_contents = Table(
    "sync_chunk_contents",
    former,
    Column("chunk_id", BigInteger, primary_key=True, autoincrement=False),
    Column("ids", LargeBinary, nullable=False),
    Column("embedding_digests", LargeBinary, nullable=False),
    Column("payload_digests", LargeBinary, nullable=False),
    # digests of the records as the replica last returned them; NULL = all unknown
    Column("replica_digests", LargeBinary),
)

"""The tables of facts about the two servers that outlive restarts and settings."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text

from chromasync.model import DirectionState, Side, Space
from chromasync.store.schema import Instant, Printed, Verbatim, Word, key, metadata

# One row: the facts about this store and the two servers.
deployment = Table(
    "sync_deployment",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("store_id", Text, nullable=False),
    # the address in the last clean cycle
    Column("primary_url", Text),
    Column("primary_seen_at", Instant),
    # NULL = every request to the primary succeeded since the last clean cycle
    Column("away_since", Instant),
    Column("clean_cycle", BigInteger),
    Column("clean_at", Instant),
)

# One row: whether the replica follows, or was promoted.
direction = Table(
    "sync_direction",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("direction_state", Word(DirectionState), nullable=False),
    Column("turns", BigInteger, nullable=False),
    Column("since_at", Instant),
    Column("promoted_by", Printed),
    Column("replica_url", Text),
    Column("planned", Boolean, nullable=False),
    # no process that worked before can write to the replica after this instant
    Column("writers_until", Instant),
    Column("identical_as_of", Instant),
)

# Collections of other servers that were restored from a collection of the replica.
restored = Table(
    "sync_restored",
    metadata,
    Column("collection_id", Text, primary_key=True),
    Column("replica_id", Text, nullable=False),
    Column("restored_at", Instant, nullable=False),
)

# The last mark of this store for each mirrored database, and the mark of another store there.
marks = Table(
    "sync_marks",
    metadata,
    # tenant/database
    Column("place", Verbatim, primary_key=True),
    # the mark that was prepared last, and whether it is on the replica
    Column("cycle_id", BigInteger),
    Column("nonce", Text),
    Column("written", Boolean, nullable=False),
    # the mark of another store, and when it was first met
    Column("met_nonce", Text),
    Column("met_at", Instant),
    # the mark before this one, and the prepared mark, which the first worker that writes sends
    Column("former_nonce", Text),
    Column("prepared", Text),
)

# Every collection id that was ever listed by one of the servers, the oldest forgotten first.
known_ids = Table(
    "sync_known_ids",
    metadata,
    Column("collection_id", Text, primary_key=True),
    # the side that listed it first, and the cycle that met it then
    Column("side", Word(Side), nullable=False),
    Column("seen_cycle", BigInteger, nullable=False),
    Index("sync_known_ids_age", "seen_cycle"),
)

# Removals from the replica without approval, for the budget of a day.
removals = Table(
    "sync_removals",
    metadata,
    key(),
    Column("cycle_id", BigInteger, nullable=False),
    Column("collection_id", Text, nullable=False),
    Column("record_count", BigInteger, nullable=False),
    # the whole collection was removed
    Column("whole", Boolean, nullable=False),
    Column("removed_at", Instant, nullable=False),
    Index("sync_removals_age", "removed_at"),
    sqlite_autoincrement=True,
)

# Replaced or dropped collections that are kept for some time under another name.
kept = Table(
    "sync_kept",
    metadata,
    Column("replica_id", Text, primary_key=True),
    Column("tenant", Printed, nullable=False),
    Column("database_name", Printed, nullable=False),
    Column("collection_name", Printed, nullable=False),
    Column("kept_at", Instant, nullable=False),
)

# The distance that the index of a collection uses, on either side.
distances = Table(
    "sync_distances",
    metadata,
    Column("collection_id", Text, primary_key=True),
    Column("space", Word(Space), nullable=False),
    # digest of the collection's definition at that time; empty = we created it with this distance
    Column("words", LargeBinary, nullable=False),
)

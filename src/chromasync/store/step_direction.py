"""Step 9: the direction of the mirror, and the collections that were restored from the replica.

A program of version 8 knows no promotion, so it must not use the store any more. One that still
runs finds that somebody else leads for as long as a replica is promoted.
"""

from __future__ import annotations

DIRECTION = (
    """CREATE TABLE sync_direction (
    id INTEGER NOT NULL PRIMARY KEY,
    direction_state TEXT NOT NULL,
    turns BIGINT NOT NULL,
    since_at {instant},
    promoted_by TEXT,
    replica_url TEXT,
    planned BOOLEAN NOT NULL,
    writers_until {instant},
    identical_as_of {instant})""",
    """INSERT INTO sync_direction (id, direction_state, turns, planned)
    VALUES (1, 'following', 0, FALSE)""",
    """CREATE TABLE sync_restored (
    collection_id TEXT NOT NULL PRIMARY KEY,
    replica_id TEXT NOT NULL,
    restored_at {instant} NOT NULL)""",
)

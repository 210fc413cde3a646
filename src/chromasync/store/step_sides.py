"""Step 8: facts about the primary and facts about the replica get tables of their own.

Everything is carried over. `sync_collections` becomes a view, and whoever might read the table may
read the view. A program of version 7 looks for the columns in their former tables, so it must not
use the store any more. If it still runs, its statements fail, and it has written nothing.
"""

from __future__ import annotations

from chromasync.store.step import Only

SIDES = (
    # programs that still run must not write to what is copied
    Only(
        "postgresql",
        "LOCK TABLE sync_collections, sync_chunks, sync_chunk_contents IN ACCESS EXCLUSIVE MODE",
    ),
    """CREATE TABLE sync_replica_chunks (
    chunk_id BIGINT NOT NULL,
    replica TEXT NOT NULL,
    checked_at {instant},
    checked_cycle BIGINT,
    suspect BOOLEAN NOT NULL,
    distrusted_at {instant},
    in_hand BOOLEAN NOT NULL,
    gone_count INTEGER NOT NULL,
    reduced_count INTEGER NOT NULL,
    PRIMARY KEY (chunk_id, replica))""",
    "CREATE INDEX sync_replica_chunks_suspect ON sync_replica_chunks (chunk_id) WHERE suspect",
    """INSERT INTO sync_replica_chunks
    SELECT id, 'default', checked_at, checked_cycle, suspect, distrusted_at, in_hand, gone_count,
        reduced_count
    FROM sync_chunks""",
    "ALTER TABLE sync_chunks DROP COLUMN checked_at",
    "ALTER TABLE sync_chunks DROP COLUMN checked_cycle",
    "ALTER TABLE sync_chunks DROP COLUMN suspect",
    "ALTER TABLE sync_chunks DROP COLUMN distrusted_at",
    "ALTER TABLE sync_chunks DROP COLUMN in_hand",
    "ALTER TABLE sync_chunks DROP COLUMN gone_count",
    "ALTER TABLE sync_chunks DROP COLUMN reduced_count",
    """CREATE TABLE sync_chunk_ids (
    chunk_id BIGINT NOT NULL PRIMARY KEY,
    ids {blob} NOT NULL)""",
    "INSERT INTO sync_chunk_ids SELECT chunk_id, ids FROM sync_chunk_contents",
    """CREATE TABLE sync_applied_digests (
    chunk_id BIGINT NOT NULL,
    replica TEXT NOT NULL,
    embedding_digests {blob} NOT NULL,
    payload_digests {blob} NOT NULL,
    replica_digests {blob},
    PRIMARY KEY (chunk_id, replica))""",
    """INSERT INTO sync_applied_digests
    SELECT chunk_id, 'default', embedding_digests, payload_digests, replica_digests
    FROM sync_chunk_contents""",
    "DROP TABLE sync_chunk_contents",
    """CREATE TABLE sync_primary_collections (
    collection_id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    database_name TEXT NOT NULL,
    collection_name TEXT NOT NULL,
    ordered BOOLEAN NOT NULL,
    missing_cycles INTEGER NOT NULL,
    record_count BIGINT NOT NULL,
    walked_at {instant},
    space TEXT,
    dimension INTEGER,
    first_cycle BIGINT)""",
    """INSERT INTO sync_primary_collections
    SELECT collection_id, tenant, database_name, collection_name, ordered, missing_cycles,
        primary_document_count, walked_at, space, dimension, first_cycle
    FROM sync_collections""",
    """CREATE TABLE sync_mirrors (
    collection_id TEXT NOT NULL,
    replica TEXT NOT NULL,
    replica_id TEXT,
    sync_status TEXT NOT NULL,
    replica_count BIGINT NOT NULL,
    replica_walked_at {instant},
    identical_as_of {instant},
    last_successful_sync_at {instant},
    last_attempt_at {instant},
    duration_seconds {double} NOT NULL,
    consecutive_errors INTEGER NOT NULL,
    last_error TEXT,
    reduced_count BIGINT NOT NULL,
    adopting BOOLEAN NOT NULL,
    definition_digest {blob},
    settled_cycle BIGINT,
    probed_cycle BIGINT,
    unanswering TEXT,
    last_changed_at {instant},
    PRIMARY KEY (collection_id, replica))""",
    """INSERT INTO sync_mirrors
    SELECT collection_id, 'default', replica_id, sync_status, replica_document_count,
        replica_walked_at, identical_as_of, last_successful_sync, last_sync_attempt,
        sync_duration_seconds, consecutive_errors, last_error_message, reduced_count, adopting,
        definition_digest, settled_cycle, probed_cycle, unanswering, NULL
    FROM sync_collections""",
    Only("sqlite", "DROP TABLE sync_collections"),
    Only("postgresql", "ALTER TABLE sync_collections RENAME TO sync_collections_before"),
    """CREATE VIEW sync_collections AS SELECT
    sync_primary_collections.collection_id,
    sync_primary_collections.collection_name,
    sync_primary_collections.record_count AS primary_document_count,
    sync_mirrors.replica_count AS replica_document_count,
    sync_mirrors.last_successful_sync_at AS last_successful_sync,
    sync_mirrors.last_attempt_at AS last_sync_attempt,
    sync_mirrors.sync_status,
    sync_mirrors.duration_seconds AS sync_duration_seconds,
    sync_mirrors.consecutive_errors,
    sync_mirrors.last_error AS last_error_message,
    sync_primary_collections.tenant,
    sync_primary_collections.database_name,
    sync_mirrors.replica,
    sync_mirrors.replica_id,
    sync_primary_collections.walked_at,
    sync_mirrors.replica_walked_at,
    sync_mirrors.identical_as_of
    FROM sync_primary_collections JOIN sync_mirrors
    ON sync_mirrors.collection_id = sync_primary_collections.collection_id""",
    # whoever may read the table may read the view
    Only(
        "postgresql",
        """DO $$
    DECLARE reader TEXT;
    BEGIN
        FOR reader IN
            SELECT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END
            FROM pg_class, aclexplode(relacl)
            WHERE oid = 'sync_collections_before'::regclass AND privilege_type = 'SELECT'
                AND grantee <> relowner
        LOOP
            EXECUTE 'GRANT SELECT ON sync_collections TO ' || reader;
        END LOOP;
    END $$""",
    ),
    Only("postgresql", "DROP TABLE sync_collections_before"),
    Only("postgresql", "ALTER TABLE sync_replica_chunks SET (fillfactor = 80)"),
)

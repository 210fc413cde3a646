"""The steps of the schema, from the first version to the present one.

A released step is never edited. Each step supports both databases with the placeholders of
`Backend.types`; a statement in `Only` is for one of them. `migrations` applies them.
"""

from __future__ import annotations

from chromasync.store.step import Only, Step
from chromasync.store.step_direction import DIRECTION
from chromasync.store.step_sides import SIDES

_COUNTS = """
    read_count BIGINT NOT NULL,
    inserted_count BIGINT NOT NULL,
    updated_count BIGINT NOT NULL,
    replaced_count BIGINT NOT NULL,
    deleted_count BIGINT NOT NULL,
    drifted_count BIGINT NOT NULL,
    quarantined_count BIGINT NOT NULL"""


_FIRST = (
    """CREATE TABLE sync_schema (
    version INTEGER NOT NULL PRIMARY KEY,
    applied_at {instant} NOT NULL)""",
    """CREATE TABLE sync_collections (
    collection_id TEXT NOT NULL PRIMARY KEY,
    collection_name TEXT NOT NULL,
    primary_document_count BIGINT NOT NULL,
    replica_document_count BIGINT NOT NULL,
    last_successful_sync {instant},
    last_sync_attempt {instant},
    sync_status TEXT NOT NULL,
    sync_duration_seconds {double} NOT NULL,
    consecutive_errors INTEGER NOT NULL,
    last_error_message TEXT,
    tenant TEXT NOT NULL,
    database_name TEXT NOT NULL,
    replica_id TEXT,
    ordered BOOLEAN NOT NULL,
    missing_cycles INTEGER NOT NULL,
    walked_at {instant},
    replica_walked_at {instant},
    identical_as_of {instant},
    reduced_count BIGINT NOT NULL,
    adopting BOOLEAN NOT NULL)""",
    """CREATE TABLE sync_chunks (
    id {key},
    collection_id TEXT NOT NULL,
    chunk_start_offset BIGINT NOT NULL,
    record_count INTEGER NOT NULL,
    ids_digest {blob} NOT NULL,
    read_at {instant},
    checked_at {instant},
    read_seconds {double} NOT NULL,
    suspect BOOLEAN NOT NULL,
    recheck BOOLEAN NOT NULL,
    gone_count INTEGER NOT NULL,
    reduced_count INTEGER NOT NULL)""",
    "CREATE INDEX sync_chunks_collection ON sync_chunks (collection_id, id)",
    """CREATE TABLE sync_chunk_contents (
    chunk_id BIGINT NOT NULL PRIMARY KEY,
    ids {blob} NOT NULL,
    embedding_digests {blob} NOT NULL,
    payload_digests {blob} NOT NULL)""",
    """CREATE TABLE sync_deletions (
    id {key},
    collection_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    chunk_id BIGINT,
    ids {blob} NOT NULL)""",
    "CREATE INDEX sync_deletions_collection ON sync_deletions (collection_id, id)",
    "CREATE INDEX sync_deletions_chunk ON sync_deletions (chunk_id)",
    """CREATE TABLE sync_quarantine (
    collection_id TEXT NOT NULL,
    record_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    absent BOOLEAN NOT NULL,
    since_at {instant} NOT NULL,
    PRIMARY KEY (collection_id, record_id))""",
    """CREATE TABLE sync_holds (
    collection_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    collection_name TEXT NOT NULL,
    record_count BIGINT NOT NULL,
    reason TEXT NOT NULL,
    held_at {instant} NOT NULL,
    approved_count BIGINT,
    PRIMARY KEY (collection_id, kind))""",
    """CREATE TABLE sync_leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    token BIGINT NOT NULL,
    ttl_seconds {double} NOT NULL,
    expires_at {instant} NOT NULL)""",
    f"""CREATE TABLE sync_cycles (
    id {{key}},
    cycle_status TEXT NOT NULL,
    started_at {{instant}} NOT NULL,
    finished_at {{instant}},
    error_message TEXT,{_COUNTS},
    CONSTRAINT cycle_status_is_known
        CHECK (cycle_status IN ('running', 'completed', 'failed', 'abandoned')))""",
    """CREATE UNIQUE INDEX sync_cycles_one_running ON sync_cycles (cycle_status)
    WHERE cycle_status = 'running'""",
    f"""CREATE TABLE sync_tasks (
    id {{key}},
    collection_id TEXT NOT NULL,
    collection_name TEXT NOT NULL,
    chunk_start_offset BIGINT NOT NULL,
    chunk_end_offset BIGINT NOT NULL,
    task_status TEXT NOT NULL,
    worker_id TEXT,
    started_at {{instant}},
    completed_at {{instant}},
    retry_count INTEGER NOT NULL,
    error_message TEXT,
    created_at {{instant}} NOT NULL,
    cycle_id BIGINT NOT NULL,
    chunk_id BIGINT NOT NULL,
    check_replica BOOLEAN NOT NULL,
    fence BIGINT NOT NULL,
    available_at {{instant}} NOT NULL,
    lease_seconds {{double}},
    lease_expires_at {{instant}},{_COUNTS},
    CONSTRAINT task_status_is_known
        CHECK (task_status IN ('pending', 'processing', 'completed', 'failed')),
    CONSTRAINT lease_while_processing
        CHECK ((task_status = 'processing') = (lease_expires_at IS NOT NULL)))""",
    "CREATE INDEX sync_tasks_ready ON sync_tasks (id) WHERE task_status = 'pending'",
    """CREATE INDEX sync_tasks_lease ON sync_tasks (lease_expires_at)
    WHERE task_status = 'processing'""",
    """CREATE UNIQUE INDEX sync_tasks_live_chunk ON sync_tasks (chunk_id)
    WHERE task_status IN ('pending', 'processing')""",
    """CREATE INDEX sync_tasks_finished ON sync_tasks (completed_at, id)
    WHERE task_status IN ('completed', 'failed')""",
    "CREATE INDEX sync_tasks_cycle ON sync_tasks (cycle_id, task_status)",
    """CREATE TABLE sync_workers (
    worker_id TEXT NOT NULL PRIMARY KEY,
    worker_status TEXT NOT NULL,
    last_heartbeat {instant} NOT NULL,
    current_task_id BIGINT,
    memory_usage_mb {double} NOT NULL,
    cpu_percent {double} NOT NULL,
    hostname TEXT NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    started_at {instant} NOT NULL,
    CONSTRAINT worker_status_is_known
        CHECK (worker_status IN ('active', 'draining', 'stopped', 'dead')))""",
    """CREATE TABLE performance_metrics (
    id {key},
    recorded_at {instant} NOT NULL,
    cycle_id BIGINT NOT NULL,
    duration_seconds {double} NOT NULL,
    records_read BIGINT NOT NULL,
    records_written BIGINT NOT NULL,
    records_per_second {double} NOT NULL,
    tasks_completed BIGINT NOT NULL,
    tasks_failed BIGINT NOT NULL,
    primary_document_count BIGINT NOT NULL,
    active_workers INTEGER NOT NULL,
    memory_usage_mb {double},
    cpu_percent {double})""",
    """CREATE TABLE upgrade_recommendations (
    id {key},
    created_at {instant} NOT NULL,
    current_phase TEXT NOT NULL,
    recommended_phase TEXT NOT NULL,
    reason TEXT NOT NULL,
    estimated_monthly_cost TEXT,
    evidence TEXT)""",
)

# A program of version 1 ignores `distrusted_at` when it completes tasks.
_SECOND = (
    "ALTER TABLE sync_schema ADD COLUMN oldest_program INTEGER",
    "ALTER TABLE sync_collections ADD COLUMN space TEXT",
    "ALTER TABLE sync_collections ADD COLUMN dimension INTEGER",
    "ALTER TABLE sync_chunks ADD COLUMN distrusted_at {instant}",
    "ALTER TABLE sync_tasks ADD COLUMN claim_number BIGINT",
    """CREATE INDEX sync_tasks_claim ON sync_tasks (claim_number)
    WHERE claim_number IS NOT NULL""",
    Only(
        "postgresql",
        """ALTER TABLE sync_tasks SET (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.05)""",
    ),
    Only("postgresql", "ALTER TABLE sync_chunks SET (fillfactor = 80)"),
    Only("postgresql", "ALTER TABLE sync_quarantine DROP CONSTRAINT sync_quarantine_pkey"),
    Only(
        "postgresql",
        """CREATE UNIQUE INDEX sync_quarantine_record
    ON sync_quarantine (collection_id, md5(record_id))""",
    ),
    Only("postgresql", "ALTER TABLE sync_workers SET (fillfactor = 50)"),
)

# A program of version 2 does not distinguish foreign records, and it approves by count alone.
_THIRD = (
    "ALTER TABLE sync_collections ADD COLUMN first_cycle BIGINT",
    "ALTER TABLE sync_collections ADD COLUMN definition_digest {blob}",
    "ALTER TABLE sync_collections ADD COLUMN settled_cycle BIGINT",
    """UPDATE sync_collections SET settled_cycle = 0
    WHERE sync_status IN ('identical', 'limited', 'held')""",
    "ALTER TABLE sync_chunks ADD COLUMN read_cycle BIGINT",
    "ALTER TABLE sync_chunks ADD COLUMN checked_cycle BIGINT",
    "ALTER TABLE sync_chunks ADD COLUMN added_cycle BIGINT",
    "ALTER TABLE sync_chunks ADD COLUMN in_hand BOOLEAN NOT NULL DEFAULT FALSE",
    "ALTER TABLE sync_tasks ADD COLUMN hold_foreign BOOLEAN NOT NULL DEFAULT FALSE",
    "ALTER TABLE sync_chunk_contents ADD COLUMN replica_digests {blob}",
    "ALTER TABLE sync_holds ADD COLUMN tenant TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE sync_holds ADD COLUMN database_name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE sync_holds ADD COLUMN set_digest TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE sync_holds ADD COLUMN unconfirmed BOOLEAN NOT NULL DEFAULT FALSE",
    "ALTER TABLE sync_holds ADD COLUMN seen_cycles INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sync_holds ADD COLUMN shown_count BIGINT",
    "ALTER TABLE sync_holds ADD COLUMN approved_digest TEXT",
    "ALTER TABLE sync_holds ADD COLUMN approved_at {instant}",
    "UPDATE sync_holds SET approved_count = NULL",
    """CREATE TABLE sync_deployment (
    id INTEGER NOT NULL PRIMARY KEY,
    store_id TEXT NOT NULL,
    primary_url TEXT,
    primary_seen_at {instant},
    away_since {instant},
    clean_cycle BIGINT,
    clean_at {instant})""",
    """CREATE TABLE sync_marks (
    place TEXT NOT NULL PRIMARY KEY,
    cycle_id BIGINT,
    nonce TEXT,
    written BOOLEAN NOT NULL,
    met_nonce TEXT,
    met_at {instant},
    former_nonce TEXT,
    prepared TEXT)""",
    """CREATE TABLE sync_known_ids (
    collection_id TEXT NOT NULL PRIMARY KEY,
    side TEXT NOT NULL,
    seen_cycle BIGINT NOT NULL)""",
    "CREATE INDEX sync_known_ids_age ON sync_known_ids (seen_cycle)",
    """CREATE TABLE sync_removals (
    id {key},
    cycle_id BIGINT NOT NULL,
    collection_id TEXT NOT NULL,
    record_count BIGINT NOT NULL,
    whole BOOLEAN NOT NULL,
    removed_at {instant} NOT NULL)""",
    "CREATE INDEX sync_removals_age ON sync_removals (removed_at)",
    """CREATE TABLE sync_kept (
    replica_id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    database_name TEXT NOT NULL,
    collection_name TEXT NOT NULL,
    kept_at {instant} NOT NULL)""",
)

# A program of version 3 trusts the distance in a collection's metadata, and queries no index.
_FOURTH = (
    "ALTER TABLE sync_collections ADD COLUMN probed_cycle BIGINT",
    "ALTER TABLE sync_collections ADD COLUMN unanswering TEXT",
    """CREATE TABLE sync_distances (
    collection_id TEXT NOT NULL PRIMARY KEY,
    space TEXT NOT NULL,
    words {blob} NOT NULL)""",
)

# A program of version 4 neither reads nor writes this table. So it retries a lethal chunk some more
# times. Its own charges are in rows of failed tasks: in the last one of each chunk.
_FIFTH = (
    """CREATE TABLE sync_retry_charges (
    chunk_id BIGINT NOT NULL PRIMARY KEY,
    retry_count INTEGER NOT NULL,
    error_message TEXT NOT NULL,
    cycle_id BIGINT NOT NULL,
    given_up_in_cycle BIGINT)""",
    """INSERT INTO sync_retry_charges
    SELECT chunk_id, retry_count, COALESCE(error_message, ''), cycle_id,
        CASE WHEN worker_id IS NULL AND retry_count > 5 THEN cycle_id END
    FROM sync_tasks
    WHERE id IN (
        SELECT max(id) FROM sync_tasks
        WHERE task_status = 'failed' AND retry_count > 0 AND lease_seconds IS NOT NULL
        GROUP BY chunk_id)
    AND NOT (worker_id IS NULL AND retry_count > 5 AND cycle_id IN (
        SELECT id FROM sync_cycles WHERE cycle_status IN ('completed', 'failed')))""",
)

# A program of version 5 reads the whole chunk for every task and every recheck. Old ids that it
# leaves behind are recognised by cycle numbers (`ledger.plan`).
_SIXTH = (
    "ALTER TABLE sync_chunks ADD COLUMN recheck_ids {blob}",
    "ALTER TABLE sync_chunks ADD COLUMN looked_cycle BIGINT",
    "ALTER TABLE sync_tasks ADD COLUMN record_ids {blob}",
)

# A program of version 6 neither pauses nor begins a cycle on request.
_SEVENTH = (
    """CREATE TABLE sync_control (
    id INTEGER NOT NULL PRIMARY KEY,
    paused_at {instant},
    paused_by TEXT,
    pause_reason TEXT,
    paused_until {instant},
    wanted_number BIGINT NOT NULL,
    wanted_full BOOLEAN NOT NULL,
    wanted_at {instant},
    wanted_by TEXT,
    begun_number BIGINT NOT NULL,
    begun_cycle BIGINT)""",
    """INSERT INTO sync_control (id, wanted_number, wanted_full, begun_number)
    VALUES (1, 0, FALSE, 0)""",
    """CREATE TABLE sync_alerts (
    receiver TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    name TEXT NOT NULL,
    message TEXT NOT NULL,
    since_at {instant} NOT NULL,
    ended_at {instant},
    told_at {instant},
    told_count INTEGER NOT NULL,
    over_at {instant},
    back_at {instant},
    return_count INTEGER NOT NULL,
    PRIMARY KEY (receiver, kind, subject))""",
    """CREATE TABLE sync_request_shares (
    holder TEXT NOT NULL PRIMARY KEY,
    per_second {double} NOT NULL,
    ttl_seconds {double} NOT NULL,
    expires_at {instant} NOT NULL)""",
    "ALTER TABLE sync_cycles ADD COLUMN exit_code INTEGER",
    "ALTER TABLE sync_workers ADD COLUMN role TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE sync_workers ADD COLUMN threads INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE sync_workers ADD COLUMN tasks_done BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE sync_workers ADD COLUMN memory_limit_mb {double}",
    "ALTER TABLE sync_workers ADD COLUMN throttle_reason TEXT",
    "ALTER TABLE performance_metrics ADD COLUMN process_name TEXT",
    "ALTER TABLE performance_metrics ADD COLUMN span_seconds {double}",
    "ALTER TABLE performance_metrics ADD COLUMN bytes_read BIGINT",
    "ALTER TABLE performance_metrics ADD COLUMN bytes_written BIGINT",
    "ALTER TABLE performance_metrics ADD COLUMN primary_requests BIGINT",
    "ALTER TABLE performance_metrics ADD COLUMN replica_requests BIGINT",
    "ALTER TABLE performance_metrics ADD COLUMN refused_requests BIGINT",
    "ALTER TABLE performance_metrics ADD COLUMN primary_seconds {double}",
    "ALTER TABLE performance_metrics ADD COLUMN replica_seconds {double}",
    "ALTER TABLE performance_metrics ADD COLUMN throttled_seconds {double}",
    "ALTER TABLE performance_metrics ADD COLUMN phase_seconds TEXT",
    "ALTER TABLE performance_metrics ADD COLUMN lag_seconds {double}",
    "ALTER TABLE performance_metrics ADD COLUMN memory_limit_mb {double}",
    "ALTER TABLE performance_metrics ADD COLUMN row_number BIGINT",
    """CREATE UNIQUE INDEX performance_metrics_process
    ON performance_metrics (process_name, row_number)""",
    "CREATE INDEX performance_metrics_age ON performance_metrics (recorded_at)",
)

STEPS: tuple[Step, ...] = (
    Step(1, _FIRST),
    Step(2, _SECOND),
    Step(3, _THIRD),
    Step(4, _FOURTH),
    Step(4, _FIFTH),
    Step(4, _SIXTH),
    Step(4, _SEVENTH),
    Step(8, SIDES),
    Step(9, DIRECTION),
    Step(9, ("ALTER TABLE sync_chunks ADD COLUMN text_digests {blob}",)),
)
"""Step n (counted from 1) migrates a store from version n - 1 to n."""

"""The nouns of the program: frozen values with no logic beyond their own invariants.

Instants are aware UTC datetimes whose names end in `_at`; durations are floats in seconds whose
names end in `_seconds`; a digest is 16 bytes (BLAKE2b-128).
"""

from __future__ import annotations

from chromasync.model.alerts import Alert
from chromasync.model.control import ControlRow, Orders
from chromasync.model.deployment import (
    Deployment,
    Kept,
    KnownDistance,
    MarkRow,
    Removal,
)
from chromasync.model.digests import DIGEST_BYTES, UNKNOWN_DIGEST, Digests
from chromasync.model.direction import Direction, DirectionState
from chromasync.model.holds import (
    DECISIONS,
    PRIMARY_EMPTY,
    Hold,
    HoldKind,
)
from chromasync.model.ledger import (
    AppliedDigests,
    Chunk,
    ChunkHead,
    Deletion,
    DeletionKind,
    Mirror,
    MirrorStatus,
    PrimaryCollection,
    Quarantined,
    ReplicaChunk,
    Suspicion,
)
from chromasync.model.measurement import ALL_PROCESSES, Measurement, Recommendation, Usage
from chromasync.model.packed import PackedIds, pack_ids, unpack_ids
from chromasync.model.servers import (
    DEFAULT_TENANT,
    MARKS_DATABASE,
    Capabilities,
    Change,
    Collection,
    Definition,
    Floats,
    Metadata,
    MetadataValue,
    Neighbours,
    Pair,
    Records,
    Scalar,
    Side,
    Space,
    mark_place,
)
from chromasync.model.snapshot import ChunkCounts, StoreSnapshot
from chromasync.model.tasks import (
    MAX_RETRIES,
    SILENT_SECONDS,
    ChunkResult,
    Cycle,
    CycleStatus,
    NewTask,
    OpCounts,
    Task,
    TaskCounts,
    TaskInput,
    TaskStatus,
    Term,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.model.texts import for_json
from chromasync.model.traffic import Traffic
from chromasync.model.vitals import BUCKETS, Durations, Duty, Vitals

__all__ = [
    "ALL_PROCESSES",
    "BUCKETS",
    "DECISIONS",
    "DEFAULT_TENANT",
    "DIGEST_BYTES",
    "MARKS_DATABASE",
    "MAX_RETRIES",
    "PRIMARY_EMPTY",
    "SILENT_SECONDS",
    "UNKNOWN_DIGEST",
    "Alert",
    "AppliedDigests",
    "Capabilities",
    "Change",
    "Chunk",
    "ChunkCounts",
    "ChunkHead",
    "ChunkResult",
    "Collection",
    "ControlRow",
    "Cycle",
    "CycleStatus",
    "Definition",
    "Deletion",
    "DeletionKind",
    "Deployment",
    "Digests",
    "Direction",
    "DirectionState",
    "Durations",
    "Duty",
    "Floats",
    "Hold",
    "HoldKind",
    "Kept",
    "KnownDistance",
    "MarkRow",
    "Measurement",
    "Metadata",
    "MetadataValue",
    "Mirror",
    "MirrorStatus",
    "Neighbours",
    "NewTask",
    "OpCounts",
    "Orders",
    "PackedIds",
    "Pair",
    "PrimaryCollection",
    "Quarantined",
    "Recommendation",
    "Records",
    "Removal",
    "ReplicaChunk",
    "Scalar",
    "Side",
    "Space",
    "StoreSnapshot",
    "Suspicion",
    "Task",
    "TaskCounts",
    "TaskInput",
    "TaskStatus",
    "Term",
    "Traffic",
    "Usage",
    "Vitals",
    "WorkerBeat",
    "WorkerStatus",
    "for_json",
    "mark_place",
    "pack_ids",
    "unpack_ids",
]

"""The nouns of the program: frozen values with no logic beyond their own invariants.

Instants are aware UTC datetimes whose names end in `_at`; durations are floats in seconds whose
names end in `_seconds`; a digest is 16 bytes (BLAKE2b-128).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES = 16
UNKNOWN_DIGEST = bytes(DIGEST_BYTES)
"""Stands in the ledger for a record that is not known to be on the replica."""

Scalar = str | int | float | bool
MetadataValue = Scalar | list[Scalar]
Metadata = dict[str, MetadataValue]
Floats = NDArray[np.float32]


class Side(StrEnum):
    """Which of the two servers."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Space(StrEnum):
    """The distance function of a collection."""

    L2 = "l2"
    COSINE = "cosine"
    IP = "ip"


# ---- what a server holds ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as a server lists it; `metadata` is empty when the server says null."""

    id: str
    name: str
    tenant: str
    database: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a collection shall be when it is created."""

    name: str
    tenant: str
    database: str
    metadata: Mapping[str, Scalar]
    configuration: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Records in columns, all of the same length n.

    `metadatas` has an empty dict where the server says null. `embeddings` is float32 of shape
    (n, dimension), or None when embeddings were not asked for.
    """

    ids: list[str]
    documents: list[str | None]
    metadatas: list[Metadata]
    uris: list[str | None]
    embeddings: Floats | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Self:
        """The records at `rows`, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows],
            documents=[self.documents[i] for i in rows],
            metadatas=[self.metadatas[i] for i in rows],
            uris=[self.uris[i] for i in rows],
            embeddings=None if self.embeddings is None else self.embeddings[list(rows)],
        )


@dataclass(frozen=True, slots=True)
class Change:
    """The fields of one existing record that shall change; None leaves a field as it is.

    In `metadata` a None value removes the key; keys not named stay.
    """

    id: str
    embedding: Floats | None = None
    document: str | None = None
    metadata: Mapping[str, MetadataValue | None] | None = None
    uri: str | None = None
    clear_uri: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server can do, as probed (never guessed from its version).

    Attributes:
        version: what the server says of itself (every 1.x server says 1.0.0).
        max_batch_size: advisory number of records in one write.
        base64: takes embeddings as base64 text.
        schema: collections have a schema.
        configuration: takes the present shape of `configuration` on create and PUT.
        arrays: metadata values may be arrays.
        null_columns: a column of a write may hold nulls beside values without harm.
        limitations: one sentence for each thing that this server cannot carry.
    """

    version: str
    max_batch_size: int
    base64: bool
    schema: bool
    configuration: bool
    arrays: bool
    null_columns: bool
    limitations: tuple[str, ...] = ()


# ---- what the ledger holds -------------------------------------------------------------------


class MirrorStatus(StrEnum):
    """State of one collection's mirror (the published `sync_status`)."""

    NEW = "new"
    """Known, not yet copied whole."""
    SYNCING = "syncing"
    """A cycle is at work on it."""
    IDENTICAL = "identical"
    """Equal as of `identical_as_of`."""
    LIMITED = "limited"
    """Equal but for what the replica's server cannot carry, or for quarantined records."""
    HELD = "held"
    """A guard holds deletes or a replacement until someone approves."""
    ERROR = "error"
    """The last cycle could not finish it; see `last_error`."""
    VANISHED = "vanished"
    """The primary no longer lists it; its drop waits for a second cycle."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """One primary collection and its counterpart on the replica (a row of `sync_collections`).

    Attributes:
        collection_id: the primary's id; the key.
        replica_id: the replica's id; None until it exists.
        ordered: the primary lists ids in the ledger's order, so the merging walk applies.
        missing_cycles: successful listings in a row that did not name it.
        walked_at: start of the last completed walk of the primary's ids.
        replica_walked_at: start of the last completed walk of the replica's ids.
        identical_as_of: every record unchanged on the primary since then is identical.
        reduced_count: records of which the replica's server cannot carry a part.
        adopting: the replica held records that no ledger vouches for; surplus ones among them are
            held whatever their number, until a cycle finds none.
        space: the distance function that both sides share; with `dimension`, all that a worker in
            another process must know of the collection.
        dimension: numbers in an embedding; None until the primary has its first record.
    """

    collection_id: str
    tenant: str
    database: str
    name: str
    replica_id: str | None = None
    status: MirrorStatus = MirrorStatus.NEW
    ordered: bool = True
    missing_cycles: int = 0
    primary_count: int = 0
    replica_count: int = 0
    walked_at: datetime | None = None
    replica_walked_at: datetime | None = None
    identical_as_of: datetime | None = None
    last_successful_sync_at: datetime | None = None
    last_attempt_at: datetime | None = None
    duration_seconds: float = 0.0
    consecutive_errors: int = 0
    last_error: str | None = None
    reduced_count: int = 0
    adopting: bool = False
    space: Space | None = None
    dimension: int | None = None


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A chunk of the ledger without its ids and digests.

    Attributes:
        id: rises with the chunk's place in the ledger's order; 0 when not stored yet.
        start_offset: position of its first record when it was planned, for people.
        count: records in it.
        ids_digest: digest of its ids in order.
        read_at: instant before its content was last read whole from the primary; None = never.
        checked_at: instant before the replica's side was last read whole; None = never.
        read_seconds: how long that read of the primary took.
        suspect: the ledger's word about the replica is not to be trusted.
        recheck: it changed in the last cycle, so a read may have been torn.
        gone_count: records that the primary no longer has and the replica still may have.
        reduced_count: records of which the replica's server cannot carry a part.
    """

    id: int
    collection_id: str
    start_offset: int
    count: int
    ids_digest: bytes
    read_at: datetime | None = None
    checked_at: datetime | None = None
    read_seconds: float = 0.0
    suspect: bool = False
    recheck: bool = False
    gone_count: int = 0
    reduced_count: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk with its ids and, per record, two digests laid end to end (16 bytes each).

    A record whose two digests are `UNKNOWN_DIGEST` is not known to be on the replica.
    """

    head: ChunkHead
    ids: list[str]
    embedding_digests: bytes
    payload_digests: bytes

    def __post_init__(self) -> None:
        expected = DIGEST_BYTES * len(self.ids)
        if len(self.embedding_digests) != expected or len(self.payload_digests) != expected:
            raise ValueError("a chunk needs one embedding and one payload digest per id")
        if self.head.count != len(self.ids):
            raise ValueError("a chunk's count must be the number of its ids")


class DeletionKind(StrEnum):
    """Why a replica record shall go."""

    GONE = "gone"
    """The primary had it and has it no more."""
    SURPLUS = "surplus"
    """The primary never had it, as far as the ledger knows."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Replica records waiting to be deleted at the end of a cycle, behind the delete guard."""

    id: int
    collection_id: str
    kind: DeletionKind
    chunk_id: int | None
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A record set aside: the rest of its chunk went through without it.

    Attributes:
        absent: it is not on the replica at all (rather than there in an older state).
    """

    collection_id: str
    record_id: str
    reason: str
    absent: bool
    since_at: datetime | None = None


class HoldKind(StrEnum):
    """What a guard holds back."""

    DELETES = "deletes"
    """Deleting records that are gone from the primary."""
    SURPLUS = "surplus"
    """Deleting replica records that the primary never had."""
    DROP = "drop"
    """Dropping the mirror of a collection that vanished from the primary."""
    REPLACE = "replace"
    """Putting a re-created, much smaller collection in the place of the old one."""
    SURPLUS_COLLECTION = "surplus collection"
    """Dropping a replica collection that the primary never had."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Something a guard holds back until it is approved.

    Attributes:
        collection_id: the primary's id, or the replica's for a surplus collection.
        count: records that would be deleted.
        approved_count: how many of them someone approved; None when nobody did.
    """

    collection_id: str
    collection_name: str
    kind: HoldKind
    count: int
    reason: str
    held_at: datetime | None = None
    approved_count: int | None = None


# ---- cycles and tasks ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Term:
    """One period of leadership: `number` rises with each change of holder."""

    holder: str
    number: int


class CycleStatus(StrEnum):
    """State of a cycle."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class OpCounts:
    """Records by what was done to them on the replica, and records read from the primary."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    replaced: int = 0
    deleted: int = 0
    drifted: int = 0
    quarantined: int = 0

    @property
    def applied(self) -> int:
        """Records written or deleted on the replica."""
        return self.inserted + self.updated + self.replaced + self.deleted

    def __add__(self, other: OpCounts) -> OpCounts:
        return OpCounts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Cycle:
    """One full pass, numbered; `counts` covers its tasks and its deletes."""

    id: int
    started_at: datetime
    status: CycleStatus = CycleStatus.RUNNING
    finished_at: datetime | None = None
    counts: OpCounts = OpCounts()
    error: str | None = None


class TaskStatus(StrEnum):
    """State of a task, as published."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A chunk to reconcile, as the plan puts it in the queue."""

    collection_id: str
    collection_name: str
    chunk_id: int
    start_offset: int
    end_offset: int
    check_replica: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """A claimed task; `fence` rises with each claim and guards every write about it."""

    id: int
    fence: int
    collection_id: str
    collection_name: str
    chunk_id: int
    check_replica: bool
    retry_count: int
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Brief:
    """What the ledger tells the worker of a task, all as of one instant.

    Attributes:
        chunk: None when it was forgotten meanwhile; so the mirror.
        quarantined: the records of the collection that were set aside.
    """

    chunk: Chunk | None
    mirror: Mirror | None
    quarantined: list[Quarantined]


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """What came of reconciling one chunk: its new ledger entry and what else to record.

    `chunk` still lists the ids in `gone`; they leave it when their deletion is done.
    """

    chunk: Chunk
    gone: list[str]
    quarantined: list[Quarantined]
    counts: OpCounts


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks of one cycle by state."""

    pending: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def live(self) -> int:
        """Tasks that are not finished yet."""
        return self.pending + self.processing

    @property
    def total(self) -> int:
        """All tasks."""
        return self.live + self.completed + self.failed


SILENT_SECONDS = 60.0
"""A worker without a beat for so long counts as dead; who has its tasks, only leases decide."""


class WorkerStatus(StrEnum):
    """State of a worker, as published."""

    ACTIVE = "active"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class WorkerBeat:
    """A worker's proof of life; memory and CPU are those of its own process."""

    worker_id: str
    status: WorkerStatus
    current_task_id: int | None
    memory_mb: float
    cpu_percent: float
    hostname: str
    pid: int
    version: str
    last_heartbeat_at: datetime | None = None

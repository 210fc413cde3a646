"""The values of the ledger: mirrors, chunks, deletions, and quarantined records.

What the primary has is apart from what was applied to the replica. The first does not depend on a
replica, so each of several replicas would have a `Mirror` of the same `PrimaryCollection`, and a
`ReplicaChunk` and `AppliedDigests` of the same chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from chromasync.model.digests import NO_DIGESTS, Digests
from chromasync.model.servers import Space

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class MirrorStatus(StrEnum):
    """State of one collection's mirror (the published `sync_status`)."""

    NEW = "new"
    """Known, not yet copied whole."""
    SYNCING = "syncing"
    """A cycle is at work on it."""
    IDENTICAL = "identical"
    """Equal as of `identical_as_of`."""
    LIMITED = "limited"
    """Equal except for values that the replica's server cannot hold, and quarantined records."""
    HELD = "held"
    """A guard holds deletes or a replacement until an approval."""
    ERROR = "error"
    """The last cycle did not finish it; see `last_error`."""
    VANISHED = "vanished"
    """The primary no longer lists it; its drop waits for a second cycle."""
    DIVERGED = "diverged"
    """Others wrote to the replica while the primary was away; nothing is written there."""
    DOUBTFUL = "not the primary it was"
    """Another server answers at the primary's address, or the primary's data went back in time."""
    UNANSWERING = "unanswering"
    """The replica has the records, but its index does not answer queries correctly."""


@dataclass(frozen=True, slots=True)
class PrimaryCollection:
    """Facts about a collection of the primary (a row of `sync_primary_collections`).

    They do not depend on a replica.

    Attributes:
        collection_id: the primary's id; the key.
        ordered: the primary lists ids in the ledger's order, so the merging walk applies.
        missing_cycles: successful listings in a row without it.
        count: its records in the last walk.
        walked_at: start of the last completed walk of its ids.
        space: the distance function of its index. The replica's index has the same one; a worker in
            another process needs only this and `dimension`.
        dimension: numbers in an embedding; None until it has its first record.
        first_cycle: the first cycle with the collection; None if unknown.
    """

    collection_id: str
    tenant: str
    database: str
    name: str
    ordered: bool = True
    missing_cycles: int = 0
    count: int = 0
    walked_at: datetime | None = None
    space: Space | None = None
    dimension: int | None = None
    first_cycle: int | None = None


@dataclass(frozen=True, slots=True)
class Mirror:
    """A collection of the primary, and its counterpart on the replica (a row of `sync_mirrors`).

    All facts but those in `primary` are about the replica.

    Attributes:
        replica_id: the replica's id; None until it exists.
        replica_walked_at: start of the last completed walk of the replica's ids.
        identical_as_of: every record unchanged on the primary since then is identical.
        reduced_count: records with parts that the replica's server cannot hold.
        adopting: the replica had records that are not in the ledger; surplus records among them are
            held regardless of their number, until a cycle finds none.
        definition_digest: digest of the collection's definition on the replica when it was last
            defined there; None if unknown.
        settled_cycle: the last cycle that finished it, so that `replica_count` is the count after
            that cycle; None while a cycle writes, and after one that was cut off.
        probed_cycle: the last cycle that sent a few queries to both indexes.
        unanswering: why the replica's index did not answer them; None if it did.
        last_changed_at: the end of the last finished cycle that changed records of the replica;
            None if unknown.
    """

    primary: PrimaryCollection
    replica_id: str | None = None
    status: MirrorStatus = MirrorStatus.NEW
    replica_count: int = 0
    replica_walked_at: datetime | None = None
    identical_as_of: datetime | None = None
    last_successful_sync_at: datetime | None = None
    last_attempt_at: datetime | None = None
    duration_seconds: float = 0.0
    consecutive_errors: int = 0
    last_error: str | None = None
    reduced_count: int = 0
    adopting: bool = False
    definition_digest: bytes | None = None
    settled_cycle: int | None = None
    probed_cycle: int | None = None
    unanswering: str | None = None
    last_changed_at: datetime | None = None

    @property
    def collection_id(self) -> str:
        """The primary's id."""
        return self.primary.collection_id

    @property
    def tenant(self) -> str:
        """The tenant, the same on both sides."""
        return self.primary.tenant

    @property
    def database(self) -> str:
        """The database, the same on both sides."""
        return self.primary.database

    @property
    def name(self) -> str:
        """The primary's name."""
        return self.primary.name

    def with_primary(self, **facts: Any) -> Self:
        """The mirror with other facts about the primary's collection."""
        return replace(self, primary=replace(self.primary, **facts))


@dataclass(frozen=True, slots=True)
class ReplicaChunk:
    """Facts about the copy of a chunk on the replica (a row of `sync_replica_chunks`).

    Attributes:
        checked_at: instant before it was last read whole from the replica; None = never.
        checked_cycle: the cycle that did so. Clocks jump, cycle numbers do not.
        suspect: the ledger may be wrong about the replica.
        in_hand: a worker was cut off while it had the chunk, so the replica may have records of
            ours that the ledger does not know.
        gone_count: records that the primary no longer has and the replica still may have.
        reduced_count: records with parts that the replica's server cannot hold.
    """

    checked_at: datetime | None = None
    checked_cycle: int | None = None
    suspect: bool = False
    in_hand: bool = False
    gone_count: int = 0
    reduced_count: int = 0


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A chunk of the ledger without its ids and digests (a row of `sync_chunks`).

    All facts but those in `replica` are about the primary.

    Attributes:
        id: ids are in the ledger's order; 0 if not stored yet.
        start_offset: position of its first record when it was planned, for display.
        count: records in it.
        ids_digest: digest of its ids in order.
        read_at: instant before its content was last read whole from the primary; None = never.
        read_seconds: estimated time of such a read.
        recheck: records changed, so a read may have been torn, or records were never read.
        read_cycle: the cycle that read it last; None = never.
        added_cycle: the cycle that added its last records; None if unknown.
        recheck_ids: the records that `recheck` is about; None = all. See `ledger.plan` for when
            they count.
        looked_cycle: the last cycle that read it, or some of its records.
        text_digests: of the answers of the last whole read, which show an unchanged text of their
            embeddings; see `reconcile.texts`. One per answer.
    """

    id: int
    collection_id: str
    start_offset: int
    count: int
    ids_digest: bytes
    read_at: datetime | None = None
    read_seconds: float = 0.0
    recheck: bool = False
    read_cycle: int | None = None
    added_cycle: int | None = None
    recheck_ids: tuple[str, ...] | None = None
    looked_cycle: int | None = None
    text_digests: bytes | None = None
    replica: ReplicaChunk = ReplicaChunk()

    def with_replica(self, **facts: Any) -> Self:
        """The head with other facts about the replica's copy."""
        return replace(self, replica=replace(self.replica, **facts))


@dataclass(frozen=True, slots=True)
class AppliedDigests:
    """What was applied to the replica: three digests per record of a chunk, laid end to end.

    A digest has 16 bytes. A record whose first two digests are `UNKNOWN_DIGEST` is not known to be
    on the replica.

    Attributes:
        embedding, payload: of the primary's records when the replica was last made equal to them.
        replica: of the records as the replica returned them when they were last compared. They
            differ from the primary's (cosine embeddings and metadata floats drift), but they do not
            change without a write. `UNKNOWN_DIGEST` for a record that was never compared; if none
            is given, that is so for all records.
    """

    embedding: Digests
    payload: Digests
    replica: Digests = NO_DIGESTS

    def __post_init__(self) -> None:
        if not self.replica:
            object.__setattr__(self, "replica", Digests.unknown(self.payload.rows))

    @property
    def written(self) -> NDArray[np.bool_]:
        """Which records are known to be on the replica; bool of shape (records,)."""
        return self.payload.known()

    def take(self, rows: Sequence[int]) -> AppliedDigests:
        """The digests of some rows, in the order of `rows`."""
        columns = (self.embedding, self.payload, self.replica)
        return AppliedDigests(*(column.take(rows) for column in columns))


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk with the ids of its records on the primary, and what of them was applied."""

    head: ChunkHead
    ids: list[str]
    applied: AppliedDigests

    def __post_init__(self) -> None:
        columns = (self.applied.embedding, self.applied.payload, self.applied.replica)
        if any(len(column) != len(Digests.unknown(len(self.ids))) for column in columns):
            raise ValueError("a chunk needs three digests per id")
        if self.head.count != len(self.ids):
            raise ValueError("a chunk's count must be the number of its ids")


@dataclass(frozen=True, slots=True)
class Suspicion:
    """Suspect chunks of one collection.

    Attributes:
        chunks: the number of suspect chunks.
        until_at: workers may write to some of them until then; None if no worker can.
    """

    chunks: int
    until_at: datetime | None


class DeletionKind(StrEnum):
    """Why a record of the replica is to be deleted."""

    GONE = "gone"
    """The primary had it, and no longer has it."""
    SURPLUS = "surplus"
    """The primary never had it, as far as the ledger knows."""
    FOREIGN = "foreign"
    """Others wrote it on the replica; it is neither deleted nor overwritten until a decision."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """Replica records waiting to be deleted at the end of a cycle, behind the delete guard.

    The ids of a stored deletion are packed (`PackedIds`), because there may be millions.
    """

    id: int
    collection_id: str
    kind: DeletionKind
    chunk_id: int | None
    ids: Sequence[str]


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

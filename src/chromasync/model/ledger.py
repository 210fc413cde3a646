"""The values of the ledger: mirrors, chunks, deletions, and quarantined records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chromasync.model.servers import DIGEST_BYTES, Space


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
class Mirror:
    """One primary collection and its counterpart on the replica (a row of `sync_collections`).

    Attributes:
        collection_id: the primary's id; the key.
        replica_id: the replica's id; None until it exists.
        ordered: the primary lists ids in the ledger's order, so the merging walk applies.
        missing_cycles: successful listings in a row without it.
        walked_at: start of the last completed walk of the primary's ids.
        replica_walked_at: start of the last completed walk of the replica's ids.
        identical_as_of: every record unchanged on the primary since then is identical.
        reduced_count: records with parts that the replica's server cannot hold.
        adopting: the replica had records that are not in the ledger; surplus records among them are
            held regardless of their number, until a cycle finds none.
        space: the distance function of both sides; a worker in another process needs only this and
            `dimension`.
        dimension: numbers in an embedding; None until the primary has its first record.
        first_cycle: the first cycle with the collection; None if unknown.
        definition_digest: digest of the collection's definition on the replica when it was last
            defined there; None if unknown.
        settled_cycle: the last cycle that finished it, so that `replica_count` is the count after
            that cycle; None while a cycle writes, and after one that was cut off.
        probed_cycle: the last cycle that sent a few queries to both indexes.
        unanswering: why the replica's index did not answer them; None if it did.
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
    first_cycle: int | None = None
    definition_digest: bytes | None = None
    settled_cycle: int | None = None
    probed_cycle: int | None = None
    unanswering: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkHead:
    """A chunk of the ledger without its ids and digests.

    Attributes:
        id: ids are in the ledger's order; 0 if not stored yet.
        start_offset: position of its first record when it was planned, for display.
        count: records in it.
        ids_digest: digest of its ids in order.
        read_at: instant before its content was last read whole from the primary; None = never.
        checked_at: instant before the replica's side was last read whole; None = never.
        read_seconds: estimated time of such a read of the primary.
        suspect: the ledger may be wrong about the replica.
        recheck: records changed, so a read may have been torn, or records were never read.
        gone_count: records that the primary no longer has and the replica still may have.
        reduced_count: records with parts that the replica's server cannot hold.
        read_cycle: the cycle that read it last; None = never. Clocks jump, cycle numbers do not.
        checked_cycle: the cycle that read the replica's side last.
        added_cycle: the cycle that added its last records; None if unknown.
        in_hand: a worker was cut off while it had the chunk, so the replica may have records of
            ours that the ledger does not know.
        recheck_ids: the records that `recheck` is about; None = all. See `ledger.plan` for when
            they count.
        looked_cycle: the last cycle that read it, or some of its records.
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
    read_cycle: int | None = None
    checked_cycle: int | None = None
    added_cycle: int | None = None
    in_hand: bool = False
    recheck_ids: tuple[str, ...] | None = None
    looked_cycle: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk with its ids and, per record, three digests laid end to end (16 bytes each).

    A record whose first two digests are `UNKNOWN_DIGEST` is not known to be on the replica.

    Attributes:
        replica_digests: digests of the records as the replica returned them when they were last
            compared. They differ from the primary's (cosine embeddings and metadata floats drift),
            but they do not change without a write. `UNKNOWN_DIGEST` for a record that was never
            compared; empty if that is so for all records.
    """

    head: ChunkHead
    ids: list[str]
    embedding_digests: bytes
    payload_digests: bytes
    replica_digests: bytes = b""

    def __post_init__(self) -> None:
        expected = DIGEST_BYTES * len(self.ids)
        if not self.replica_digests and expected:
            object.__setattr__(self, "replica_digests", bytes(expected))
        digests = (self.embedding_digests, self.payload_digests, self.replica_digests)
        if any(len(column) != expected for column in digests):
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

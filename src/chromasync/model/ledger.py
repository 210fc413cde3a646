"""What the ledger holds: mirrors, chunks, and records that wait or were set aside."""

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
    """Equal but for what the replica's server cannot carry, or for quarantined records."""
    HELD = "held"
    """A guard holds deletes or a replacement until someone approves."""
    ERROR = "error"
    """The last cycle could not finish it; see `last_error`."""
    VANISHED = "vanished"
    """The primary no longer lists it; its drop waits for a second cycle."""
    DIVERGED = "diverged"
    """Others wrote to the replica while the primary was away; nothing is written there."""
    DOUBTFUL = "not the primary it was"
    """Another server answers at the primary's address, or it went back in time."""
    UNANSWERING = "unanswering"
    """The replica has the records, and its index does not answer queries as it should."""


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
        first_cycle: the cycle that met the collection first; None when that is not known.
        definition_digest: what the replica said of the collection when it was last defined there;
            None when that is not known.
        settled_cycle: the last cycle that came to its end with it, so that `replica_count` is what
            was left there; None while one is writing, and after one that was cut off.
        probed_cycle: the last cycle in which both indexes were asked a few queries.
        unanswering: why the replica's index did not answer them; None when it did.
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
        id: rises with the chunk's place in the ledger's order; 0 when not stored yet.
        start_offset: position of its first record when it was planned, for people.
        count: records in it.
        ids_digest: digest of its ids in order.
        read_at: instant before its content was last read whole from the primary; None = never.
        checked_at: instant before the replica's side was last read whole; None = never.
        read_seconds: about how long such a read of the primary takes.
        suspect: the ledger's word about the replica is not to be trusted.
        recheck: a part of it changed, so a read may have been torn, or was never read at all.
        gone_count: records that the primary no longer has and the replica still may have.
        reduced_count: records of which the replica's server cannot carry a part.
        read_cycle: the cycle that read it last; None = never. Clocks jump, cycle numbers do not.
        checked_cycle: the cycle that read the replica's side last.
        added_cycle: the cycle that added its last records; None when that is not known.
        in_hand: a worker was cut off while it had the chunk, so the replica may hold more of it
            than the ledger knows.
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
        replica_digests: what the replica returned of each record when it was last compared there.
            It differs from what the primary returns (cosine embeddings and metadata floats drift),
            but does not change by itself. `UNKNOWN_DIGEST` when it was never seen; empty stands
            for as many of these as there are records.
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
        chunks: how many there are.
        until_at: someone may go on writing to some of them until then; None when nobody can.
    """

    chunks: int
    until_at: datetime | None


class DeletionKind(StrEnum):
    """Why a replica record shall go."""

    GONE = "gone"
    """The primary had it and has it no more."""
    SURPLUS = "surplus"
    """The primary never had it, as far as the ledger knows."""
    FOREIGN = "foreign"
    """Others wrote it on the replica: it is neither deleted nor overwritten until decided."""


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

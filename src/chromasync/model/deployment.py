"""What a store knows of the two servers, across restarts and settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chromasync.model.servers import Space


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a store knows of itself and of the two servers, across restarts and settings.

    Attributes:
        store_id: the store's own name, made with it.
        primary_url: the primary's address in the last clean cycle.
        primary_seen_at: when the primary last listed its collections.
        away_since: the primary was not reachable since then, at some time after the last clean
            cycle; None when it always was.
        clean_cycle: the last cycle that ended without an error.
        clean_at: when that one ended.
    """

    store_id: str
    primary_url: str | None = None
    primary_seen_at: datetime | None = None
    away_since: datetime | None = None
    clean_cycle: int | None = None
    clean_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MarkRow:
    """What a store knows of the mark in one place of the replica.

    Attributes:
        place: `tenant/database`.
        cycle_id: the cycle whose mark was prepared last.
        nonce: the random number of that mark.
        written: whether it is on the replica.
        met_nonce: the mark of another store that was met there.
        met_at: when that one was first met.
        former_nonce: what stood on the replica when the mark was prepared; until the mark is known
            to be written, either may be there.
        prepared: the mark itself, as whoever writes first in its cycle puts it there.
    """

    place: str
    cycle_id: int | None = None
    nonce: str | None = None
    written: bool = False
    met_nonce: str | None = None
    met_at: datetime | None = None
    former_nonce: str | None = None
    prepared: str | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """Records that left the replica unasked; `whole` when their collection went with them."""

    collection_id: str
    count: int
    whole: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A replaced or dropped collection that stays on the replica under another name."""

    replica_id: str
    tenant: str
    database: str
    name: str
    kept_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KnownDistance:
    """The distance of a collection of either side, as its index was asked for it.

    `words` is a digest of its metadata and configuration at that time. It is empty in a promise:
    we made the collection with this distance, and it had no record yet to be asked by.
    """

    collection_id: str
    space: Space
    words: bytes

    @property
    def is_promise(self) -> bool:
        """Whether the index itself was not asked yet."""
        return not self.words

"""Stored facts about the two servers, across restarts and changes of settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from chromasync.model.servers import Space


@dataclass(frozen=True, slots=True)
class Deployment:
    """Facts of a store about itself and the two servers, across restarts and settings.

    Attributes:
        store_id: the store's unique name, created with it.
        primary_url: the primary's address in the last clean cycle.
        primary_seen_at: time when the primary last listed its collections.
        away_since: start of the first outage of the primary after the last clean cycle; None
            without an outage.
        clean_cycle: the last cycle that ended without an error.
        clean_at: the end of that cycle.
    """

    store_id: str
    primary_url: str | None = None
    primary_seen_at: datetime | None = None
    away_since: datetime | None = None
    clean_cycle: int | None = None
    clean_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class MarkRow:
    """Facts of a store about the mark in one place of the replica.

    Attributes:
        place: `tenant/database`.
        cycle_id: the cycle whose mark was prepared last.
        nonce: the random number of that mark.
        written: whether it is on the replica.
        met_nonce: the random number of another store's mark that was found there.
        met_at: time when that mark was first found.
        former_nonce: the mark on the replica when the new one was prepared; until the new mark is
            known to be written, either may be there.
        prepared: the new mark; the first process that writes in its cycle writes it.
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
    """Records deleted from the replica without approval; `whole`: with their collection."""

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
    """The distance of a collection of either side, as a query of its index has shown it.

    `words` is a digest of its metadata and configuration at that time. It is empty in a promise:
    we created the collection with this distance, but it had no record yet for a query.
    """

    collection_id: str
    space: Space
    words: bytes

    @property
    def is_promise(self) -> bool:
        """Whether no query of the index has confirmed the distance yet."""
        return not self.words

"""What a cycle knows of one collection while it is at it, and the parts a cycle works with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from chromasync.config import Settings
from chromasync.cycle.listing import Listing
from chromasync.errors import ChromasyncError, Conflict, NotFound, RequestRefused, ServerFault
from chromasync.model import Collection, Cycle, Mirror
from chromasync.ports import Progress, Reader, Store, Writer

REFUSALS = (RequestRefused, ServerFault, NotFound, Conflict)
"""Errors that concern one collection; anything else ends the cycle."""


@dataclass(slots=True)
class CollectionWork:
    """One collection in one cycle.

    Attributes:
        hints: ids by chunk that the walk of the primary did not see.
        planned: records in the tasks that were planned.
        error: what kept a part of the work from being done; nothing is deleted then.
        held: records that a guard holds.
        deleted: records deleted on the replica.
        notes: sentences for people.
        not_carried: what the replica's server cannot carry of the collection's definition.
        announced: the store has the mirror as the workers of this cycle's tasks must know it.
    """

    mirror: Mirror
    primary: Collection
    replica: Collection
    started_at: datetime
    hints: dict[int, set[str]] = field(default_factory=dict)
    planned: int = 0
    error: ChromasyncError | None = None
    held: int = 0
    deleted: int = 0
    notes: list[str] = field(default_factory=list)
    not_carried: tuple[str, ...] = ()
    announced: bool = False

    def update(self, **fields: Any) -> None:
        """Replace fields of the mirror."""
        self.mirror = replace(self.mirror, **fields)


@dataclass(slots=True)
class CycleWork:
    """One cycle: its parts, and what it found so far.

    Attributes:
        replica: bound to the permit of the leader.
        store: bound to the leader's term.
        refused: mirrors that could not be worked on, and why.
        deleted: records deleted on the replica, with whole collections.
        full: read everything again, whatever the budget.
    """

    cycle: Cycle
    settings: Settings
    primary: Reader
    replica: Writer
    store: Store
    progress: Progress
    full: bool = False
    primary_listing: Listing = field(default_factory=Listing)
    replica_listing: Listing = field(default_factory=Listing)
    collections: list[CollectionWork] = field(default_factory=list)
    refused: list[tuple[Mirror, ChromasyncError]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    deleted: int = 0

    @property
    def check_before(self) -> datetime:
        """Looks at the replica's side that are older than this are due again."""
        seconds = 0.0 if self.full else self.settings.sync_replica_check_interval
        return self.cycle.started_at - timedelta(seconds=seconds)

    def refuse(self, mirror: Mirror, error: ChromasyncError) -> None:
        """One collection cannot be mirrored in this cycle; the others go on."""
        self.refused.append((mirror, error))

    def refresh_replicas(self) -> None:
        """Take the replica's collections from the listing again, after renames."""
        for work in self.collections:
            work.replica = self.replica_listing.collections[work.replica.id]

    @property
    def has_errors(self) -> bool:
        """Whether a part of the work could not be done so far."""
        return bool(self.refused) or any(work.error for work in self.collections)

    @property
    def primary_empty(self) -> bool:
        """Whether the primary has no records at all, as the walks saw it."""
        return not any(work.mirror.primary_count for work in self.collections)

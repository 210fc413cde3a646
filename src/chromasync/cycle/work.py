"""What a cycle knows of one collection while it is at it, and the parts a cycle works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chromasync.config import Settings
from chromasync.cycle.counts import Counts
from chromasync.errors import ChromasyncError, Conflict, NotFound, RequestRefused, ServerFault
from chromasync.lease import monotonic
from chromasync.model import Collection, Cycle, Hold, HoldKind, Mirror, MirrorStatus, Space
from chromasync.plan.foreign import holds_foreign
from chromasync.plan.listing import Listing
from chromasync.plan.membership import Membership
from chromasync.ports import Progress, Reader, Store, Writer

REFUSALS = (RequestRefused, ServerFault, NotFound, Conflict)
"""Errors that concern one collection; anything else ends the cycle."""


def _never_stop() -> None:
    """For cycles that nobody stops."""


@dataclass(slots=True)
class CollectionWork:
    """One collection in one cycle.

    Attributes:
        membership: what the walk of the primary told.
        planned: records in the tasks that were planned.
        published: chunks whose tasks are published already.
        error: what kept a part of the work from being done; nothing is deleted then.
        held: records that a guard holds.
        deleted: records deleted on the replica.
        read: records that were read without a task (see `tiny`).
        notes: sentences for people.
        not_carried: what the replica's server cannot carry of the collection's definition.
        announced: the store has the mirror as the workers of this cycle's tasks must know it.
        diverged: tasks met records on the replica that others wrote, and left them as they are.
        older: the primary may have gone back in time: nothing is updated or deleted.
        counted: the replica's count was held against what was left there.
        doubtful: everything that was ever written to the replica is compared in this cycle.
        outgrown: it is being adopted, and the replica has records that the primary lacks: someone
            may have gone on with it, so what differs may be newer there.
    """

    mirror: Mirror
    primary: Collection
    replica: Collection
    started_at: datetime
    membership: Membership = field(default_factory=Membership)
    planned: int = 0
    published: set[int] = field(default_factory=set)
    error: ChromasyncError | None = None
    held: int = 0
    deleted: int = 0
    read: int = 0
    notes: list[str] = field(default_factory=list)
    not_carried: tuple[str, ...] = ()
    announced: bool = False
    diverged: bool = False
    older: bool = False
    counted: bool = False
    count_is_early: bool = False
    silent: str = ""
    doubtful: bool = False
    outgrown: bool = False

    @property
    def hints(self) -> Mapping[int, set[str]]:
        """Ids by chunk that the walk of the primary did not see, and nobody has looked into."""
        return self.membership.hints

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
        untold: mirrors in databases that are missing on the primary, left as they are, and why.
        deleted: records deleted on the replica, with whole collections.
        full: read everything again, whatever the budget.
        why_away: why the primary may have been away since the last clean cycle; empty when not.
        frozen: mirrors of which nothing is written in this cycle, because someone must decide.
        undecided: holds about which side is right, of this cycle.
        approved_sets: digests of removals that someone approved by way of such a hold.
        taken: holds that someone approved; they end when this cycle ends without an error.
        doubt: why nothing may be deleted or dropped anywhere until someone decides; empty when it
            may.
        absence: why nothing is deleted or dropped in this cycle, which passes by itself.
        superseded: mirrors of replica collections that were put aside in this cycle.
        accepted_primary: someone accepted another server as the primary.
        redefined: a collection of the replica was created, renamed or redefined.
        check_stop: raises Stopped when the process shall end.
        adopt: take over what nobody vouches for, however little is the same.
        accepted: collections of which someone decided that.
        kept: collections of the replica that stay there for a while, by id.
        held_back: mirrors for which nothing is written, until someone decides.
        vouched: tenants and databases whose mark on the replica is the one that was left there
            last, so that none of them is an older copy.
        rebuild: names of collections that are to be built anew on the replica.
        misbuilt: replica collections whose index has another distance than was asked for.
        jumped: the clock jumped during the cycle, so nothing is known of any instant.
        began: when it began, on the monotonic clock.
        waiting: collections of which deletions waited when all tasks were done.
        tiny_seconds: how much of the budget of scrubs went into tiny collections.
        counts: of the replica's collections when the cycle began.
    """

    cycle: Cycle
    settings: Settings
    primary: Reader
    replica: Writer
    store: Store
    progress: Progress
    full: bool = False
    adopt: bool = False
    accepted: set[str] = field(default_factory=set)
    primary_listing: Listing = field(default_factory=Listing)
    replica_listing: Listing = field(default_factory=Listing)
    collections: list[CollectionWork] = field(default_factory=list)
    refused: list[tuple[Mirror, ChromasyncError]] = field(default_factory=list)
    untold: list[tuple[Mirror, ChromasyncError]] = field(default_factory=list)
    held_back: list[Mirror] = field(default_factory=list)
    kept: dict[str, Collection] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    deleted: int = 0
    why_away: str = ""
    frozen: list[Mirror] = field(default_factory=list)
    undecided: list[Hold] = field(default_factory=list)
    approved_sets: set[str] = field(default_factory=set)
    taken: list[tuple[str, HoldKind]] = field(default_factory=list)
    doubt: str = ""
    absence: str = ""
    superseded: list[Mirror] = field(default_factory=list)
    accepted_primary: bool = False
    redefined: bool = False
    check_stop: Callable[[], None] = _never_stop
    vouched: set[tuple[str, str]] = field(default_factory=set)
    rebuild: Sequence[str] = ()
    misbuilt: Mapping[str, Space] = field(default_factory=dict)
    jumped: bool = False
    began: float = field(default_factory=monotonic)
    waiting: AbstractSet[str] = frozenset()
    tiny_seconds: float = 0.0
    counts: Counts = field(init=False)

    def __post_init__(self) -> None:
        self.counts = Counts(self.replica)

    @property
    def seconds(self) -> float:
        """How long it has taken so far, whatever the wall clock says."""
        return monotonic() - self.began

    @property
    def check_before(self) -> datetime:
        """Looks at the replica's side that are older than this are due again; in full, all."""
        if self.full:
            return datetime.max.replace(tzinfo=UTC)
        seconds = self.settings.sync_replica_check_interval
        return self.cycle.started_at - timedelta(seconds=seconds)

    def refuse(self, mirror: Mirror, error: ChromasyncError) -> None:
        """One collection cannot be mirrored in this cycle; the others go on."""
        self.refused.append((mirror, error))

    def freeze(self, mirror: Mirror, hold: Hold, status: MirrorStatus) -> None:
        """Write nothing of a collection in this cycle; someone must decide about it."""
        self.undecided.append(hold)
        self.frozen.append(mirror)
        self.store.save_mirror(
            replace(
                mirror,
                status=status,
                last_attempt_at=self.cycle.started_at,
                consecutive_errors=0,
                last_error=None,
            )
        )

    def forget_definition(self, work: CollectionWork) -> None:
        """Note that the definition is about to change: a cut-off change is not one by others."""
        if work.mirror.definition_digest is not None:
            work.update(definition_digest=None)
            self.store.save_mirror(work.mirror)

    def forget_definitions_to_rename(self) -> None:
        """The same for every collection that has not its name yet."""
        for work in self.collections:
            if work.replica.name != work.mirror.name:
                self.forget_definition(work)

    def holds_foreign(self, work: CollectionWork) -> bool:
        """Whether tasks of a collection leave alone what others wrote on the replica."""
        key = work.mirror.collection_id
        return holds_foreign(
            self.settings,
            self.why_away,
            work.mirror,
            is_taken=(key, HoldKind.DIVERGED) in self.taken,
            is_outgrown=work.outgrown and not self.adopt and key not in self.accepted,
        )

    def refresh_replicas(self) -> None:
        """Take the replica's collections from the listing again, after renames."""
        for work in self.collections:
            work.replica = self.replica_listing.collections[work.replica.id]

    @property
    def has_errors(self) -> bool:
        """Whether a part of the work could not be done so far."""
        return bool(self.refused) or any(work.error for work in self.collections)

    @property
    def read(self) -> int:
        """Records that were read without a task."""
        return sum(work.read for work in self.collections)

    @property
    def missing(self) -> str | None:
        """What to say of databases that are missing on the primary; None when there are none."""
        return " ".join(str(gone.error) for gone in self.primary_listing.missing) or None

    @property
    def primary_empty(self) -> bool:
        """Whether the primary has no records at all, as the walks saw it."""
        mirrors = [*(work.mirror for work in self.collections), *self.held_back]
        return not any(mirror.primary_count for mirror in mirrors)

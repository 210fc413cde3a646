"""The state of a running cycle and of each of its collections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from chromasync.config import Settings
from chromasync.cycle.counts import Counts
from chromasync.cycle.usage import CycleUsage
from chromasync.errors import ChromasyncError, Conflict, NotFound, RequestRefused, ServerFault
from chromasync.lease import monotonic
from chromasync.model import Collection, Cycle, Hold, HoldKind, Mirror, MirrorStatus, Space
from chromasync.plan.foreign import holds_foreign
from chromasync.plan.listing import Listing
from chromasync.plan.membership import Membership
from chromasync.ports import Progress, Reader, Store, Writer

REFUSALS = (RequestRefused, ServerFault, NotFound, Conflict)
"""Errors that concern one collection; any other error ends the cycle."""


def _never_stop() -> None:
    """The check of cycles that cannot be stopped."""


@dataclass(slots=True)
class CollectionWork:
    """One collection in one cycle.

    Attributes:
        membership: the result of the primary's walk.
        planned: records in the planned tasks.
        published: chunks whose tasks are published already.
        error: why a part of the work failed; then nothing is deleted.
        held: records that a guard holds.
        deleted: records deleted on the replica.
        read: records that were read without a task (see `tiny`).
        notes: sentences for people.
        not_carried: parts of the collection's definition that the replica's server cannot hold.
        announced: the store has the mirror in the state that the workers of this cycle need.
        diverged: tasks found records on the replica that others wrote, and left them as they are.
        older: the primary may have gone back in time, so nothing is updated or deleted.
        counted: the replica's count was compared with the one that the last cycle left.
        doubtful: everything that was ever written to the replica is compared in this cycle.
        outgrown: the collection is being adopted, and the replica has records that the primary
            lacks. Others may have written to the replica, so its version of a record may be newer.
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
    def hints(self) -> Mapping[int, AbstractSet[str]]:
        """Ids by chunk that the primary's walk did not see and no task has checked yet."""
        return self.membership.hints

    def update(self, **fields: Any) -> None:
        """Set facts about the replica."""
        self.mirror = replace(self.mirror, **fields)

    def update_primary(self, **fields: Any) -> None:
        """Set facts about the primary."""
        self.mirror = self.mirror.with_primary(**fields)


@dataclass(slots=True)
class CycleWork:
    """One cycle: its parts, and its results so far.

    Attributes:
        replica: bound to the permit of the leader.
        store: bound to the leader's term.
        refused: mirrors that could not be processed, and why.
        untold: mirrors that stay as they are, and why: the primary lacks their database, or they
            would meet others on the replica.
        deleted: records deleted on the replica, those of whole collections included.
        full: read everything again, regardless of the budget.
        why_away: why the primary may have been away since the last clean cycle; empty if it was
            not.
        frozen: mirrors that this cycle does not write to, because someone must decide.
        undecided: holds of this cycle about which side is right.
        approved_sets: digests of removals that were approved through such a hold.
        taken: approved holds; they end when this cycle ends without an error.
        doubt: why nothing may be deleted or dropped anywhere until someone decides; empty if it
            may.
        absence: why this cycle deletes and drops nothing; needs no decision.
        superseded: mirrors of replica collections that were put aside in this cycle.
        accepted_primary: another server was approved as the primary.
        redefined: a collection of the replica was created, renamed or redefined.
        check_stop: raises Stopped if the process is to end.
        adopt: adopt collections in no ledger even if they are not mostly the same.
        accepted: collections whose adoption was approved.
        kept: collections of the replica that are kept for a while, by id.
        held_back: mirrors that nothing is written to until someone decides.
        vouched: tenants and databases whose mark on the replica is the last one that was written
            there, so none of them is an older copy.
        rebuild: names of collections that are to be built anew on the replica.
        misbuilt: replica collections whose index has another distance than requested.
        jumped: the clock jumped during the cycle, so all instants are unknown.
        began: the start of the cycle on the monotonic clock.
        waiting: collections with waiting deletions after the last task.
        tiny_seconds: part of the scrub budget that tiny collections used.
        counts: record counts of the replica's collections at the start of the cycle.
        usage: what this process uses for the cycle.
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
    usage: CycleUsage = field(init=False)

    def __post_init__(self) -> None:
        self.counts = Counts(self.replica)
        self.usage = CycleUsage(self.primary, self.replica)

    @property
    def seconds(self) -> float:
        """Duration so far, by the monotonic clock."""
        return monotonic() - self.began

    @property
    def check_before(self) -> datetime:
        """Checks of the replica's side before this instant are due again; all, if `full`."""
        if self.full:
            return datetime.max.replace(tzinfo=UTC)
        seconds = self.settings.sync_replica_check_interval
        return self.cycle.started_at - timedelta(seconds=seconds)

    def refuse(self, mirror: Mirror, error: ChromasyncError) -> None:
        """Record that one collection cannot be mirrored in this cycle; the others continue."""
        self.refused.append((mirror, error))

    def freeze(self, mirror: Mirror, hold: Hold, status: MirrorStatus) -> None:
        """Write nothing to a collection in this cycle, because someone must decide about it."""
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
        """Forget the definition before it changes, so a cut-off change is not taken for others'."""
        if work.mirror.definition_digest is not None:
            work.update(definition_digest=None)
            self.store.save_mirror(work.mirror)

    def forget_definitions_to_rename(self) -> None:
        """The same for every collection that does not have its name yet."""
        for work in self.collections:
            if work.replica.name != work.mirror.name:
                self.forget_definition(work)

    def holds_foreign(self, work: CollectionWork) -> bool:
        """Whether tasks of a collection leave records that others wrote on the replica."""
        key = work.mirror.collection_id
        return holds_foreign(
            self.settings,
            self.why_away,
            work.mirror,
            is_taken=(key, HoldKind.DIVERGED) in self.taken,
            is_outgrown=work.outgrown and not self.adopt and key not in self.accepted,
        )

    def refresh_replicas(self) -> None:
        """Update the replica collections from the listing, after renames."""
        for work in self.collections:
            work.replica = self.replica_listing.collections[work.replica.id]

    @property
    def has_errors(self) -> bool:
        """Whether a part of the work has failed so far."""
        return bool(self.refused) or any(work.error for work in self.collections)

    @property
    def read(self) -> int:
        """Records that were read without a task."""
        return sum(work.read for work in self.collections)

    @property
    def missing(self) -> str | None:
        """The message about databases that the primary lacks; None if it lacks none."""
        return " ".join(str(gone.error) for gone in self.primary_listing.missing) or None

    @property
    def primary_empty(self) -> bool:
        """Whether the walks saw no record on the primary."""
        mirrors = [*(work.mirror for work in self.collections), *self.held_back]
        return not any(mirror.primary.count for mirror in mirrors)

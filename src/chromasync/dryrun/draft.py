"""Drafts of single collections: the walks and reads of a cycle, without its writes."""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from math import inf

from chromasync.config import Settings
from chromasync.definition import effective
from chromasync.dryrun.ledger import DryLedger
from chromasync.errors import DamagedChunk
from chromasync.ledger.ids import copied_set_of
from chromasync.ledger.idset import IdSet
from chromasync.ledger.paging import pages
from chromasync.ledger.scrub import choose_scrubs, scrub_budget_seconds
from chromasync.model import ChunkHead, Collection, DeletionKind, Mirror, OpCounts, Pair, Task
from chromasync.plan.append import Appender
from chromasync.plan.clock import Clock, is_ahead
from chromasync.plan.foreign import holds_foreign
from chromasync.plan.known import KnownLedger
from chromasync.plan.membership import Before, GoneByChunk, Membership, walk_primary
from chromasync.plan.older import Seen
from chromasync.plan.pairing import Match, Pairing, begun
from chromasync.plan.reading import due_chunks, due_in_part, quiet_chunks, read_of
from chromasync.plan.removals import IdSum
from chromasync.plan.replica import (
    ReplicaWalk,
    has_lost_its_ledger,
    has_outgrown,
    is_walk_due,
    judge_count,
)
from chromasync.ports import Progress, Reader, Store
from chromasync.reconcile.dry import TO_BE_CREATED, DryReconciler
from chromasync.sizing.effort import Writes


@dataclass(slots=True)
class Draft:
    """The unfinished plan of one collection.

    Attributes:
        mirror: the mirror after the walks.
        ledger: the ledger after the walks.
        is_outgrown: it would be adopted, and the replica has records that the primary lacks.
        surplus: records to delete because the primary never had them.
        gone: records to delete because the primary no longer has them.
        foreign: records that others wrote on the replica and that would be left as they are.
        counts: the operations of its tasks.
        same: records in chunks that would not be read.
        bytes: approximate number of bytes to send.
        writes: the records to send, by the kind of write.
        read: chunks that were reconciled.
    """

    pairing: Pairing
    mirror: Mirror
    ledger: DryLedger
    membership: Membership = field(default_factory=Membership)
    is_outgrown: bool = False
    surplus: IdSum = field(default_factory=IdSum)
    gone: IdSum = field(default_factory=IdSum)
    foreign: list[str] = field(default_factory=list)
    counts: OpCounts = OpCounts()
    same: int = 0
    bytes: int = 0
    writes: Writes = field(default_factory=Writes)
    read: set[int] = field(default_factory=set)

    @property
    def unread(self) -> list[ChunkHead]:
        """Chunks that are not reconciled yet."""
        return [head for head in self.ledger.heads if head.id not in self.read]

    @property
    def known(self) -> KnownLedger:
        """Reads the ledger, its waiting deletions and its quarantine."""
        return KnownLedger(self.ledger, self.pairing.ledger_id)

    @property
    def total(self) -> int:
        """Number of records in the ledger after the walk."""
        return sum(head.count for head in self.ledger.heads)

    @property
    def absent(self) -> int:
        """Number of quarantined records that the replica lacks."""
        return sum(record.absent for record in self.ledger.quarantined())

    @property
    def updated(self) -> int:
        """Number of records on the replica that would be written again."""
        return self.counts.updated + self.counts.replaced

    @property
    def as_seen(self) -> Seen:
        """The collection as the check of the primary's age needs it."""
        found = self.membership
        return Seen(self.mirror, found.missing, found.ledger_count, found.tail)

    def copied_set(self) -> IdSet:
        """Its records on the replica after the cycle."""
        return copied_set_of(self.ledger, self.pairing.ledger_id)


class _DrySink:
    """Appends to a ledger that is never stored."""

    def __init__(self, draft: Draft, chunk_size: int, *, suspect: bool) -> None:
        self._draft = draft
        self._appender = Appender(
            draft.ledger, draft.mirror, draft.ledger.heads, chunk_size, suspect=suspect
        )

    def append(self, ids: list[str], moved: Mapping[str, int]) -> None:
        """See `plan.membership.Sink`."""
        self._appender.append(ids, moved)

    def drop_repeats(self, repeated: Mapping[int, list[int]]) -> None:
        """See `plan.membership.Sink`."""
        self._appender.drop(repeated)

    def gone_by_chunk(self) -> GoneByChunk:
        """See `plan.membership.Sink`."""
        return self._draft.known.gone_by_chunk()


class Drafter:
    """Makes drafts; reads servers and store, writes nothing.

    Args:
        why_away: why the primary may have been away since the last clean cycle.
        doubtful: places (tenant, database) in which everything is compared, because the replica's
            mark is not the one that was left there.
        vouched: places whose mark is the last one that was left there.
        taken: collections for which the primary's side was approved.
        accepted: collections whose adoption was approved.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Reader,
        store: Store,
        settings: Settings,
        progress: Progress,
        *,
        why_away: str = "",
        doubtful: Container[tuple[str, str]] = (),
        vouched: Container[tuple[str, str]] = (),
        taken: Container[str] = (),
        accepted: Container[str] = (),
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._progress = progress
        self._why_away = why_away
        self._doubtful = doubtful
        self._vouched = vouched
        self._taken = taken
        self._accepted = accepted
        self._budget_seconds = scrub_budget_seconds(settings, store.active_workers())
        self._now = store.now()
        seconds = settings.sync_replica_check_interval
        self._check_before = self._now - timedelta(seconds=seconds)
        self._clock = Clock(self._now, is_ahead(store.newest_instant(), self._now))

    def draft(self, pairing: Pairing) -> Draft:
        """Walk both sides of one collection, and compare it if it would be adopted."""
        keeps = pairing.match is Match.KEEP
        heads = self._store.chunk_heads(pairing.ledger_id) if keeps else []
        compares_all = self._compares_all(pairing)
        if compares_all:
            heads = [head.with_replica(suspect=True) for head in heads]
        heads = [self._clock.head(head) for head in heads]
        try:
            draft = self._walked(pairing, heads, is_kept=keeps)
        except DamagedChunk:
            draft = self._walked(pairing, [], is_kept=False)
        if draft.mirror.adopting:
            self._read_due(draft)
        return draft

    def read_chunks(self, drafts: list[Draft]) -> list[Draft]:
        """Read the chunks that a cycle would read, and trust the ledger for the others."""
        quiet = [head for draft in drafts for head in self._quiet(draft)]
        chosen = choose_scrubs(quiet, self._budget_seconds, self._check_before)
        scrubs = {s.head.id: s.check_replica for s in chosen}
        return [self._read_chunks_of(draft, scrubs) for draft in drafts]

    def _read_chunks_of(self, draft: Draft, scrubs: Mapping[int, bool]) -> Draft:
        try:
            waiting = draft.known.gone_by_chunk()
            quiet = self._quiet(draft)
            self._read_due(draft)
            for head in quiet:
                if head.id in scrubs:
                    self._reconcile(draft, head, check_replica=scrubs[head.id])
                else:
                    self._read_in_part(draft, head, set(waiting.get(head.id, ())))
        except DamagedChunk:
            draft = self._walked(draft.pairing, [], is_kept=False)
            self._read_due(draft)
        return draft

    # ---- the walks --------------------------------------------------------------------------

    def _compares_all(self, pairing: Pairing) -> bool:
        """Whether the ledger's facts about the replica are not trusted."""
        mirror = pairing.mirror
        is_doubtful = (mirror.tenant, mirror.database) in self._doubtful
        return is_doubtful or pairing.former is not None or mirror.collection_id in self._taken

    def _walked(self, pairing: Pairing, heads: list[ChunkHead], *, is_kept: bool) -> Draft:
        mirror = begun(self._clock.mirror(pairing.mirror), pairing.match, self._now)
        if self._compares_all(pairing):
            mirror = replace(mirror, replica_walked_at=None)
        ledger = DryLedger(self._store, pairing.ledger_id, heads, is_kept=is_kept)
        draft = Draft(pairing, mirror, ledger)
        doubtful = self._look_at_count(draft)
        count = partial(self._primary.count, pairing.primary)
        if draft.mirror.adopting:
            ours = pages(self._primary, pairing.primary, count)
            outgrown = has_outgrown(draft.known, self._theirs(draft), ours)
            draft.is_outgrown = outgrown and mirror.collection_id not in self._accepted
        known = draft.known
        before = Before(
            draft.mirror, mirror.replica_id or "", heads, known.load_ids, self._store.holds
        )
        listed = partial(pages, self._primary, pairing.primary, count)
        sink = _DrySink(draft, self._settings.sync_chunk_size, suspect=doubtful)
        draft.membership = walk_primary(before, listed, sink)
        now = draft.mirror
        if is_walk_due(now.replica_walked_at, now.replica_count, self._check_before):
            self._walk_replica(draft, doubtful=doubtful)
        else:
            draft.surplus = IdSum(known.waiting_ids(DeletionKind.SURPLUS))
        return draft

    def _look_at_count(self, draft: Draft) -> bool:
        """Check the replica's count; returns whether everything that was written is compared."""
        replica, mirror, heads = draft.pairing.replica, draft.mirror, draft.ledger.heads
        count = 0 if replica is None else self._replica.count(replica)
        vouched = (mirror.tenant, mirror.database) in self._vouched
        verdict = judge_count(mirror, heads, count, draft.known, vouched=vouched)
        draft.ledger.distrust(verdict.suspects)
        mirror = replace(mirror, replica_count=count)
        lost = has_lost_its_ledger(mirror, heads, count)
        if verdict.doubt or verdict.walks or lost:
            mirror = replace(mirror, replica_walked_at=None)
        draft.mirror = replace(mirror, adopting=mirror.adopting or lost)
        return bool(verdict.doubt)

    def _theirs(self, draft: Draft) -> Iterator[list[str]]:
        replica, count = draft.pairing.replica, draft.mirror.replica_count
        return iter(()) if replica is None else pages(self._replica, replica, count)

    def _walk_replica(self, draft: Draft, *, doubtful: bool) -> None:
        known = draft.known
        walk = ReplicaWalk(draft.ledger, draft.ledger.heads)
        draft.surplus = IdSum(walk.take(self._theirs(draft)))
        found = walk.judge(
            known,
            known.waiting_ids(DeletionKind.SURPLUS),
            doubtful=doubtful,
            adopting=draft.mirror.adopting,
        )
        draft.ledger.distrust(found.lossy)
        if found.compares_all:
            draft.ledger.distrust(walk.written)

    # ---- contents ---------------------------------------------------------------------------

    def _read_due(self, draft: Draft) -> None:
        for head in due_chunks(draft.unread, draft.membership.asked, self._check_before):
            read = read_of(head, self._check_before)
            self._reconcile(draft, head, check_replica=read.check_replica)

    def _quiet(self, draft: Draft) -> list[ChunkHead]:
        return quiet_chunks(draft.unread, draft.membership.asked, self._check_before)

    def _read_in_part(self, draft: Draft, head: ChunkHead, waiting: set[str]) -> None:
        """Read the due records of a chunk that the budget does not cover."""
        ids = due_in_part(head, draft.membership.asked, self._check_before)
        rest = waiting.difference(ids)
        self._note_gone(draft, head, rest)
        draft.same += head.count - len(rest) - len(ids)
        if ids:
            self._reconcile(draft, head, check_replica=False, record_ids=ids)

    def _reconcile(
        self,
        draft: Draft,
        head: ChunkHead,
        *,
        check_replica: bool,
        record_ids: tuple[str, ...] | None = None,
    ) -> None:
        """Reconcile one chunk, or some of its records, without writes, and count the result."""
        chunk = draft.ledger.load_chunk(head.id)
        if chunk is None:
            return
        hold_foreign = self._holds_foreign(draft)
        dry = DryReconciler(self._primary, self._replica)
        result = dry.reconcile(
            _pair_of(draft.pairing),
            chunk,
            replace(
                self._task(draft, head, check_replica=check_replica, hold_foreign=hold_foreign),
                record_ids=record_ids,
            ),
            lambda: inf,
            {record.record_id: record for record in draft.ledger.quarantined()},
            deleting=draft.known.waiting_ids(DeletionKind.GONE) if hold_foreign else (),
        )
        draft.ledger.save_chunks([result.chunk])
        draft.read.add(head.id)
        draft.counts += result.counts
        draft.foreign += result.foreign
        draft.bytes += dry.bytes
        draft.writes += dry.writes
        self._note_gone(draft, head, result.gone)
        self._progress.advance(result.counts.read)

    def _holds_foreign(self, draft: Draft) -> bool:
        return holds_foreign(
            self._settings,
            self._why_away,
            draft.mirror,
            is_taken=draft.mirror.collection_id in self._taken,
            is_outgrown=draft.is_outgrown,
        )

    def _task(
        self, draft: Draft, head: ChunkHead, *, check_replica: bool, hold_foreign: bool
    ) -> Task:
        return Task(
            id=0,
            fence=0,
            collection_id=head.collection_id,
            collection_name=draft.mirror.name,
            chunk_id=head.id,
            check_replica=check_replica,
            retry_count=0,
            claimed_at=self._now,
            hold_foreign=hold_foreign,
        )

    @staticmethod
    def _note_gone(draft: Draft, head: ChunkHead, ids: Container[str]) -> None:
        """Note the deleted records of a chunk, except those that the walk saw on the primary."""
        unseen = draft.membership.unseen.get(head.id)
        if unseen is not None:
            draft.gone.add(unseen.among(list(ids)))


def _pair_of(pairing: Pairing) -> Pair:
    primary = pairing.primary
    replica: Collection = pairing.replica or replace(primary, id=TO_BE_CREATED)
    return Pair(primary, replica, effective(primary).space)

"""Updates the membership of collections in the ledger, and makes the tasks that follow from it.

The walk of the primary (`plan.membership`) updates the ledger. New ids become chunks; the last
chunk is filled first. Ids that moved to the end change chunk with their digests. Ids that the
ledger has twice lose one place. Each of these steps is one consistent transaction, so the process
may die between any two. The choice of *content* to read again depends on the chunks alone.

The replica's count and the walk of its ids show whether it is as the last cycle left it
(`plan.replica`). If not, everything that was ever written there is compared. Ids that no chunk has
are surplus; the delete guard judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Container
from dataclasses import replace
from functools import partial
from itertools import islice

from chromasync import faultpoints
from chromasync.cycle.ahead import FirstPages
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.definition import effective
from chromasync.errors import DamagedChunk, RequestRefused
from chromasync.ledger.paging import pages
from chromasync.ledger.scrub import Scrub
from chromasync.model import (
    ChunkHead,
    DeletionKind,
    NewTask,
)
from chromasync.plan.append import Appender
from chromasync.plan.distance import ask_distance
from chromasync.plan.known import KnownLedger
from chromasync.plan.membership import Before, GoneByChunk, walk_primary
from chromasync.plan.reading import due_chunks, due_in_part, read_of
from chromasync.plan.replica import (
    ReplicaWalk,
    has_lost_its_ledger,
    has_outgrown,
    is_walk_due,
    judge_count,
)
from chromasync.ports import Reader
from chromasync.reconcile.read import RecordReader

SURPLUS_BATCH = 5_000

Publish = Callable[[list[NewTask]], None]


class MembershipUpdate:
    """Walks both sides of collections; `publish` is called with tasks as soon as they exist.

    Args:
        heads: the chunks of each collection before the walk.
        first: the primary's prefetched ids; None prefetches nothing.
    """

    def __init__(
        self,
        cycle: CycleWork,
        publish: Publish,
        heads: Mapping[str, list[ChunkHead]],
        first: FirstPages | None = None,
    ) -> None:
        self._primary: Reader = cycle.primary
        self._replica: Reader = cycle.replica
        self._store = cycle.store
        self._cycle = cycle
        self._publish = publish
        self._first = first or FirstPages(cycle.primary, ())
        self._heads = heads

    def take(self, work: CollectionWork) -> None:
        """Update the membership of one collection, and publish tasks for its new chunks.

        A damaged ledger is deleted. An empty ledger is built anew by comparing both sides.
        """
        try:
            heads = self._heads[work.mirror.collection_id]
            self._look_at_replica_count(work, heads)
            self._take(work, heads)
        except DamagedChunk as error:
            work.notes.append(f"{error.what} Comparing both sides record by record instead.")
            self._store.forget_chunks(work.mirror.collection_id)
            work.planned = 0
            self._take(work, [])

    def _take(self, work: CollectionWork, heads: list[ChunkHead]) -> None:
        work.published = self._walk_primary(work, heads)
        faultpoints.reach(faultpoints.AFTER_WALK)
        mirror = work.mirror
        if is_walk_due(mirror.replica_walked_at, mirror.replica_count, self._cycle.check_before):
            self._walk_replica(work)

    def due(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> list[NewTask]:
        """Tasks for unpublished chunks that must be read whole regardless of the budget."""
        unpublished = (head for head in heads if head.id not in work.published)
        due = due_chunks(unpublished, work.membership.asked, self._cycle.check_before)
        return self._tasks_for(work, due)

    def task(self, work: CollectionWork, read: Scrub) -> NewTask:
        """A task to read a whole chunk."""
        task = new_task(
            work,
            read.head,
            check_replica=read.check_replica,
            hold_foreign=self._cycle.holds_foreign(work),
        )
        work.planned += task.record_count
        return task

    def due_in_part(self, work: CollectionWork, head: ChunkHead) -> NewTask | None:
        """A task for those records of a chunk that must be read; None if there are none."""
        ids = due_in_part(head, work.membership.asked, self._cycle.check_before)
        if not ids:
            return None
        work.planned += len(ids)
        held = self._cycle.holds_foreign(work)
        return new_task(work, head, hold_foreign=held, record_ids=ids)

    # ---- the primary ------------------------------------------------------------------------

    def _walk_primary(self, work: CollectionWork, heads: list[ChunkHead]) -> set[int]:
        """Walk the primary's ids; returns the chunks whose tasks are published already."""
        if has_lost_its_ledger(work.mirror, heads, work.mirror.replica_count):
            # stored before any chunk is
            work.update(adopting=True, replica_walked_at=None)
            self._store.save_mirror(work.mirror)
        ledger = KnownLedger(self._store, work.mirror.collection_id)
        count = partial(self._primary.count, work.primary)
        if work.primary.dimension is None and count():
            self._check_distance(work)
        if work.mirror.adopting:
            ours = self._until_stop(pages(self._primary, work.primary, count))
            theirs = pages(self._replica, work.replica, work.mirror.replica_count)
            work.outgrown = has_outgrown(ledger, theirs, ours)
        sink = _LedgerSink(self._cycle, work, heads, partial(self._publish_heads, work))
        before = Before(work.mirror, work.replica.id, heads, ledger.load_ids, self._store.holds)
        work.membership = walk_primary(before, partial(self._list, work, count), sink)
        work.update_primary(
            walked_at=work.started_at,
            ordered=work.membership.ordered,
            count=work.membership.seen,
        )
        return sink.published

    def _list(self, work: CollectionWork, count: Callable[[], int]) -> Iterator[list[str]]:
        return self._until_stop(self._first.pages(work.primary, count))

    def _check_distance(self, work: CollectionWork) -> None:
        """Check the index of a collection that got its first records after it was listed."""
        page = self._primary.list_ids(work.primary, offset=0, limit=1)
        first = self._primary.read(work.primary, page)
        if first.embeddings is None or not len(first):
            return
        asked = replace(work.primary, dimension=first.embeddings.shape[1])
        space = ask_distance(self._primary, asked)
        if space not in (None, effective(work.primary).space):
            raise RequestRefused(
                f"{work.mirror.name} got its first records a moment ago, and its index has the "
                f"distance {space}, which is not the one that its definition says.",
                side=self._primary.side,
                untouched="None of them was copied.",
                hint="The next cycle builds it with that distance.",
            )

    def _until_stop(self, listed: Iterator[list[str]]) -> Iterator[list[str]]:
        """The pages; raises Stopped between two of them if the process is to end."""
        for page in listed:
            self._cycle.check_stop()
            yield page

    # ---- the replica ------------------------------------------------------------------------

    def _look_at_replica_count(self, work: CollectionWork, heads: list[ChunkHead]) -> None:
        """Check the replica's count; if it is not as left, the ledger becomes suspect."""
        now = self._cycle.counts.of(work.replica)
        vouched = (work.mirror.tenant, work.mirror.database) in self._cycle.vouched
        ledger = KnownLedger(self._store, work.mirror.collection_id)
        verdict = judge_count(work.mirror, heads, now, ledger, vouched=vouched)
        if verdict.doubt:
            work.notes.append(verdict.doubt)
            self._doubt(work, verdict.suspects)
        elif verdict.walks:
            work.update(replica_walked_at=None)
        work.update(replica_count=now)
        work.counted = True

    def _doubt(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> None:
        """Mark these chunks as suspect, so that all their records are compared."""
        self._store.distrust(work.mirror.collection_id, [head.id for head in heads])
        work.update(replica_walked_at=None)
        work.doubtful = True

    def _walk_replica(self, work: CollectionWork) -> None:
        key = work.mirror.collection_id
        ledger = KnownLedger(self._store, key)
        before = ledger.waiting_ids(DeletionKind.SURPLUS)
        walk = ReplicaWalk(self._store, self._store.chunk_heads(key))
        listed = pages(self._replica, work.replica, work.mirror.replica_count)
        surplus = walk.take(self._until_stop(listed))
        self._store.replace_surplus(key, list(_batched(surplus, SURPLUS_BATCH)))
        found = walk.judge(ledger, before, doubtful=work.doubtful, adopting=work.mirror.adopting)
        work.notes += found.notes
        if found.lossy:
            self._store.distrust(key, [head.id for head in found.lossy])
        if found.compares_all:
            # except chunks that workers of this cycle wrote meanwhile
            former = [h for h in walk.written if h.read_cycle != self._cycle.cycle.id]
            self._doubt(work, former)
        work.update(replica_walked_at=work.started_at)

    # ---- tasks ------------------------------------------------------------------------------

    def _publish_heads(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> None:
        tasks = self._tasks_for(work, heads)
        if tasks:
            self._publish(tasks)

    def _tasks_for(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> list[NewTask]:
        reads = (read_of(h, self._cycle.check_before, check_all=self._cycle.full) for h in heads)
        return [self.task(work, read) for read in reads]


class _LedgerSink:
    """Updates one collection's ledger, and publishes full chunks at once.

    Attributes:
        published: the published chunks.
    """

    def __init__(
        self,
        cycle: CycleWork,
        work: CollectionWork,
        heads: list[ChunkHead],
        publish: Callable[[list[ChunkHead]], None],
    ) -> None:
        self._cycle = cycle
        self._store = cycle.store
        self._work = work
        self._heads = heads
        self._publish = publish
        self._appender = Appender(
            cycle.store,
            work.mirror,
            heads,
            cycle.settings.sync_chunk_size,
            cycle.cycle.id,
            is_deleted=self._deleted_there,
            suspect=work.doubtful,
        )
        self.published: set[int] = set()

    def append(self, ids: list[str], moved: Mapping[str, int]) -> None:
        """See `plan.membership.Sink`."""
        full = self._appender.append(ids, moved)
        self._publish(full)
        self.published.update(head.id for head in full)

    def drop_repeats(self, repeated: Mapping[int, list[int]]) -> None:
        """See `plan.membership.Sink`."""
        self._appender.drop(repeated)

    def gone_by_chunk(self) -> GoneByChunk:
        """See `plan.membership.Sink`; deletions of chunks that no longer exist are discarded."""
        collection_id = self._work.mirror.collection_id
        chunk_ids = {head.id for head in self._store.chunk_heads(collection_id)}
        gone: dict[int | None, Container[str]] = {}
        for deletion in KnownLedger(self._store, collection_id).waiting(DeletionKind.GONE):
            if deletion.chunk_id in chunk_ids:
                gone[deletion.chunk_id] = deletion.ids
            else:
                self._store.finish_deletion(deletion, deletion.ids)
        return gone

    def _deleted_there(self, ids: Container[str]) -> set[str]:
        """Those of the ids that waited to be deleted and are no longer on the replica.

        A process that was cut off may have deleted them. They count as new records.
        """
        if not any(head.replica.gone_count for head in self._heads):
            return set()
        wanted = set(ids)
        asked = sorted({i for gone in self.gone_by_chunk().values() for i in gone} & wanted)
        if not asked:
            return set()
        found = RecordReader(self._cycle.replica).read(self._work.replica, asked, embeddings=False)
        there = {i for piece in found.pieces for i in piece.ids} | found.unreadable.keys()
        return set(asked) - there


def new_task(
    work: CollectionWork,
    head: ChunkHead,
    *,
    check_replica: bool = False,
    hold_foreign: bool = False,
    record_ids: tuple[str, ...] | None = None,
) -> NewTask:
    """The task to reconcile one chunk, or some of its records."""
    return NewTask(
        collection_id=head.collection_id,
        collection_name=work.mirror.name,
        chunk_id=head.id,
        start_offset=head.start_offset,
        end_offset=head.start_offset + head.count,
        check_replica=check_replica,
        hold_foreign=hold_foreign,
        record_ids=record_ids,
    )


def _batched(items: list[str], size: int) -> Iterator[list[str]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch

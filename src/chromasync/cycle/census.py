"""The census of one collection: both sides' ids against the ledger, and the tasks that follow.

The primary's walk brings the ledger's *membership* up to date: new ids become chunks (the last
chunk is filled first), ids that moved to the end change chunk with their digests, ids that the
ledger has twice leave one place. Each such step is one transaction and makes sense alone, so a
process may die between any two. Which *content* is read again is planned from the chunks alone.

The replica's count and the walk of its ids tell whether it is as it was left (`plan.doubt`). If it
is not, all that was ever written there is compared. Ids that no chunk has are surplus, left to the
delete guard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Container
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chromasync import faultpoints
from chromasync.cycle.ahead import FirstPages
from chromasync.cycle.append import Appender
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.definition import effective
from chromasync.errors import DamagedChunk, RequestRefused
from chromasync.ledger.idset import IdSet, has_more
from chromasync.ledger.paging import pages
from chromasync.ledger.plan import (
    due_ids,
    is_overdue,
    without_rows,
    written_rows,
)
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from chromasync.model import (
    ChunkHead,
    DeletionKind,
    NewTask,
)
from chromasync.plan.distance import ask_distance
from chromasync.plan.doubt import Bounds, bounds_of, is_surely_unwritten, why_doubtful
from chromasync.plan.older import Part, judged_before, tail_without
from chromasync.plan.removals import IdSum
from chromasync.ports import Reader
from chromasync.reconcile.read import RecordReader

SURPLUS_BATCH = 5_000

Publish = Callable[[list[NewTask]], None]


class _Noted(NamedTuple):
    """A chunk, and which of its rows were ever written, before the replica's ids were asked for."""

    head: ChunkHead
    written: NDArray[np.bool_]


class Census:
    """Walks both sides of collections; `publish` is called with tasks as soon as they exist.

    Args:
        heads: the chunks of each collection before the walk.
        first: the primary's ids that were asked for ahead; none are when None.
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
        self._chunk_size = cycle.settings.sync_chunk_size
        self._cycle_id = cycle.cycle.id
        self._check_before = cycle.check_before
        self._full = cycle.full
        self._check_stop = cycle.check_stop
        self._cycle = cycle
        self._vouched = cycle.vouched
        self._publish = publish
        self._counts = cycle.counts
        self._first = first or FirstPages(cycle.primary, ())
        self._heads = heads

    def take(self, work: CollectionWork) -> None:
        """Bring the ledger's membership up to date, and publish tasks for new chunks.

        A ledger that is empty, or damaged and thus forgotten, is built anew by comparing.
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
        if self._is_replica_walk_due(work):
            self._walk_replica(work)

    def due(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> list[NewTask]:
        """Tasks for chunks that must be read whole whatever the budget, and are not published."""
        due = [h for h in heads if h.id not in work.published]
        due = [head for head in due if self.due_ids(work, head) is None]
        # what is on no side yet first: a copy that is cut off again and again gets on all the same
        return self._tasks_for(work, sorted(due, key=lambda head: head.suspect))

    def due_ids(self, work: CollectionWork, head: ChunkHead) -> frozenset[str] | None:
        """The records of a chunk that must be read whatever the budget; None for all of it."""
        hinted = work.asked.get(head.id, ())
        return due_ids(head, hinted, check_before=self._check_before)

    def due_in_part(self, work: CollectionWork, head: ChunkHead) -> NewTask | None:
        """A task for the records that must be read of a chunk whose rest need not be, if any."""
        ids = self.due_ids(work, head)
        if not ids:
            return None
        work.planned += len(ids)
        held = self._cycle.holds_foreign(work)
        return new_task(work, head, hold_foreign=held, record_ids=tuple(sorted(ids)))

    # ---- the primary ------------------------------------------------------------------------

    def _walk_primary(self, work: CollectionWork, heads: list[ChunkHead]) -> set[int]:
        """Returns the chunks whose tasks are published already."""
        if not heads:
            self._look_for_lost_ledger(work)
        count = partial(self._primary.count, work.primary)
        if work.primary.dimension is None and count():
            self._check_distance(work)
        if work.mirror.adopting:
            work.outgrown = self._has_outgrown(work, count)
        try:
            kind: type[MergeWalk | SetWalk] = MergeWalk if work.mirror.ordered else SetWalk
            walk: Walk = self._new_walk(kind, work, heads, count)
            planned = self._append_new(work, heads, walk)
        except Disordered:
            walk = self._new_walk(SetWalk, work, heads, count)
            planned = self._append_new(work, heads, walk)
        missing = walk.missing  # named before rows go, because it counts them
        self._drop_repeats(walk.repeated)
        work.hints = self._fresh_hints(work, heads, missing)
        self._note_tail(work, heads, walk, missing)
        work.update(walked_at=work.started_at, ordered=walk.ordered, primary_count=walk.seen)
        return planned

    def _check_distance(self, work: CollectionWork) -> None:
        """Ask a collection whose first records came after it was listed, before any is copied."""
        page = self._primary.list_ids(work.primary, offset=0, limit=1)
        first = self._primary.read(work.primary, page)
        if first.embeddings is None or not len(first):
            return
        asked = replace(work.primary, dimension=first.embeddings.shape[1])
        space = ask_distance(self._primary, asked)
        if space not in (None, effective(work.primary).space):
            raise RequestRefused(
                f"The first records of {work.mirror.name} came a moment ago, and its index has the "
                f"distance {space}, which is not what its description says.",
                side=self._primary.side,
                untouched="None of them was copied.",
                hint="The next cycle builds it with that distance.",
            )

    def _look_for_lost_ledger(self, work: CollectionWork) -> None:
        """Adopt a collection whose ledger was forgotten; remembered before any chunk is stored."""
        if work.mirror.primary_count and work.mirror.replica_count and not work.mirror.adopting:
            work.update(adopting=True, replica_walked_at=None)
            self._store.save_mirror(work.mirror)

    def _has_outgrown(self, work: CollectionWork, count: Callable[[], int]) -> bool:
        """Whether the replica has records that the primary lacks, before anything is written."""
        if self._waiting_surplus(work.mirror.collection_id):
            return True
        theirs = pages(self._replica, work.replica, work.mirror.replica_count)
        return has_more(theirs, self._until_stop(pages(self._primary, work.primary, count)))

    def _new_walk(
        self,
        kind: type[MergeWalk | SetWalk],
        work: CollectionWork,
        heads: list[ChunkHead],
        count: Callable[[], int],
    ) -> Walk:
        listed = self._until_stop(self._first.pages(work.primary, count))
        return kind(listed, heads, self._load_ids)

    def _until_stop(self, listed: Iterator[list[str]]) -> Iterator[list[str]]:
        """The pages, as long as the process shall not end."""
        for page in listed:
            self._check_stop()
            yield page

    def _load_ids(self, chunk_id: int) -> list[str]:
        chunk = self._store.load_chunk(chunk_id)
        return [] if chunk is None else chunk.ids

    def _append_new(self, work: CollectionWork, heads: list[ChunkHead], walk: Walk) -> set[int]:
        appender = Appender(
            self._store,
            work,
            heads,
            self._chunk_size,
            self._cycle_id,
            is_deleted=partial(self._deleted_there, work, heads),
        )
        published: set[int] = set()
        for ids in walk.new_ids():
            new = list(dict.fromkeys(ids))
            work.fresh_count += sum(record_id not in walk.moved for record_id in new)
            full = appender.append(new, walk.moved)
            self._publish_heads(work, full)
            published.update(head.id for head in full)
        return published

    def _deleted_there(
        self, work: CollectionWork, heads: list[ChunkHead], ids: Container[str]
    ) -> set[str]:
        """Those of the ids that waited to be deleted, and are not on the replica any more.

        A process that was cut off may have deleted them: they came back as records like any new.
        """
        if not any(head.gone_count for head in heads):
            return set()
        known = set().union(*self._known_gone(work.mirror.collection_id).values())
        asked = sorted(known.intersection(ids))
        if not asked:
            return set()
        found = RecordReader(self._replica).read(work.replica, asked, embeddings=False)
        there = {i for piece in found.pieces for i in piece.ids} | found.unreadable.keys()
        return set(asked) - there

    def _note_tail(
        self,
        work: CollectionWork,
        heads: list[ChunkHead],
        walk: Walk,
        missing: Mapping[int, list[str]],
    ) -> None:
        """Note what is missing, and whether it is the newest part of the ledger.

        Records that came in this walk stand behind those that were there.
        """
        work.ledger_count = sum(head.count for head in heads)
        left = Counter(walk.moved.values())
        parts = [Part(h.id, h.count - left[h.id], h.added_cycle) for h in heads]
        known = self._known_gone(work.mirror.collection_id) if missing else {}
        waiting = (record_id for ids in known.values() for record_id in ids)
        holds = self._store.holds() if missing else []
        judged = judged_before(work.mirror, waiting, holds, work.replica.id)
        work.unseen = {chunk_id: set(ids) for chunk_id, ids in missing.items()}
        work.missing = IdSum(i for ids in missing.values() for i in ids)
        work.tail = tail_without(parts, work.unseen, judged, self._load_ids, work.fresh_count)

    def _drop_repeats(self, repeated: Mapping[int, list[int]]) -> None:
        for chunk_id, rows in repeated.items():
            chunk = self._store.load_chunk(chunk_id)
            if chunk is not None:
                self._store.save_chunks([without_rows(chunk, set(rows))])

    def _fresh_hints(
        self, work: CollectionWork, heads: list[ChunkHead], missing: Mapping[int, list[str]]
    ) -> dict[int, set[str]]:
        """Hints that differ from what is known to be gone already (and held); notes what to ask.

        A chunk whose missing ids are all back has an empty one.
        """
        waiting = {head.id for head in heads if head.gone_count}
        work.asked = {}
        if not missing and not waiting:
            return {}
        known = self._known_gone(heads[0].collection_id)
        hints = {c: set(missing.get(c, ())) for c in waiting | missing.keys()}
        fresh = {c: ids for c, ids in hints.items() if ids != known.get(c)}
        work.asked = {c: ids ^ known.get(c, set()) for c, ids in fresh.items()}
        return fresh

    def _known_gone(self, collection_id: str) -> dict[int | None, set[str]]:
        """What waits to be deleted, by chunk; that of a chunk whose records all moved is let go."""
        chunk_ids = {head.id for head in self._store.chunk_heads(collection_id)}
        known: dict[int | None, set[str]] = {}
        for deletion in self._store.deletions(collection_id):
            if deletion.kind is not DeletionKind.GONE:
                continue
            if deletion.chunk_id in chunk_ids:
                known[deletion.chunk_id] = set(deletion.ids)
            else:
                self._store.finish_deletion(deletion, deletion.ids)
        return known

    # ---- the replica ------------------------------------------------------------------------

    def _look_at_replica_count(self, work: CollectionWork, heads: list[ChunkHead]) -> None:
        """Notice a replica that is not as it was left; then no record's content is trusted."""
        now = self._counts.of(work.replica)
        vouched = (work.mirror.tenant, work.mirror.database) in self._vouched
        bounds = partial(self._bounds, heads)
        doubt = why_doubtful(work.mirror, now, vouched=vouched, bounds=bounds)
        if doubt and work.mirror.settled_cycle is not None:
            self._doubt(work, heads, doubt)
        elif doubt and (written := [h for h in heads if not self._is_unwritten(h)]):
            self._doubt(work, written, doubt)
        elif work.mirror.settled_cycle is None and heads:
            work.update(replica_walked_at=None)
        work.update(replica_count=now)
        work.counted = True

    def _doubt(self, work: CollectionWork, heads: Iterable[ChunkHead], why: str) -> None:
        """Let all that was written be compared."""
        self._store.distrust(work.mirror.collection_id, [head.id for head in heads])
        work.notes.append(why)
        work.update(replica_walked_at=None)
        work.doubtful = True

    def _is_unwritten(self, head: ChunkHead) -> bool:
        """Whether nothing of a chunk was ever written; its records may have come from others."""
        if not is_surely_unwritten(head):
            return False
        chunk = self._store.load_chunk(head.id)
        return chunk is None or not written_rows(chunk).any()

    def _bounds(self, heads: list[ChunkHead]) -> Bounds:
        collection_id = heads[0].collection_id if heads else ""
        chunks = (self._store.load_chunk(head.id) for head in heads)
        aside = sum(q.absent for q in self._store.quarantined(collection_id))
        waiting = self._store.deletions(collection_id)
        return bounds_of((chunk for chunk in chunks if chunk is not None), waiting, aside)

    def _is_replica_walk_due(self, work: CollectionWork) -> bool:
        last = work.mirror.replica_walked_at
        return work.mirror.replica_count > 0 if last is None else last <= self._check_before

    def _walk_replica(self, work: CollectionWork) -> None:
        collection_id = work.mirror.collection_id
        before = self._waiting_surplus(collection_id)
        noted: list[_Noted] = []
        heads = self._store.chunk_heads(collection_id)
        ledger = IdSet.of(self._note_written(head, noted) for head in heads)
        found = np.zeros(len(ledger), dtype=bool)
        surplus: list[str] = []
        listed = pages(self._replica, work.replica, work.mirror.replica_count)
        for page in self._until_stop(listed):
            rows = ledger.find(page)
            found[rows[rows >= 0]] = True
            surplus += [page[i] for i in np.flatnonzero(rows < 0)]
        self._store.replace_surplus(collection_id, list(_batched(surplus, SURPLUS_BATCH)))
        self._look_what_is_missing(work, noted, found)
        if surplus:
            work.notes.append(f"the replica has {len(surplus):,} records that the primary lacks.")
        if not before.issuperset(surplus) and not (work.doubtful or work.mirror.adopting):
            self._doubt_written(
                work, noted, "Not all of what is there was left by us; comparing all."
            )
        work.update(replica_walked_at=work.started_at)

    def _waiting_surplus(self, collection_id: str) -> set[str]:
        waiting = self._store.deletions(collection_id)
        return {i for d in waiting if d.kind is DeletionKind.SURPLUS for i in d.ids}

    def _note_written(self, head: ChunkHead, noted: list[_Noted]) -> list[str]:
        """A chunk's ids; which of them were ever written is noted before the replica is asked.

        Workers reconcile chunks meanwhile: what they write behind the walk is not lost.
        """
        chunk = self._store.load_chunk(head.id)
        if chunk is None:
            noted.append(_Noted(head, np.zeros(0, dtype=bool)))
            return []
        noted.append(_Noted(chunk.head, written_rows(chunk)))
        return chunk.ids

    def _look_what_is_missing(
        self, work: CollectionWork, noted: list[_Noted], found: NDArray[np.bool_]
    ) -> None:
        """Records that were written and are not there cast doubt on all that was written.

        But not those of a chunk that was in a worker's hands when it was cut off: it may have been
        about to put them back, and the chunk is compared anyway.
        """
        start = lost = 0
        lossy = []
        excused = self._may_be_absent(work.mirror.collection_id)
        for note in noted:
            missing = np.flatnonzero(note.written & ~found[start : start + len(note.written)])
            start += len(note.written)
            if known := self._count_wanted(note.head, missing.tolist(), excused):
                lost += known
                lossy.append(note.head)
        if not lost:
            return
        self._store.distrust(work.mirror.collection_id, [head.id for head in lossy])
        words = f"{lost:,} records are missing on the replica; writing them again"
        if work.doubtful or all(head.in_hand for head in lossy):
            work.notes.append(words)
        else:
            self._doubt_written(work, noted, f"{words}, and comparing all.")

    def _doubt_written(self, work: CollectionWork, noted: list[_Noted], why: str) -> None:
        """Let all be compared that was written before this cycle."""
        written = [n.head for n in noted if n.written.any()]
        self._doubt(work, [h for h in written if h.read_cycle != self._cycle_id], why)

    def _may_be_absent(self, collection_id: str) -> set[str]:
        """Written records that need not be there: set aside, or about to be deleted."""
        aside = {q.record_id for q in self._store.quarantined(collection_id) if q.absent}
        waiting = self._store.deletions(collection_id)
        return aside.union(*(d.ids for d in waiting if d.kind is DeletionKind.GONE))

    def _count_wanted(self, head: ChunkHead, rows: list[int], excused: set[str]) -> int:
        """How many of these rows should be there; all, when the chunk changed meanwhile."""
        if not rows:
            return 0
        chunk = self._store.load_chunk(head.id)
        if chunk is None:  # the primary has none of its records any more
            return 0
        if chunk.head.ids_digest != head.ids_digest:
            return len(rows)
        return sum(chunk.ids[row] not in excused for row in rows)

    # ---- tasks ------------------------------------------------------------------------------

    def _publish_heads(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> None:
        tasks = self._tasks_for(work, heads)
        if tasks:
            self._publish(tasks)

    def _tasks_for(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> list[NewTask]:
        tasks = [
            new_task(
                work,
                head,
                check_replica=self._full or is_overdue(head, self._check_before),
                hold_foreign=self._cycle.holds_foreign(work),
            )
            for head in heads
        ]
        work.planned += sum(task.record_count for task in tasks)
        return tasks


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

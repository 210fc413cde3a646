"""The census of one collection: both sides' ids against the ledger, and the tasks that follow.

The primary's walk brings the ledger's *membership* up to date: new ids become chunks (the last
chunk is filled first), ids that moved to the end change chunk with their digests, ids that the
ledger has twice leave one place. Each such step is one transaction and makes sense alone, so a
process may die between any two. Which *content* is read again is planned from the chunks alone.

The replica's walk looks for what someone else did there: known records that are missing make their
chunk suspect, and ids that no chunk has are surplus, left to the delete guard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from chromasync import faultpoints
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.errors import DamagedChunk
from chromasync.ledger.idset import IdSet
from chromasync.ledger.paging import stitched
from chromasync.ledger.plan import (
    Carried,
    carry_from,
    extended,
    is_overdue,
    must_read,
    new_chunk,
    without_ids,
    without_rows,
    written_rows,
)
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from chromasync.model import (
    Chunk,
    ChunkHead,
    Collection,
    DeletionKind,
    MirrorStatus,
    NewTask,
)
from chromasync.ports import Reader, Store

PAGE_IDS = 100_000
"""Ids in one page: each page sorts the whole collection on the server, so few large ones win."""

SURPLUS_BATCH = 5_000

COUNTED = (MirrorStatus.IDENTICAL, MirrorStatus.LIMITED, MirrorStatus.HELD)
"""States in which the replica's count was as expected when the last cycle closed."""

Publish = Callable[[list[NewTask]], None]


def pages(reader: Reader, collection: Collection, count: int) -> Iterator[list[str]]:
    """All ids of a collection, also those that deletes shift from one page to the one before.

    Args:
        count: records that the server counted; a short page before that is not the last.
    """
    return stitched(
        lambda offset, limit: reader.list_ids(collection, offset=offset, limit=limit),
        count,
        PAGE_IDS,
    )


class Census:
    """Walks both sides of collections; `publish` is called with tasks as soon as they exist."""

    def __init__(self, cycle: CycleWork, publish: Publish) -> None:
        self._primary: Reader = cycle.primary
        self._replica: Reader = cycle.replica
        self._store = cycle.store
        self._chunk_size = cycle.settings.sync_chunk_size
        self._check_before = cycle.check_before
        self._full = cycle.full
        self._publish = publish

    def take(self, work: CollectionWork) -> None:
        """Bring the ledger's membership up to date and publish tasks for what must be read.

        A ledger that is empty, or damaged and thus forgotten, is built anew by comparing.
        """
        self._look_at_replica_count(work)
        try:
            self._take(work)
        except DamagedChunk as error:
            work.notes.append(f"{error.what} Comparing both sides record by record instead.")
            self._store.forget_chunks(work.mirror.collection_id)
            work.planned = 0
            self._take(work)

    def _take(self, work: CollectionWork) -> None:
        planned = self._walk_primary(work)
        faultpoints.reach(faultpoints.AFTER_WALK)
        if self._is_replica_walk_due(work):
            self._walk_replica(work)
        heads = self._store.chunk_heads(work.mirror.collection_id)
        due = [h for h in heads if h.id not in planned and (must_read(h) or h.id in work.hints)]
        self._publish_heads(work, due)

    # ---- the primary ------------------------------------------------------------------------

    def _walk_primary(self, work: CollectionWork) -> set[int]:
        """Returns the chunks whose tasks are published already."""
        collection_id = work.mirror.collection_id
        heads = self._store.chunk_heads(collection_id)
        if not heads:
            self._look_for_lost_ledger(work)
        count = self._primary.count(work.primary)
        try:
            kind: type[MergeWalk | SetWalk] = MergeWalk if work.mirror.ordered else SetWalk
            walk: Walk = self._new_walk(kind, work, heads, count)
            planned = self._append_new(work, heads, walk)
        except Disordered:
            walk = self._new_walk(SetWalk, work, heads, count)
            planned = self._append_new(work, heads, walk)
        missing = walk.missing  # named before rows go, because it counts them
        self._drop_repeats(walk.repeated)
        work.hints = self._fresh_hints(heads, missing)
        work.update(walked_at=work.started_at, ordered=walk.ordered, primary_count=walk.seen)
        return planned

    def _look_for_lost_ledger(self, work: CollectionWork) -> None:
        """Adopt a collection whose ledger was forgotten; remembered before any chunk is stored."""
        if work.mirror.primary_count and work.mirror.replica_count and not work.mirror.adopting:
            work.update(adopting=True, replica_walked_at=None)
            self._store.save_mirror(work.mirror)

    def _new_walk(
        self,
        kind: type[MergeWalk | SetWalk],
        work: CollectionWork,
        heads: list[ChunkHead],
        count: int,
    ) -> Walk:
        return kind(pages(self._primary, work.primary, count), heads, self._load_ids)

    def _load_ids(self, chunk_id: int) -> list[str]:
        chunk = self._store.load_chunk(chunk_id)
        return [] if chunk is None else chunk.ids

    def _append_new(self, work: CollectionWork, heads: list[ChunkHead], walk: Walk) -> set[int]:
        appender = _Appender(self._store, work, heads, self._chunk_size)
        published: set[int] = set()
        for ids in walk.new_ids():
            full = appender.append(list(dict.fromkeys(ids)), walk.moved)
            self._publish_heads(work, full)
            published.update(head.id for head in full)
        return published

    def _drop_repeats(self, repeated: Mapping[int, list[int]]) -> None:
        for chunk_id, rows in repeated.items():
            chunk = self._store.load_chunk(chunk_id)
            if chunk is not None:
                self._store.save_chunks([without_rows(chunk, set(rows))])

    def _fresh_hints(
        self, heads: list[ChunkHead], missing: Mapping[int, list[str]]
    ) -> dict[int, set[str]]:
        """Hints that differ from what is known to be gone already (and held).

        A chunk whose missing ids are all back has an empty one.
        """
        waiting = {head.id for head in heads if head.gone_count}
        if not missing and not waiting:
            return {}
        known = self._known_gone(heads[0].collection_id)
        hints = {c: set(missing.get(c, ())) for c in waiting | missing.keys()}
        return {c: ids for c, ids in hints.items() if ids != known.get(c)}

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

    def _look_at_replica_count(self, work: CollectionWork) -> None:
        """Notice a replica that lost or gained records since the last clean cycle.

        Either may be a replica restored from an older copy, so no record's content is trusted.
        """
        mirror = work.mirror
        now = self._replica.count(work.replica)
        if mirror.status in COUNTED and now != mirror.replica_count:
            self._store.distrust(mirror.collection_id)
            change = now - mirror.replica_count
            words = f"gained {change:,}" if change > 0 else f"lost {-change:,}"
            work.notes.append(f"the replica {words} records; comparing all")
            work.update(replica_walked_at=None)
        work.update(replica_count=now)

    def _is_replica_walk_due(self, work: CollectionWork) -> bool:
        last = work.mirror.replica_walked_at
        return work.mirror.replica_count > 0 if last is None else last <= self._check_before

    def _walk_replica(self, work: CollectionWork) -> None:
        collection_id = work.mirror.collection_id
        heads = self._store.chunk_heads(collection_id)
        written: list[NDArray[np.bool_]] = []
        ledger = IdSet.of(self._note_written(head.id, written) for head in heads)
        found = np.zeros(len(ledger), dtype=bool)
        surplus: list[str] = []
        for page in pages(self._replica, work.replica, work.mirror.replica_count):
            rows = ledger.find(page)
            found[rows[rows >= 0]] = True
            surplus += [page[i] for i in np.flatnonzero(rows < 0)]
        self._store.replace_surplus(collection_id, list(_batched(surplus, SURPLUS_BATCH)))
        self._distrust_lossy(work, heads, written, found)
        work.update(replica_walked_at=work.started_at)
        if surplus:
            work.notes.append(f"the replica has {len(surplus):,} records that the primary lacks")

    def _note_written(self, chunk_id: int, written: list[NDArray[np.bool_]]) -> list[str]:
        """A chunk's ids; which of them were ever written is noted before the replica is asked.

        Workers reconcile chunks meanwhile: what they write behind the walk is not lost.
        """
        chunk = self._store.load_chunk(chunk_id)
        written.append(written_rows(chunk) if chunk else np.zeros(0, dtype=bool))
        return chunk.ids if chunk else []

    def _distrust_lossy(
        self,
        work: CollectionWork,
        heads: list[ChunkHead],
        written: list[NDArray[np.bool_]],
        found: NDArray[np.bool_],
    ) -> None:
        """Make chunks suspect whose written records are missing on the replica."""
        start = 0
        lost = 0
        for head, rows in zip(heads, written, strict=True):
            missing = np.flatnonzero(rows & ~found[start : start + len(rows)])
            start += len(rows)
            if len(missing) and (known := self._count_wanted(head, missing.tolist())):
                lost += known
                self._store.distrust(work.mirror.collection_id, [head.id])
        if lost:
            work.notes.append(f"{lost:,} records are missing on the replica; writing them again")

    def _count_wanted(self, head: ChunkHead, rows: list[int]) -> int:
        """How many of these rows are not set aside; all, when the chunk changed meanwhile."""
        chunk = self._store.load_chunk(head.id)
        if chunk is None:  # the primary has none of its records any more
            return 0
        if chunk.head.ids_digest != head.ids_digest:
            return len(rows)
        aside = {q.record_id for q in self._store.quarantined(head.collection_id) if q.absent}
        return sum(chunk.ids[row] not in aside for row in rows)

    # ---- tasks ------------------------------------------------------------------------------

    def _publish_heads(self, work: CollectionWork, heads: Iterable[ChunkHead]) -> None:
        tasks = [
            new_task(work, head, check_replica=self._full or is_overdue(head, self._check_before))
            for head in heads
        ]
        work.planned += sum(task.end_offset - task.start_offset for task in tasks)
        if tasks:
            self._publish(tasks)


def new_task(work: CollectionWork, head: ChunkHead, *, check_replica: bool = False) -> NewTask:
    """The task to reconcile one chunk."""
    return NewTask(
        collection_id=head.collection_id,
        collection_name=work.mirror.name,
        chunk_id=head.id,
        start_offset=head.start_offset,
        end_offset=head.start_offset + head.count,
        check_replica=check_replica,
    )


def _batched(items: list[str], size: int) -> Iterator[list[str]]:
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


class _Appender:
    """Appends ids to a collection's ledger, the last chunk first; each call is one transaction.

    A chunk with room left is not handed out, because the next call may fill it; nor is one that
    the ledger had before, because the next call may take records from it.
    """

    def __init__(
        self, store: Store, work: CollectionWork, heads: list[ChunkHead], chunk_size: int
    ) -> None:
        self._store = store
        self._collection_id = work.mirror.collection_id
        self._suspect = work.mirror.adopting
        self._size = chunk_size
        self._former = {head.id for head in heads}
        self._offset = sum(head.count for head in heads)
        self._open_id = heads[-1].id if heads and heads[-1].count < chunk_size else 0

    def append(self, ids: list[str], moved: Mapping[str, int]) -> list[ChunkHead]:
        """Store chunks for `ids`; ids in `moved` leave the chunk named there, with their digests.

        Returns:
            The heads of new chunks that are full now.
        """
        shrunk, carry = self._take_from_sources(ids, moved)
        filled, taken = self._fill_open(ids, shrunk, carry)
        cut = [
            new_chunk(
                self._collection_id,
                ids[start : start + self._size],
                self._offset + start,
                carry,
                suspect=self._suspect,
            )
            for start in range(taken, len(ids), self._size)
        ]
        appended = [filled, *cut] if filled else cut
        new_ids = iter(self._store.save_chunks([*appended, *shrunk.values()]))
        self._offset += len(ids)
        heads = [replace(c.head, id=c.head.id or next(new_ids)) for c in appended]
        self._open_id = heads[-1].id if heads[-1].count < self._size else 0
        return [h for h in heads if h.count >= self._size and h.id not in self._former]

    def _take_from_sources(
        self, ids: list[str], moved: Mapping[str, int]
    ) -> tuple[dict[int, Chunk], dict[str, Carried]]:
        leaving: dict[int, set[str]] = {}
        for record_id in ids:
            if record_id in moved:
                leaving.setdefault(moved[record_id], set()).add(record_id)
        shrunk: dict[int, Chunk] = {}
        carry: dict[str, Carried] = {}
        for chunk_id, names in leaving.items():
            chunk = self._store.load_chunk(chunk_id)
            if chunk is not None:
                carry.update(carry_from(chunk, names))
                shrunk[chunk_id] = without_ids(chunk, names)
        return shrunk, carry

    def _fill_open(
        self, ids: list[str], shrunk: dict[int, Chunk], carry: Mapping[str, Carried]
    ) -> tuple[Chunk | None, int]:
        """The open chunk with as many of `ids` as fit, and how many those are."""
        if not self._open_id:
            return None, 0
        chunk = shrunk.pop(self._open_id, None) or self._store.load_chunk(self._open_id)
        if chunk is None:
            return None, 0
        fitting = ids[: self._size - len(chunk.ids)]
        return extended(chunk, fitting, carry), len(fitting)

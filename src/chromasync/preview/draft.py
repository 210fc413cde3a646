"""What a cycle would find in one collection: its walks and its reads, without their writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Collection as Container
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import numpy as np
import orjson

from chromasync.config import Settings
from chromasync.definition import configuration_change, creatable, effective
from chromasync.errors import DamagedChunk
from chromasync.ledger.digest import at, embedding_digests, id_digests, payload_digests
from chromasync.ledger.idset import IdSet
from chromasync.ledger.paging import pages
from chromasync.ledger.plan import due_ids, ids_again, is_overdue, rechecked, written_rows
from chromasync.ledger.scrub import choose_scrubs, scrub_budget_seconds
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from chromasync.model import (
    DIGEST_BYTES,
    UNKNOWN_DIGEST,
    Chunk,
    ChunkHead,
    Collection,
    Deletion,
    DeletionKind,
    Records,
)
from chromasync.plan.clock import Clock, is_ahead
from chromasync.plan.doubt import Bounds, bounds_of, is_surely_unwritten, why_doubtful
from chromasync.plan.listing import place_of
from chromasync.plan.older import Part, Seen, Tail, judged_before, tail_without
from chromasync.plan.pairing import Match, Pairing
from chromasync.plan.removals import IdSum
from chromasync.ports import Progress, Reader, Store
from chromasync.reconcile.diff import Differ, Difference, Whole, carried, metadata_delta
from chromasync.reconcile.read import RecordReader
from chromasync.reports import PlannedAction, PlannedCollection

BATCH_IDS = 1_000
BYTES_PER_FLOAT_SENT = 16 / 3
"""A float32 in base64."""


@dataclass(slots=True)
class Draft:
    """One collection on its way to a plan.

    Attributes:
        heads: the ledger's chunks; empty when a cycle would build them anew.
        adopting: the replica holds records that no ledger vouches for.
        moved: ids that a cycle would move to the ledger's end, with the chunk they are in.
        hints: by chunk, ids that the walk missed, or that are back.
        joining: by chunk, how many ids would join it.
        due: by chunk, the records that a cycle would read whatever the budget; None for all.
        lossy: chunks that a cycle would make suspect, because the replica is not as it was left.
        seen: ids that the primary listed.
        fresh: digests of ids that the ledger does not have.
        gone: records to delete because the primary has them no more.
        surplus: records to delete because the primary never had them.
        missing: ids of the ledger that the primary did not list.
        tail: the newest part of the ledger.
        id_set: the primary's ids, as the ledger would have them.
    """

    planned: PlannedCollection
    pairing: Pairing
    heads: list[ChunkHead]
    adopting: bool
    moved: dict[str, int] = field(default_factory=dict)
    hints: dict[int, set[str]] = field(default_factory=dict)
    joining: dict[int, int] = field(default_factory=dict)
    due: dict[int, frozenset[str] | None] = field(default_factory=dict)
    lossy: set[int] = field(default_factory=set)
    seen: int = 0
    fresh: bytearray = field(default_factory=bytearray)
    gone: IdSum = field(default_factory=IdSum)
    surplus: IdSum = field(default_factory=IdSum)
    missing: IdSum = field(default_factory=IdSum)
    tail: Tail | None = None
    id_set: Callable[[], IdSet] = lambda: IdSet(bytearray())

    @property
    def ledger_count(self) -> int:
        """Records that the ledger has."""
        return sum(head.count for head in self.heads)

    @property
    def total(self) -> int:
        """Records that the ledger would have after the walk."""
        return self.ledger_count + len(self.fresh) // DIGEST_BYTES

    @property
    def outgrown(self) -> str:
        """Why what differs may be newer on the replica that is to be adopted; empty when not."""
        if not (self.adopting and self.surplus.count and self.planned.update):
            return ""
        return (
            f"the replica has {self.surplus.count:,} records that the primary lacks, and "
            f"{self.planned.update:,} differ: no ledger knows which side is newer"
        )

    @property
    def as_seen(self) -> Seen:
        """What the walk of the primary says of its age."""
        return Seen(self.pairing.mirror, self.missing, self.ledger_count, self.tail)

    def note_due(self, check_before: datetime) -> None:
        """Note what a cycle would read of each chunk whatever the budget."""
        left = Counter(self.moved.values())
        for head in self.heads:
            again = ids_again(head)
            stays = replace(head, count=head.count - left[head.id])
            stays = rechecked(stays, again.difference(self.moved)) if again else stays
            self.due[head.id] = due_ids(
                replace(stays, suspect=head.suspect or head.id in self.lossy),
                self.hints.get(head.id, ()),
                check_before=check_before,
                joining=self.joining.get(head.id, 0),
            )

    def count_same(self, count: int) -> None:
        """Count records that are the same on both sides."""
        self.planned = replace(self.planned, same=self.planned.same + count)


class Drafter:
    """Makes drafts; reads servers and store, writes nothing.

    Args:
        doubtful: places (tenant, database) in which the replica's mark is not what was left there.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Reader,
        store: Store,
        settings: Settings,
        progress: Progress,
        *,
        doubtful: Container[tuple[str, str]] = (),
        vouched: Container[tuple[str, str]] = (),
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._vouched = vouched
        self._chunk_size = settings.sync_chunk_size
        self._budget_seconds = scrub_budget_seconds(settings, store.active_workers())
        now = store.now()
        self._check_before = now - timedelta(seconds=settings.sync_replica_check_interval)
        self._clock = Clock(now, is_ahead(store.newest_instant(), now))
        self._progress = progress
        self._doubtful = doubtful

    def draft(self, pairing: Pairing) -> Draft:
        """Both walks of one collection, with what is new to the ledger compared."""
        keeps = pairing.match is Match.KEEP
        heads = self._store.chunk_heads(pairing.ledger_id) if keeps else []
        if pairing.former is not None:
            heads = [replace(head, suspect=True) for head in heads]
        heads = [self._clock.head(head) for head in heads]
        try:
            return self._walked(pairing, heads)
        except DamagedChunk:
            return self._walked(pairing, [])

    def read_chunks(self, drafts: list[Draft]) -> list[Draft]:
        """Read what a cycle would read, and take the other chunks at the ledger's word."""
        for draft in drafts:
            draft.note_due(self._check_before)
        quiet = [head for d in drafts for head in d.heads if d.due[head.id] is not None]
        chosen = choose_scrubs(quiet, self._budget_seconds, self._check_before)
        scrubs = {s.head.id: s.check_replica for s in chosen}
        return [self._read_chunks_of(draft, scrubs) for draft in drafts]

    def _read_chunks_of(self, draft: Draft, scrubs: Mapping[int, bool]) -> Draft:
        moved = Counter(draft.moved.values())
        gone = self._waiting(draft, DeletionKind.GONE)
        waiting = {d.chunk_id: d.ids for d in gone}
        regains = self._replica.capabilities().arrays
        try:
            for head in draft.heads:
                regained = head.reduced_count > 0 and regains
                ids = draft.due[head.id]
                if ids is None:
                    suspect = head.suspect or head.id in draft.lossy
                    overdue = is_overdue(head, self._check_before)
                    self._compare_chunk(draft, head, whole=suspect or overdue or regained)
                elif head.id in scrubs:
                    self._compare_chunk(draft, head, whole=scrubs[head.id] or regained)
                else:
                    rest = [i for i in waiting.get(head.id, ()) if i not in ids]
                    draft.gone.add(rest)
                    looked_at = self._compare_chunk(draft, head, ids) if ids else 0
                    draft.count_same(head.count - len(rest) - moved[head.id] - looked_at)
        except DamagedChunk:
            return self._walked(draft.pairing, [])
        return draft

    def _walked(self, pairing: Pairing, heads: list[ChunkHead]) -> Draft:
        place = place_of(pairing.primary)
        planned = PlannedCollection(*place, self._action(pairing), reason=pairing.lost)
        lost = pairing.match is Match.KEEP and not heads and pairing.mirror.primary_count > 0
        adopting = pairing.match is Match.ADOPT or pairing.mirror.adopting or lost
        draft = Draft(planned, pairing, heads, adopting)
        walk = self._walk(draft)
        draft.seen, draft.hints = walk.seen, self._fresh_hints(draft, walk)
        draft.id_set = lambda: self._id_set(draft)
        self._note_tail(draft, walk)
        if heads and heads[-1].count < self._chunk_size:
            left = sum(chunk_id == heads[-1].id for chunk_id in draft.moved.values())
            room = self._chunk_size - heads[-1].count + left
            came = len(draft.fresh) // DIGEST_BYTES + len(draft.moved)
            draft.joining[heads[-1].id] = min(room, came)
        if pairing.replica is not None:
            self._look_at_replica(draft, pairing.replica)
        return draft

    def _action(self, pairing: Pairing) -> PlannedAction:
        if pairing.match is Match.CREATE:
            beside = pairing.create_name != pairing.primary.name
            return PlannedAction.REPLACE if beside else PlannedAction.CREATE
        if pairing.match is Match.ADOPT or pairing.former is not None:
            return PlannedAction.ADOPT
        replica = pairing.replica
        if replica is None or replica.name != pairing.primary.name:
            return PlannedAction.RENAME
        server = self._replica.capabilities()
        wanted, _ = creatable(pairing.primary, server)
        delta = metadata_delta(dict(wanted.metadata), dict(replica.metadata))
        changed = delta is not None or configuration_change(pairing.primary, replica, server)
        return PlannedAction.MODIFY if changed else PlannedAction.NONE

    # ---- the walks --------------------------------------------------------------------------

    def _walk(self, draft: Draft) -> Walk:
        ordered = draft.pairing.mirror.ordered
        walk = self._new_walk(MergeWalk if ordered else SetWalk, draft)
        try:
            self._take_new(draft, walk)
        except Disordered:
            walk = self._new_walk(SetWalk, draft)
            self._take_new(draft, walk)
        return walk

    def _new_walk(self, kind: type[MergeWalk | SetWalk], draft: Draft) -> Walk:
        primary = draft.pairing.primary
        listed = pages(self._primary, primary, self._primary.count(primary))
        return kind(listed, draft.heads, self._load_ids)

    def _take_new(self, draft: Draft, walk: Walk) -> None:
        """Compare what is new to the ledger, or moved in it, while the walk goes on.

        A cycle inserts unasked what is new; what moved, or has to be adopted, it compares.
        """
        for ids in walk.new_ids():
            moved = [i for i in ids if i in walk.moved]
            fresh = [i for i in dict.fromkeys(ids) if i not in walk.moved]
            draft.moved.update((i, walk.moved[i]) for i in moved)
            draft.fresh += id_digests(fresh)
            for part in _parts(moved):
                self._compare(draft, part)
            for part in _parts(fresh):
                self._compare(draft, part, absent=not draft.adopting)

    def _id_set(self, draft: Draft) -> IdSet:
        digests = bytearray()
        for head in draft.heads:
            digests += id_digests(self._load_ids(head.id))
        return IdSet(digests + draft.fresh)

    def _note_tail(self, draft: Draft, walk: Walk) -> None:
        """Note what is missing, and whether it is the newest part of the ledger."""
        missing = walk.missing
        draft.missing = IdSum(i for ids in missing.values() for i in ids)
        left = Counter(draft.moved.values())
        parts = [Part(h.id, h.count - left[h.id], h.added_cycle) for h in draft.heads]
        waiting = (i for d in self._waiting(draft, DeletionKind.GONE) for i in d.ids)
        mirror, holds = draft.pairing.mirror, self._store.holds() if missing else []
        judged = judged_before(mirror, waiting, holds, mirror.replica_id or "")
        draft.tail = tail_without(
            parts,
            {chunk_id: set(ids) for chunk_id, ids in missing.items()},
            judged,
            lambda chunk_id: [i for i in self._load_ids(chunk_id) if i not in draft.moved],
            new=len(draft.fresh) // DIGEST_BYTES,
        )

    def _fresh_hints(self, draft: Draft, walk: Walk) -> dict[int, set[str]]:
        missing = walk.missing
        waiting = {head.id for head in draft.heads if head.gone_count}
        known = {d.chunk_id: set(d.ids) for d in self._waiting(draft, DeletionKind.GONE)}
        asked = waiting | missing.keys()
        fresh = {c: set(missing.get(c, ())) for c in asked}
        return {c: i ^ known.get(c, set()) for c, i in fresh.items() if i != known.get(c)}

    def _waiting(self, draft: Draft, kind: DeletionKind) -> list[Deletion]:
        if not draft.heads:
            return []
        stored = self._store.deletions(draft.pairing.ledger_id)
        return [d for d in stored if d.kind is kind]

    def _look_at_replica(self, draft: Draft, replica: Collection) -> None:
        """Decide whether a cycle would walk the replica's ids, and do so if it would."""
        mirror = self._clock.mirror(draft.pairing.mirror)
        now = self._replica.count(replica)
        walked_at = None if draft.adopting and not draft.heads else mirror.replica_walked_at
        vouched = (mirror.tenant, mirror.database) in self._vouched
        doubtful = (mirror.tenant, mirror.database) in self._doubtful
        if doubtful or why_doubtful(
            mirror, now, vouched=vouched, bounds=partial(self._bounds, draft)
        ):
            settled = mirror.settled_cycle is not None
            draft.lossy = {h.id for h in draft.heads if settled or self._is_written(h)}
            walked_at = None
        if mirror.settled_cycle is None and draft.heads:
            walked_at = None
        due = now > 0 if walked_at is None else walked_at <= self._check_before
        if due:
            self._walk_replica(draft, replica, now)
        else:
            waiting = self._waiting(draft, DeletionKind.SURPLUS)
            draft.surplus = IdSum(i for d in waiting for i in d.ids)

    def _is_written(self, head: ChunkHead) -> bool:
        if not is_surely_unwritten(head):
            return True
        chunk = self._store.load_chunk(head.id)
        return chunk is not None and bool(written_rows(chunk).any())

    def _bounds(self, draft: Draft) -> Bounds:
        key = draft.pairing.mirror.collection_id
        chunks = (self._store.load_chunk(head.id) for head in draft.heads)
        aside = sum(q.absent for q in self._store.quarantined(key))
        return bounds_of((c for c in chunks if c is not None), self._store.deletions(key), aside)

    def _walk_replica(self, draft: Draft, replica: Collection, count: int) -> None:
        before = {i for d in self._waiting(draft, DeletionKind.SURPLUS) for i in d.ids}
        ledger = self._id_set(draft)
        found = np.zeros(len(ledger), dtype=bool)
        strange = False
        for page in pages(self._replica, replica, count):
            rows = ledger.find(page)
            found[rows[rows >= 0]] = True
            surplus = [page[row] for row in np.flatnonzero(rows < 0)]
            draft.surplus.add(surplus)
            strange = strange or any(i not in before for i in surplus)
        doubtful = strange and not draft.adopting
        start = 0
        for head in draft.heads:
            missing = np.flatnonzero(~found[start : start + head.count]).tolist()
            start += head.count
            if missing and self._knows_any(head, missing):
                draft.lossy.add(head.id)
                doubtful = doubtful or not head.in_hand
        if doubtful:
            draft.lossy.update(h.id for h in draft.heads if self._is_written(h))

    def _knows_any(self, head: ChunkHead, rows: list[int]) -> bool:
        chunk = self._store.load_chunk(head.id)
        aside = {q.record_id for q in self._store.quarantined(head.collection_id) if q.absent}
        waiting = self._store.deletions(head.collection_id)
        aside.update(i for d in waiting if d.kind is DeletionKind.GONE for i in d.ids)
        return chunk is not None and any(
            _is_known(chunk, row) and chunk.ids[row] not in aside for row in rows
        )

    def _load_ids(self, chunk_id: int) -> list[str]:
        chunk = self._store.load_chunk(chunk_id)
        return [] if chunk is None else chunk.ids

    # ---- contents ---------------------------------------------------------------------------

    def _compare_chunk(
        self,
        draft: Draft,
        head: ChunkHead,
        ids: frozenset[str] | None = None,
        *,
        whole: bool = False,
    ) -> int:
        """Count what reconciling a chunk, or these of its records, would do; how many those are.

        `whole`: whatever the digests say.
        """
        chunk = self._store.load_chunk(head.id)
        if chunk is None:
            return 0
        known = {
            record_id: at(chunk.embedding_digests, row) + at(chunk.payload_digests, row)
            for row, record_id in enumerate(chunk.ids)
            if record_id not in draft.moved and (ids is None or record_id in ids)
        }
        suspect = head.suspect or head.id in draft.lossy
        for batch in RecordReader(self._primary).batches(draft.pairing.primary, list(known)):
            absent = set(batch.asked) - set(batch.unreadable)
            for piece in batch.pieces:
                absent.difference_update(piece.ids)
                changed = list(piece.ids) if whole else _changed_ids(piece, known)
                self._compare_records(draft, piece, changed)
                draft.count_same(len(piece) - len(changed))
            draft.gone.add(i for i in absent if suspect or known[i] != 2 * UNKNOWN_DIGEST)
            self._progress.advance(len(batch.asked))
        return len(known)

    def _compare(self, draft: Draft, ids: list[str], *, absent: bool = False) -> None:
        """Count what must be written so that these records are the same on both sides."""
        for batch in RecordReader(self._primary).batches(draft.pairing.primary, ids):
            for piece in batch.pieces:
                self._compare_records(draft, piece, piece.ids, absent=absent)
            self._progress.advance(len(batch.asked))

    def _compare_records(
        self, draft: Draft, wanted: Records, ids: Container[str], *, absent: bool = False
    ) -> None:
        """Compare those of the primary's records that are in `ids` with the replica's."""
        chosen = set(ids)
        if not chosen:
            return
        differ = Differ(effective(draft.pairing.primary).space)
        sendable, _ = carried(wanted, self._replica.capabilities())
        asked = [] if absent else [i for i in wanted.ids if i in chosen]
        present = self._present(draft.pairing.replica, asked)
        for row, record_id in enumerate(wanted.ids):
            if record_id in chosen:
                difference = _difference(differ, sendable, row, present.get(record_id))
                draft.planned = _counted(draft.planned, sendable, row, difference)

    def _present(
        self, replica: Collection | None, ids: list[str]
    ) -> Mapping[str, tuple[Records, int]]:
        if replica is None or not ids:
            return {}
        batch = RecordReader(self._replica).read(replica, ids)
        return {i: (piece, row) for piece in batch.pieces for row, i in enumerate(piece.ids)}


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), BATCH_IDS):
        yield ids[start : start + BATCH_IDS]


def _is_known(chunk: Chunk, row: int) -> bool:
    return at(chunk.payload_digests, row) != UNKNOWN_DIGEST


def _changed_ids(records: Records, known: Mapping[str, bytes]) -> list[str]:
    embedding, payload = embedding_digests(records), payload_digests(records)
    return [
        record_id
        for row, record_id in enumerate(records.ids)
        if at(embedding, row) + at(payload, row) != known.get(record_id)
    ]


def _difference(
    differ: Differ, wanted: Records, row: int, present: tuple[Records, int] | None
) -> Difference:
    if present is None:
        return Whole.INSERT
    return differ.difference(wanted, row, *present)


def _counted(
    planned: PlannedCollection, wanted: Records, row: int, difference: Difference
) -> PlannedCollection:
    """The plan with one more record in it."""
    match difference:
        case None:
            return replace(planned, same=planned.same + 1)
        case Whole.INSERT:
            size = _sent_bytes(wanted, row)
            return replace(planned, create=planned.create + 1, bytes=planned.bytes + size)
        case Whole.REPLACE | Whole.REBUILD:
            size = _sent_bytes(wanted, row)
        case _:
            floats = 0 if difference.embedding is None else difference.embedding.size
            rest = [difference.id, difference.document, difference.metadata, difference.uri]
            size = int(floats * BYTES_PER_FLOAT_SENT) + _json_bytes(rest)
    return replace(planned, update=planned.update + 1, bytes=planned.bytes + size)


def _sent_bytes(records: Records, row: int) -> int:
    floats = 0 if records.embeddings is None else records.embeddings.shape[1]
    rest = [records.ids[row], records.documents[row], records.metadatas[row], records.uris[row]]
    return int(floats * BYTES_PER_FLOAT_SENT) + _json_bytes(rest)


def _json_bytes(values: Iterable[object]) -> int:
    return sum(len(orjson.dumps(value)) + 1 for value in values if value is not None)

"""The plan: what a cycle would do, told without writing to a server or to the store.

It takes the same decisions as a cycle (pairing, walk, digests, guards) and stops before each write.
Records of chunks that a cycle would compare on both sides are compared here too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import orjson

from chromasync.config import Settings
from chromasync.cycle.census import pages
from chromasync.cycle.collections import why_incompatible
from chromasync.cycle.listing import list_primary, list_replica
from chromasync.cycle.pairing import Match, Pairing, Pairings, final_name, pair_collections
from chromasync.definition import configuration_change, creatable, effective
from chromasync.guard import judge_deletes, judge_drop, refuse_same_server, refuse_swapped
from chromasync.ledger.digest import at, embedding_digests, payload_digests
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from chromasync.model import ChunkHead, Collection, Mirror, Records
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.reconcile.diff import Differ, Difference, Whole, metadata_delta
from chromasync.reconcile.read import RecordReader
from chromasync.reports import PlannedAction, PlannedCollection, PlanReport

BATCH_IDS = 1_000
BYTES_PER_FLOAT_SENT = 16 / 3
"""A float32 in base64."""

ASSUMED_WRITES_PER_SECOND = 900.0
"""Until cycles have measured this replica."""


class Preview:
    """Makes plans; reads servers and store, writes nothing."""

    def __init__(self, primary: Reader, replica: Writer, store: Store, settings: Settings) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings

    def make(self, progress: Progress) -> PlanReport:
        """What a cycle would create, update and delete.

        Raises:
            GuardRefusal: a cycle would refuse to run.
            ServerError, StoreError: a side or the store could not be read.
        """
        pairings, known = self._match()
        progress.start("planning", None)
        planned = [self._plan(pairing, progress) for pairing in pairings.pairings]
        empty = not any(p.create or p.update or p.same for p in planned)
        planned = [self._guarded(p, primary_empty=empty) for p in planned]
        planned += [self._vanished(m, pairings, known) for m in pairings.vanished]
        planned += [self._surplus(c) for c in pairings.surplus]
        writes = sum(p.create + p.update + p.delete for p in planned if not p.held)
        rates = self._store.records_per_second() or {}
        rate = rates.get("write") or ASSUMED_WRITES_PER_SECOND
        return PlanReport(
            collections=tuple(planned),
            expected_seconds=writes / rate,
            bytes=sum(p.bytes for p in planned),
        )

    def _match(self) -> tuple[Pairings, int]:
        primary = list_primary(self._primary, self._settings)
        replica = list_replica(self._replica, self._settings, primary)
        mirrors = self._store.mirrors()
        known_ids = {m.replica_id for m in mirrors if m.replica_id}
        refuse_swapped(primary.collections.keys(), known_ids, self._settings.primary_url)
        refuse_same_server(primary.collections.keys(), replica.collections.keys())
        check = partial(why_incompatible, server=self._replica.capabilities())
        wants = self._settings.wants_collection
        return pair_collections(primary, replica, mirrors, wants, check), len(mirrors)

    # ---- one collection ---------------------------------------------------------------------

    def _plan(self, pairing: Pairing, progress: Progress) -> PlannedCollection:
        collection = pairing.primary
        planned = PlannedCollection(
            collection.tenant, collection.database, collection.name, self._action(pairing)
        )
        if pairing.lost:
            planned = replace(planned, reason=pairing.lost)
        heads = [] if pairing.lost else self._store.chunk_heads(pairing.mirror.collection_id)
        fresh = self._new_ids(collection, heads)
        if pairing.replica is None:
            fresh = self._all_ids(collection)
            heads = []
        for ids in fresh:
            planned = self._compare(planned, pairing, ids, progress)
        for head in heads:
            planned = self._compare_chunk(planned, pairing, head, progress)
        return planned

    def _action(self, pairing: Pairing) -> PlannedAction:
        if pairing.match is Match.CREATE:
            beside = pairing.create_name != pairing.primary.name
            return PlannedAction.REPLACE if beside else PlannedAction.CREATE
        if pairing.match is Match.ADOPT:
            return PlannedAction.ADOPT
        replica = pairing.replica
        if replica is None or replica.name != pairing.primary.name:
            return PlannedAction.RENAME
        server = self._replica.capabilities()
        wanted, _ = creatable(pairing.primary, server)
        delta = metadata_delta(dict(wanted.metadata), dict(replica.metadata))
        changed = delta is not None or configuration_change(pairing.primary, replica, server)
        return PlannedAction.MODIFY if changed else PlannedAction.NONE

    def _new_ids(self, collection: Collection, heads: list[ChunkHead]) -> list[list[str]]:
        count = self._primary.count(collection)
        walk: Walk = MergeWalk(pages(self._primary, collection, count), heads, self._load_ids)
        try:
            lists = [self._unmoved(ids, walk) for ids in walk.new_ids()]
        except Disordered:
            walk = SetWalk(pages(self._primary, collection, count), heads, self._load_ids)
            lists = list(walk.new_ids())
        return [part for ids in lists for part in _parts(ids)]

    @staticmethod
    def _unmoved(ids: list[str], walk: Walk) -> list[str]:
        return [i for i in ids if i not in walk.moved]

    def _all_ids(self, collection: Collection) -> list[list[str]]:
        count = self._primary.count(collection)
        return [p for page in pages(self._primary, collection, count) for p in _parts(page)]

    def _load_ids(self, chunk_id: int) -> list[str]:
        chunk = self._store.load_chunk(chunk_id)
        return [] if chunk is None else chunk.ids

    # ---- contents ---------------------------------------------------------------------------

    def _compare_chunk(
        self, planned: PlannedCollection, pairing: Pairing, head: ChunkHead, progress: Progress
    ) -> PlannedCollection:
        chunk = self._store.load_chunk(head.id)
        if chunk is None:
            return planned
        if head.suspect:
            return self._compare(planned, pairing, chunk.ids, progress)
        known = {
            i: at(chunk.embedding_digests, row) + at(chunk.payload_digests, row)
            for row, i in enumerate(chunk.ids)
        }
        changed: list[str] = []
        seen = 0
        for batch in RecordReader(self._primary).batches(pairing.primary, chunk.ids):
            for piece in batch.pieces:
                seen += len(piece)
                changed += _changed_ids(piece, known)
            seen += len(batch.unreadable)
        progress.advance(len(chunk.ids))
        planned = replace(
            planned,
            delete=planned.delete + len(chunk.ids) - seen,
            same=planned.same + seen - len(changed),
        )
        return self._compare(planned, pairing, changed, progress) if changed else planned

    def _compare(
        self, planned: PlannedCollection, pairing: Pairing, ids: list[str], progress: Progress
    ) -> PlannedCollection:
        """Count what must be written so that these records are the same on both sides."""
        differ = Differ(effective(pairing.primary).space)
        for batch in RecordReader(self._primary).batches(pairing.primary, ids):
            present = self._present(pairing.replica, batch.asked)
            for piece in batch.pieces:
                for row, record_id in enumerate(piece.ids):
                    planned = _counted(
                        planned, piece, row, _difference(differ, piece, row, present.get(record_id))
                    )
            progress.advance(len(batch.asked))
        return planned

    def _present(
        self, replica: Collection | None, ids: list[str]
    ) -> dict[str, tuple[Records, int]]:
        if replica is None:
            return {}
        batch = RecordReader(self._replica).read(replica, ids)
        return {i: (piece, row) for piece in batch.pieces for row, i in enumerate(piece.ids)}

    # ---- guards -----------------------------------------------------------------------------

    def _guarded(self, planned: PlannedCollection, *, primary_empty: bool) -> PlannedCollection:
        total = planned.same + planned.update + planned.delete
        reason = planned.delete and judge_deletes(
            planned.delete, total, self._settings.sync_max_delete, primary_empty=primary_empty
        )
        return replace(planned, held=True, reason=reason) if reason else planned

    def _vanished(self, mirror: Mirror, pairings: Pairings, known: int) -> PlannedCollection:
        reason = judge_drop(
            mirror.missing_cycles + 1,
            len(pairings.vanished),
            known,
            primary_empty=not pairings.pairings,
        )
        return PlannedCollection(
            mirror.tenant,
            mirror.database,
            mirror.name,
            PlannedAction.HOLD if reason else PlannedAction.DROP,
            delete=mirror.replica_count,
            held=reason is not None,
            reason=reason or "it vanished from the primary",
        )

    def _surplus(self, collection: Collection) -> PlannedCollection:
        return PlannedCollection(
            collection.tenant,
            collection.database,
            final_name(collection),
            PlannedAction.HOLD,
            delete=self._replica.count(collection),
            held=True,
            reason="the primary never had it",
        )


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), BATCH_IDS):
        yield ids[start : start + BATCH_IDS]


def _changed_ids(records: Records, known: dict[str, bytes]) -> list[str]:
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
        case Whole.REPLACE:
            size = _sent_bytes(wanted, row)
        case _:
            floats = 0 if difference.embedding is None else difference.embedding.size
            rest = [difference.id, difference.document, difference.metadata, difference.uri]
            size = int(floats * BYTES_PER_FLOAT_SENT) + len(orjson.dumps(rest))
    return replace(planned, update=planned.update + 1, bytes=planned.bytes + size)


def _sent_bytes(records: Records, row: int) -> int:
    floats = 0 if records.embeddings is None else records.embeddings.shape[1]
    rest = [records.ids[row], records.documents[row], records.metadatas[row], records.uris[row]]
    return int(floats * BYTES_PER_FLOAT_SENT) + len(orjson.dumps(rest))

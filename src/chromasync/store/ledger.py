"""The ledger's part of the store: mirrors, chunks, deletions, quarantine (`ports.Ledger`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from sqlalchemy import Connection, Table, bindparam, delete, func, select, update

from chromasync.ledger.plan import without_ids
from chromasync.model import (
    Chunk,
    ChunkHead,
    Cycle,
    Deletion,
    DeletionKind,
    MarkRow,
    Mirror,
    Quarantined,
    Task,
    TaskInput,
    mark_place,
)
from chromasync.store import chunkrows
from chromasync.store.core import PLANNING, Backend, Core
from chromasync.store.retry import retried
from chromasync.store.rows import HEAD, MARK, MIRROR, PRIMARY, QUARANTINED
from chromasync.store.schema import (
    LIVE,
    deletions,
    holds,
    quarantine,
    tasks,
)
from chromasync.store.schema_ledger import (
    SAME_COLLECTION,
    applied_digests,
    chunk_ids,
    chunks,
    mirrors,
    primary_collections,
    replica_chunks,
)
from chromasync.store.schema_retry_charges import retry_charges
from chromasync.store.schema_servers import marks

_HEADS = chunkrows.HEADS.where(chunks.c.collection_id == bindparam("collection_id"))
_HEADS = _HEADS.order_by(chunks.c.id)
_HEADS_OF = chunkrows.HEADS.where(
    chunks.c.collection_id.in_(bindparam("collection_ids", expanding=True))
).order_by(chunks.c.id)
_DELETIONS = (
    select(*chunkrows.DELETION_COLUMNS, deletions.c.ids)
    .where(deletions.c.collection_id == bindparam("collection_id"))
    .order_by(deletions.c.id)
)
_MARK = select(*MARK.columns).where(marks.c.place == bindparam("place"))
_ANY_MIRROR = select(*MIRROR.columns).join_from(primary_collections, mirrors, SAME_COLLECTION)
_MIRROR = _ANY_MIRROR.where(primary_collections.c.collection_id == bindparam("collection_id"))
_MIRRORS = _ANY_MIRROR.order_by(
    primary_collections.c.tenant,
    primary_collections.c.database_name,
    primary_collections.c.collection_name,
    primary_collections.c.collection_id,
)
_NEWEST_CHUNK = select(func.coalesce(func.max(chunks.c.id), 0))
# Chunks that a call added whose answer was lost; only the leader adds chunks.
_ADDED = select(chunks.c.id).where(chunks.c.id > bindparam("newest_id")).order_by(chunks.c.id)
# For a task that is held, `lease_expires_at` is the instant until which its holder may write.
_END_LIVE = (
    delete(tasks)
    .where(tasks.c.collection_id.in_(bindparam("collection_ids", expanding=True)), LIVE)
    .returning(tasks.c.chunk_id, tasks.c.lease_expires_at)
)

_QUARANTINED = select(*QUARANTINED.columns).order_by(
    quarantine.c.collection_id, quarantine.c.since_at, quarantine.c.record_id
)
_QUARANTINED_OF_ONE = _QUARANTINED.where(quarantine.c.collection_id == bindparam("collection_id"))


class LedgerPart(Core):
    """`ports.Ledger` in the database; a led view writes only while its term holds."""

    @retried
    def mirrors(self) -> list[Mirror]:
        """All mirrors, by tenant, database and name."""
        with self._reading() as tx:
            return mirrors_in(tx)

    @retried
    def mirror(self, collection_id: str) -> Mirror | None:
        """The mirror of a collection, or None."""
        with self._reading() as tx:
            return _mirror(tx, collection_id)

    @retried
    def save_mirror(self, mirror: Mirror) -> None:
        """Insert the mirror, or replace the one of the same collection id."""
        with self._leading() as tx:
            put_mirrors(tx, self._backend, [mirror])

    @retried
    def save_mirrors(self, mirrors: Sequence[Mirror]) -> None:
        """Insert or replace several mirrors, all or none, with their primary collections."""
        if not mirrors:
            return
        with self._leading() as tx:
            put_mirrors(tx, self._backend, mirrors)

    @retried
    def forget_mirror(self, collection_id: str) -> None:
        """Remove a mirror with all that belongs to it; finished tasks stay as history."""
        with self._leading() as tx:
            _forget_chunks(tx, collection_id)
            for table in (holds, mirrors, primary_collections):
                _delete_of(tx, table, collection_id)

    @retried
    def forget_chunks(self, collection_id: str) -> None:
        """Remove the ledger of a collection, so that it is adopted again.

        Its chunks, deletions, quarantine and live tasks are deleted. The mirror and its holds stay.
        """
        with self._leading() as tx:
            _forget_chunks(tx, collection_id)

    @retried
    def move_ledger(self, old_id: str, new_id: str) -> None:
        """Move the ledger of one primary collection to another one that has the same records.

        The old mirror, its holds, and the live tasks of both are deleted. The new mirror must be
        stored already; its own ledger is deleted. All chunks become suspect, so that they are
        compared on both sides. A repeat finds no old ledger, and changes nothing.
        """
        with self._leading() as tx:
            # the tasks of both first: completions and rescues lock in this order, too
            ended = tx.execute(_END_LIVE, {"collection_ids": [old_id, new_id]}).all()
            if not _is_known(tx, old_id):
                return
            _forget_chunks(tx, new_id)
            for table in (chunks, deletions, quarantine):
                moving = update(table).where(table.c.collection_id == old_id)
                tx.execute(moving.values(collection_id=new_id))
            chunkrows.distrust_all(tx, new_id)
            for chunk_id, held_until in ended:
                if held_until is not None:
                    chunkrows.distrust(tx, [chunk_id], in_hand=True)
                    chunkrows.distrust_until(tx, chunk_id, held_until)
            for table in (holds, mirrors, primary_collections):
                _delete_of(tx, table, old_id)

    @retried
    def chunk_heads(self, collection_id: str) -> list[ChunkHead]:
        """The heads of a collection's chunks in the ledger's order."""
        with self._reading() as tx:
            return [HEAD.build(row) for row in tx.execute(_HEADS, {"collection_id": collection_id})]

    @retried
    def heads_of(self, collection_ids: Collection[str]) -> dict[str, list[ChunkHead]]:
        """The heads of several collections' chunks; an empty list for one without chunks."""
        found: dict[str, list[ChunkHead]] = {key: [] for key in collection_ids}
        with self._reading() as tx:
            for some in chunkrows.in_parts(sorted(found)):
                for row in tx.execute(_HEADS_OF, {"collection_ids": some}):
                    head = HEAD.build(row)
                    found[head.collection_id].append(head)
        return found

    @retried
    def load_chunk(self, chunk_id: int) -> Chunk | None:
        """The chunk with its content, or None.

        Raises:
            DamagedChunk: its content cannot be read; `forget_chunks` removes it.
        """
        with self._reading() as tx:
            return chunkrows.load(tx, chunk_id)

    @retried
    def load_chunks(self, chunk_ids: Sequence[int]) -> list[Chunk]:
        """The chunks that exist and can be read, from one snapshot; the others are left out."""
        with self._reading() as tx:
            return list(chunkrows.load_sound(tx, chunk_ids))

    @retried
    def note_read(self, cycle: Cycle, heads: Sequence[ChunkHead]) -> None:
        """Note that these chunks were read in a cycle and were unchanged.

        A chunk that changed, or was distrusted, since it was loaded stays as it is.
        """
        with self._leading() as tx:
            chunkrows.note_read(tx, cycle, heads)

    @retried
    def task_input(self, task: Task) -> TaskInput:
        """The ledger's facts about a task's chunk and collection, from one snapshot.

        Raises:
            DamagedChunk: the chunk's content cannot be read; `forget_chunks` removes it.
        """
        with self._reading() as tx:
            mirror = _mirror(tx, task.collection_id)
            return TaskInput(
                chunkrows.load(tx, task.chunk_id),
                mirror,
                quarantined_in(tx, task.collection_id),
                None if mirror is None else _mark(tx, mark_place(mirror.tenant, mirror.database)),
            )

    def save_chunks(self, chunks: Sequence[Chunk]) -> list[int]:
        """Store chunks, all or none, and return the ids of the new ones in order.

        A chunk whose head has id 0 is new. A chunk without records is removed from the ledger. Any
        other chunk replaces the stored one of its id, unless that was forgotten meanwhile.
        """
        if not chunks:
            return []
        contents = [chunkrows.content_of(chunk) for chunk in chunks]
        return self._save_chunks_after(self._newest_chunk(), chunks, contents)

    @retried
    def _newest_chunk(self) -> int:
        with self._reading() as tx:
            return int(tx.execute(_NEWEST_CHUNK).scalar_one())

    @retried
    def _save_chunks_after(
        self, newest_id: int, chunks: Sequence[Chunk], contents: Sequence[chunkrows.Content]
    ) -> list[int]:
        with self._leading() as tx:
            tx.execute(PLANNING).all()
            # the whole call is one transaction: if one of its chunks is stored, all are
            there = list(tx.scalars(_ADDED, {"newest_id": newest_id}))
            return there or chunkrows.save(tx, chunks, contents)

    @retried
    def distrust(
        self,
        collection_id: str,
        chunk_ids: Collection[int] | None = None,
        *,
        in_hand: bool = False,
    ) -> None:
        """Mark chunks (all of the collection when none are named) as suspect.

        `in_hand`: a worker of ours was cut off while it had them.
        """
        with self._leading() as tx:
            if chunk_ids is None:
                chunkrows.distrust_all(tx, collection_id, in_hand=in_hand)
            else:
                chunkrows.distrust(tx, chunk_ids, in_hand=in_hand)

    @retried
    def deletions(self, collection_id: str) -> list[Deletion]:
        """The collection's waiting deletions, oldest first.

        Raises:
            DamagedChunk: the ids of one cannot be read.
        """
        with self._reading() as tx:
            rows = tx.execute(_DELETIONS, {"collection_id": collection_id})
            return [chunkrows.build_deletion(row) for row in rows]

    @retried
    def waiting_deletions(self) -> set[str]:
        """The collections that have waiting deletions."""
        with self._reading() as tx:
            return set(tx.execute(select(deletions.c.collection_id).distinct()).scalars())

    @retried
    def replace_surplus(self, collection_id: str, batches: Sequence[Sequence[str]]) -> None:
        """Replace the collection's surplus deletions by one deletion for each of `batches`."""
        former = delete(deletions).where(
            deletions.c.collection_id == collection_id, deletions.c.kind == DeletionKind.SURPLUS
        )
        with self._leading() as tx:
            tx.execute(former)
            chunkrows.add_deletions(tx, DeletionKind.SURPLUS, collection_id, batches, None)

    @retried
    def finish_deletion(self, deletion: Deletion, kept: Sequence[str]) -> None:
        """Record that a deletion is done, except for `kept`, which the primary still has.

        The deleted records leave their chunk and the quarantine. If the deletion is no longer
        stored (a repeat, or replaced by a newer one), this changes nothing.

        Raises:
            DamagedChunk: its chunk cannot be read.
        """
        deleted = set(deletion.ids).difference(kept)
        with self._leading() as tx:
            # the chunk is locked first, as a completion does
            chunk = chunkrows.load(tx, deletion.chunk_id or 0, lock=True)
            if not tx.execute(delete(deletions).where(deletions.c.id == deletion.id)).rowcount:
                return
            chunkrows.release(tx, deletion.collection_id, deleted)
            if chunk is not None:
                _shrink(tx, chunk, deleted)

    @retried
    def quarantined(self, collection_id: str | None = None) -> list[Quarantined]:
        """Quarantined records of one collection or all, by collection and age."""
        with self._reading() as tx:
            return quarantined_in(tx, collection_id)


def mirrors_in(tx: Connection) -> list[Mirror]:
    """Like `mirrors`, in the caller's transaction."""
    return [MIRROR.build(row) for row in tx.execute(_MIRRORS)]


def quarantined_in(tx: Connection, collection_id: str | None = None) -> list[Quarantined]:
    """Like `quarantined`, in the caller's transaction."""
    if collection_id is None:
        found = tx.execute(_QUARANTINED)
    else:
        found = tx.execute(_QUARANTINED_OF_ONE, {"collection_id": collection_id})
    return [QUARANTINED.build(row) for row in found]


def put_mirrors(tx: Connection, backend: Backend, saved: Sequence[Mirror]) -> None:
    """Store mirrors, both sides of each, in the caller's transaction."""
    keys = [{"collection_id": mirror.collection_id} for mirror in saved]
    sides = {
        primary_collections: [PRIMARY.values(mirror.primary) for mirror in saved],
        mirrors: [key | MIRROR.values(mirror) for key, mirror in zip(keys, saved, strict=True)],
    }
    for table, rows in sides.items():
        new = backend.insert(table)
        there = {name: new.excluded[name] for name in rows[0] if not table.c[name].primary_key}
        tx.execute(new.on_conflict_do_update(index_elements=table.primary_key, set_=there), rows)


def _mirror(tx: Connection, collection_id: str) -> Mirror | None:
    row = tx.execute(_MIRROR, {"collection_id": collection_id}).first()
    return None if row is None else MIRROR.build(row)


def _mark(tx: Connection, place: str) -> MarkRow | None:
    row = tx.execute(_MARK, {"place": place}).first()
    return None if row is None else MARK.build(row)


def _shrink(tx: Connection, chunk: Chunk, leaving: set[str]) -> None:
    smaller = without_ids(chunk, leaving)
    if not smaller.ids:
        chunkrows.remove(tx, chunk.head.id)
        return
    smaller = replace(smaller, head=smaller.head.with_replica(gone_count=0))
    chunkrows.replace(tx, smaller, chunkrows.content_of(smaller))


def _is_known(tx: Connection, collection_id: str) -> bool:
    known = select(chunks.c.id).where(chunks.c.collection_id == collection_id).limit(1)
    mirrored = tx.execute(_MIRROR, {"collection_id": collection_id}).first()
    return mirrored is not None or tx.execute(known).first() is not None


def _forget_chunks(tx: Connection, collection_id: str) -> None:
    # tasks first, and heads before all else: a completion locks in this order, too
    tx.execute(delete(tasks).where(tasks.c.collection_id == collection_id, LIVE))
    its_chunks = select(chunks.c.id).where(chunks.c.collection_id == collection_id)
    tx.execute(its_chunks.with_for_update()).all()
    for table in (replica_chunks, chunk_ids, applied_digests, retry_charges):
        tx.execute(delete(table).where(table.c.chunk_id.in_(its_chunks)))
    for table in (chunks, deletions, quarantine):
        _delete_of(tx, table, collection_id)


def _delete_of(tx: Connection, table: Table, collection_id: str) -> None:
    tx.execute(delete(table).where(table.c.collection_id == collection_id))

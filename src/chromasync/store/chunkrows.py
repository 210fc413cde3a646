"""Statements for chunks, deletions and quarantine, in the caller's transaction.

Both the ledger (planning) and the queue (completion) write chunks, with the functions here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from chromasync.errors import DamagedChunk
from chromasync.model import Chunk, ChunkHead, ChunkResult, Cycle, Deletion, DeletionKind
from chromasync.store.core import Backend
from chromasync.store.idlists import pack_ids, unpack_ids
from chromasync.store.rows import HEAD, build_chunk, damaged
from chromasync.store.schema import Instant, Now, chunk_contents, chunks, deletions, quarantine
from chromasync.store.schema_retry_charges import retry_charges

_MOST_PARAMETERS = 500

_HEAD_BY_ID = select(*HEAD.columns).where(chunks.c.id == bindparam("chunk_id"))
_LOCKED_HEAD_BY_ID = _HEAD_BY_ID.with_for_update()
_CONTENT_BY_ID = select(
    chunk_contents.c.ids,
    chunk_contents.c.embedding_digests,
    chunk_contents.c.payload_digests,
    chunk_contents.c.replica_digests,
).where(chunk_contents.c.chunk_id == bindparam("b_chunk_id"))
_HEADS_BY_ID = select(*HEAD.columns).where(chunks.c.id.in_(bindparam("chunk_ids", expanding=True)))
_CONTENTS_BY_ID = select(
    chunk_contents.c.chunk_id,
    chunk_contents.c.ids,
    chunk_contents.c.embedding_digests,
    chunk_contents.c.payload_digests,
    chunk_contents.c.replica_digests,
).where(chunk_contents.c.chunk_id.in_(bindparam("chunk_ids", expanding=True)))
_ANY_QUARANTINED = (
    select(quarantine.c.collection_id).where(quarantine.c.collection_id == chunks.c.collection_id)
).exists()
_STORED = (
    select(
        chunks.c.ids_digest,
        chunks.c.distrusted_at,
        chunks.c.in_hand,
        _ANY_QUARANTINED.label("quarantined"),
    )
    .where(chunks.c.id == bindparam("chunk_id"))
    .with_for_update(of=chunks)
)
_INSERT_HEAD = insert(chunks).returning(chunks.c.id)
_INSERT_CONTENT = insert(chunk_contents)
_UPDATE_HEAD = update(chunks).where(chunks.c.id == bindparam("chunk_id"))
_NOTE_READ = _UPDATE_HEAD.where(
    chunks.c.ids_digest == bindparam("b_ids_digest"),
    chunks.c.suspect.is_(False),
    chunks.c.recheck.is_(False),
)
# The planner loaded the chunk a while ago. It must not undo a distrust that came since then.
_REPLACE_HEAD = _UPDATE_HEAD.values(
    suspect=or_(chunks.c.suspect, bindparam("b_suspect")),
    in_hand=or_(chunks.c.in_hand, bindparam("b_in_hand")),
)
_UPDATE_CONTENT = update(chunk_contents).where(chunk_contents.c.chunk_id == bindparam("b_chunk_id"))
_UPDATE_DIGESTS = _UPDATE_CONTENT.where(
    or_(
        chunk_contents.c.embedding_digests != bindparam("b_embeddings"),
        chunk_contents.c.payload_digests != bindparam("b_payloads"),
        chunk_contents.c.replica_digests.is_distinct_from(bindparam("b_replicas")),
    )
).values(
    embedding_digests=bindparam("b_embeddings"),
    payload_digests=bindparam("b_payloads"),
    replica_digests=bindparam("b_replicas"),
)
_DELETE_HEAD = delete(chunks).where(chunks.c.id == bindparam("chunk_id"))
_DELETE_CONTENT = delete(chunk_contents).where(chunk_contents.c.chunk_id == bindparam("b_chunk_id"))
_DELETE_CHARGES = delete(retry_charges).where(retry_charges.c.chunk_id == bindparam("b_chunk_id"))


def distrusted_until(instant: ColumnElement[datetime]) -> dict[str, Any]:
    """The columns that distrust sets: suspect, and the later of the old and the new instant."""
    later = case((chunks.c.distrusted_at > instant, chunks.c.distrusted_at), else_=instant)
    return {"suspect": True, "distrusted_at": later}


_DISTRUST = (
    update(chunks)
    .where(chunks.c.id.in_(bindparam("chunk_ids", expanding=True)))
    .values(distrusted_until(Now()))
)
_CUT_OFF = _DISTRUST.values(in_hand=True)
_DISTRUST_ALL = (
    update(chunks)
    .where(chunks.c.collection_id == bindparam("b_collection_id"))
    .values(distrusted_until(Now()))
)
_CUT_OFF_ALL = _DISTRUST_ALL.values(in_hand=True)
_DISTRUST_UNTIL = _UPDATE_HEAD.values(distrusted_until(bindparam("until", type_=Instant())))
_DISTRUSTED = select(
    chunks.c.id,
    chunks.c.suspect,
    chunks.c.in_hand,
    chunks.c.distrusted_at,
    (chunks.c.distrusted_at > Now()).label("lasting"),
).where(chunks.c.collection_id == bindparam("collection_id"), chunks.c.distrusted_at.is_not(None))
_INHERIT = _UPDATE_HEAD.values(
    distrusted_until(bindparam("until", type_=Instant()))
    | {
        "suspect": or_(chunks.c.suspect, bindparam("b_suspect")),
        "in_hand": or_(chunks.c.in_hand, bindparam("b_in_hand")),
    }
)
_DELETE_OF_CHUNK = delete(deletions).where(deletions.c.chunk_id == bindparam("b_chunk_id"))
_IDS_OF_CHUNK = select(deletions.c.kind, deletions.c.ids).where(
    deletions.c.chunk_id == bindparam("chunk_id")
)
_DELETE_FOREIGN = _DELETE_OF_CHUNK.where(deletions.c.kind == DeletionKind.FOREIGN)
_QUARANTINED_IDS = select(quarantine.c.record_id).where(
    quarantine.c.collection_id == bindparam("collection_id")
)
_SET_ASIDE_AGAIN = update(quarantine).where(
    quarantine.c.collection_id == bindparam("b_collection_id"),
    quarantine.c.record_id == bindparam("b_record_id"),
)
_RELEASE = delete(quarantine).where(
    quarantine.c.collection_id == bindparam("b_collection_id"),
    quarantine.c.record_id.in_(bindparam("record_ids", expanding=True)),
)
DELETION_COLUMNS = [deletions.c[name] for name in ("id", "collection_id", "kind", "chunk_id")]


def load(tx: Connection, chunk_id: int, *, lock: bool = False) -> Chunk | None:
    """The chunk, or None when the ledger has no such chunk; raises DamagedChunk.

    With `lock` it locks the head before it reads the content. Every writer of a chunk does so.
    So the content that is read belongs to the head.
    """
    by_id = _LOCKED_HEAD_BY_ID if lock else _HEAD_BY_ID
    head = tx.execute(by_id, {"chunk_id": chunk_id}).first()
    if head is None:
        return None
    content = tx.execute(_CONTENT_BY_ID, {"b_chunk_id": chunk_id}).first()
    return build_chunk(HEAD.build(head), content)


def load_sound(tx: Connection, chunk_ids: Sequence[int]) -> Iterator[Chunk]:
    """The chunks that exist and whose content can be read; the others are left out."""
    for some in in_parts(chunk_ids):
        heads = [HEAD.build(row) for row in tx.execute(_HEADS_BY_ID, {"chunk_ids": some})]
        rows = tx.execute(_CONTENTS_BY_ID, {"chunk_ids": some})
        contents = {row.chunk_id: tuple(row)[1:] for row in rows}
        for head in heads:
            with suppress(DamagedChunk):  # `load` raises it for the worker of the chunk
                yield build_chunk(head, contents.get(head.id))


def note_read(tx: Connection, cycle: Cycle, heads: Sequence[ChunkHead]) -> None:
    """Note that chunks were read in a cycle; skips chunks that differ from these heads."""
    rows = [{"chunk_id": head.id, "b_ids_digest": head.ids_digest} for head in heads]
    if rows:
        read = _NOTE_READ.values(read_at=cycle.started_at, read_cycle=cycle.id)
        tx.execute(read, rows)


def content_of(chunk: Chunk) -> dict[str, Any]:
    """The content row of a chunk; call it before a transaction, because compressing takes time."""
    return {
        "ids": pack_ids(chunk.ids),
        "embedding_digests": chunk.embedding_digests,
        "payload_digests": chunk.payload_digests,
        "replica_digests": chunk.replica_digests,
    }


def save(tx: Connection, saved: Sequence[Chunk], contents: Sequence[dict[str, Any]]) -> list[int]:
    """Add, replace or remove chunks, and return the ids of the new ones in order.

    The records of a chunk may come from another chunk to which a worker may still write, perhaps by
    way of a chunk that was removed since. So every chunk that is stored is distrusted until the
    latest instant until which any chunk of its collection is distrusted.
    """
    # before `remove`, which deletes the instants of its chunk
    doubts = _inherited_distrust(tx, saved)
    added = []
    for chunk, content in zip(saved, contents, strict=True):
        chunk_id = chunk.head.id
        if not chunk.ids:
            remove(tx, chunk_id)
            continue
        if chunk_id == 0:
            chunk_id = add(tx, chunk, content)
            added.append(chunk_id)
        else:
            replace(tx, chunk, content)
        for doubt in doubts.get(chunk.head.collection_id, ()):
            tx.execute(_INHERIT, {"chunk_id": chunk_id, **doubt})
    return added


def _inherited_distrust(tx: Connection, saved: Sequence[Chunk]) -> dict[str, list[dict[str, Any]]]:
    """The distrust that the chunks of a collection inherit: an instant, and two flags.

    The planner gives the flags of a chunk to the chunks that receive its records. If a chunk became
    suspect or in hand after the planner loaded it, those chunks do not know it yet: they are
    marked here.
    """
    unaware = {chunk.head.id for chunk in saved if not chunk.head.suspect}
    unheld = {chunk.head.id for chunk in saved if not chunk.head.in_hand}
    doubts = {}
    for collection_id in sorted({chunk.head.collection_id for chunk in saved}):
        rows = tx.execute(_DISTRUSTED, {"collection_id": collection_id}).all()
        suspect = any(row.suspect and row.id in unaware for row in rows)
        in_hand = any(row.in_hand and (row.lasting or row.id in unheld) for row in rows)
        if suspect or in_hand or any(row.lasting for row in rows):
            until = max(row.distrusted_at for row in rows)
            doubts[collection_id] = [{"until": until, "b_suspect": suspect, "b_in_hand": in_hand}]
    return doubts


def add(tx: Connection, chunk: Chunk, content: dict[str, Any]) -> int:
    """Store a new chunk and return its id."""
    head = HEAD.values(chunk.head)
    del head["id"]
    chunk_id = int(tx.execute(_INSERT_HEAD, head).scalar_one())
    tx.execute(_INSERT_CONTENT, {"chunk_id": chunk_id, **content})
    return chunk_id


def replace(tx: Connection, chunk: Chunk, content: dict[str, Any]) -> None:
    """Replace a stored chunk; a chunk that was forgotten meanwhile stays forgotten."""
    head = _head_of(chunk)
    head["b_suspect"], head["b_in_hand"] = head.pop("suspect"), head.pop("in_hand")
    if tx.execute(_REPLACE_HEAD, head).rowcount:
        tx.execute(_UPDATE_CONTENT, {"b_chunk_id": chunk.head.id, **content})


def remove(tx: Connection, chunk_id: int) -> None:
    """Remove a chunk from the ledger, with its retries and its list of foreign records.

    The chunk that has these records next finds the foreign ones again. Waiting deletions stay.
    """
    tx.execute(_DELETE_HEAD, {"chunk_id": chunk_id})
    tx.execute(_DELETE_CONTENT, {"b_chunk_id": chunk_id})
    tx.execute(_DELETE_FOREIGN, {"b_chunk_id": chunk_id})
    tx.execute(_DELETE_CHARGES, {"b_chunk_id": chunk_id})


def distrust(tx: Connection, chunk_ids: Iterable[int], *, in_hand: bool = False) -> None:
    """Mark chunks as suspect: until now, there may have been writes that the ledger does not know.

    `in_hand`: the writer may be one of our workers, which was cut off.
    """
    for some in in_parts(sorted(chunk_ids)):
        tx.execute(_CUT_OFF if in_hand else _DISTRUST, {"chunk_ids": some})


def distrust_all(tx: Connection, collection_id: str, *, in_hand: bool = False) -> None:
    """Mark all chunks of a collection as suspect; see `distrust`."""
    statement = _CUT_OFF_ALL if in_hand else _DISTRUST_ALL
    tx.execute(statement, {"b_collection_id": collection_id})


def distrust_until(tx: Connection, chunk_id: int, instant: datetime) -> None:
    """Mark a chunk as suspect, because a worker may write to it until `instant`."""
    tx.execute(_DISTRUST_UNTIL, {"chunk_id": chunk_id, "until": instant})


def record(tx: Connection, backend: Backend, result: ChunkResult, claimed_at: datetime) -> None:
    """Store the result of a chunk: its row, its deletions, its quarantine.

    A chunk that was distrusted since `claimed_at` stays suspect, even if the result says otherwise:
    the records that the worker saw may have been overwritten since. If the ledger has forgotten the
    chunk meanwhile, nothing is stored.

    Raises:
        DamagedChunk: the chunk was read in part, and its waiting deletions cannot be read.
    """
    chunk = result.chunk
    stored = tx.execute(_STORED, {"chunk_id": chunk.head.id}).first()
    if stored is None:
        return
    distrusted_at = stored.distrusted_at
    distrusted = distrusted_at is not None and distrusted_at >= claimed_at
    same_ids = stored.ids_digest == chunk.head.ids_digest
    former_ids = result.asked
    if former_ids is None:
        former_ids = frozenset(chunk.ids if same_ids else _ids_of(tx, chunk.head.id))
    waiting = _waiting_after(tx, result)
    if not chunk.ids:
        remove(tx, chunk.head.id)
    else:
        doubt = {"suspect": True, "in_hand": stored.in_hand} if distrusted else {}
        changed = {"gone_count": len(waiting[DeletionKind.GONE])} | doubt
        _record_chunk(tx, result, changed, same_ids=same_ids, doubtful=distrusted)
    tx.execute(_DELETE_OF_CHUNK, {"b_chunk_id": chunk.head.id})
    for kind, ids in waiting.items():
        if ids:
            add_deletions(tx, kind, chunk.head.collection_id, [ids], chunk.head.id)
    if stored.quarantined or result.quarantined:
        _record_quarantine(tx, backend, result, former_ids)


def _waiting_after(tx: Connection, result: ChunkResult) -> dict[DeletionKind, list[str]]:
    """The ids of a chunk that wait for deletion: the result's, and older ones outside `asked`.

    Raises:
        DamagedChunk: the ids of a waiting deletion cannot be read.
    """
    head, asked = result.chunk.head, result.asked
    waiting = {DeletionKind.GONE: list(result.gone), DeletionKind.FOREIGN: list(result.foreign)}
    if asked is None:
        return waiting
    for kind, blob in tx.execute(_IDS_OF_CHUNK, {"chunk_id": head.id}).all():
        try:
            waiting[kind] += [record_id for record_id in unpack_ids(blob) if record_id not in asked]
        except ValueError as error:
            raise damaged(head.collection_id, head.id, error) from error
    return waiting


def _ids_of(tx: Connection, chunk_id: int) -> list[str]:
    chunk = load(tx, chunk_id)
    return [] if chunk is None else chunk.ids


def _record_chunk(
    tx: Connection,
    result: ChunkResult,
    changed: dict[str, Any],
    *,
    same_ids: bool,
    doubtful: bool,
) -> None:
    chunk = result.chunk
    head = _head_of(chunk) | changed
    if not doubtful and not chunk.head.suspect:
        head |= {"distrusted_at": None, "in_hand": False}
    tx.execute(_UPDATE_HEAD, head)
    # Most chunks are unchanged, and comparing 32 kB is cheaper than writing them.
    if same_ids:
        digests = {
            "b_embeddings": chunk.embedding_digests,
            "b_payloads": chunk.payload_digests,
            "b_replicas": chunk.replica_digests,
        }
        tx.execute(_UPDATE_DIGESTS, {"b_chunk_id": chunk.head.id, **digests})
    else:
        tx.execute(_UPDATE_CONTENT, {"b_chunk_id": chunk.head.id, **content_of(chunk)})


def _head_of(chunk: Chunk) -> dict[str, Any]:
    head = HEAD.values(chunk.head)
    head["chunk_id"] = head.pop("id")
    return head


def _record_quarantine(
    tx: Connection, backend: Backend, result: ChunkResult, former_ids: Iterable[str]
) -> None:
    """Set aside the records that the result names, and release the chunk's other ones."""
    collection_id = result.chunk.head.collection_id
    known = set(tx.scalars(_QUARANTINED_IDS, {"collection_id": collection_id}))
    now_set_aside = {record.record_id for record in result.quarantined}
    release(tx, collection_id, known.intersection(former_ids) - now_set_aside)
    for record in result.quarantined:
        if record.record_id in known:  # `since_at` stays
            tx.execute(
                _SET_ASIDE_AGAIN,
                {
                    "b_collection_id": collection_id,
                    "b_record_id": record.record_id,
                    "reason": record.reason,
                    "absent": record.absent,
                },
            )
        else:
            new = backend.insert(quarantine).values(
                collection_id=collection_id,
                record_id=record.record_id,
                reason=record.reason,
                absent=record.absent,
                since_at=Now(),
            )
            tx.execute(new.on_conflict_do_nothing())


def release(tx: Connection, collection_id: str, record_ids: Iterable[str]) -> None:
    """Take records out of the quarantine."""
    for some in in_parts(list(record_ids)):
        tx.execute(_RELEASE, {"b_collection_id": collection_id, "record_ids": some})


def add_deletions(
    tx: Connection,
    kind: DeletionKind,
    collection_id: str,
    batches: Sequence[Sequence[str]],
    chunk_id: int | None,
) -> None:
    """Store one deletion per batch of ids."""
    rows = [
        {"collection_id": collection_id, "kind": kind, "chunk_id": chunk_id, "ids": pack_ids(ids)}
        for ids in batches
    ]
    if rows:
        tx.execute(insert(deletions), rows)


def build_deletion(row: Sequence[Any]) -> Deletion:
    """The deletion in a row of DELETION_COLUMNS and ids; raises DamagedChunk."""
    number, collection_id, kind, chunk_id, blob = row
    try:
        return Deletion(number, collection_id, kind, chunk_id, unpack_ids(blob))
    except ValueError as error:
        raise damaged(collection_id, chunk_id, error) from error


def in_parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """`values` in parts that are short enough for one IN list."""
    for start in range(0, len(values), _MOST_PARAMETERS):
        yield values[start : start + _MOST_PARAMETERS]

"""Statements for chunks, deletions and quarantine, in the caller's transaction.

Both the ledger (planning) and the queue (completion) write chunks, with the functions here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    delete,
    insert,
    or_,
    select,
    update,
)

from chromasync.errors import DamagedChunk
from chromasync.model import (
    Chunk,
    ChunkHead,
    ChunkResult,
    Cycle,
    Deletion,
    DeletionKind,
    PackedIds,
    pack_ids,
    unpack_ids,
)
from chromasync.store.core import Backend
from chromasync.store.rows import HEAD, REPLICA_CHUNK, build_chunk, damaged
from chromasync.store.schema import Instant, Now, deletions, quarantine
from chromasync.store.schema_ledger import (
    REPLICA,
    SAME_CHUNK,
    applied_digests,
    chunk_ids,
    chunks,
    replica_chunks,
)
from chromasync.store.schema_retry_charges import retry_charges

_MOST_PARAMETERS = 500

_OURS = replica_chunks.c.replica == REPLICA
HEADS = select(*HEAD.columns).join_from(chunks, replica_chunks, SAME_CHUNK)
"""The columns of HEAD; both sides of each chunk."""

_CONTENTS = select(
    chunk_ids.c.chunk_id,
    chunk_ids.c.ids,
    applied_digests.c.embedding_digests,
    applied_digests.c.payload_digests,
    applied_digests.c.replica_digests,
).join_from(
    chunk_ids,
    applied_digests,
    and_(applied_digests.c.chunk_id == chunk_ids.c.chunk_id, applied_digests.c.replica == REPLICA),
)
_HEAD_BY_ID = HEADS.where(chunks.c.id == bindparam("chunk_id"))
# Both sides are locked, in this order: a completion must see every distrust before it.
_LOCKED_HEAD_BY_ID = _HEAD_BY_ID.with_for_update()
_CONTENT_BY_ID = _CONTENTS.where(chunk_ids.c.chunk_id == bindparam("b_chunk_id"))
_HEADS_BY_ID = HEADS.where(chunks.c.id.in_(bindparam("chunk_ids", expanding=True)))
_CONTENTS_BY_ID = _CONTENTS.where(chunk_ids.c.chunk_id.in_(bindparam("chunk_ids", expanding=True)))
_ANY_QUARANTINED = (
    select(quarantine.c.collection_id).where(quarantine.c.collection_id == chunks.c.collection_id)
).exists()
_STORED = _LOCKED_HEAD_BY_ID.add_columns(
    replica_chunks.c.distrusted_at, _ANY_QUARANTINED.label("quarantined")
).with_for_update(of=[chunks, replica_chunks])
_INSERT_HEAD = insert(chunks).returning(chunks.c.id)
_OF_CHUNK = and_(replica_chunks.c.chunk_id == bindparam("b_chunk_id"), _OURS)
_UPDATE_HEAD = update(chunks).where(chunks.c.id == bindparam("b_chunk_id"))
_UPDATE_REPLICA = update(replica_chunks).where(_OF_CHUNK)
_NOTE_READ = _UPDATE_HEAD.where(
    chunks.c.ids_digest == bindparam("b_ids_digest"),
    chunks.c.recheck.is_(False),
    ~select(replica_chunks.c.chunk_id).where(_OF_CHUNK, replica_chunks.c.suspect).exists(),
)
# The planner loaded the chunk a while ago. It must not undo a distrust that came since then.
_REPLACE_REPLICA = _UPDATE_REPLICA.values(
    suspect=or_(replica_chunks.c.suspect, bindparam("b_suspect")),
    in_hand=or_(replica_chunks.c.in_hand, bindparam("b_in_hand")),
)
_UPDATE_IDS = update(chunk_ids).where(chunk_ids.c.chunk_id == bindparam("b_chunk_id"))
_UPDATE_DIGESTS = update(applied_digests).where(
    applied_digests.c.chunk_id == bindparam("b_chunk_id"), applied_digests.c.replica == REPLICA
)
# Most chunks are unchanged, and comparing 32 kB is cheaper than writing them.
_CHANGE_DIGESTS = _UPDATE_DIGESTS.where(
    or_(
        applied_digests.c.embedding_digests != bindparam("b_embeddings"),
        applied_digests.c.payload_digests != bindparam("b_payloads"),
        applied_digests.c.replica_digests.is_distinct_from(bindparam("b_replicas")),
    )
).values(
    embedding_digests=bindparam("b_embeddings"),
    payload_digests=bindparam("b_payloads"),
    replica_digests=bindparam("b_replicas"),
)
_DELETE_HEAD = delete(chunks).where(chunks.c.id == bindparam("b_chunk_id"))
_DELETE_REST = [
    delete(table).where(table.c.chunk_id == bindparam("b_chunk_id"))
    for table in (replica_chunks, chunk_ids, applied_digests, retry_charges)
]


def distrusted_until(instant: ColumnElement[datetime]) -> dict[str, Any]:
    """The columns that distrust sets: suspect, and the later of the old and the new instant."""
    known = replica_chunks.c.distrusted_at
    return {"suspect": True, "distrusted_at": case((known > instant, known), else_=instant)}


_DISTRUST = (
    update(replica_chunks)
    .where(replica_chunks.c.chunk_id.in_(bindparam("chunk_ids", expanding=True)), _OURS)
    .values(distrusted_until(Now()))
)
_CUT_OFF = _DISTRUST.values(in_hand=True)
_OF_COLLECTION = replica_chunks.c.chunk_id.in_(
    select(chunks.c.id).where(chunks.c.collection_id == bindparam("b_collection_id"))
)
_DISTRUST_ALL = update(replica_chunks).where(_OF_COLLECTION, _OURS).values(distrusted_until(Now()))
_CUT_OFF_ALL = _DISTRUST_ALL.values(in_hand=True)
_DISTRUST_UNTIL = _UPDATE_REPLICA.values(distrusted_until(bindparam("until", type_=Instant())))
_DISTRUSTED = select(
    replica_chunks.c.chunk_id,
    replica_chunks.c.suspect,
    replica_chunks.c.in_hand,
    replica_chunks.c.distrusted_at,
    (replica_chunks.c.distrusted_at > Now()).label("lasting"),
).where(_OF_COLLECTION, _OURS, replica_chunks.c.distrusted_at.is_not(None))
_INHERIT = _UPDATE_REPLICA.values(
    distrusted_until(bindparam("until", type_=Instant()))
    | {
        "suspect": or_(replica_chunks.c.suspect, bindparam("b_suspect")),
        "in_hand": or_(replica_chunks.c.in_hand, bindparam("b_in_hand")),
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
    return build_chunk(HEAD.build(head), None if content is None else content[1:])


def load_sound(tx: Connection, chunk_ids: Sequence[int]) -> Iterator[Chunk]:
    """The chunks that exist and whose content can be read; the others are left out."""
    for some in in_parts(chunk_ids):
        heads = [HEAD.build(row) for row in tx.execute(_HEADS_BY_ID, {"chunk_ids": some})]
        rows = tx.execute(_CONTENTS_BY_ID, {"chunk_ids": some})
        contents = {row.chunk_id: row[1:] for row in rows}
        for head in heads:
            with suppress(DamagedChunk):  # `load` raises it for the worker of the chunk
                yield build_chunk(head, contents.get(head.id))


def note_read(tx: Connection, cycle: Cycle, heads: Sequence[ChunkHead]) -> None:
    """Note that chunks were read in a cycle; skips chunks that differ from these heads."""
    rows = [{"b_chunk_id": head.id, "b_ids_digest": head.ids_digest} for head in heads]
    if rows:
        read = _NOTE_READ.values(read_at=cycle.started_at, read_cycle=cycle.id)
        tx.execute(read, rows)


class Content(NamedTuple):
    """The rows of a chunk beside its head, by column."""

    ids: dict[str, Any]
    digests: dict[str, Any]


def content_of(chunk: Chunk) -> Content:
    """The content rows of a chunk; call it before a transaction: compressing takes time."""
    digests = {
        "embedding_digests": chunk.applied.embedding,
        "payload_digests": chunk.applied.payload,
        "replica_digests": chunk.applied.replica,
    }
    return Content({"ids": pack_ids(chunk.ids)}, digests)


def save(tx: Connection, saved: Sequence[Chunk], contents: Sequence[Content]) -> list[int]:
    """Add, replace or remove chunks, and return the ids of the new ones in order.

    The records of a chunk may come from another chunk to which a worker may still write, perhaps by
    way of a chunk that was removed since. So every chunk that is stored is distrusted until the
    latest instant until which any chunk of its collection is distrusted.
    """
    # before `remove`, which deletes the instants of its chunk
    doubts = _inherited_distrust(tx, saved)
    added: list[tuple[int, Chunk, Content]] = []
    inherited = []
    for chunk, content in zip(saved, contents, strict=True):
        chunk_id = chunk.head.id
        if not chunk.ids:
            remove(tx, chunk_id)
            continue
        if chunk_id == 0:
            chunk_id = _add_head(tx, chunk.head)
            added.append((chunk_id, chunk, content))
        else:
            replace(tx, chunk, content)
        doubt = doubts.get(chunk.head.collection_id, ())
        inherited += [{"b_chunk_id": chunk_id, **flags} for flags in doubt]
    _add_rest(tx, added)
    if inherited:
        tx.execute(_INHERIT, inherited)
    return [chunk_id for chunk_id, _, _ in added]


def _inherited_distrust(tx: Connection, saved: Sequence[Chunk]) -> dict[str, list[dict[str, Any]]]:
    """The distrust that the chunks of a collection inherit: an instant, and two flags.

    The planner gives the flags of a chunk to the chunks that receive its records. If a chunk became
    suspect or in hand after the planner loaded it, those chunks do not know it yet: they are
    marked here.
    """
    unaware = {chunk.head.id for chunk in saved if not chunk.head.replica.suspect}
    unheld = {chunk.head.id for chunk in saved if not chunk.head.replica.in_hand}
    doubts = {}
    for collection_id in sorted({chunk.head.collection_id for chunk in saved}):
        rows = tx.execute(_DISTRUSTED, {"b_collection_id": collection_id}).all()
        suspect = any(row.suspect and row.chunk_id in unaware for row in rows)
        in_hand = any(row.in_hand and (row.lasting or row.chunk_id in unheld) for row in rows)
        if suspect or in_hand or any(row.lasting for row in rows):
            until = max(row.distrusted_at for row in rows)
            doubts[collection_id] = [{"until": until, "b_suspect": suspect, "b_in_hand": in_hand}]
    return doubts


def _add_head(tx: Connection, head: ChunkHead) -> int:
    return int(tx.execute(_INSERT_HEAD, _row_of(head)).scalar_one())


def _add_rest(tx: Connection, added: Sequence[tuple[int, Chunk, Content]]) -> None:
    """Store the rest of new chunks, whose heads are stored already."""
    if not added:
        return
    rows = [{"chunk_id": i, **REPLICA_CHUNK.values(c.head.replica)} for i, c, _ in added]
    tx.execute(insert(replica_chunks), rows)
    tx.execute(insert(chunk_ids), [{"chunk_id": i, **content.ids} for i, _, content in added])
    digests = [{"chunk_id": i, **content.digests} for i, _, content in added]
    tx.execute(insert(applied_digests), digests)


def replace(tx: Connection, chunk: Chunk, content: Content) -> None:
    """Replace a stored chunk; a chunk that was forgotten meanwhile stays forgotten."""
    key = {"b_chunk_id": chunk.head.id}
    if not tx.execute(_UPDATE_HEAD, key | _row_of(chunk.head)).rowcount:
        return
    replica = REPLICA_CHUNK.values(chunk.head.replica)
    flags = {f"b_{name}": replica.pop(name) for name in ("suspect", "in_hand")}
    tx.execute(_REPLACE_REPLICA, key | replica | flags)
    tx.execute(_UPDATE_IDS, key | content.ids)
    tx.execute(_UPDATE_DIGESTS, key | content.digests)


def _row_of(head: ChunkHead) -> dict[str, Any]:
    """The columns of a head's row but for its key."""
    row = HEAD.values(head)
    del row["id"]
    return row


def remove(tx: Connection, chunk_id: int) -> None:
    """Remove a chunk from the ledger, with its retries and its list of foreign records.

    The chunk that has these records next finds the foreign ones again. Waiting deletions stay.
    """
    for deletion in (_DELETE_HEAD, *_DELETE_REST, _DELETE_FOREIGN):
        tx.execute(deletion, {"b_chunk_id": chunk_id})


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
    tx.execute(_DISTRUST_UNTIL, {"b_chunk_id": chunk_id, "until": instant})


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
    same_ids = stored.ids_digest == chunk.head.ids_digest
    former_ids = result.asked
    if former_ids is None:
        former_ids = frozenset(chunk.ids if same_ids else _ids_of(tx, chunk.head.id))
    waiting = _waiting_after(tx, result)
    if not chunk.ids:
        remove(tx, chunk.head.id)
    else:
        gone_count = len(waiting[DeletionKind.GONE])
        tx.execute(_UPDATE_HEAD, {"b_chunk_id": chunk.head.id, **_row_of(chunk.head)})
        _record_replica(tx, stored, chunk.head.with_replica(gone_count=gone_count), claimed_at)
        _record_content(tx, chunk, same_ids=same_ids)
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


def _record_replica(
    tx: Connection, stored: Row[Any], head: ChunkHead, claimed_at: datetime
) -> None:
    """Store the replica's part of a head, unless it is stored already."""
    former, distrusted_at = HEAD.build(stored[:-2]), stored.distrusted_at
    if distrusted_at is not None and distrusted_at >= claimed_at:
        head = head.with_replica(suspect=True, in_hand=former.replica.in_hand)
    elif not head.replica.suspect:
        head, distrusted_at = head.with_replica(in_hand=False), None
    if head.replica != former.replica or distrusted_at != stored.distrusted_at:
        row = {"b_chunk_id": head.id, "distrusted_at": distrusted_at}
        tx.execute(_UPDATE_REPLICA, row | REPLICA_CHUNK.values(head.replica))


def _record_content(tx: Connection, chunk: Chunk, *, same_ids: bool) -> None:
    key = {"b_chunk_id": chunk.head.id}
    if not same_ids:
        tx.execute(_UPDATE_IDS, key | content_of(chunk).ids)
    digests = {
        "b_embeddings": chunk.applied.embedding,
        "b_payloads": chunk.applied.payload,
        "b_replicas": chunk.applied.replica,
    }
    tx.execute(_CHANGE_DIGESTS, key | digests)


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
        return Deletion(number, collection_id, kind, chunk_id, PackedIds(blob))
    except ValueError as error:
        raise damaged(collection_id, chunk_id, error) from error


def in_parts(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """`values` in parts that are short enough for one IN list."""
    for start in range(0, len(values), _MOST_PARAMETERS):
        yield values[start : start + _MOST_PARAMETERS]

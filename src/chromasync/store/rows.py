"""Conversion of the model's values into rows and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Table

from chromasync.errors import DamagedChunk
from chromasync.model import (
    Alert,
    AppliedDigests,
    Chunk,
    ChunkHead,
    ControlRow,
    Deployment,
    Digests,
    Direction,
    Hold,
    Kept,
    KnownDistance,
    MarkRow,
    Mirror,
    PrimaryCollection,
    Quarantined,
    Removal,
    ReplicaChunk,
    WorkerBeat,
    unpack_ids,
)
from chromasync.store import schema, schema_ledger, schema_servers, schema_service

T = TypeVar("T")


class RowShape(Generic[T]):
    """A dataclass and the table that holds it, one column per field.

    Args:
        model: the dataclass; its fields in order are the columns of a row that `build` takes.
        table: the table.
        renames: columns by field, if their names differ.
        part: a field that has a table of its own, and the shape of its rows.
    """

    def __init__(
        self,
        model: type[T],
        table: Table,
        renames: Mapping[str, str] | None = None,
        part: tuple[str, RowShape[Any]] | None = None,
    ) -> None:
        within, shape = part or ("", None)
        self._part: RowShape[Any] | None = shape
        self._model: Callable[..., T] = model
        self._names: dict[str, str] = {}
        self.columns: list[Column[Any]] = []
        self._span = slice(0, 0)
        for field in fields(model):  # type: ignore[arg-type]
            if shape is not None and field.name == within:
                first = len(self.columns)
                self._span = slice(first, first + len(shape.columns))
                self.columns += shape.columns
            else:
                self._names[field.name] = (renames or {}).get(field.name, field.name)
                self.columns.append(table.c[self._names[field.name]])

    def build(self, row: Sequence[Any]) -> T:
        """The value of a row of `columns`."""
        if self._part is None:
            return self._model(*row)
        before, after = row[: self._span.start], row[self._span.stop :]
        return self._model(*before, self._part.build(row[self._span]), *after)

    def values(self, value: T) -> dict[str, Any]:
        """The values by column of the table, without those of a part."""
        return {column: getattr(value, field) for field, column in self._names.items()}


PRIMARY = RowShape(
    PrimaryCollection,
    schema_ledger.primary_collections,
    {"name": "collection_name", "database": "database_name", "count": "record_count"},
)
MIRROR = RowShape(
    Mirror, schema_ledger.mirrors, {"status": "sync_status"}, part=("primary", PRIMARY)
)
REPLICA_CHUNK = RowShape(ReplicaChunk, schema_ledger.replica_chunks)
HEAD = RowShape(
    ChunkHead,
    schema_ledger.chunks,
    {"start_offset": "chunk_start_offset", "count": "record_count"},
    part=("replica", REPLICA_CHUNK),
)
QUARANTINED = RowShape(Quarantined, schema.quarantine)
HOLD = RowShape(Hold, schema.holds, {"count": "record_count", "database": "database_name"})
DEPLOYMENT = RowShape(Deployment, schema_servers.deployment)
DIRECTION = RowShape(
    Direction,
    schema_servers.direction,
    {"state": "direction_state", "by": "promoted_by", "url": "replica_url"},
)
MARK = RowShape(MarkRow, schema_servers.marks)
REMOVAL = RowShape(Removal, schema_servers.removals, {"count": "record_count"})
KEPT = RowShape(Kept, schema_servers.kept, {"database": "database_name", "name": "collection_name"})
DISTANCE = RowShape(KnownDistance, schema_servers.distances)
ALERT = RowShape(Alert, schema_service.alerts)
CONTROL = RowShape(ControlRow, schema_service.control)
WORKER = RowShape(
    WorkerBeat,
    schema.workers,
    {
        "status": "worker_status",
        "memory_mb": "memory_usage_mb",
        "last_heartbeat_at": "last_heartbeat",
    },
)


def build_chunk(head: ChunkHead, content: Sequence[bytes] | None) -> Chunk:
    """The chunk of a head and its content row (ids and three columns of digests).

    An older program changed the ids but not the digests of the replica's side. If their number does
    not match the ids, these digests are unknown.

    Raises:
        DamagedChunk: the content is missing or damaged.
    """
    try:
        blob, embeddings, payloads, replicas = content or (b"", b"", b"", b"")
        ids = unpack_ids(blob)
        replica = Digests(replicas or b"")
        fits = replica.rows == len(ids)
        applied = AppliedDigests(
            Digests(embeddings), Digests(payloads), replica if fits else Digests()
        )
        return Chunk(head, ids, applied)
    except ValueError as error:
        raise damaged(head.collection_id, head.id, error) from error


def damaged(collection_id: str, chunk_id: int | None, why: Exception) -> DamagedChunk:
    """The error for a stored id list that cannot be read."""
    return DamagedChunk(
        f"The ledger of collection {collection_id} is damaged ({why}).",
        collection_id=collection_id,
        chunk_id=chunk_id,
    )

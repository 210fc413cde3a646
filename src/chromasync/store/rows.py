"""Conversion of the model's values into rows and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic, TypeVar

from sqlalchemy import Column, Table

from chromasync.errors import DamagedChunk
from chromasync.model import (
    DIGEST_BYTES,
    Alert,
    Chunk,
    ChunkHead,
    ControlRow,
    Deployment,
    Hold,
    Kept,
    KnownDistance,
    MarkRow,
    Mirror,
    Quarantined,
    Removal,
    WorkerBeat,
)
from chromasync.store import schema, schema_servers, schema_service
from chromasync.store.idlists import unpack_ids

T = TypeVar("T")


class RowShape(Generic[T]):
    """A dataclass and the table that holds it, one column per field.

    Args:
        model: the dataclass; its fields in order are the columns of a row that `build` takes.
        table: the table.
        renames: columns by field, if their names differ.
    """

    def __init__(
        self, model: type[T], table: Table, renames: Mapping[str, str] | None = None
    ) -> None:
        names = {field.name: field.name for field in fields(model)}  # type: ignore[arg-type]
        self._names = names | dict(renames or {})
        self._model = model
        self.columns: list[Column[Any]] = [table.c[name] for name in self._names.values()]

    def build(self, row: Sequence[Any]) -> T:
        """The value of a row of `columns`."""
        return self._model(*row)

    def values(self, value: T) -> dict[str, Any]:
        """The values by column."""
        return {column: getattr(value, field) for field, column in self._names.items()}


MIRROR = RowShape(
    Mirror,
    schema.collections,
    {
        "name": "collection_name",
        "database": "database_name",
        "status": "sync_status",
        "primary_count": "primary_document_count",
        "replica_count": "replica_document_count",
        "last_successful_sync_at": "last_successful_sync",
        "last_attempt_at": "last_sync_attempt",
        "duration_seconds": "sync_duration_seconds",
        "last_error": "last_error_message",
    },
)
HEAD = RowShape(
    ChunkHead, schema.chunks, {"start_offset": "chunk_start_offset", "count": "record_count"}
)
QUARANTINED = RowShape(Quarantined, schema.quarantine)
HOLD = RowShape(Hold, schema.holds, {"count": "record_count", "database": "database_name"})
DEPLOYMENT = RowShape(Deployment, schema_servers.deployment)
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

    An older program changes the ids but not the digests of the replica's side. If their number does
    not match the ids, these digests are unknown.

    Raises:
        DamagedChunk: the content is missing or damaged.
    """
    try:
        blob, embeddings, payloads, replicas = content or (b"", b"", b"", b"")
        ids = unpack_ids(blob)
        fits = len(replicas or b"") == DIGEST_BYTES * len(ids)
        return Chunk(head, ids, embeddings, payloads, replicas if fits else b"")
    except ValueError as error:
        raise damaged(head.collection_id, head.id, error) from error


def damaged(collection_id: str, chunk_id: int | None, why: Exception) -> DamagedChunk:
    """The error for a stored id list that cannot be read."""
    return DamagedChunk(
        f"The ledger of collection {collection_id} is damaged ({why}).",
        collection_id=collection_id,
        chunk_id=chunk_id,
    )

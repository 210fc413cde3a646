"""Turns records and changes into request bodies, and refuses content that damages a server."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from chromasync.errors import RequestRefused
from chromasync.model import Capabilities, Change, Floats, Records, Side, for_json

RESERVED_PREFIX = "chroma:"
JSON_FLOAT_BYTES = 13
ROW_OVERHEAD_BYTES = 16

Row = dict[str, Any]


def upsert_bodies(records: Records, capabilities: Capabilities, side: Side) -> list[bytes]:
    """Bodies of an add or upsert: one, or several if a column must not mix nulls and values.

    Raises:
        RequestRefused: this server cannot store a record, which is named; nothing was sent.
    """
    if records.embeddings is None:
        raise ValueError("an upsert needs embeddings")
    for name, metadata in zip(records.ids, records.metadatas, strict=True):
        check_metadata(name, metadata, capabilities, side)
    columns: dict[str, Sequence[Any]] = {
        "documents": [for_json(document) for document in records.documents],
        "metadatas": [metadata or None for metadata in records.metadatas],
        "uris": records.uris,
    }
    return [
        _body(
            {
                "ids": [records.ids[i] for i in rows],
                "embeddings": _vectors(_rows_of(records.embeddings, rows), capabilities),
            }
            | {name: [values[i] for i in rows] for name, values in columns.items()},
            side,
        )
        for rows in _alike(columns, len(records), capabilities)
    ]


def update_bodies(changes: Sequence[Change], capabilities: Capabilities, side: Side) -> list[bytes]:
    """Bodies of an update without unchanged columns; see `upsert_bodies`."""
    columns: dict[str, list[Any]] = {
        "embeddings": [_vector(change.embedding, capabilities) for change in changes],
        "documents": [for_json(change.document) for change in changes],
        "metadatas": [_changed_metadata(change, capabilities, side) for change in changes],
        "uris": [change.uri for change in changes],
    }
    bodies = []
    for rows in _alike(columns, len(changes), capabilities):
        body: dict[str, Any] = {"ids": [changes[i].id for i in rows]}
        for name, values in columns.items():
            chosen = [values[i] for i in rows]
            if any(value is not None for value in chosen):
                body[name] = chosen
        bodies.append(_body(body, side))
    return bodies


def ids_body(ids: Sequence[str], side: Side) -> bytes:
    """Body with the ids of records."""
    return _body({"ids": list(ids)}, side)


def plain_body(content: Mapping[str, Any], side: Side) -> bytes:
    """Body of any other request."""
    return _body(dict(content), side)


def record_sizes(records: Records, capabilities: Capabilities) -> list[int]:
    """Bytes of each record in an upsert's body."""
    width = 0 if records.embeddings is None else records.embeddings.shape[1]
    documents = (for_json(document) for document in records.documents)
    rest = zip(records.ids, documents, records.metadatas, records.uris, strict=True)
    vector = _vector_size(width, capabilities)
    return [_size(row) + vector for row in rest]


def change_sizes(changes: Sequence[Change], capabilities: Capabilities) -> list[int]:
    """Bytes of each change in an update's body."""
    sizes = []
    for change in changes:
        width = 0 if change.embedding is None else change.embedding.size
        row = (change.id, for_json(change.document), change.metadata, change.uri)
        sizes.append(_size(row) + _vector_size(width, capabilities))
    return sizes


def id_sizes(ids: Sequence[str]) -> list[int]:
    """Bytes of each id in a body with the ids of records."""
    return [_size((name,)) for name in ids]


def check_metadata(
    name: str, metadata: Mapping[str, Any], capabilities: Capabilities, side: Side
) -> None:
    """Refuse a record whose metadata must not be sent to this server.

    A null under some `chroma:` keys permanently blocks all later writes to a Chroma server, so such
    keys are never sent. Lists that a server would silently drop are refused as well.
    """
    for key, value in metadata.items():
        if key.startswith(RESERVED_PREFIX):
            raise RequestRefused(
                f"Record {name!r} has the metadata key {key!r}, which is Chroma's own.",
                side=side,
                untouched="Nothing of its batch was sent.",
                hint="Rename that key on the primary.",
            )
        if isinstance(value, list) and not capabilities.arrays:
            raise RequestRefused(
                f"Record {name!r} has a list under the metadata key {key!r}, which the {side}'s "
                "server cannot store.",
                side=side,
                untouched="Nothing of its batch was sent.",
            )


def _changed_metadata(change: Change, capabilities: Capabilities, side: Side) -> Row | None:
    metadata = dict(change.metadata or {})
    check_metadata(change.id, metadata, capabilities, side)
    if change.clear_uri:
        metadata["chroma:uri"] = None  # the only way to clear a uri, and the only safe such key
    return metadata or None


def _alike(
    columns: Mapping[str, Sequence[Any]], count: int, capabilities: Capabilities
) -> Iterable[Sequence[int]]:
    """Row numbers, grouped so that no column mixes nulls and values if that does harm."""
    if capabilities.null_columns:
        return [range(count)] if count else []
    groups: dict[tuple[bool, ...], list[int]] = {}
    for i in range(count):
        shape = tuple(values[i] is not None for values in columns.values())
        groups.setdefault(shape, []).append(i)
    return groups.values()


def _rows_of(vectors: Floats, rows: Sequence[int]) -> Floats:
    return vectors if len(rows) == len(vectors) else vectors[list(rows)]


def _vectors(vectors: Floats, capabilities: Capabilities) -> Any:
    if not capabilities.base64:
        return np.ascontiguousarray(vectors, dtype=np.float32)
    raw = np.ascontiguousarray(vectors, dtype="<f4")
    return [base64.b64encode(row).decode("ascii") for row in raw]


def _vector(vector: Floats | None, capabilities: Capabilities) -> Any:
    return None if vector is None else _vectors(vector.reshape(1, -1), capabilities)[0]


def _vector_size(width: int, capabilities: Capabilities) -> int:
    if capabilities.base64:
        return (4 * width + 2) // 3 * 4 + ROW_OVERHEAD_BYTES
    return JSON_FLOAT_BYTES * width + ROW_OVERHEAD_BYTES


def _size(row: tuple[Any, ...]) -> int:
    try:
        return len(orjson.dumps(row))
    except orjson.JSONEncodeError:
        return 0  # the error with its id comes when its body is made


def _body(content: dict[str, Any], side: Side) -> bytes:
    # a column of nulls has no effect, but causes errors on old servers
    kept = {
        name: value
        for name, value in content.items()
        if not isinstance(value, list) or not value or any(v is not None for v in value)
    }
    try:
        return orjson.dumps(kept, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as error:
        raise RequestRefused(
            f"A value cannot be sent to the {side} as JSON: {error}.",
            side=side,
            untouched="Nothing of its batch was sent.",
        ) from error


def cut(sizes: Sequence[int], max_bytes: int, max_count: int) -> list[range]:
    """Cut rows into runs of at most `max_bytes` and `max_count`; a larger row gets its own run."""
    runs: list[range] = []
    start = total = 0
    for i, size in enumerate(sizes):
        if i > start and (total + size > max_bytes or i - start >= max_count):
            runs.append(range(start, i))
            start, total = i, 0
        total += size
    if start < len(sizes):
        runs.append(range(start, len(sizes)))
    return runs

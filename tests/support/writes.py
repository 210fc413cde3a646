"""What the replica was sent between two moments: request by request, and record by record."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from chromasync.lab.proxy import RecordingProxy, Request
from chromasync.model import MARKS_DATABASE

RECORD_ACTIONS = ("add", "upsert", "update", "delete")
COLUMNS = {
    "embeddings": "embedding",
    "documents": "document",
    "metadatas": "metadata",
    "uris": "uri",
}

Fields = dict[str, Any]
"""The fields that a write sets: embedding as a list of float32, document, metadata, uri."""


@dataclass(frozen=True)
class RecordWrite:
    """What one request said of one record."""

    action: str
    record_id: str
    fields: Fields


@dataclass
class Writes:
    """The writes that a proxy saw while it was watched; those of the mark apart."""

    requests: list[Request]
    marks: list[Request] = field(default_factory=list)

    @property
    def to_records(self) -> list[Request]:
        """Requests that add, change or delete records."""
        return [r for r in self.requests if action_of(r) in RECORD_ACTIONS]

    @property
    def to_collections(self) -> list[tuple[str, dict[str, Any]]]:
        """Method and body of every other write."""
        others = [r for r in self.requests if action_of(r) not in RECORD_ACTIONS]
        return [(r.method, json.loads(r.body or b"{}")) for r in others]

    @property
    def records(self) -> list[RecordWrite]:
        """The writes record by record, in the order they were sent."""
        return [write for request in self.to_records for write in _records_of(request)]

    @property
    def by_id(self) -> dict[str, list[tuple[str, Fields]]]:
        """Per record what was sent of it: actions and fields."""
        found: dict[str, list[tuple[str, Fields]]] = {}
        for write in self.records:
            found.setdefault(write.record_id, []).append((write.action, write.fields))
        return found

    @property
    def body_bytes(self) -> int:
        """Bytes of all request bodies."""
        return sum(request.body_size for request in self.requests)

    @property
    def actions(self) -> Counter[str]:
        """How many records each action touched."""
        return Counter(write.action for write in self.records)


def action_of(request: Request) -> str:
    """The last word of a request's path."""
    return request.path.rpartition("/")[2]


@contextmanager
def watched(proxy: RecordingProxy) -> Iterator[Writes]:
    """Everything that is written through this proxy inside the block; known at its end."""
    before, proxy.keep_bodies = len(proxy.writes()), True
    writes = Writes([])
    try:
        yield writes
    finally:
        proxy.keep_bodies = False
        for request in proxy.writes()[before:]:
            (writes.marks if is_of_mark(request) else writes.requests).append(request)
        proxy.forget_bodies()


def is_of_mark(request: Request) -> bool:
    """Whether a write is one of the replica's mark, or makes the place where it is kept.

    A database that is made is taken for that place unless its name was kept.
    """
    makes_database = request.method == "POST" and action_of(request) == "databases"
    if makes_database:
        return not request.body or MARKS_DATABASE.encode() in request.body
    return f"/databases/{MARKS_DATABASE}/" in request.path


def writes_records(request: Request) -> bool:
    """Whether a request inserts records of a mirrored collection, or overwrites them."""
    return action_of(request) in ("add", "upsert") and not is_of_mark(request)


def _records_of(request: Request) -> Iterator[RecordWrite]:
    body = json.loads(request.body)
    for row, record_id in enumerate(body["ids"]):
        fields = {
            name: body[column][row]
            for column, name in COLUMNS.items()
            if body.get(column) is not None and body[column][row] is not None
        }
        if "embedding" in fields:
            fields["embedding"] = _floats(fields["embedding"])
        yield RecordWrite(action_of(request), record_id, fields)


def _floats(sent: str | list[float]) -> list[float]:
    """An embedding as it was sent, base64 or not."""
    raw = np.frombuffer(base64.b64decode(sent), "<f4") if isinstance(sent, str) else sent
    found: list[float] = np.asarray(raw, dtype=np.float32).tolist()
    return found

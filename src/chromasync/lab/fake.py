"""A Chroma server in memory, for tests that need a server's behaviour but not the server.

It behaves like a single-node Chroma 1.5, as far as a mirror can see: writes merge fields; records
are returned in the order of their first insertion, independent of the order of the request; a
written document can only be removed by deleting the record. It refuses everything that it does not
know (`NotFound`, `RequestRefused`, `TypeError`). Unlike a real server, it returns the embeddings of
a cosine collection, and metadata floats, exactly as written.

It fails on demand: `broken` makes single records fail, and the hook of `on_request` is called
before every request and may raise an error instead.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import numpy as np

from chromasync.chroma.pacer import Pacer
from chromasync.definition import described
from chromasync.errors import Conflict, NotFound, ReadOnlyViolation, RequestRefused, ServerFault
from chromasync.lab.distances import distances
from chromasync.lab.stored import StoredRecord, known, rows_of
from chromasync.model import (
    Capabilities,
    Change,
    Collection,
    Definition,
    Floats,
    Neighbours,
    Records,
    Scalar,
    Side,
    Space,
    Traffic,
)
from chromasync.ports import Permit, Unchanged

MODERN = Capabilities(
    version="1.0.0",
    max_batch_size=5461,
    base64=True,
    schema=True,
    configuration=True,
    arrays=True,
    null_columns=True,
)
"""The capabilities of Chroma 1.5.9."""

RESERVED_PREFIXES = ("#", "chroma:")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the name of the port's method, and its records."""

    name: str
    ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Broken:
    """Ids of records that make requests fail.

    Attributes:
        refused: every write with one of these records is refused.
        unreadable: their embeddings are lost, so every read of an embedding fails.
        forgotten: a write of these records is acknowledged but does nothing.
    """

    refused: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Shared:
    """The common state of all views of one server (see `permitted_by`)."""

    databases: dict[str, set[str]]
    collections: dict[str, Collection] = field(default_factory=dict)
    records: dict[str, dict[str, StoredRecord]] = field(default_factory=dict)
    spaces: dict[str, Space] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    broken: Broken = field(default_factory=Broken)
    on_request: Callable[[Call], None] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)


class FakeServer:
    """A server of either side; implements `ports.Writer`. Thread-safe.

    Args:
        side: the side in its errors.
        capabilities: its capabilities; records that need others are refused.
        tenant, database: the first tenant and database.
    """

    def __init__(
        self,
        side: Side = Side.REPLICA,
        *,
        capabilities: Capabilities = MODERN,
        tenant: str = "default_tenant",
        database: str = "default_database",
    ) -> None:
        self.side = side
        self.pacing = Pacer()
        self.token_tenant = ""
        self._capabilities = capabilities
        self._shared = _Shared({tenant: {database}})
        self._permit: Permit | None = None
        self._place = (tenant, database)

    # ---- for the test -----------------------------------------------------------------------

    @property
    def calls(self) -> list[Call]:
        """Requests so far, refused ones included."""
        return self._shared.calls

    @property
    def writes(self) -> list[Call]:
        """Requests so far that write records."""
        return [call for call in self.calls if call.name in ("add", "upsert", "update", "delete")]

    @property
    def broken(self) -> Broken:
        """Records that make requests fail; a test changes them in place."""
        return self._shared.broken

    def on_request(self, hook: Callable[[Call], None] | None) -> None:
        """Call `hook` before each request; an error that it raises is the answer."""
        self._shared.on_request = hook

    def make(
        self,
        name: str = "things",
        *,
        space: Space = Space.L2,
        place: tuple[str, str] | None = None,
        **more: Any,
    ) -> Collection:
        """A new collection in the first database, or in this one, without a request."""
        tenant, database = place or self._place
        self._shared.databases.setdefault(tenant, set()).add(database)
        configuration = {"hnsw": {"space": space.value}}
        made = Collection(
            str(uuid4()), name, tenant, database, **({"configuration": configuration} | more)
        )
        self._shared.collections[made.id] = made
        self._shared.records[made.id] = {}
        self._shared.spaces[made.id] = described(made).space
        return made

    def lose_database(self, tenant: str, database: str) -> None:
        """Take a database away with its collections, without a request."""
        self._shared.databases[tenant].discard(database)
        lost = [c for c in self._shared.collections.values() if _in(c, tenant, database)]
        for collection in lost:
            del self._shared.collections[collection.id], self._shared.records[collection.id]

    def put(self, collection: Collection, records: Records) -> None:
        """Make these records exactly so, without a request; new ones stand at the end."""
        if records.embeddings is None:
            raise TypeError("a record needs an embedding")
        now = self._collection(collection)
        if len(records):
            width = records.embeddings.shape[1]
            self._shared.collections[now.id] = replace(now, dimension=now.dimension or width)
        stored = self._records(collection)
        for i, record_id in enumerate(records.ids):
            stored[record_id] = StoredRecord(
                records.embeddings[i].copy(),
                records.documents[i],
                copy.deepcopy(records.metadatas[i]),
                records.uris[i],
            )

    def remove(self, collection: Collection, ids: Iterable[str]) -> None:
        """Take records away, without a request."""
        for record_id in ids:
            del self._records(collection)[record_id]

    def change(self, collection: Collection, **fields: Any) -> None:
        """Give a collection another name or metadata, without a request."""
        self._shared.collections[collection.id] = replace(self._collection(collection), **fields)

    def become(self, capabilities: Capabilities) -> None:
        """Be another version of the server; what it holds stays."""
        self._capabilities = capabilities

    def ensure(self, tenant: str, database: str) -> None:
        """Have a database, without a request."""
        self._shared.databases.setdefault(tenant, set()).add(database)

    def unmake(self, collection: Collection) -> None:
        """Take a collection away, without a request."""
        del self._shared.collections[collection.id]
        del self._shared.records[collection.id]

    def contents(self, collection: Collection) -> Records:
        """All records in their order, without a request."""
        return self._rows(collection, self._records(collection), embeddings=True)

    # ---- ports.Reader -----------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        """See `ports.Reader`; never counts as a request."""
        return self._capabilities

    def list_databases(self, tenant: str) -> list[str]:
        """See `ports.Reader`; empty for a tenant that does not exist."""
        self._request("list_databases")
        return sorted(self._shared.databases.get(tenant, ()))

    def list_collections(self, tenant: str, database: str) -> list[Collection]:
        """See `ports.Reader`; in the order of the ids, empty for an unknown database."""
        self._request("list_collections")
        with self._shared.lock:
            listed = [c for c in self._shared.collections.values() if _in(c, tenant, database)]
        return sorted(listed, key=lambda c: c.id)

    def count(self, collection: Collection) -> int:
        """See `ports.Reader`."""
        self._request("count")
        return len(self._records(collection))

    def list_ids(self, collection: Collection, *, offset: int, limit: int) -> list[str]:
        """See `ports.Reader`."""
        self._request("list_ids")
        return list(self._records(collection))[offset : offset + limit]

    def read(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        embeddings: bool = True,
        most_attempts: int | None = None,
        unchanged: Unchanged | None = None,
    ) -> Records:
        """See `ports.Reader`; each request is sent once."""
        del most_attempts
        self._request("read", ids)
        with self._shared.lock:
            asked = set(ids)
            found = [i for i in self._records(collection) if i in asked]
            lost = self.broken.unreadable.intersection(found)
            if embeddings and lost:
                raise ServerFault(f"Error finding id {min(lost)}", side=self.side, status=500)
            records = self._rows(collection, found, embeddings=embeddings)
        return records if unchanged is None else known(records, len(ids), unchanged)

    def read_first(self, collection: Collection, limit: int) -> Records:
        """See `ports.Reader`."""
        with self._shared.lock:
            ids = list(self._records(collection))[:limit]
        return self.read(collection, ids)

    def traffic(self) -> Traffic:
        """One request for each call so far."""
        return Traffic(requests=len(self.calls))

    def nearest(self, collection: Collection, vector: Floats, count: int) -> Neighbours:
        """See `ports.Reader`; by the distance that the collection was made with."""
        self._request("nearest")
        stored = self._records(collection)
        rows = np.array([record.embedding for record in stored.values()], dtype=np.float32)
        if len(rows) and rows.shape[1] != len(vector):
            raise self._refusal("The query has another dimension than the collection.")
        apart = distances(self._shared.spaces[collection.id], rows, vector)
        chosen = np.argsort(apart, kind="stable")[:count]
        ids = list(stored)
        return Neighbours([ids[i] for i in chosen], apart[chosen].tolist(), rows[chosen])

    # ---- ports.Writer -----------------------------------------------------------------------

    def permitted_by(self, permit: Permit) -> FakeServer:
        """See `ports.Writer`."""
        view = copy.copy(self)
        view._permit = permit  # noqa: SLF001 -- our own copy
        return view

    def ensure_database(self, tenant: str, database: str) -> None:
        """See `ports.Writer`."""
        self._write("ensure_database")
        self._shared.databases.setdefault(tenant, set()).add(database)

    def create_collection(self, definition: Definition) -> Collection:
        """See `ports.Writer`."""
        self._write("create_collection")
        if definition.database not in self._shared.databases.get(definition.tenant, ()):
            raise self._refusal(f"Database {definition.database!r} does not exist.")
        self._check_free(definition.tenant, definition.database, definition.name, "")
        created = Collection(
            str(uuid4()),
            definition.name,
            definition.tenant,
            definition.database,
            dict(definition.metadata),
            dict(definition.configuration or {}),
            definition.schema,
        )
        self._shared.collections[created.id] = created
        self._shared.records[created.id] = {}
        self._shared.spaces[created.id] = described(created).space
        return created

    def modify_collection(
        self,
        collection: Collection,
        *,
        name: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """See `ports.Writer`; a configuration changes index by index, key by key."""
        self._write("modify_collection")
        now = self._collection(collection)
        if name is not None:
            self._check_free(now.tenant, now.database, name, now.id)
            now = replace(now, name=name)
        if metadata is not None:
            now = replace(now, metadata=dict(metadata))
        for part, settings in (configuration or {}).items():
            before = now.configuration.get(part) or {}
            merged = {**before, **settings} if part != "embedding_function" else settings
            now = replace(now, configuration={**now.configuration, part: merged})
        self._shared.collections[now.id] = now

    def drop_collection(self, collection: Collection) -> None:
        """See `ports.Writer`; one that is gone already is fine."""
        self._write("drop_collection")
        self._shared.collections.pop(collection.id, None)
        self._shared.records.pop(collection.id, None)

    def batches(self, records: Records) -> list[Records]:
        """See `ports.Writer`; cut by count alone."""
        size = self._capabilities.max_batch_size
        starts = range(0, len(records), size)
        return [records.take(range(at, min(at + size, len(records)))) for at in starts]

    def most_records(self) -> int:
        """See `ports.Writer`."""
        return self._capabilities.max_batch_size

    def change_batches(self, changes: Sequence[Change]) -> list[list[Change]]:
        """See `ports.Writer`; cut by count alone."""
        size = self._capabilities.max_batch_size
        return [list(changes[at : at + size]) for at in range(0, len(changes), size)]

    def add(self, collection: Collection, records: Records) -> None:
        """See `ports.Writer`; all records or none."""
        self._write("add", records.ids)
        self._insert(collection, records, overwrite=False)

    def upsert(self, collection: Collection, records: Records) -> None:
        """See `ports.Writer`; all records or none."""
        self._write("upsert", records.ids)
        self._insert(collection, records, overwrite=True)

    def _insert(self, collection: Collection, records: Records, *, overwrite: bool) -> None:
        if records.embeddings is None:
            raise TypeError("an insert needs embeddings")
        with self._shared.lock:
            stored = self._records(collection)
            for i, record_id in enumerate(records.ids):
                self._check(record_id, records.metadatas[i])
                self._check_dimension(collection, records.embeddings.shape[1])
            for i, record_id in enumerate(records.ids):
                if record_id in self.broken.forgotten or (record_id in stored and not overwrite):
                    continue
                row = records.embeddings[i].astype(np.float32)
                record = stored.setdefault(record_id, StoredRecord(row))
                record.embedding = row
                record.merge(records.documents[i], records.metadatas[i], records.uris[i])

    def update(self, collection: Collection, changes: Sequence[Change]) -> None:
        """See `ports.Writer`; all changes or none."""
        self._write("update", [change.id for change in changes])
        with self._shared.lock:
            stored = self._records(collection)
            for change in changes:
                self._check(change.id, change.metadata or {})
                if change.embedding is not None:
                    self._check_dimension(collection, change.embedding.size)
            for change in changes:
                record = stored.get(change.id)
                if record is None or change.id in self.broken.forgotten:
                    continue
                if change.embedding is not None:
                    record.embedding = change.embedding.astype(np.float32)
                record.merge(change.document, change.metadata or {}, change.uri)
                record.uri = None if change.clear_uri else record.uri

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """See `ports.Writer`; records already gone are fine."""
        self._write("delete", ids)
        with self._shared.lock:
            stored = self._records(collection)
            for record_id in ids:
                if record_id not in self.broken.forgotten:
                    stored.pop(record_id, None)

    def check_writes(self, collection: Collection) -> None:
        """See `ports.Writer`; this one takes writes."""
        self.update(collection, ())

    # ---- within -----------------------------------------------------------------------------

    def _request(self, name: str, ids: Iterable[str] = ()) -> None:
        call = Call(name, tuple(ids))
        self._shared.calls.append(call)
        if self._shared.on_request is not None:
            self._shared.on_request(call)

    def _write(self, name: str, ids: Iterable[str] = ()) -> None:
        if self.side is Side.PRIMARY:
            raise ReadOnlyViolation(f"{name} on the primary", side=self.side)
        if self._permit is not None:
            self._permit()
        self._request(name, ids)

    def _collection(self, collection: Collection) -> Collection:
        try:
            return self._shared.collections[collection.id]
        except KeyError:
            raise NotFound("The collection is gone.", side=self.side, status=404) from None

    def _records(self, collection: Collection) -> dict[str, StoredRecord]:
        return self._shared.records[self._collection(collection).id]

    def _check_free(self, tenant: str, database: str, name: str, own_id: str) -> None:
        for other in self._shared.collections.values():
            if _in(other, tenant, database) and other.name == name and other.id != own_id:
                raise Conflict(f"The name {name!r} is taken.", side=self.side, status=409)

    def _check(self, record_id: str, metadata: Mapping[str, Any]) -> None:
        if not record_id or record_id in self.broken.refused:
            raise self._refusal(f"Record {record_id!r} is refused.")
        for key, value in metadata.items():
            if key.startswith(RESERVED_PREFIXES):
                raise self._refusal(f"Record {record_id!r} has the reserved key {key!r}.")
            if isinstance(value, list) and not self._capabilities.arrays:
                raise self._refusal(f"Record {record_id!r} has a list under {key!r}.")

    def _check_dimension(self, collection: Collection, width: int) -> None:
        now = self._collection(collection)
        if now.dimension is None:
            self._shared.collections[now.id] = replace(now, dimension=width)
        elif now.dimension != width:
            raise self._refusal(f"A dimension of {now.dimension} is expected, got {width}.")

    def _refusal(self, what: str) -> RequestRefused:
        return RequestRefused(what, side=self.side, status=400)

    def _rows(self, collection: Collection, ids: Iterable[str], *, embeddings: bool) -> Records:
        stored = self._records(collection)
        width = self._collection(collection).dimension or 0
        return rows_of(stored, list(ids), width, embeddings=embeddings)


def _in(collection: Collection, tenant: str, database: str) -> bool:
    return collection.tenant == tenant and collection.database == database

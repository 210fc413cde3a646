"""The two sides as the engine sees them: one that can only be read, one that can be written.

`ChromaReader` has no method that writes and its client refuses writes; nothing else is ever made
for the primary.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import structlog

from chromasync.chroma import capabilities as probing
from chromasync.chroma import decode, encode
from chromasync.chroma.client import Client, Connection
from chromasync.chroma.limits import Limits
from chromasync.definition import (
    changeable,
    same_effect,
    without_legacy,
    without_sparse_indexes,
)
from chromasync.errors import (
    Conflict,
    NotFound,
    QuotaExceeded,
    ReadOnlyViolation,
    RequestRefused,
    ServerFault,
    ServerUnreachable,
    TooLarge,
)
from chromasync.model import (
    Capabilities,
    Change,
    Collection,
    Definition,
    Records,
    Scalar,
    Side,
)
from chromasync.ports import Permit

CAPABILITIES_SECONDS = 300.0
MOST_ANSWER_BYTES = 32 * 1024 * 1024
"""Of one read of several records; parsing takes up to five times as much memory."""
EVERYTHING = ["documents", "metadatas", "uris"]

_log = structlog.get_logger(__name__)


class ChromaReader:
    """A Chroma server to read; see `ports.Reader`. Thread-safe."""

    def __init__(self, connection: Connection) -> None:
        self._open(connection, read_only=True)

    def _open(self, connection: Connection, *, read_only: bool) -> None:
        self.side = connection.side
        self._client = Client(connection, read_only=read_only)
        self._limits = Limits()
        self._probed: list[tuple[float, Capabilities]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection to the server."""
        self._client.close()

    @property
    def request_counts(self) -> dict[str, int]:
        """HTTP requests so far by outcome."""
        return self._client.request_counts

    def capabilities(self) -> Capabilities:
        """What the server can do, asked anew every five minutes."""
        now = time.monotonic()
        for probed_at, known in self._probed[-1:]:
            if now - probed_at < CAPABILITIES_SECONDS:
                return known
        found = probing.probe(self._client)
        self._probed[:] = [(now, found)]
        return found

    def list_databases(self, tenant: str) -> list[str]:
        """Names of the tenant's databases, sorted; empty when the tenant does not exist."""
        path = f"{_tenant(tenant)}/databases"
        try:
            return sorted(self._client.request("GET", path, decode.listed(decode.database_name)))
        except NotFound:
            return []

    def list_collections(self, tenant: str, database: str) -> list[Collection]:
        """Every collection of a database; empty when the database does not exist."""
        base = _database(tenant, database)
        parse = decode.listed(decode.collection)
        try:
            found = {c.id: c for c in self._client.request("GET", f"{base}/collections", parse)}
            total = self._client.request("GET", f"{base}/collections_count", decode.number)
        except NotFound:
            return []
        # a server that caps the list is asked for the rest in pages of the size it gave
        page = len(found)
        while page and len(found) < total:
            params = {"limit": page, "offset": len(found)}
            more = self._client.request("GET", f"{base}/collections", parse, params=params)
            before = len(found)
            found |= {c.id: c for c in more}
            if len(found) == before:
                break
        return list(found.values())

    def count(self, collection: Collection) -> int:
        """Number of records in a collection."""
        return self._client.request("GET", f"{_collection(collection)}/count", decode.number)

    def list_ids(self, collection: Collection, *, offset: int, limit: int) -> list[str]:
        """Up to `limit` ids from `offset` on, in the server's own order, in one answer.

        A server that caps its answers gives fewer; asking on from there is the caller's, because
        deletes may shift ids meanwhile.
        """
        while True:
            size = min(limit, self._ids_at_once(limit))
            content = {"include": [], "limit": size, "offset": offset}
            page: list[str] | None = self._get(collection, content, size, decode.ids)
            if page is not None:
                return page

    def read(
        self, collection: Collection, ids: Sequence[str], *, embeddings: bool = True
    ) -> Records:
        """The records with these ids, in the server's order; absent ones are left out.

        Raises:
            ServerFault: the server cannot give one of them; a smaller read finds which.
            TooLarge: together they do not fit into memory; a smaller read does.
        """
        include = [*EVERYTHING, "embeddings"] if embeddings else EVERYTHING
        parse = partial(decode.records, embeddings=embeddings)
        parts: list[Records] = []
        done = 0
        while done < len(ids):
            size = self._limits.rows_of_read((collection.dimension or 0) if embeddings else 0)
            wanted = list(ids[done : done + size])
            content = {"ids": wanted, "include": include}
            most_bytes = MOST_ANSWER_BYTES if len(wanted) > 1 else None
            part = self._get(collection, content, len(wanted), parse, most_bytes)
            if part is not None:
                parts.append(part)
                done += size
        return _joined(parts, collection, embeddings=embeddings)

    def _ids_at_once(self, limit: int) -> int:
        # ids alone have no limit but that of a quota
        capped = self._limits.now.read_records
        return capped if capped < Limits().now.read_records else limit

    def _get(
        self,
        collection: Collection,
        content: Mapping[str, Any],
        count: int,
        parse: Callable[[bytes], Any],
        most_bytes: int | None = None,
    ) -> Any:
        """The parsed answer of one `get`; None when a quota was learned and it shall be cut."""
        body = encode.plain_body(content, self.side)
        path = f"{_collection(collection)}/get"
        try:
            return self._client.request("POST", path, parse, body=body, most_bytes=most_bytes)
        except QuotaExceeded:
            if self._limits.quota_exceeded(read=count):
                return None
            raise


class ChromaWriter(ChromaReader):
    """A Chroma server to read and write; see `ports.Writer`. Thread-safe.

    Raises:
        ReadOnlyViolation: when made for the primary.
    """

    def __init__(self, connection: Connection) -> None:
        if connection.side is not Side.REPLICA:
            raise ReadOnlyViolation(
                "A writer for the primary was asked for.",
                side=connection.side,
                untouched="Nothing was sent.",
            )
        self._open(connection, read_only=False)
        self._permit: Permit | None = None
        self._turn = threading.Lock()

    def permitted_by(self, permit: Permit) -> ChromaWriter:
        """The same writer, calling `permit` before every attempt to send a write."""
        view = copy.copy(self)
        view._permit = permit  # noqa: SLF001 -- our own copy
        return view

    def ensure_database(self, tenant: str, database: str) -> None:
        """Create the tenant and the database where they are missing."""
        self._ensure(_tenant(tenant), "/api/v2/tenants", tenant)
        self._ensure(_database(tenant, database), f"{_tenant(tenant)}/databases", database)

    def create_collection(self, definition: Definition) -> Collection:
        """Create a collection; a lost answer is made up for by looking at what is there.

        Raises:
            Conflict: there is another collection of that name.
        """
        try:
            created = self._create(definition)
        except (Conflict, ServerUnreachable, ServerFault):
            # an attempt whose answer was lost may have created it
            found = self._find(definition.tenant, definition.database, definition.name)
            if found is None:
                raise
            created = _asked_for(found, definition, self.side)
        if dict(created.metadata) != dict(definition.metadata):
            self.modify_collection(created, metadata=definition.metadata)
            created = self._find(definition.tenant, definition.database, definition.name) or created
        return created

    def modify_collection(
        self,
        collection: Collection,
        *,
        name: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """Rename, replace the metadata ({} clears it), or change what can be changed of the index.

        Raises:
            Conflict: another collection has that name.
            NotFound: the collection is gone.
            RequestRefused: the server cannot do it.
        """
        content: dict[str, Any] = {}
        if name is not None:
            self._check_free(collection, name)
            content["new_name"] = name
        if metadata is not None:
            _check_scalars(metadata, self.side)
            # an empty object is refused; a null under any key leaves nothing
            content["new_metadata"] = dict(metadata) or {"cleared": None}
        if configuration is not None and (change := changeable(configuration)):
            if not self.capabilities().configuration:
                raise RequestRefused(
                    f"The {self._client.connection.place} cannot change the index's settings of "
                    f"collection {collection.name!r}.",
                    side=self.side,
                    untouched="The collection was left as it is.",
                )
            content["new_configuration"] = change
        if content:
            self._write("PUT", _collection(collection), encode.plain_body(content, self.side))

    def drop_collection(self, collection: Collection) -> None:
        """Drop it, whatever its name is by now; already gone is fine.

        Its records go first where the server can hold lists: those of a dropped collection would
        show up in records of other collections.
        """
        current = self._same(collection)
        if current is None:
            return
        try:
            if self.capabilities().arrays:
                self._empty(current)
            name = quote(current.name, safe="")
            path = f"{_database(current.tenant, current.database)}/collections/{name}"
            self._write("DELETE", path, None)
        except NotFound:
            return

    def batches(self, records: Records) -> list[Records]:
        """Cut records into what one request may carry, by bytes and by count."""
        runs = self._cut(encode.record_sizes(records, self.capabilities()))
        return [records] if len(runs) == 1 else [records.take(run) for run in runs]

    def change_batches(self, changes: Sequence[Change]) -> list[list[Change]]:
        """Cut changes into what one request may carry, by bytes and by count."""
        runs = self._cut(encode.change_sizes(changes, self.capabilities()))
        return [list(changes[run.start : run.stop]) for run in runs]

    def upsert(self, collection: Collection, records: Records) -> None:
        """Insert the records, or write over those that are there (metadata keys are merged)."""
        bodies = encode.upsert_bodies(records, self.capabilities(), self.side)
        self._write_records(collection, "upsert", bodies, len(records))

    def update(self, collection: Collection, changes: Sequence[Change]) -> None:
        """Change fields of existing records; unknown ids are passed over by the server."""
        bodies = encode.update_bodies(changes, self.capabilities(), self.side)
        self._write_records(collection, "update", bodies, len(changes))

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """Delete records, cut smaller when the server asks for it; those already gone are fine."""
        left = list(ids)
        while left:
            part = left[: self._ids_in_one_delete(left)]
            body = encode.ids_body(part, self.side)
            try:
                self._write_records(collection, "delete", [body], len(part))
            except (TooLarge, QuotaExceeded):
                if self._ids_in_one_delete(left) >= len(part):
                    raise  # the refusal taught nothing that would make it smaller
                continue
            del left[: len(part)]

    def _ids_in_one_delete(self, ids: Sequence[str]) -> int:
        most = self._limits.now.write_records
        return self._cut(encode.id_sizes(ids[:most]))[0].stop

    def _write_records(
        self, collection: Collection, action: str, bodies: Sequence[bytes], count: int
    ) -> None:
        path = f"{_collection(collection)}/{action}"
        for body in bodies:
            try:
                # A server applies one write after another, and answers two that came together
                # when both are done. In turns, one thread reads while the other's is applied.
                with self._turn:
                    self._write("POST", path, body)
            except TooLarge:
                self._limits.too_large(len(body))
                raise
            except QuotaExceeded:
                self._limits.quota_exceeded(written=count)
                raise

    def _write(self, method: str, path: str, body: bytes | None) -> None:
        self._client.request(method, path, decode.acknowledged, body=body, permit=self._permit)

    def _cut(self, sizes: Sequence[int]) -> list[range]:
        now = self._limits.now
        most = min(now.write_records, self.capabilities().max_batch_size)
        return encode.cut(sizes, now.body_bytes, most)

    def _ensure(self, path: str, parent: str, name: str) -> None:
        try:
            self._client.request("GET", path, decode.mapping)
        except NotFound:
            try:
                self._write("POST", parent, encode.plain_body({"name": name}, self.side))
            except Conflict:
                return  # someone else, or our own lost attempt, created it

    def _create(self, definition: Definition) -> Collection:
        _check_scalars(definition.metadata, self.side)
        *fuller, plainest = _attempts(definition)
        for attempt in fuller:
            try:
                return self._post_collection(attempt)
            except RequestRefused as error:
                _log.warning("schema refused", collection=definition.name, why=error.what)
        return self._post_collection(plainest)

    def _post_collection(self, definition: Definition) -> Collection:
        metadata = dict(definition.metadata)
        content: dict[str, Any] = {"name": definition.name, "get_or_create": False}
        if definition.schema is not None:
            content["schema"] = definition.schema
        elif definition.configuration is not None:
            content["configuration"] = definition.configuration
        if content.keys() & {"schema", "configuration"}:
            # any hnsw: key would make the server ignore the rest of the settings; they follow
            metadata = without_legacy(metadata)
        if metadata:
            content["metadata"] = metadata
        return self._client.request(
            "POST",
            f"{_database(definition.tenant, definition.database)}/collections",
            decode.collection_answer,
            body=encode.plain_body(content, self.side),
            permit=self._permit,
        )

    def _find(self, tenant: str, database: str, name: str) -> Collection | None:
        path = f"{_database(tenant, database)}/collections/{quote(name, safe='')}"
        try:
            return self._client.request("GET", path, decode.collection_answer)
        except NotFound:
            return None

    def _same(self, collection: Collection) -> Collection | None:
        """The collection with this id as it is now, looked up by name first."""
        found = self._find(collection.tenant, collection.database, collection.name)
        if found is not None and found.id == collection.id:
            return found
        listed = self.list_collections(collection.tenant, collection.database)
        return next((other for other in listed if other.id == collection.id), None)

    def _check_free(self, collection: Collection, name: str) -> None:
        found = self._find(collection.tenant, collection.database, name)
        if found is not None and found.id != collection.id:
            raise Conflict(
                f"The {self._client.connection.place} has another collection named {name!r}.",
                side=self.side,
                untouched=f"Collection {collection.name!r} keeps its name.",
            )

    def _empty(self, collection: Collection) -> None:
        while ids := self.list_ids(collection, offset=0, limit=self._limits.now.write_records):
            self.delete(collection, ids)


def _attempts(definition: Definition) -> Iterator[Definition]:
    """The definition, and what is left of it for a server that refuses its schema."""
    yield definition
    if definition.schema is not None and definition.configuration is not None:
        reduced = without_sparse_indexes(definition.schema)
        if reduced != definition.schema:
            yield replace(definition, schema=reduced)
        yield replace(definition, schema=None)


def _asked_for(found: Collection, definition: Definition, side: Side) -> Collection:
    """`found` if it is what `definition` asks for, apart from `hnsw:` keys that follow later."""
    wanted = Collection(
        "",
        definition.name,
        definition.tenant,
        definition.database,
        definition.metadata,
        definition.configuration or {},
        definition.schema,
    )
    metadatas = (dict(definition.metadata), without_legacy(definition.metadata))
    if same_effect(wanted, found) and dict(found.metadata) in metadatas:
        return found
    raise Conflict(
        f"A different collection named {definition.name!r} exists already.",
        side=side,
        untouched="It was left as it is.",
    )


def _check_scalars(metadata: Mapping[str, Any], side: Side) -> None:
    # a list here crashes the server's handler instead of being refused
    for key, value in metadata.items():
        if not isinstance(value, str | int | float | bool):
            raise RequestRefused(
                f"The collection's metadata key {key!r} holds a {type(value).__name__}, "
                "which Chroma cannot store there.",
                side=side,
                untouched="Nothing was sent.",
            )


def _joined(parts: Sequence[Records], collection: Collection, *, embeddings: bool) -> Records:
    if len(parts) == 1 and len(parts[0]):
        return parts[0]
    vectors = None
    if embeddings:
        filled = [p.embeddings for p in parts if p.embeddings is not None and len(p)]
        empty = np.empty((0, collection.dimension or 0), dtype=np.float32)
        vectors = np.concatenate(filled) if filled else empty
    return Records(
        ids=[name for part in parts for name in part.ids],
        documents=[document for part in parts for document in part.documents],
        metadatas=[metadata for part in parts for metadata in part.metadatas],
        uris=[uri for part in parts for uri in part.uris],
        embeddings=vectors,
    )


def _tenant(tenant: str) -> str:
    return f"/api/v2/tenants/{quote(tenant, safe='')}"


def _database(tenant: str, database: str) -> str:
    return f"{_tenant(tenant)}/databases/{quote(database, safe='')}"


def _collection(collection: Collection) -> str:
    return f"{_database(collection.tenant, collection.database)}/collections/{collection.id}"

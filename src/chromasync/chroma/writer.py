"""A Chroma server to read and to write: the replica.

A writer for the primary needs a name prefix; it writes only to collections with this prefix, which
each write checks. The self-test makes such a writer for its own collections; the engine makes none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import quote

from chromasync.chroma import decode, encode
from chromasync.chroma.brake import Brake
from chromasync.chroma.client import FAULT_ATTEMPTS
from chromasync.chroma.connection import Connection
from chromasync.chroma.pacer import Pacer
from chromasync.chroma.paths import collection_path, database_path, tenant_path
from chromasync.chroma.reader import ChromaReader, Shared
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
    ServerError,
    ServerFault,
    ServerUnreachable,
    TooLarge,
)
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import (
    MARKS_DATABASE,
    Change,
    Collection,
    Definition,
    Records,
    Scalar,
    Side,
)
from chromasync.ports import Permit

NOBODY = Change("chromasync-asks", document="Are writes taken?")
"""A change of a missing record, which servers ignore."""

_log = get_logger()


class SharedWrites(Shared):
    """The common state of all views of one server with writes.

    Attributes:
        brake: stops all writes when the server accepts none.
        asked_path: the path of the last written collection, for a write that changes nothing;
            never the path of the marks, which may have limits of their own.
        turn: the lock of the writing thread. It is reentrant: a permit may write the replica's
            mark before it allows the current write.
        prefix: the prefix of the names of all collections that may be written to.
    """

    def __init__(self, connection: Connection, prefix: str, pacer: Pacer | None) -> None:
        super().__init__(connection, read_only=False, pacer=pacer)
        self.prefix = prefix
        self.brake = Brake(connection.place, connection.side)
        self.asked_path: str | None = None
        self.turn = threading.RLock()


class ChromaWriter(ChromaReader):
    """A Chroma server to read and write; see `ports.Writer`. Thread-safe.

    Args:
        connection: how to reach it.
        prefix: what the names of all collections begin with that it may create and write to; for
            the replica it may be empty.

    Raises:
        ReadOnlyViolation: when made for the primary without a prefix; in each of its methods, when
            a collection of another name was to be written to.
    """

    _shared: SharedWrites

    def __init__(
        self, connection: Connection, pacer: Pacer | None = None, *, prefix: str = ""
    ) -> None:
        if connection.side is not Side.REPLICA and not prefix:
            raise ReadOnlyViolation(
                "A writer for the primary was asked for.",
                side=connection.side,
                untouched="Nothing was sent.",
            )
        self._look_at(SharedWrites(connection, prefix, pacer))
        self._permit: Permit | None = None

    def permitted_by(self, permit: Permit) -> ChromaWriter:
        """The same writer; it calls `permit` before every attempt of a write."""
        return _View(self._shared, permit)

    def ensure_database(self, tenant: str, database: str) -> None:
        """Create the tenant and the database if they are missing."""
        self._check_name("")
        self._ensure(tenant_path(tenant), "/api/v2/tenants", tenant)
        self._ensure(database_path(tenant, database), f"{tenant_path(tenant)}/databases", database)

    def create_collection(self, definition: Definition) -> Collection:
        """Create a collection; after a lost answer, look whether it was created.

        Raises:
            Conflict: a different collection has that name.
        """
        self._check_name(definition.name)
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
        """Rename, replace the metadata ({} clears it), or change changeable settings of the index.

        Raises:
            Conflict: another collection has that name.
            NotFound: the collection is gone.
            RequestRefused: the server cannot do it.
        """
        self._check_name(collection.name, name or collection.name)
        content: dict[str, Any] = {}
        if name is not None:
            self._check_free(collection, name)
            content["new_name"] = name
        if metadata is not None:
            _check_scalars(metadata, self.side)
            # the server refuses an empty object; a null under any key clears the metadata
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
            body = encode.plain_body(content, self.side)
            self._write("PUT", collection_path(collection), body, decode.acknowledged)

    def drop_collection(self, collection: Collection) -> None:
        """Drop the collection under its present name; do nothing if it is already gone.

        If the server can store lists, the records are deleted first: lists of a dropped collection
        would appear in records of other collections.
        """
        current = self._same(collection)
        if current is None:
            return
        self._check_name(current.name)
        try:
            if self.capabilities().arrays:
                self._empty(current)
            name = quote(current.name, safe="")
            path = f"{database_path(current.tenant, current.database)}/collections/{name}"
            self._write("DELETE", path, None, decode.acknowledged)
        except NotFound:
            return

    def most_records(self) -> int:
        """The most records that one write may have now; a refusal for a quota reduces it."""
        return min(self._limits.now.write_records, self.capabilities().max_batch_size)

    def batches(self, records: Records) -> list[Records]:
        """Cut records into batches for single requests, by bytes and by count."""
        runs = self._cut(encode.record_sizes(records, self.capabilities()))
        return [records] if len(runs) == 1 else [records.take(run) for run in runs]

    def change_batches(self, changes: Sequence[Change]) -> list[list[Change]]:
        """Cut changes into batches for single requests, by bytes and by count."""
        runs = self._cut(encode.change_sizes(changes, self.capabilities()))
        return [list(changes[run.start : run.stop]) for run in runs]

    def add(self, collection: Collection, records: Records) -> None:
        """Insert the records; the server leaves existing ones as they are, without an error."""
        bodies = encode.upsert_bodies(records, self.capabilities(), self.side)
        self._write_records(collection, "add", bodies, len(records))

    def upsert(self, collection: Collection, records: Records) -> None:
        """Insert the records, or overwrite existing ones (metadata keys are merged)."""
        bodies = encode.upsert_bodies(records, self.capabilities(), self.side)
        self._write_records(collection, "upsert", bodies, len(records))

    def update(self, collection: Collection, changes: Sequence[Change]) -> None:
        """Change fields of existing records; the server ignores unknown ids."""
        bodies = encode.update_bodies(changes, self.capabilities(), self.side)
        self._write_records(collection, "update", bodies, len(changes))

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """Delete records, in smaller requests if necessary; missing records are ignored."""
        left = list(ids)
        while left := self._limits.possible(left):
            part = left[: self._ids_in_one_delete(left)]
            body = encode.ids_body(part, self.side)
            try:
                self._write_records(collection, "delete", [body], len(part))
            except (TooLarge, QuotaExceeded):
                fitting = self._limits.possible(part)
                if fitting == part and self._ids_in_one_delete(left) >= len(part):
                    raise  # the refusal gave no reason for another request
                continue
            del left[: len(part)]

    def check_writes(self, collection: Collection) -> None:
        """Send a write that changes nothing to this collection.

        Raises:
            WritesRefused: the server accepts no writes.
        """
        with self._shared.turn:
            self._shared.asked_path = collection_path(collection)
            self._shared.brake.probe(self._ask)

    def _ids_in_one_delete(self, ids: Sequence[str]) -> int:
        most = self._limits.now.write_records
        return self._cut(encode.id_sizes(ids[:most]))[0].stop

    def _write_records(
        self, collection: Collection, action: str, bodies: Sequence[bytes], count: int
    ) -> None:
        self._check_name(collection.name)
        path = collection_path(collection)
        if collection.database != MARKS_DATABASE:
            self._shared.asked_path = path
        for body in bodies:
            try:
                self._write("POST", f"{path}/{action}", body, decode.acknowledged)
            except TooLarge:
                self._limits.too_large(len(body))
                raise
            except QuotaExceeded as error:
                self._limits.quota_exceeded(error.said, written=count)
                raise

    def _write(
        self, method: str, path: str, body: bytes | None, parse: Callable[[bytes], Any]
    ) -> Any:
        """Send one write, unless the brake is on; returns its parsed answer.

        Raises:
            WritesRefused: the server accepts no writes.
        """
        # A server applies one write after another, and answers two simultaneous writes only after
        # both. With turns, one thread reads while the server applies the other's write.
        with self._shared.turn:
            self._shared.brake.check(self._ask)
            most = 1 if self._shared.brake.in_doubt else None
            send = partial(
                self._client.request, method, path, parse, body=body, permit=self._permit
            )
            try:
                try:
                    value = send(most_attempts=most)
                except ServerUnreachable:
                    if most is None:
                        raise
                    value = send()  # wait as usual for a server that is away or busy
            except ServerError as error:
                sent = FAULT_ATTEMPTS if isinstance(error, ServerFault) and most is None else 1
                self._shared.brake.refused(error, sent, self._ask)
                raise
            self._shared.brake.taken()
            return value

    def _ask(self) -> bool:
        """Send a write that changes nothing, once; returns False if no collection is known."""
        path = self._shared.asked_path
        if path is None:
            return False
        (body,) = encode.update_bodies([NOBODY], self.capabilities(), self.side)
        try:
            self._client.request(
                "POST",
                f"{path}/update",
                decode.acknowledged,
                body=body,
                permit=self._permit,
                most_attempts=1,
            )
        except NotFound:
            self._shared.asked_path = None
            return False
        return True

    def _check_name(self, *names: str) -> None:
        prefix = self._shared.prefix
        if not all(name.startswith(prefix) for name in names):
            raise ReadOnlyViolation(
                f"A write to the {self._client.connection.place} was stopped: only collections "
                f"whose names begin with {prefix!r} may be written to.",
                side=self.side,
                untouched="Nothing was sent.",
            )

    def _cut(self, sizes: Sequence[int]) -> list[range]:
        return encode.cut(sizes, self._limits.now.body_bytes, self.most_records())

    def _ensure(self, path: str, parent: str, name: str) -> None:
        try:
            self._client.request("GET", path, decode.mapping)
        except NotFound:
            try:
                body = encode.plain_body({"name": name}, self.side)
                self._write("POST", parent, body, decode.acknowledged)
            except Conflict:
                return  # another process, or our own lost attempt, created it

    def _create(self, definition: Definition) -> Collection:
        _check_scalars(definition.metadata, self.side)
        *fuller, plainest = _attempts(definition)
        for attempt in fuller:
            try:
                return self._post_collection(attempt)
            except RequestRefused as error:
                _log.warning(Event.SCHEMA_REFUSED, name=definition.name, reason=error.what)
        return self._post_collection(plainest)

    def _post_collection(self, definition: Definition) -> Collection:
        metadata = dict(definition.metadata)
        content: dict[str, Any] = {"name": definition.name, "get_or_create": False}
        if definition.schema is not None:
            content["schema"] = definition.schema
        elif definition.configuration is not None:
            content["configuration"] = definition.configuration
        if content.keys() & {"schema", "configuration"}:
            # a hnsw: key would make the server ignore the other settings; the keys follow later
            metadata = without_legacy(metadata)
        if metadata:
            content["metadata"] = metadata
        path = f"{database_path(definition.tenant, definition.database)}/collections"
        body = encode.plain_body(content, self.side)
        parse = partial(decode.collection_answer, tenant=definition.tenant)
        created: Collection = self._write("POST", path, body, parse)
        return created

    def _find(self, tenant: str, database: str, name: str) -> Collection | None:
        path = f"{database_path(tenant, database)}/collections/{quote(name, safe='')}"
        parse = partial(decode.collection_answer, tenant=tenant)
        try:
            return self._client.request("GET", path, parse)
        except NotFound:
            return None

    def _same(self, collection: Collection) -> Collection | None:
        """The present state of the collection with this id, looked up by name first."""
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


class _View(ChromaWriter):
    """A writer with its own permit; it shares everything else with the original writer."""

    def __init__(self, shared: SharedWrites, permit: Permit) -> None:
        self._look_at(shared)
        self._permit = permit


def _attempts(definition: Definition) -> Iterator[Definition]:
    """The definition, and reduced definitions for a server that refuses its schema."""
    yield definition
    if definition.schema is not None and definition.configuration is not None:
        reduced = without_sparse_indexes(definition.schema)
        if reduced != definition.schema:
            yield replace(definition, schema=reduced)
        yield replace(definition, schema=None)


def _asked_for(found: Collection, definition: Definition, side: Side) -> Collection:
    """`found` if it matches `definition`, except `hnsw:` keys, which follow later."""
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
    # a list here crashes the server's handler; the server does not refuse it
    for key, value in metadata.items():
        if not isinstance(value, str | int | float | bool):
            raise RequestRefused(
                f"The collection's metadata key {key!r} holds a {type(value).__name__}, "
                "which Chroma cannot store there.",
                side=side,
                untouched="Nothing was sent.",
            )

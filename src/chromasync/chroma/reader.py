"""A read-only Chroma server for the engine.

`ChromaReader` has no method that writes, and its client refuses writes. The engine uses
only this class for the primary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Self, TypeVar

import numpy as np

from chromasync.chroma import capabilities as probing
from chromasync.chroma import decode, encode
from chromasync.chroma.client import Client
from chromasync.chroma.connection import Connection
from chromasync.chroma.decode import Answer
from chromasync.chroma.http_errors import Damaged, Malformed, Unexpected
from chromasync.chroma.limits import Limits
from chromasync.chroma.pacer import Pacer
from chromasync.chroma.paths import collection_path, database_path, tenant_path
from chromasync.errors import (
    NotFound,
    QuotaExceeded,
)
from chromasync.ledger.digest import text_digest
from chromasync.model import (
    Capabilities,
    Collection,
    Floats,
    Neighbours,
    Records,
    Traffic,
)
from chromasync.ports import Unchanged

CAPABILITIES_SECONDS = 300.0
MOST_ANSWER_BYTES = 32 * 1024 * 1024
"""Largest answer of a read of several records; parsing takes up to five times as much memory."""
MOST_FIRST_BYTES = 4 * 1024 * 1024
"""Largest answer of a read of a small collection."""
SMALLEST_CAP = 100
"""No server caps its answers below so many records, so an answer with fewer was not cut."""
EVERYTHING = ["documents", "metadatas", "uris"]

Part = TypeVar("Part", Answer | Records, Records)


class Shared:
    """The common state of all views of one server: its connections, limits and capabilities.

    Attributes:
        probed: the time of the last probe, and the capabilities that it found.
    """

    def __init__(
        self, connection: Connection, *, read_only: bool, pacer: Pacer | None = None
    ) -> None:
        self.side = connection.side
        self.client = Client(connection, read_only=read_only, pacer=pacer)
        self.limits = Limits()
        self.probed: tuple[float, Capabilities] | None = None


class ChromaReader:
    """A Chroma server to read; see `ports.Reader`. Thread-safe."""

    def __init__(self, connection: Connection, pacer: Pacer | None = None) -> None:
        self._look_at(Shared(connection, read_only=True, pacer=pacer))

    def _look_at(self, shared: Shared) -> None:
        self.side = shared.side
        self._shared = shared
        self._client = shared.client
        self._limits = shared.limits

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
        return self._client.meter.outcomes

    def traffic(self) -> Traffic:
        """The requests of this process to the server so far."""
        return self._client.meter.traffic

    @property
    def pacing(self) -> Pacer:
        """The pace of this process's requests to the server."""
        return self._client.pacer

    @property
    def token_tenant(self) -> str:
        """The tenant of our token, if it stands for the default tenant; empty if not."""
        return self._client.tenant.other

    @property
    def proxy(self) -> str:
        """The proxy through which the server is asked, without credentials; empty if directly."""
        return "" if self._client.proxy is None else str(self._client.proxy)

    def capabilities(self) -> Capabilities:
        """The capabilities of the server, probed again every five minutes."""
        now = time.monotonic()
        if self._shared.probed is not None:
            probed_at, known = self._shared.probed
            if now - probed_at < CAPABILITIES_SECONDS:
                return known
        found = probing.probe(self._client)
        self._shared.probed = (now, found)
        return found

    def list_databases(self, tenant: str) -> list[str]:
        """Names of the tenant's databases, sorted; empty when the tenant does not exist."""
        path = f"{tenant_path(tenant)}/databases"
        try:
            return sorted(self._client.request("GET", path, decode.listed(decode.database_name)))
        except NotFound:
            return []

    def list_collections(self, tenant: str, database: str) -> list[Collection]:
        """Every collection of a database; empty when the database does not exist."""
        base = database_path(tenant, database)
        parse = decode.listed(partial(decode.collection, tenant=tenant))
        try:
            found = {c.id: c for c in self._client.request("GET", f"{base}/collections", parse)}
            total = self._client.request("GET", f"{base}/collections_count", decode.number)
        except NotFound:
            return []
        # if the server limits the list, the rest is read in pages of the same size
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
        return self._client.request("GET", f"{collection_path(collection)}/count", decode.number)

    def list_ids(self, collection: Collection, *, offset: int, limit: int) -> list[str]:
        """Up to `limit` ids from `offset` on, in the server's own order, in one answer.

        A server that limits its answers returns fewer. The caller requests the rest, because
        deletes may shift ids meanwhile.
        """
        while True:
            size = min(limit, self._ids_at_once(limit))
            content = {"include": [], "limit": size, "offset": offset}
            page: list[str] | None = self._get(collection, content, size, decode.ids)
            if page is not None:
                return page

    def read(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        embeddings: bool = True,
        most_attempts: int | None = None,
        unchanged: Unchanged | None = None,
    ) -> Records:
        """The records with these ids, in the server's order; absent ones are left out.

        Args:
            embeddings: also read the embeddings.
            most_attempts: most attempts of a failing request; None means as usual.
            unchanged: asked about the whole answer if it has all these ids; the records come
                without embeddings if it says that they are known.

        Raises:
            ServerFault: the server cannot return a record; a smaller read finds the record.
            TooLarge: the records exceed the memory limit; use a smaller read.
        """
        if unchanged is None:
            parse = partial(decode.records, embeddings=embeddings)
            parts = self._read(
                collection, ids, parse, embeddings=embeddings, most_attempts=most_attempts
            )
            return _joined(parts, collection, embeddings=embeddings)
        answers = self._read(
            collection, ids, decode.answer, embeddings=True, most_attempts=most_attempts
        )
        found = undecoded(answers)
        if found is not None and len(found) == len(ids) and unchanged(found):
            return found
        try:
            parts = [a.decoded() if isinstance(a, Answer) else a for a in answers]
        except (Malformed, Unexpected, Damaged):
            return self.read(collection, ids, most_attempts=most_attempts)  # it says what is wrong
        digest = None if found is None else found.text_digest
        return replace(_joined(parts, collection, embeddings=True), text_digest=digest)

    def _read(
        self,
        collection: Collection,
        ids: Sequence[str],
        parse: Callable[[bytes], Part],
        *,
        embeddings: bool,
        most_attempts: int | None,
    ) -> list[Part]:
        """The answers for these ids, as few as the limits allow."""
        include = [*EVERYTHING, "embeddings"] if embeddings else EVERYTHING
        path = f"{collection_path(collection)}/get"
        parts: list[Part] = []
        left = list(ids)
        while left := self._limits.possible(left):
            size = self._limits.rows_of_read((collection.dimension or 0) if embeddings else 0)
            size = min(size, self._client.rows_at_once(path) or size)
            wanted = left[:size]
            # with a limit, a server that caps its answers refuses; without one, it may just cut
            content = {"ids": wanted, "include": include, "limit": len(wanted)}
            most_bytes = MOST_ANSWER_BYTES if len(wanted) > 1 else None
            part = self._get(
                collection,
                content,
                len(wanted),
                parse,
                most_bytes=most_bytes,
                most_attempts=most_attempts,
                rows=len(wanted),
            )
            if part is not None:
                parts.append(part)
                left = _cut_off(wanted, part) + left[size:]
        return parts

    def read_first(self, collection: Collection, limit: int) -> Records:
        """Up to `limit` whole records, in the server's own order, in one answer.

        Raises:
            ServerFault: the server cannot return a record.
            TooLarge: the records are larger than `MOST_FIRST_BYTES`.
        """
        content = {"include": [*EVERYTHING, "embeddings"], "limit": limit, "offset": 0}
        body = encode.plain_body(content, self.side)
        path = f"{collection_path(collection)}/get"
        parse = partial(decode.records, embeddings=True)
        return self._client.request(
            "POST", path, parse, body=body, most_bytes=MOST_FIRST_BYTES, most_attempts=1
        )

    def nearest(self, collection: Collection, vector: Floats, count: int) -> Neighbours:
        """The `count` records that are nearest to a vector of shape (dimension,).

        Raises:
            ServerFault: the index does not answer.
        """
        content = {
            "query_embeddings": [vector.tolist()],
            "n_results": count,
            "include": ["distances", "embeddings"],
        }
        body = encode.plain_body(content, self.side)
        path = f"{collection_path(collection)}/query"
        return self._client.request("POST", path, decode.neighbours, body=body)

    def _ids_at_once(self, limit: int) -> int:
        # only a quota limits the number of ids
        capped = self._limits.now.read_records
        return capped if capped < Limits().now.read_records else limit

    def _get(
        self,
        collection: Collection,
        content: Mapping[str, Any],
        count: int,
        parse: Callable[[bytes], Any],
        *,
        most_bytes: int | None = None,
        most_attempts: int | None = None,
        rows: int = 0,
    ) -> Any:
        """The parsed answer of one `get`; None when a new quota requires a smaller request."""
        body = encode.plain_body(content, self.side)
        path = f"{collection_path(collection)}/get"
        try:
            return self._client.request(
                "POST",
                path,
                parse,
                body=body,
                most_bytes=most_bytes,
                most_attempts=most_attempts,
                rows=rows,
            )
        except QuotaExceeded as error:
            if self._limits.quota_exceeded(error.said, read=count):
                return None
            raise


def undecoded(answers: Sequence[Answer | Records]) -> Records | None:
    """All records without embeddings, with the digest of their text; None without one."""
    if not all(isinstance(answer, Answer) for answer in answers):
        return None
    whole = [answer for answer in answers if isinstance(answer, Answer)]
    found = _columns([answer.found for answer in whole])
    return replace(found, text_digest=text_digest([answer.text for answer in whole]))


def _cut_off(wanted: Sequence[str], answer: Answer | Records) -> list[str]:
    """The ids to ask for again, because the answer lacks them and may have been cut."""
    part = answer.found if isinstance(answer, Answer) else answer
    if not SMALLEST_CAP <= len(part) < len(wanted):
        return []
    found = set(part.ids)
    return [record_id for record_id in wanted if record_id not in found]


def _joined(parts: Sequence[Records], collection: Collection, *, embeddings: bool) -> Records:
    if len(parts) == 1 and len(parts[0]):
        return parts[0]
    vectors = None
    if embeddings:
        filled = [p.embeddings for p in parts if p.embeddings is not None and len(p)]
        empty = np.empty((0, collection.dimension or 0), dtype=np.float32)
        vectors = np.concatenate(filled) if filled else empty
    return replace(_columns(parts), embeddings=vectors)


def _columns(parts: Sequence[Records]) -> Records:
    """The records of several answers, without their embeddings."""
    return Records(
        ids=[name for part in parts for name in part.ids],
        documents=[document for part in parts for document in part.documents],
        metadatas=[metadata for part in parts for metadata in part.metadatas],
        uris=[uri for part in parts for uri in part.uris],
        embeddings=None,
    )

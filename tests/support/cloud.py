"""A stand-in for Chroma Cloud: a real Chroma server behind what is published about the Cloud.

It enforces the token (`x-chroma-token`), the one tenant of the token, and the quotas of the page
"Quotas & Limits". What that page leaves open follows Chroma's public source: the words of a
refusal (`rust/frontend/src/quota`), the order of the checks, the limit that a read without one
gets, the order of records in several shards, and SPANN instead of HNSW indexes.

What it cannot show: latency, prices, and what Chroma Cloud does beyond its published behaviour.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
import uuid
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from chromasync.lab.proxy import Answer, Fault, RecordingProxy, Request, Rewrite

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

TOKEN = "ck-8sUnuFBN2TthkYt4oc"
DENIED = "Permission denied."
BUSY = "Too many requests; backoff and try again"
MAX_BATCH_SIZE = 1000
"""What its pre-flight checks say, although a write may have only 300 records."""

WRITES = ("add", "update", "upsert", "delete")
READS = ("get", "query", "count")
SPANN = {
    "search_nprobe": 64,
    "write_nprobe": 32,
    "ef_construction": 200,
    "ef_search": 200,
    "max_neighbors": 64,
    "reassign_neighbor_count": 64,
    "split_threshold": 50,
    "merge_threshold": 25,
}
_OPEN = re.compile(r"/api/v2(/(heartbeat|version|healthcheck|pre-flight-checks))?|/openapi\.json")
_PLACE = re.compile(r"/api/v2/tenants(?:/([^/]+)(?:/databases(?:/([^/]+)(?:/(.*))?)?)?)?")
_RECORDS = re.compile(r"collections/([^/]+)/(\w+)")

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Quotas:
    """The published quotas; sizes in bytes of UTF-8."""

    dimension: int = 4096
    document: int = 16_384
    uri: int = 256
    id: int = 128
    name: int = 128
    value: int = 8_182
    collection_value: int = 256
    key: int = 36
    keys: int = 32
    results: int = 300
    concurrent: int = 10
    records: int = 300


class QuotaBroken(Exception):
    """A request breaks a quota; the text is the message of the answer."""


class CloudStandIn(RecordingProxy):
    """The stand-in; the tenant of its token is one of the server behind it.

    Args:
        upstream_url: a real Chroma server.
        quotas: what it enforces.
        shards: into how many shards the records of each collection fall.
        cuts: a read whose limit is too high is cut without a word instead of refused.
        databases: those that are there from the beginning.

    Attributes:
        token: the only one that is right.
        tenant: the tenant of the token.
        throttle: called with each request for records; True answers 429.
        retry_after: the value of that answer's header; None for no header.
        refused: how many requests were refused, by status.
    """

    def __init__(
        self,
        upstream_url: str,
        *,
        quotas: Quotas | None = None,
        shards: int = 1,
        cuts: bool = False,
        databases: Iterable[str] = ("main",),
    ) -> None:
        super().__init__(upstream_url, keep_bodies=True)
        self.tenant = str(uuid.uuid4())
        self.token = TOKEN
        self.quotas = quotas or Quotas()
        self.shards = shards
        self.cuts = cuts
        self.throttle: Callable[[Request], bool] = lambda _: False
        self.retry_after: int | None = None
        self.refused: Counter[int] = Counter()
        self._databases = tuple(databases)
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()
        self._thread = threading.local()

    def start(self) -> Self:
        """Listen; the tenant and its databases are there when this returns."""
        self._upstream("POST", "/api/v2/tenants", {"name": self.tenant})
        for database in self._databases:
            self._upstream("POST", f"/api/v2/tenants/{self.tenant}/databases", {"name": database})
        return super().start()

    # ---- one request ------------------------------------------------------------------------

    def fault_for(self, request: Request) -> Fault | None:
        """Check a request as the Cloud does: token, tenant, load, quotas."""
        fault = super().fault_for(request) or self._checked(request)
        if isinstance(fault, Answer) and fault.status >= 400:
            with self._counting:
                self.refused[fault.status] += 1
        return fault

    def record(self, request: Request) -> None:
        """Remember a finished request, and free its place among those of its collection."""
        key = getattr(self._thread, "key", None)
        if key is not None:
            self._thread.key = None
            with self._counting:
                self._under_way[key] -= 1
        super().record(request)

    def _checked(self, request: Request) -> Fault | None:
        path = urlsplit(request.path).path
        if _OPEN.fullmatch(path):
            is_check = path.endswith("/pre-flight-checks")
            return Rewrite(answer=_with_batch_size) if is_check else None
        given = {name.lower(): value for name, value in request.headers.items()}
        if given.get("x-chroma-token") != self.token:
            return refusal(401, DENIED)
        if path == "/api/v2/auth/identity":
            return self._identity()
        place = _PLACE.fullmatch(path)
        if place is None or place[1] != self.tenant:
            return refusal(403, DENIED)
        return self._within(request, place[3] or "")

    def _within(self, request: Request, rest: str) -> Fault | None:
        try:
            body = json.loads(request.body) if request.body else {}
            return self._in_tenant(request, rest, body)
        except QuotaBroken as broken:
            return refusal(422, f"Quota exceeded: {broken}")

    def _identity(self) -> Answer:
        listed = self._upstream("GET", f"/api/v2/tenants/{self.tenant}/databases")
        names = [database["name"] for database in listed]
        return answer(200, {"user_id": "someone", "tenant": self.tenant, "databases": names})

    def _in_tenant(self, request: Request, rest: str, body: Body) -> Fault | None:
        records = _RECORDS.fullmatch(rest)
        if records is not None and records[2] in (*READS, *WRITES):
            return self._records(request, records[1], records[2], body)
        if rest == "collections" and request.method == "GET":
            return self._listing(request)
        if request.method == "POST":
            action = "Create Collection" if rest else "Create Database"
            self._check_definition(action, body.get("name"), body.get("metadata"))
        if request.method == "PUT":
            new = body.get("new_name"), body.get("new_metadata")
            self._check_definition("Update Collection", *new)
        return Rewrite(answer=_as_cloud) if rest else None

    def _listing(self, request: Request) -> Rewrite:
        query = urlsplit(request.path).query
        given = re.search(r"limit=(\d+)", query)
        limit = self._limit("List Collections", int(given[1]) if given else None)
        rest = [part for part in query.split("&") if part and not part.startswith("limit=")]
        path = f"{urlsplit(request.path).path}?{'&'.join([*rest, f'limit={limit}'])}"
        return Rewrite(path=path, answer=_as_cloud)

    # ---- records ----------------------------------------------------------------------------

    def _records(self, request: Request, collection: str, action: str, body: Body) -> Fault | None:
        kind = "write" if action in WRITES else "read"
        if self.throttle(request) or not self._enters(collection, kind):
            headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
            return refusal(429, BUSY, headers)
        if action in WRITES:
            self._check_write(action.capitalize(), body)
        elif action == "query":
            self._check("Number of results", "Query", body.get("n_results", 10), "results")
        elif action == "get":
            self._check_sizes("Get", body.get("ids"), "ID size (bytes)", "id")
            return self._get(request, body)
        return None

    def _enters(self, collection: str, kind: str) -> bool:
        key = collection, kind
        with self._counting:
            if self._under_way[key] >= self.quotas.concurrent:
                return False
            self._under_way[key] += 1
        self._thread.key = key
        return True

    def _get(self, request: Request, body: Body) -> Rewrite:
        body["limit"] = limit = self._limit("Get", body.get("limit"))
        if self.shards == 1 or body.get("ids") is not None or body.get("where"):
            return Rewrite(body=json.dumps(body).encode())
        path = urlsplit(request.path).path
        every = self._upstream("POST", path, {"include": []})["ids"]
        every.sort(key=lambda record_id: zlib.crc32(record_id.encode()) % self.shards)
        offset = body.pop("offset", None) or 0
        body["ids"] = chosen = every[offset : offset + limit]
        return Rewrite(body=json.dumps(body).encode(), answer=lambda got: _ordered(got, chosen))

    def _limit(self, action: str, given: int | None) -> int:
        most = self.quotas.results
        if given is not None and not self.cuts:
            self._check("Limit value", action, given, "results")
        return most if given is None else min(given, most)

    # ---- quotas -----------------------------------------------------------------------------

    def _check(self, usage: str, action: str, used: int, quota: str) -> None:
        most = getattr(self.quotas, quota)
        if used > most:
            raise QuotaBroken(
                f"'{usage}' exceeded quota limit for action '{action}': "
                f"current usage of {used} exceeds limit of {most}"
            )

    def _check_definition(self, action: str, name: str | None, metadata: Body | None) -> None:
        self._check("Name size (bytes)", action, _size(name), "name")
        self._check_metadata(action, metadata, "collection_value")

    def _check_metadata(self, action: str, metadata: Body | None, quota: str = "value") -> None:
        metadata = metadata or {}
        self._check("Number of metadata dictionary keys", action, len(metadata), "keys")
        for key, value in metadata.items():
            self._check("Size of metadata dictionary key (bytes)", action, _size(key), "key")
            usage = "Size of metadata dictionary value (bytes)"
            self._check(usage, action, _size(value), quota)

    def _check_write(self, action: str, body: Body) -> None:
        ids = body.get("ids") or []
        self._check("Number of records", action, len(ids), "records")
        self._check_sizes(action, ids, "ID size (bytes)", "id")
        self._check_sizes(action, body.get("documents"), "Document size (bytes)", "document")
        self._check_sizes(action, body.get("uris"), "URI size (bytes)", "uri")
        for vector in body.get("embeddings") or []:
            self._check("Embedding dimension", action, _dimension(vector), "dimension")
        for metadata in body.get("metadatas") or []:
            self._check_metadata(action, metadata)

    def _check_sizes(self, action: str, values: Any, usage: str, quota: str) -> None:
        for value in values or []:
            self._check(usage, action, _size(value), quota)

    def _upstream(self, method: str, path: str, body: Body | None = None) -> Any:
        address = urlsplit(self.upstream_url)
        connection = http.client.HTTPConnection(address.hostname or "", address.port)
        try:
            headers = {"content-type": "application/json"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def refusal(status: int, message: str, headers: Mapping[str, str] | None = None) -> Answer:
    """An error in Chroma's form."""
    return answer(status, {"error": "ChromaError", "message": message}, headers)


def answer(status: int, content: Body, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with JSON."""
    typed = {"content-type": "application/json"} | dict(headers or {})
    return Answer(status, json.dumps(content).encode(), typed)


def _size(value: Any) -> int:
    """Bytes of a text; other values are short."""
    if isinstance(value, list):
        return sum(_size(one) for one in value)
    return len(value.encode()) if isinstance(value, str) else 8


def _dimension(vector: Any) -> int:
    return len(base64.b64decode(vector)) // 4 if isinstance(vector, str) else len(vector or ())


def _with_batch_size(body: bytes) -> bytes:
    return json.dumps(json.loads(body) | {"max_batch_size": MAX_BATCH_SIZE}).encode()


def _ordered(body: bytes, ids: list[str]) -> bytes:
    """The answer to a `get` with its records in this order."""
    got = json.loads(body)
    places = {record_id: place for place, record_id in enumerate(got["ids"])}
    rows = [places[record_id] for record_id in ids if record_id in places]
    for name in ("ids", "embeddings", "documents", "metadatas", "uris"):
        if got.get(name) is not None:
            got[name] = [got[name][row] for row in rows]
    return json.dumps(got).encode()


def _as_cloud(body: bytes) -> bytes:
    """An answer whose collections have SPANN indexes instead of HNSW ones."""
    content = json.loads(body)
    for entry in content if isinstance(content, list) else [content]:
        if isinstance(entry, dict) and "configuration_json" in entry:
            _make_spann(entry["configuration_json"])
            for config in _vector_configs(entry.get("schema") or {}):
                _make_spann(config)
    return json.dumps(content).encode()


def _make_spann(settings: Body) -> None:
    hnsw = settings.get("hnsw")
    if hnsw is not None:
        space = {"space": hnsw["space"]} if "space" in hnsw else {}
        settings |= {"hnsw": None, "spann": space | SPANN}


def _vector_configs(schema: Body) -> Iterator[Body]:
    places = [schema.get("defaults"), (schema.get("keys") or {}).get("#embedding")]
    for types in places:
        index = ((types or {}).get("float_list") or {}).get("vector_index") or {}
        if index.get("config"):
            yield index["config"]


def cloud_client(cloud: CloudStandIn) -> ClientAPI:
    """The official client of the Cloud for a stand-in with one database, by the token alone."""
    import chromadb
    from chromadb.config import Settings

    address = urlsplit(cloud.url)
    return chromadb.CloudClient(
        api_key=cloud.token,
        settings=Settings(anonymized_telemetry=False, chroma_server_ssl_verify=False),
        cloud_host=address.hostname or "",
        cloud_port=address.port or 0,
        enable_ssl=False,
    )

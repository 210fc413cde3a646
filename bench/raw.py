"""The physical limit: requests that were built before the clock starts, sent as they are."""

from __future__ import annotations

import base64
import http.client
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench.records import Data

BATCH = 1000
COLLECTIONS = "/api/v2/tenants/default_tenant/databases/default_database/collections"
EVERYTHING = ["embeddings", "documents", "metadatas", "uris"]


class RefusedRequest(Exception):
    """The server did not take one of our requests."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST, ready to go."""

    path: str
    body: bytes


class Connection:
    """One kept-alive connection to a loopback server."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._http = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)

    def send(self, request: Request) -> bytes:
        """The answer's body, undecoded; raises RefusedRequest unless the status is 2xx."""
        self._http.request("POST", request.path, request.body, {"content-type": "application/json"})
        answer = self._http.getresponse()
        body = answer.read()
        if answer.status >= 300:
            raise RefusedRequest(f"{request.path}: {answer.status} {body[:300]!r}")
        return body

    def close(self) -> None:
        """Close it."""
        self._http.close()


def create(connection: Connection, data: Data) -> str:
    """Create the collection and return its id."""
    body = {"name": data.name, "metadata": data.metadata, "configuration": data.configuration}
    created = orjson.loads(connection.send(Request(COLLECTIONS, orjson.dumps(body))))
    return str(created["id"])


def add_requests(collection_id: str, data: Data, batch: int = BATCH) -> list[Request]:
    """Requests that add all records, embeddings as base64."""
    path = f"{COLLECTIONS}/{collection_id}/add"
    return [
        Request(path, orjson.dumps(_columns(data, start, start + batch)))
        for start in range(0, len(data), batch)
    ]


def _columns(data: Data, start: int, stop: int) -> dict[str, Any]:
    return {
        "ids": data.ids[start:stop],
        "embeddings": [
            base64.b64encode(row.tobytes()).decode() for row in data.embeddings[start:stop]
        ],
        "documents": data.documents[start:stop],
        "metadatas": data.metadatas[start:stop],
        "uris": data.uris[start:stop],
    }


def ingest(url: str, collections: Sequence[Data], batch: int = BATCH) -> dict[str, float]:
    """Create the collections and add all records; the clock runs only while records are sent."""
    connection = Connection(url)
    requests = [
        request
        for data in collections
        for request in add_requests(create(connection, data), data, batch)
    ]
    started = time.perf_counter()
    for request in requests:
        connection.send(request)
    seconds = time.perf_counter() - started
    connection.close()
    return {"seconds": seconds, "bytes": sum(len(request.body) for request in requests)}


def read_requests(url: str, batch: int = BATCH) -> list[Request]:
    """Requests that read everything by id, in pages of `batch`."""
    address = urlsplit(url)
    listing = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)
    listing.request("GET", COLLECTIONS)
    collections = orjson.loads(listing.getresponse().read())
    listing.close()
    connection = Connection(url)
    requests = []
    for collection in collections:
        path = f"{COLLECTIONS}/{collection['id']}/get"
        ids = orjson.loads(connection.send(Request(path, orjson.dumps({"include": []}))))["ids"]
        requests += [
            Request(path, orjson.dumps({"ids": ids[i : i + batch], "include": EVERYTHING}))
            for i in range(0, len(ids), batch)
        ]
    connection.close()
    return requests


def read_everything(url: str, threads: int, count: int = 1) -> dict[str, float]:
    """Send all read requests over `threads` connections and drop the answers undecoded.

    Args:
        count: how often; the median counts.
    """
    requests = read_requests(url)
    shares = [requests[i::threads] for i in range(threads)]
    connections = [Connection(url) for _ in shares]

    def work(connection: Connection, share: Sequence[Request]) -> int:
        return sum(len(connection.send(request)) for request in share)

    took = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(count):
            started = time.perf_counter()
            received = sum(pool.map(work, connections, shares))
            took.append(time.perf_counter() - started)
    for connection in connections:
        connection.close()
    return {"seconds": median(took), "bytes": received, "count": count}

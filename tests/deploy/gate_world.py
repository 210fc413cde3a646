"""A Chroma server with content behind the applications' gate, and what reaches it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from tests.deploy.gate import Gate, running_gate
from tests.support.stage import client_of, close_client, fill

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

PLACE = "/api/v2/tenants/default_tenant/databases/default_database/collections"
UNKNOWN = "0" * 8 + "-0000-0000-0000-" + "0" * 12
READING = ("get", "query", "search")
BODY = {"ids": ["r0", "sneaked"], "embeddings": [[0.5] * 8, [0.25] * 8], "name": "sneaked"}
"""Whatever writes changes something with this: add, update, upsert, delete, or a creation."""


@dataclass
class World:
    """A server with content behind a gate, and what reaches it."""

    server: ChromaServer
    seen: RecordingProxy
    gate: Gate
    direct: ClientAPI
    client: ClientAPI

    def content(self) -> list[Any]:
        """All that the server holds."""
        return content_of(self.server.url)

    @property
    def docs(self) -> str:
        """The path of the collection that has records."""
        return f"{PLACE}/{self.direct.get_collection('docs', embedding_function=None).id}"


def content_of(url: str) -> list[Any]:
    """All that a server holds in its first tenant."""
    found: list[Any] = []
    tenant = f"{url}/api/v2/tenants/default_tenant/databases"
    everything = {"include": ["embeddings", "documents", "metadatas", "uris"]}
    with httpx2.Client(verify=False, timeout=60) as http:
        for database in sorted(http.get(tenant).json(), key=lambda d: str(d["name"])):
            place = f"{tenant}/{database['name']}/collections"
            for collection in http.get(place).json():
                records = http.post(f"{place}/{collection['id']}/get", json=everything).json()
                found.append((database, collection, records))
            found.append(database)
    return found


def prepare(client: ClientAPI) -> None:
    """Collections with and without records, some of them named like a way to read."""
    fill(client.create_collection("docs", embedding_function=None), 20)
    for name in ("old", *READING):
        client.create_collection(name, embedding_function=None)
    for name in ("spare", *READING):
        admin(client).create_database(name, "default_tenant")


def enter_world(stack: ExitStack, folder: Path) -> World:
    """A world, which ends with the stack."""
    server = stack.enter_context(ChromaServer())
    seen = stack.enter_context(RecordingProxy(server.url, keep_bodies=True))
    gate = stack.enter_context(running_gate(seen.url, folder))
    direct, client = (client_of(url, "default_database") for url in (server.url, gate.url))
    stack.callback(close_client, direct)
    stack.callback(close_client, client)
    prepare(direct)
    return World(server, seen, gate, direct, client)


def docs(client: ClientAPI) -> Any:
    """The collection with records."""
    return client.get_collection("docs", embedding_function=None)


def admin(client: ClientAPI) -> Any:
    """The part of a client that cares for databases and tenants."""
    inside: Any = client
    return inside._admin_client

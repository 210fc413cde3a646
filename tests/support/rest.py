"""A Chroma server over plain REST: for what the official client cannot say, or old servers' ears.

It knows nothing of the transport under test, so it can judge it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import httpx2
import numpy as np

TENANT = "default_tenant"
PAGE = 1000


class Record(NamedTuple):
    """One record as the server gives it; a null metadata is an empty one."""

    embedding: list[float]
    document: str | None
    metadata: dict[str, Any]
    uri: str | None


class Rest:
    """One database of one server, both created where they are missing."""

    def __init__(self, url: str, database: str, tenant: str = TENANT) -> None:
        self._http = httpx2.Client(base_url=f"{url}/api/v2", timeout=60, verify=False)
        self._base = f"/tenants/{tenant}/databases/{database}"
        self._ensure("/tenants", tenant)
        self._ensure(f"/tenants/{tenant}/databases", database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request under the database's path; its answer."""
        content = None if body is None else json.dumps(body)
        answer = self._http.request(
            method,
            self._base + path,
            content=content,
            headers={"content-type": "application/json"},
        )
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text[:300])
        return answer.json() if answer.content else None

    def collections(self) -> dict[str, dict[str, Any]]:
        """What the server says of each collection, by name."""
        return {entry["name"]: entry for entry in self.call("GET", "/collections")}

    def create(self, name: str = "docs", **definition: Any) -> str:
        """A new collection's id."""
        created = self.call("POST", "/collections", {"name": name, **definition})
        return str(created["id"])

    def modify(self, name: str, **change: Any) -> None:
        """Change a collection: `new_name`, `new_metadata`, `new_configuration`."""
        self.call("PUT", f"/collections/{self.id_of(name)}", change)

    def drop(self, name: str) -> None:
        """Drop a collection."""
        self.call("DELETE", f"/collections/{quote(name, safe='')}")

    def drop_database(self) -> None:
        """Drop the whole database."""
        self.call("DELETE", "")

    def write(self, action: str, name: str = "docs", /, **columns: Any) -> None:
        """Add, upsert, update or delete records; embeddings as lists of floats."""
        self.call("POST", f"/collections/{self.id_of(name)}/{action}", columns)

    def id_of(self, name: str) -> str:
        """The id of the collection of this name."""
        return str(self.call("GET", f"/collections/{quote(name, safe='')}")["id"])

    def records(self, name: str = "docs") -> dict[str, Record]:
        """Every record of a collection by id, in the server's order."""
        path = f"/collections/{self.id_of(name)}/get"
        include = ["embeddings", "documents", "metadatas", "uris"]
        found: dict[str, Record] = {}
        while True:
            page = {"limit": PAGE, "offset": len(found), "include": include}
            got = self.call("POST", path, page)
            columns = (got["embeddings"], got["documents"], got["metadatas"], got["uris"])
            for record_id, row in zip(got["ids"], zip(*columns, strict=True), strict=True):
                embedding, document, metadata, uri = row
                exact = np.asarray(embedding, dtype=np.float32).tolist()
                found[record_id] = Record(exact, document, metadata or {}, uri)
            if len(got["ids"]) < PAGE:
                return found

    def _ensure(self, parent: str, name: str) -> None:
        if self._http.get(f"{parent}/{name}").status_code != 200:
            self._http.post(parent, json={"name": name}).raise_for_status()

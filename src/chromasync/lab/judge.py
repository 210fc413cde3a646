"""Compares two Chroma servers through the official client, without our own code.

It reads both sides in a slow and simple way. The demo uses it at its end, and the bench for every
contender, because they need an independent result.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

if TYPE_CHECKING:  # the official client takes a second to import
    from chromadb import Collection
    from chromadb.api import ClientAPI

PAGE = 1000
COSINE_TOLERANCE = 1e-6
"""Tolerance for a row's length: a cosine collection stores unit vectors and their lengths."""
FLOAT_TOLERANCE = 1e-15
"""Relative: Chroma's parser is off by one unit in the last place for some decimal texts."""
EXAMPLES = 5


@dataclass(slots=True)
class Judgement:
    """Differences, counted by kind: collection, definition, missing, extra, or a field's name."""

    records: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def note(self, kind: str, where: str) -> None:
        """Count one difference; the first few are kept by name."""
        self.differences[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{kind}: {where}")

    def __str__(self) -> str:
        if self.identical:
            return "identical"
        return ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.differences.items()))


def connect(
    url: str, tenant: str = "default_tenant", database: str = "default_database"
) -> ClientAPI:
    """The official client for one database of a loopback server."""
    import chromadb  # noqa: PLC0415 - takes a second
    from chromadb.config import Settings as ClientSettings  # noqa: PLC0415 - same

    address = urlsplit(url)
    return chromadb.HttpClient(
        host=address.hostname or "",
        port=address.port or 0,
        tenant=tenant,
        database=database,
        settings=ClientSettings(anonymized_telemetry=False),
    )


def close(client: ClientAPI) -> None:
    """Close an official client, and the connections that its own `close` leaves open."""
    inside: Any = client
    with suppress(AttributeError):
        for api in (inside._server, inside._admin_client._server):  # noqa: SLF001 -- no other way
            api._session.close()  # noqa: SLF001 -- same
        inside.close()


def collections_of(client: ClientAPI) -> dict[str, Collection]:
    """The collections of the client's database by name."""
    return {collection.name: collection for collection in client.list_collections()}


def judge(primary: ClientAPI, replica: ClientAPI) -> Judgement:
    """Compare the whole content of the clients' database on both servers."""
    judgement = Judgement()
    ours, theirs = collections_of(primary), collections_of(replica)
    for name in sorted(ours.keys() ^ theirs.keys()):
        judgement.note("collection", f"{name!r} is on one side only")
    for name in sorted(ours.keys() & theirs.keys()):
        if definition_of(ours[name]) != definition_of(theirs[name]):
            judgement.note("definition", repr(name))
        _judge_records(ours[name], theirs[name], judgement)
    return judgement


def definition_of(collection: Collection) -> dict[str, Any]:
    """The settings that affect searches: metadata, distance and the parameters of the index."""
    index: Mapping[str, Any] = collection.configuration.get("hnsw") or {}
    parameters = ("space", "ef_construction", "ef_search", "max_neighbors")
    return {
        "metadata": dict(collection.metadata or {}),
        **{name: index.get(name) for name in parameters},
    }


def _judge_records(primary: Collection, replica: Collection, judgement: Judgement) -> None:
    ids = primary.get(include=[])["ids"]
    known = set(ids)
    for extra in replica.get(include=[])["ids"]:
        if extra not in known:
            judgement.note("extra", f"{extra!r} in {replica.name!r}")
    for start in range(0, len(ids), PAGE):
        judge_page(primary, replica, ids[start : start + PAGE], judgement)


def judge_page(
    primary: Collection, replica: Collection, ids: Sequence[str], judgement: Judgement
) -> None:
    """Compare the records with these ids, as many as fit into one request."""
    space = (primary.configuration.get("hnsw") or {}).get("space", "l2")
    theirs = records_by_id(replica, ids)
    for record_id, record in records_by_id(primary, ids).items():
        judgement.records += 1
        for kind in _differing(record, theirs.get(record_id), str(space)):
            judgement.note(kind, f"{record_id!r} in {primary.name!r}")


def records_by_id(collection: Collection, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The records with these ids, each with its embedding, document, metadata and uri."""
    got = collection.get(ids=list(ids), include=["embeddings", "documents", "metadatas", "uris"])
    columns: list[Any] = [got["embeddings"], got["documents"], got["metadatas"], got["uris"]]
    fields = ("embedding", "document", "metadata", "uri")
    return {
        record_id: dict(zip(fields, row, strict=True))
        for record_id, row in zip(got["ids"], zip(*columns, strict=True), strict=True)
    }


def _differing(
    ours: Mapping[str, Any], theirs: Mapping[str, Any] | None, space: str
) -> Iterator[str]:
    if theirs is None:
        yield "missing"
        return
    if not same_embedding(ours["embedding"], theirs["embedding"], space):
        yield "embedding"
    for name in ("document", "uri"):
        if ours[name] != theirs[name]:
            yield name
    if not same_metadata(ours["metadata"] or {}, theirs["metadata"] or {}):
        yield "metadata"


def same_embedding(ours: Any, theirs: Any, space: str) -> bool:
    """Whether two embeddings are equal, bit by bit except for cosine's rounding."""
    a, b = (np.asarray(row, dtype=np.float64) for row in (ours, theirs))
    if a.shape != b.shape or space != "cosine":
        return np.array_equal(a, b)
    return bool(np.abs(a - b).max() <= COSINE_TOLERANCE * np.linalg.norm(a))


def same_metadata(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two metadata have the same keys and values, types included."""
    return ours.keys() == theirs.keys() and all(_same_value(ours[k], theirs[k]) for k in ours)


def _same_value(ours: Any, theirs: Any) -> bool:
    if type(ours) is not type(theirs):
        return False
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_same_value, ours, theirs))
    if isinstance(ours, float):
        return math.isclose(ours, theirs, rel_tol=FLOAT_TOLERANCE)
    return bool(ours == theirs)

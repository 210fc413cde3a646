"""Records, definitions and endpoints that the transport tests share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from chromasync.chroma import ChromaReader, ChromaWriter, Connection
from chromasync.model import Collection, Definition, Metadata, Records, Side

TENANT, DATABASE = "default_tenant", "default_database"
QUICK = {"attempts": 3, "wait_initial_seconds": 0.01, "wait_max_seconds": 0.02}


_opened: list[ChromaReader] = []


@pytest.fixture(autouse=True)
def close_endpoints() -> Iterator[None]:
    """Closes what `writer` and `reader` opened; active in each module that imports it."""
    yield
    while _opened:
        _opened.pop().close()


def writer(url: str, **options: Any) -> ChromaWriter:
    made = ChromaWriter(Connection(Side.REPLICA, url, **{**QUICK, **options}))
    _opened.append(made)
    return made


def reader(url: str, **options: Any) -> ChromaReader:
    made = ChromaReader(Connection(Side.PRIMARY, url, **{**QUICK, **options}))
    _opened.append(made)
    return made


def empty(url: str) -> None:
    """Drop every collection of the default database, lists and all."""
    at = writer(url)
    for left in at.list_collections(TENANT, DATABASE):
        at.drop_collection(left)


def definition(name: str = "things", **options: Any) -> Definition:
    filled: dict[str, Any] = {"metadata": {}} | options
    return Definition(
        name, filled.pop("tenant", TENANT), filled.pop("database", DATABASE), **filled
    )


def create(at: ChromaWriter, name: str = "things", **options: Any) -> Collection:
    return at.create_collection(definition(name, **options))


def vectors(count: int, dimension: int = 4, seed: int = 7) -> Any:
    return np.random.default_rng(seed).normal(size=(count, dimension)).astype(np.float32)


def records(
    ids: Sequence[str],
    *,
    documents: Sequence[str | None] | None = None,
    metadatas: Sequence[Metadata] | None = None,
    uris: Sequence[str | None] | None = None,
    dimension: int = 4,
) -> Records:
    return Records(
        ids=list(ids),
        documents=list(documents) if documents else [None] * len(ids),
        metadatas=list(metadatas) if metadatas else [{} for _ in ids],
        uris=list(uris) if uris else [None] * len(ids),
        embeddings=vectors(len(ids), dimension),
    )


def by_id(found: Records) -> dict[str, tuple[str | None, Metadata, str | None]]:
    return {
        name: (found.documents[i], found.metadatas[i], found.uris[i])
        for i, name in enumerate(found.ids)
    }

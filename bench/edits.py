"""What happens on the primary between two copies, done with the official client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.records import Data
from chromasync.lab.judge import collections_of, connect

EDITED_SHARE = 0.004


def change_metadata(url: str, data: Sequence[Data], counts: Sequence[int], *, offset: int) -> None:
    """Set the year of `counts[i]` records spread over collection i to its own plus `offset`."""
    collections = collections_of(connect(url))
    for part, count in zip(data, counts, strict=True):
        rows = spread(len(part), count)
        collections[part.name].update(
            ids=[part.ids[row] for row in rows],
            metadatas=[{"year": part.metadatas[row]["year"] + offset} for row in rows],
        )


def spread(total: int, count: int) -> list[int]:
    """`count` rows evenly spread over `total`."""
    return [int(row) for row in np.linspace(0, total - 1, count).round()]


def edit_everything(url: str, data: Sequence[Data]) -> dict[str, int]:
    """Add, change, empty and delete a few records of each collection; returns how many of each."""
    collections = collections_of(connect(url))
    done = {"added": 0, "changed": 0, "key removed": 0, "deleted": 0}
    for part in data:
        count = max(1, round(len(part) * EDITED_SHARE))
        rows = spread(len(part) - 4, count)
        collection = collections[part.name]
        collection.add(
            ids=[f"new/{row}" for row in rows],
            embeddings=part.embeddings[rows],
            documents=[f"A new document, number {row}." for row in rows],
        )
        collection.update(
            ids=[part.ids[row] for row in rows],
            embeddings=-part.embeddings[rows],
            documents=[f"A changed document, number {row}." for row in rows],
        )
        removed: list[Any] = [{"score": None} for _ in rows]
        collection.update(ids=[part.ids[row + 1] for row in rows], metadatas=removed)
        collection.delete(ids=[part.ids[row + 2] for row in rows])
        done = {kind: n + len(rows) for kind, n in done.items()}
    return done

"""The records of the bench: made from a seed, shaped like those of real applications.

Two collections, cosine and l2. Embeddings lie in clusters; words follow Zipf's law, a few of them
not in Latin letters; one record in a hundred has no document, some lack a metadata key or a uri.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from chromasync.model import Floats

DIMENSION = 384
CHARACTERS = 560
CLUSTERS = 40
SHARES = {"articles": 0.7, "notes": 0.3}
SPACES = {"articles": "cosine", "notes": "l2"}
SYLLABLES = "ka lo mi ra te su no vi da pe ri go ta le fi zu an er on ul st ch br ein ost"
OTHER_WORDS = ("größe", "naïve", "façade", "Москва", "東京", "数据", "🚀", "café", "Ωmega", "مرحبا")
SECTIONS = ("politics", "science", "sport", "arts", "economy", "weather", "travel")


@dataclass(frozen=True, slots=True)
class Data:
    """What one collection shall hold, in columns of equal length."""

    name: str
    space: str
    ids: list[str]
    embeddings: Floats
    documents: list[str | None]
    metadatas: list[dict[str, Any]]
    uris: list[str | None]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def metadata(self) -> dict[str, Any]:
        """The collection's own metadata."""
        return {"purpose": f"bench {self.name}", "edition": 3, "weight": 0.5, "public": True}

    @property
    def configuration(self) -> dict[str, Any]:
        """Index parameters, one of them not the default."""
        return {"hnsw": {"space": self.space, "ef_construction": 120, "max_neighbors": 16}}


def make_records(
    count: int, *, seed: int = 7, dimension: int = DIMENSION, characters: int = CHARACTERS
) -> list[Data]:
    """The collections with `count` records in all; the same for the same arguments."""
    first = round(count * SHARES["articles"])
    sizes = {"articles": first, "notes": count - first}
    rng = np.random.default_rng(seed)
    words = _vocabulary(rng)
    shape = (dimension, characters)
    return [_collection(rng, name, sizes[name], words, shape) for name in SHARES]


def _vocabulary(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.object_]]:
    syllables = SYLLABLES.split()
    lengths = rng.integers(1, 5, 6000)
    picks = rng.integers(0, len(syllables), (6000, 4))
    words = ["".join(syllables[i] for i in row[:n]) for row, n in zip(picks, lengths, strict=True)]
    words[200 : 200 + 40 * len(OTHER_WORDS) : 40] = OTHER_WORDS
    return np.array(words, dtype=object)


def _collection(
    rng: np.random.Generator,
    name: str,
    count: int,
    words: np.ndarray[Any, np.dtype[np.object_]],
    shape: tuple[int, int],
) -> Data:
    dimension, characters = shape
    texts = enumerate(_texts(rng, count, words, characters))
    ids = [
        f"{name}/{i:07d}" + (f"-{OTHER_WORDS[i % 10]}" if i % 50 == 0 else "") for i in range(count)
    ]
    return Data(
        name=name,
        space=SPACES[name],
        ids=ids,
        embeddings=_embeddings(rng, count, dimension),
        documents=[None if i % 100 == 99 else text for i, text in texts],
        metadatas=[_metadata(rng, i) for i in range(count)],
        uris=[
            None if i % 20 == 7 else f"https://example.org/{name}/{i}.html" for i in range(count)
        ],
    )


def _embeddings(rng: np.random.Generator, count: int, dimension: int) -> Floats:
    centres = rng.standard_normal((CLUSTERS, dimension))
    rows = centres[rng.integers(0, CLUSTERS, count)] + 0.6 * rng.standard_normal((count, dimension))
    unit: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit


def _texts(
    rng: np.random.Generator,
    count: int,
    words: np.ndarray[Any, np.dtype[np.object_]],
    characters: int,
) -> Iterator[str]:
    for _ in range(count):
        ranks = np.minimum(rng.zipf(1.25, max(120, characters // 5)), len(words)) - 1
        text = " ".join(words[ranks])
        size = int(rng.normal(characters, characters / 7))
        yield text[: max(40, size)].strip().capitalize() + "."


def _metadata(rng: np.random.Generator, i: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "section": SECTIONS[int(rng.integers(len(SECTIONS)))],
        "year": int(rng.integers(1990, 2026)),
        "score": round(float(rng.random()), 4),
        "public": bool(rng.random() < 0.8),
        "author": f"author-{int(rng.zipf(1.5)) % 500}",
    }
    if i % 30 == 11:
        del metadata["author"]
    if i % 40 == 3:
        metadata["labels"] = ["draft", SECTIONS[i % len(SECTIONS)], "größe"]
    return metadata

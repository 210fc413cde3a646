"""A small text embedding: good enough for a useful search, without a model to download.

A word's vector is made of hashed features: the word itself and its runs of four letters, so that
"reader" is near "reading". A hash of 32 bytes is read as 256 signs, which makes the vectors of
unrelated features nearly orthogonal. A text is the sum of its words, rare ones weighing more.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from hashlib import blake2b

import numpy as np

from chromasync.model import Floats

DIMENSION = 256
WORD_WEIGHT = 1.0
RUN_WEIGHT = 0.8
_WORD = re.compile(r"[A-Z]+(?![^\W\d_A-Z])|[A-Z]?[^\W\d_A-Z]+|\d+")


class TextEmbedding:
    """Turns texts into unit vectors; the weights of words come from the texts it has seen."""

    def __init__(self, texts: Sequence[str]) -> None:
        seen = Counter(word for text in texts for word in set(words_of(text)))
        self._weights = {word: math.log((1 + len(texts)) / (1 + n)) for word, n in seen.items()}
        self._unseen = math.log(1 + len(texts))

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Float32 of shape (len(texts), DIMENSION), each row of length 1."""
        return np.stack([self._embed(text) for text in texts])

    def _embed(self, text: str) -> Floats:
        counts = Counter(words_of(text)) or Counter({"": 1})
        weights = [
            (1 + math.log(n)) * self._weights.get(word, self._unseen) + 1e-6
            for word, n in counts.items()
        ]
        total = np.asarray(weights) @ np.stack([word_vector(word) for word in counts])
        unit: Floats = (total / np.linalg.norm(total)).astype(np.float32)
        return unit


def words_of(text: str) -> list[str]:
    """The words of a text in lower case; `camelCase` and `snake_case` count as two."""
    return [word.lower() for word in _WORD.findall(text)]


@cache
def word_vector(word: str) -> Floats:
    """Unit vector of a word, the same on every machine."""
    vector = WORD_WEIGHT * _signs(f"word {word}")
    padded = f"<{word}>"
    runs = [padded[i : i + 4] for i in range(len(padded) - 3)]
    if runs:
        vector = vector + RUN_WEIGHT * np.sum([_signs(run) for run in runs], axis=0) / math.sqrt(
            len(runs)
        )
    unit: Floats = (vector / np.linalg.norm(vector)).astype(np.float32)
    return unit


def _signs(feature: str) -> Floats:
    digest = blake2b(feature.encode(), digest_size=DIMENSION // 8).digest()
    bits = np.unpackbits(np.frombuffer(digest, dtype=np.uint8))
    return bits.astype(np.float32) * 2 - 1

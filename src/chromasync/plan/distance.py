"""Finds the distance that an index uses, by a query to the server.

The definition of a collection may name a wrong distance. A database that Chroma 0.6.3 wrote says l2
on later servers while its index is cosine. Metadata and configuration may name two distances. An
edit of the metadata changes the definition and not the index. So the index is queried with a vector
that is not of unit length. The returned distances are compared with the distances of the returned
vectors by each of the three formulas:

    l2        the squared length of the difference
    cosine    1 - the cosine of the angle
    ip        1 - the dot product

The result is stored with the collection's id and with a digest of its metadata and configuration.
When these change, the index is queried again, because a server may have applied the change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b

import numpy as np
import orjson
from numpy.typing import NDArray

from chromasync.definition import effective
from chromasync.errors import AccessRefused, NotChroma, NotFound, RequestRefused, ServerFault
from chromasync.model import (
    DIGEST_BYTES,
    Collection,
    Floats,
    KnownDistance,
    Neighbours,
    Space,
)
from chromasync.plan.listing import Listing
from chromasync.ports import Reader

NEIGHBOURS = 5
LENGTHS = (3.0, 5.0)
"""Lengths of the query vectors, none of them 1. Cosine and ip are equal for records whose length is
one divided by that of the query. So a second query follows if the first is ambiguous.
"""

REFUSALS = (NotFound, RequestRefused, ServerFault)
"""Errors of a query that the server did not answer."""

UNASKED = (AccessRefused, NotChroma)
"""Errors of a query that prove nothing: a token or a proxy may forbid queries."""

SHORTEST, LONGEST = 1e-15, 1e15
"""Lengths of usable vectors: beyond them, float32 overflows or has no angle."""

Doubles = NDArray[np.float64]

AT_ONCE = 4
"""Collections that are queried in parallel."""

ANGLE_TOLERANCE = 1e-4
LENGTH_TOLERANCE = 1e-5
"""Tolerance relative to the numbers that float32 had to sum."""


def judge_distance(query: Floats, found: Neighbours) -> Space | None:
    """The only distance that fits all neighbours; None if several or none fit.

    Args:
        query: the query vector, of shape (dimension,).
        found: the answer, with embeddings of shape (n, dimension).
    """
    if not found.ids:
        return None
    q = query.astype(np.float64)
    rows = found.embeddings.astype(np.float64)
    told = np.asarray(found.distances, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    # a vector of length 0 has no angle, so its returned distance proves nothing
    usable = (lengths > SHORTEST) & (lengths < LONGEST)
    if not usable.any():
        return None
    rows, told, lengths = rows[usable], told[usable], lengths[usable]
    dots = rows @ q
    length = float(np.linalg.norm(q))
    scale = length**2 + lengths**2
    cosine = 1.0 - dots / (lengths * length)
    fits = {
        Space.L2: _near(told, scale - 2 * dots, LENGTH_TOLERANCE * scale),
        Space.COSINE: _near(told, cosine, np.full_like(told, ANGLE_TOLERANCE)),
        Space.IP: _near(told, 1.0 - dots, LENGTH_TOLERANCE * (1.0 + lengths * length)),
    }
    fitting = [space for space, fit in fits.items() if fit]
    return fitting[0] if len(fitting) == 1 else None


def _near(told: Doubles, expected: Doubles, tolerance: Doubles) -> bool:
    return bool(np.all(np.abs(told - expected) <= tolerance))


def ask_distance(reader: Reader, collection: Collection) -> Space | None:
    """Query a server for the distance of one collection; None if the answer is not clear.

    Raises:
        ServerError: the server is unreachable, or refuses access.
    """
    for length in LENGTHS:
        query = _vector(collection.dimension or 0, length)
        try:
            found = reader.nearest(collection, query, NEIGHBOURS)
        except (*REFUSALS, *UNASKED):
            return None  # `cycle.probe` checks whether its index answers at all
        space = judge_distance(query, found)
        if space is not None or not found.ids:
            return space
    return None


def _vector(dimension: int, length: float) -> Floats:
    row = np.random.default_rng(int(length)).standard_normal(dimension)
    vector: Floats = (length * row / np.linalg.norm(row)).astype(np.float32)
    return vector


@dataclass(slots=True)
class Distances:
    """The known distances by collection id, and the new ones.

    Attributes:
        learned: the distances that were found by queries just now.
        misbuilt: the real distances of replica collections that have another one than requested.
    """

    known: dict[str, KnownDistance] = field(default_factory=dict)
    learned: list[KnownDistance] = field(default_factory=list)
    misbuilt: dict[str, Space] = field(default_factory=dict)

    def tell(self, listing: Listing, reader: Reader, wants: Callable[[str], bool]) -> None:
        """Note the distance of each collection in a listing; unknown ones are queried."""
        due = [c for c in listing.collections.values() if wants(c.name) and self._is_due(c)]
        self._ask(reader, due)
        for key, collection in listing.collections.items():
            if key in self.known:
                told = replace(collection, live=self.known[key].space)
                listing.collections[key] = told

    def _is_due(self, collection: Collection) -> bool:
        """Whether a collection must be queried; one that never had a record cannot answer."""
        known = self.known.get(collection.id)
        is_known = known is not None and known.words == words_of(collection)
        return collection.dimension is not None and not is_known

    def _ask(self, reader: Reader, due: Iterable[Collection]) -> None:
        asked = list(due)
        if not asked:
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = pool.map(partial(ask_distance, reader), asked)
            for collection, space in zip(asked, answers, strict=True):
                if space is not None:
                    self._learn(collection, space)

    def _learn(self, collection: Collection, space: Space) -> None:
        before = self.known.get(collection.id)
        if before is not None and before.is_promise and before.space is not space:
            # a rebuild would have the same result; the requested distance stays the wanted one
            self.misbuilt[collection.id] = space
            return
        learned = KnownDistance(collection.id, space, words_of(collection))
        self.known[collection.id] = learned
        self.learned.append(learned)


def words_of(collection: Collection) -> bytes:
    """A digest of a collection's metadata and configuration."""
    said = [dict(collection.metadata), dict(collection.configuration)]
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=DIGEST_BYTES).digest()


def promise(created: Collection, wanted: Collection) -> KnownDistance:
    """The requested distance of a replica collection, until it has records for a query."""
    return KnownDistance(created.id, effective(wanted).space, b"")

"""Tests whether an index answers, by queries with stored vectors, on one side or on both.

A server may have the records but no usable index: the index files were lost with a disk, or the
index lags behind the writes. Counts and documents are right then, but queries give wrong answers
or errors. HNSW is approximate, so two sound indexes may differ in the last of the nearest records.
The distances of records that both return must be equal.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chromasync.model import Collection, Floats, Neighbours, Space
from chromasync.plan.distance import LONGEST, REFUSALS, SHORTEST, UNASKED
from chromasync.ports import Reader
from chromasync.reconcile.read import RecordReader

NEIGHBOURS = 10
LEAST_OVERLAP = 0.9
"""Least share of the nearest records that both sides must have in common, on average."""

TOLERANCE = 1e-3
"""Relative and absolute tolerance of distances, for float32 and cosine's rounding."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers to one query.

    Attributes:
        overlap: share of the primary's nearest records that the replica returns, or ties with.
        wrong: ids that both return with different distances.
    """

    overlap: float
    wrong: tuple[str, ...]


def compare_answers(ours: Neighbours, theirs: Neighbours) -> Compared:
    """Compare the primary's answer with the replica's."""
    told = dict(zip(theirs.ids, theirs.distances, strict=True))
    furthest = max(theirs.distances, default=-np.inf)
    wrong, shared = [], 0
    for record_id, distance in zip(ours.ids, ours.distances, strict=True):
        if record_id in told:
            shared += 1
            if not _same(distance, told[record_id]):
                wrong.append(record_id)
        else:
            # among records at the same distance, each side may return different ones
            shared += _same(distance, furthest)
    return Compared(shared / len(ours.ids) if ours.ids else 1.0, tuple(wrong))


def _same(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _can_be_asked(vector: Floats) -> bool:
    return SHORTEST < float(np.linalg.norm(vector.astype(np.float64))) < LONGEST


def sample_of(
    reader: Reader, collection: Collection, ids: Sequence[str]
) -> tuple[list[tuple[str, Floats]], str]:
    """Ids with their vectors, and the reason if some could not be read (empty otherwise).

    Raises:
        ServerError: the server is away.
    """
    try:
        batch = RecordReader(reader).read(collection, ids)
    except REFUSALS as error:
        return [], error.what
    lost = sorted(batch.unreadable)
    why = f"the vector of record {lost[0]!r} is lost" if lost else ""
    vectors = [
        (record_id, vector)
        for piece in batch.pieces
        if piece.embeddings is not None
        for record_id, vector in zip(piece.ids, piece.embeddings, strict=True)
    ]
    return vectors, why


def why_silent(
    reader: Reader, collection: Collection, ids: Sequence[str], space: Space | None
) -> str:
    """The reason why an index does not answer correctly; empty if it does.

    Args:
        ids: a few of its records.
        space: its distance; with the dot product, a record need not be its own nearest.

    Raises:
        ServerError: the server is away.
    """
    sample, lost = sample_of(reader, collection, ids)
    if not sample:
        return lost  # if some vectors can be read, they test whether the index answers
    asked = behind = 0
    for record_id, vector in sample:
        if not _can_be_asked(vector):
            continue
        try:
            found = reader.nearest(collection, vector, NEIGHBOURS)
            count = NEIGHBOURS if found.ids else reader.count(collection)
        except UNASKED:
            return ""
        except REFUSALS as error:
            return error.what
        if not found.ids:
            return f"it returns no record although it has {count:,}" if count else ""
        asked += 1
        behind += record_id not in found.ids and not _same(found.distances[-1], 0.0)
    if behind and behind == asked and space is not Space.IP:
        return "it does not find records by their own vectors"
    return ""


class AnswerCheck:
    """Sends the same queries to both sides of one collection.

    Attributes:
        asked: queries that both sides answered.
        findings: one sentence for each problem.
    """

    def __init__(
        self, primary: Reader, replica: Reader, left: Collection, right: Collection
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._left, self._right = left, right
        self._overlaps: list[float] = []
        self._wrong: list[str] = []
        self.findings: list[str] = []

    @property
    def asked(self) -> int:
        """Queries that both sides answered."""
        return len(self._overlaps)

    @property
    def overlap(self) -> float | None:
        """Average share of the nearest records that both sides return; None without a query."""
        return float(np.mean(self._overlaps)) if self._overlaps else None

    def run(self, queries: int, count: int, chance: random.Random) -> None:
        """Query with the vectors of a random sample of the primary's `count` records.

        Raises:
            ServerError: a server is away.
        """
        places = sorted(chance.sample(range(count), min(queries, count)))
        ids = [
            record_id
            for place in places
            for record_id in self._primary.list_ids(self._left, offset=place, limit=1)
        ]
        sample, lost = sample_of(self._primary, self._left, ids)
        if lost:
            self.findings.append(f"The primary cannot be queried: {lost}")
        for _, vector in sample:
            if _can_be_asked(vector) and not self._ask(vector):
                return
        self._judge()

    def _ask(self, vector: Floats) -> bool:
        """Query both sides once; returns whether both answered."""
        sides = ("primary", self._primary, self._left), ("replica", self._replica, self._right)
        answers = []
        for name, reader, collection in sides:
            try:
                answers.append(reader.nearest(collection, vector, NEIGHBOURS))
            except (*REFUSALS, *UNASKED) as error:
                self.findings.append(f"The {name} does not answer a query: {error.what}")
                return False
        compared = compare_answers(*answers)
        self._overlaps.append(compared.overlap)
        self._wrong += compared.wrong
        return True

    def _judge(self) -> None:
        if self._wrong:
            self.findings.append(
                f"Distances in the answers differ for {len(self._wrong):,} records, first for "
                f"{self._wrong[0]!r}."
            )
        if self.overlap is not None and self.overlap < LEAST_OVERLAP:
            self.findings.append(
                f"Both sides agree on {self.overlap:.0%} of the {NEIGHBOURS} nearest records, on "
                f"average over {self.asked:,} queries."
            )

"""Whether an index answers: queries with stored vectors, on one side or compared between both.

Records can be there while the index is not: its files were lost with a disk, or it is behind what
was written. Counts and documents are right then, and queries give wrong answers, or errors. HNSW is
approximate, so two sound indexes may differ in the last places; the distances of what both name
may not.
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
"""So many of the nearest records must be the same on both sides, on average."""

TOLERANCE = 1e-3
"""Of distances, relative and absolute: float32, and cosine's own rounding."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two answers to one query.

    Attributes:
        overlap: share of the primary's nearest records that the replica names, or ties with.
        wrong: ids that both name, at distances that differ.
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
            # of several at one distance, each side may name others
            shared += _same(distance, furthest)
    return Compared(shared / len(ours.ids) if ours.ids else 1.0, tuple(wrong))


def _same(one: float, other: float) -> bool:
    return bool(np.isclose(one, other, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))


def _can_be_asked(vector: Floats) -> bool:
    return SHORTEST < float(np.linalg.norm(vector.astype(np.float64))) < LONGEST


def sample_of(
    reader: Reader, collection: Collection, ids: Sequence[str]
) -> tuple[list[tuple[str, Floats]], str]:
    """Ids with their vectors, and why not all of them could be given; empty when they could.

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
    """Why an index does not answer as it should; empty when it does.

    Args:
        ids: a few of its records.
        space: its distance; by the dot product, a record need not be its own nearest.

    Raises:
        ServerError: the server is away.
    """
    sample, lost = sample_of(reader, collection, ids)
    if not sample:
        return lost  # of some that cannot be given, others tell whether the index answers
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
            return f"it names no record where it has {count:,}" if count else ""
        asked += 1
        behind += record_id not in found.ids and not _same(found.distances[-1], 0.0)
    if behind and behind == asked and space is not Space.IP:
        return "it does not find the records whose own vectors it is asked for"
    return ""


class AnswerCheck:
    """Asks both sides of one collection the same questions.

    Attributes:
        asked: queries that both sides answered.
        findings: a sentence for each thing that is wrong.
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
        """Share of the nearest records that both sides name, on average; None without a query."""
        return float(np.mean(self._overlaps)) if self._overlaps else None

    def run(self, queries: int, count: int, chance: random.Random) -> None:
        """Ask with the vectors of so many of the primary's `count` records, drawn by chance.

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
            self.findings.append(f"The primary cannot be asked: {lost}")
        for _, vector in sample:
            if _can_be_asked(vector) and not self._ask(vector):
                return
        self._judge()

    def _ask(self, vector: Floats) -> bool:
        """Ask both sides once; whether both answered."""
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
                f"Distances differ in answers to queries, that of record {self._wrong[0]!r} first "
                f"of {len(self._wrong):,}."
            )
        if self.overlap is not None and self.overlap < LEAST_OVERLAP:
            self.findings.append(
                f"Of the {NEIGHBOURS} nearest records, both sides name {self.overlap:.0%} on "
                f"average, over {self.asked:,} queries."
            )

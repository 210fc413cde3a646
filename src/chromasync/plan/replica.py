"""Compares the replica of a collection with the state that the last cycle left.

The count is checked first, before any write. If it cannot be the one that was left, everything that
was ever written is compared (see `doubt`). The replica's ids are walked if the count or the time
since the last walk requires it:

    an id that no chunk has         surplus, for the delete guard
    a new surplus id                others wrote: everything is compared
    a written id that is missing    its chunk is compared, and everything else, too, unless a worker
                                    was cut off in that chunk: it may have been replacing the record
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.idset import IdSet, has_more
from chromasync.model import ChunkHead, DeletionKind, Mirror
from chromasync.plan.doubt import why_doubtful
from chromasync.plan.known import KnownLedger
from chromasync.ports import Chunks

FOREIGN = "Others wrote to the replica; comparing all."


@dataclass(frozen=True, slots=True)
class CountVerdict:
    """The judgement about the replica's count.

    Attributes:
        doubt: why all records in `suspects` are compared; empty if none are.
        walks: the replica's ids are walked, regardless of the last walk.
    """

    doubt: str = ""
    suspects: Sequence[ChunkHead] = ()
    walks: bool = False


def judge_count(
    mirror: Mirror,
    heads: Sequence[ChunkHead],
    count: int,
    ledger: KnownLedger,
    *,
    vouched: bool,
) -> CountVerdict:
    """Judge the replica's count at the start of a cycle.

    Args:
        vouched: the mark proves that the replica is no older copy.
    """
    doubt = why_doubtful(mirror, count, vouched=vouched, bounds=partial(ledger.bounds, heads))
    if mirror.settled_cycle is not None:
        return CountVerdict(doubt, heads if doubt else ())
    suspects = [head for head in heads if ledger.is_written(head)] if doubt else []
    return CountVerdict(doubt if suspects else "", suspects, walks=bool(heads))


def has_lost_its_ledger(mirror: Mirror, heads: Sequence[ChunkHead], count: int) -> bool:
    """Whether a collection has no ledger although both sides had records, so it is adopted."""
    return not heads and mirror.primary.count > 0 and count > 0


def has_outgrown(
    ledger: KnownLedger, theirs: Iterable[list[str]], ours: Iterable[list[str]]
) -> bool:
    """Whether a replica that is being adopted has records that the primary lacks.

    Args:
        theirs: the replica's ids.
        ours: the primary's.
    """
    return bool(ledger.waiting_ids(DeletionKind.SURPLUS)) or has_more(theirs, ours)


def is_walk_due(walked_at: datetime | None, count: int, check_before: datetime) -> bool:
    """Whether the replica's ids must be walked, given the instant of the last walk."""
    return count > 0 if walked_at is None else walked_at <= check_before


@dataclass(frozen=True, slots=True)
class _Noted:
    """A chunk and its written rows, noted before the replica's ids are listed."""

    head: ChunkHead
    written: NDArray[np.bool_]


@dataclass(slots=True)
class ReplicaFound:
    """The result of the walk of the replica's ids.

    Attributes:
        surplus: ids that no chunk has.
        lossy: chunks with a written record that the replica lacks.
        compares_all: all written chunks are compared, not only lossy ones.
        notes: sentences for people.
    """

    surplus: list[str] = field(default_factory=list)
    lossy: list[ChunkHead] = field(default_factory=list)
    compares_all: bool = False
    notes: list[str] = field(default_factory=list)


class ReplicaWalk:
    """Compares the replica's ids with the chunks as they are now.

    Workers reconcile chunks during the walk. Records that they write behind it do not count as
    missing, because the written rows are noted before the replica is listed.
    """

    def __init__(self, store: Chunks, heads: Iterable[ChunkHead]) -> None:
        self._store = store
        self._noted: list[_Noted] = []
        self._ids = IdSet.of(self._note(head) for head in heads)
        self._found = np.zeros(len(self._ids), dtype=bool)
        self._surplus: list[str] = []

    @property
    def written(self) -> list[ChunkHead]:
        """Chunks of which a record was written before the walk."""
        return [note.head for note in self._noted if note.written.any()]

    def _note(self, head: ChunkHead) -> list[str]:
        """Note a chunk's written rows; returns its ids."""
        chunk = self._store.load_chunk(head.id)
        if chunk is None:
            return []
        self._noted.append(_Noted(chunk.head, chunk.applied.written))
        return chunk.ids

    def take(self, pages: Iterable[list[str]]) -> list[str]:
        """Walk all ids; returns the ids that no chunk has."""
        for page in pages:
            rows = self._ids.find(page)
            self._found[rows[rows >= 0]] = True
            self._surplus += [page[row] for row in np.flatnonzero(rows < 0)]
        return self._surplus

    def judge(
        self,
        ledger: KnownLedger,
        known_surplus: set[str],
        *,
        doubtful: bool,
        adopting: bool,
    ) -> ReplicaFound:
        """The result of the walk.

        Args:
            ledger: the ledger that has these chunks.
            known_surplus: surplus ids that were found earlier and wait to be deleted.
            doubtful: everything that was ever written is compared already.
        """
        found = ReplicaFound(self._surplus)
        lost, excused = 0, ledger.excused()
        for head, rows in self._missing():
            if wanted := ledger.count_wanted(head, rows, excused):
                lost += wanted
                found.lossy.append(head)
        if lost:
            words = f"{lost:,} records are missing on the replica; writing them again"
            in_hand = all(head.replica.in_hand for head in found.lossy)
            found.compares_all = not doubtful and not in_hand
            found.notes.append(f"{words}, and comparing all." if found.compares_all else words)
        if self._surplus:
            count = len(self._surplus)
            found.notes.append(f"the replica has {count:,} records that the primary lacks.")
        trusted = not (doubtful or found.compares_all or adopting)
        if trusted and not known_surplus.issuperset(self._surplus):
            found.compares_all = True
            found.notes.append(FOREIGN)
        return found

    def _missing(self) -> Iterator[tuple[ChunkHead, list[int]]]:
        """Written rows that the replica lacks, by chunk."""
        start = 0
        for note in self._noted:
            here = self._found[start : start + len(note.written)]
            start += len(note.written)
            if rows := np.flatnonzero(note.written & ~here).tolist():
                yield note.head, rows

"""What the replica of a collection holds, against what was left there.

Its count comes first, before anything is written: where it cannot be what was left, all that was
ever written is compared (see `doubt`). Its ids are walked where the count or the time says so:

    an id that no chunk has              surplus, for the delete guard
    a surplus that is news               someone else wrote: all is compared
    a written id that is not there       its chunk is compared; all is, unless a worker was cut off
                                         there: it may have been about to put it back
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.idset import IdSet, has_more
from chromasync.model import ChunkHead, DeletionKind, Mirror
from chromasync.plan.doubt import why_doubtful
from chromasync.plan.known import KnownLedger

FOREIGN = "Not all of what is there was left by us; comparing all."


@dataclass(frozen=True, slots=True)
class CountVerdict:
    """What the replica's count says.

    Attributes:
        doubt: why all in `suspects` is compared; empty when nothing is.
        walks: the replica's ids are walked, whenever that was done last.
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
    """What becomes of a collection whose replica has so many records when a cycle begins.

    Args:
        vouched: the replica is known to be the one that was written to last.
    """
    doubt = why_doubtful(mirror, count, vouched=vouched, bounds=partial(ledger.bounds, heads))
    if mirror.settled_cycle is not None:
        return CountVerdict(doubt, heads if doubt else ())
    suspects = [head for head in heads if ledger.is_written(head)] if doubt else []
    return CountVerdict(doubt if suspects else "", suspects, walks=bool(heads))


def has_lost_its_ledger(mirror: Mirror, heads: Sequence[ChunkHead], count: int) -> bool:
    """Whether a collection is adopted because its ledger was forgotten: both sides had records."""
    return not heads and mirror.primary_count > 0 and count > 0


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
    """Whether the replica's ids are walked, when that was done last at this instant."""
    return count > 0 if walked_at is None else walked_at <= check_before


@dataclass(frozen=True, slots=True)
class Noted:
    """A chunk, and which of its rows were written, before the replica's ids are asked for."""

    head: ChunkHead
    written: NDArray[np.bool_]


@dataclass(slots=True)
class ReplicaFound:
    """What the walk of the replica's ids told.

    Attributes:
        surplus: ids that no chunk has.
        lossy: chunks of which a written record is not there.
        compares_all: all that was written is compared, not only what is lossy.
        notes: sentences for people.
    """

    surplus: list[str] = field(default_factory=list)
    lossy: list[ChunkHead] = field(default_factory=list)
    compares_all: bool = False
    notes: list[str] = field(default_factory=list)


class ReplicaWalk:
    """Holds the replica's ids against chunks that were noted before.

    Args:
        ids: those of the noted chunks in their order, and any others after them.
    """

    def __init__(self, noted: Sequence[Noted], ids: IdSet) -> None:
        self._noted = noted
        self._ids = ids
        self._found = np.zeros(len(ids), dtype=bool)
        self._surplus: list[str] = []

    def take(self, pages: Iterable[list[str]]) -> list[str]:
        """Walk all ids; returns those that no chunk has."""
        for page in pages:
            rows = self._ids.find(page)
            self._found[rows[rows >= 0]] = True
            self._surplus += [page[row] for row in np.flatnonzero(rows < 0)]
        return self._surplus

    def judge(
        self,
        count_wanted: Callable[[ChunkHead, list[int]], int],
        known_surplus: set[str],
        *,
        doubtful: bool,
        adopting: bool,
    ) -> ReplicaFound:
        """What follows from it.

        Args:
            count_wanted: how many of these rows of a chunk should be there.
            known_surplus: what was found earlier, and waits to be deleted.
            doubtful: all that was written is compared already.
        """
        found = ReplicaFound(self._surplus)
        lost = 0
        for head, rows in self._missing():
            if wanted := count_wanted(head, rows):
                lost += wanted
                found.lossy.append(head)
        if lost:
            words = f"{lost:,} records are missing on the replica; writing them again"
            found.compares_all = not doubtful and not all(head.in_hand for head in found.lossy)
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
        """Written rows that are not there, by chunk."""
        start = 0
        for note in self._noted:
            here = self._found[start : start + len(note.written)]
            start += len(note.written)
            if rows := np.flatnonzero(note.written & ~here).tolist():
                yield note.head, rows

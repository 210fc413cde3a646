"""Which records are read in a cycle, and on which sides; the others are taken at the ledger's word.

all of a chunk must be read       in any case, what is on no side yet first; the replica's side
too, where its check is overdue
some of its records must be       these alone, where the budget does not reach the chunk
none must be                      within the budget, see `ledger.scrub`
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping
from datetime import datetime

from chromasync.ledger.plan import due_ids, is_overdue
from chromasync.ledger.scrub import Scrub
from chromasync.model import ChunkHead

Asked = Mapping[int, Container[str]]
"""Ids by chunk that the walk has news of."""


def due_chunks(heads: Iterable[ChunkHead], asked: Asked, check_before: datetime) -> list[ChunkHead]:
    """Chunks that are read whole whatever the budget, in their turn.

    A copy that is cut off again and again gets on all the same: what was never written comes first.
    """
    due = [head for head in heads if _due_ids(head, asked, check_before) is None]
    return sorted(due, key=lambda head: head.suspect)


def quiet_chunks(
    heads: Iterable[ChunkHead], asked: Asked, check_before: datetime
) -> list[ChunkHead]:
    """Chunks that are read whole only as far as the budget goes."""
    return [head for head in heads if _due_ids(head, asked, check_before) is not None]


def due_in_part(head: ChunkHead, asked: Asked, check_before: datetime) -> tuple[str, ...]:
    """The records of a quiet chunk that are read even where the budget does not reach it."""
    return tuple(sorted(_due_ids(head, asked, check_before) or ()))


def read_of(head: ChunkHead, check_before: datetime, *, check_all: bool = False) -> Scrub:
    """How a due chunk is read; with `check_all`, on both sides."""
    return Scrub(head, check_replica=check_all or is_overdue(head, check_before))


def _due_ids(head: ChunkHead, asked: Asked, check_before: datetime) -> frozenset[str] | None:
    return due_ids(head, asked.get(head.id, ()), check_before=check_before)

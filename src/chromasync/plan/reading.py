"""Decides which records a cycle reads, and on which sides; it trusts the ledger for the others.

a chunk must be read whole     always, unwritten records first; on both sides if the check of
                               the replica's side is overdue
some of its records must be    only these, if the budget does not cover the chunk
none must be                   within the budget, see `ledger.scrub`
"""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping
from datetime import datetime

from chromasync.ledger.plan import due_ids, is_overdue
from chromasync.ledger.scrub import Scrub
from chromasync.model import ChunkHead

Asked = Mapping[int, Container[str]]
"""Ids by chunk that the walk asks for."""


def due_chunks(heads: Iterable[ChunkHead], asked: Asked, check_before: datetime) -> list[ChunkHead]:
    """Chunks that are read whole regardless of the budget, in order.

    Chunks that were never written come first, so a copy that is cut off repeatedly still advances.
    """
    due = [head for head in heads if _due_ids(head, asked, check_before) is None]
    return sorted(due, key=lambda head: head.replica.suspect)


def quiet_chunks(
    heads: Iterable[ChunkHead], asked: Asked, check_before: datetime
) -> list[ChunkHead]:
    """Chunks that are read whole only within the budget."""
    return [head for head in heads if _due_ids(head, asked, check_before) is not None]


def due_in_part(head: ChunkHead, asked: Asked, check_before: datetime) -> tuple[str, ...]:
    """The records of a quiet chunk that are read even if the budget does not cover the chunk."""
    return tuple(sorted(_due_ids(head, asked, check_before) or ()))


def read_of(head: ChunkHead, check_before: datetime, *, check_all: bool = False) -> Scrub:
    """The read of a due chunk; with `check_all`, always on both sides."""
    return Scrub(head, check_replica=check_all or is_overdue(head, check_before))


def _due_ids(head: ChunkHead, asked: Asked, check_before: datetime) -> frozenset[str] | None:
    return due_ids(head, asked.get(head.id, ()), check_before=check_before)

"""Compares the primary's ids with the ledger, to find the new and the missing records.

A cycle and a plan use the same walk with different *sinks*: the sink of a cycle updates the ledger,
the sink of a plan stores nothing. A missing id is only a hint: nothing is deleted before the
primary was asked for the record by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from chromasync.model import ChunkHead, Hold, Mirror
from chromasync.plan.older import Part, Tail, judged_before, tail_without
from chromasync.plan.removals import IdSum

GoneByChunk = Mapping[int | None, set[str]]


class Sink(Protocol):
    """Receives the findings of a walk of the primary."""

    def append(self, ids: list[str], moved: Mapping[str, int]) -> None:
        """Append these ids to the ledger, in order; an id in `moved` leaves that chunk."""

    def drop_repeats(self, repeated: Mapping[int, list[int]]) -> None:
        """Remove these rows, by chunk, because the ledger has their ids at an earlier place."""

    def gone_by_chunk(self) -> GoneByChunk:
        """Ids that wait to be deleted after the appends, because the primary lost them."""


@dataclass(frozen=True, slots=True)
class Membership:
    """The result of the primary's walk.

    Attributes:
        seen: number of ids that the primary listed.
        ordered: whether they came in the ledger's order.
        missing: all ledger ids that were not listed.
        unseen: the same by chunk.
        hints: missing ids by chunk, where they differ from the ids known to be gone.
        asked: ids by chunk to read from the primary: missing ones that are not known to be gone,
            and listed ones that are.
        ledger_count: number of records in the ledger before the walk.
        fresh_count: number of listed ids that the ledger did not have.
        tail: the newest part of the ledger; None if the primary was not walked.
    """

    seen: int = 0
    ordered: bool = True
    missing: IdSum = field(default_factory=IdSum)
    unseen: Mapping[int, set[str]] = field(default_factory=dict)
    hints: Mapping[int, set[str]] = field(default_factory=dict)
    asked: Mapping[int, set[str]] = field(default_factory=dict)
    ledger_count: int = 0
    fresh_count: int = 0
    tail: Tail | None = None


@dataclass(frozen=True, slots=True)
class Before:
    """The ledger before the walk.

    Attributes:
        replica_id: the replica's collection.
        load_ids: loads a chunk's ids.
        holds: loads the holds; called only if ids are missing.
    """

    mirror: Mirror
    replica_id: str
    heads: Sequence[ChunkHead]
    load_ids: Callable[[int], list[str]]
    holds: Callable[[], Sequence[Hold]]


def walk_primary(
    ledger: Before, listed: Callable[[], Iterator[list[str]]], sink: Sink
) -> Membership:
    """Compare the primary's ids with the ledger; the sink gets new ids during the walk.

    Args:
        listed: starts to list the primary's ids, page by page.

    Raises:
        DamagedChunk: a part of the ledger cannot be read.
        ServerError: the ids could not be listed.
    """
    kind: type[MergeWalk | SetWalk] = MergeWalk if ledger.mirror.primary.ordered else SetWalk
    walk: Walk = kind(listed(), ledger.heads, ledger.load_ids)
    try:
        fresh_count = _hand_over(walk, sink)
    except Disordered:
        walk = SetWalk(listed(), ledger.heads, ledger.load_ids)
        fresh_count = _hand_over(walk, sink)
    missing = walk.missing  # named before rows go, because it counts them
    sink.drop_repeats(walk.repeated)
    waiting = any(head.replica.gone_count for head in ledger.heads)
    gone = sink.gone_by_chunk() if missing or waiting else {}
    hints = fresh_hints(ledger.heads, missing, gone)
    return Membership(
        walk.seen,
        walk.ordered,
        IdSum(i for ids in missing.values() for i in ids),
        {chunk_id: set(ids) for chunk_id, ids in missing.items()},
        hints,
        {chunk_id: ids ^ gone.get(chunk_id, set()) for chunk_id, ids in hints.items()},
        sum(head.count for head in ledger.heads),
        fresh_count,
        _tail(ledger, walk, missing, gone, fresh_count),
    )


def _hand_over(walk: Walk, sink: Sink) -> int:
    """Give new ids to the sink; returns how many of them the ledger did not have."""
    fresh_count = 0
    for ids in walk.new_ids():
        new = list(dict.fromkeys(ids))
        fresh_count += sum(record_id not in walk.moved for record_id in new)
        sink.append(new, walk.moved)
    return fresh_count


def fresh_hints(
    heads: Sequence[ChunkHead], missing: Mapping[int, list[str]], gone: GoneByChunk
) -> dict[int, set[str]]:
    """Missing ids by chunk, where they differ from the ids known to be gone (and held).

    An empty set means that all ids reported missing earlier are listed again.
    """
    waiting = {head.id for head in heads if head.replica.gone_count}
    hints = {c: set(missing.get(c, ())) for c in waiting | missing.keys()}
    return {c: ids for c, ids in hints.items() if ids != gone.get(c)}


def _tail(
    ledger: Before, walk: Walk, missing: Mapping[int, list[str]], gone: GoneByChunk, new: int
) -> Tail:
    """The newest part of the ledger, without the records that this walk appended."""
    left = Counter(walk.moved.values())
    parts = [Part(h.id, h.count - left[h.id], h.added_cycle) for h in ledger.heads]
    waiting = (record_id for ids in gone.values() for record_id in ids) if missing else ()
    holds = ledger.holds() if missing else ()
    judged = judged_before(ledger.mirror, waiting, holds, ledger.replica_id)

    def load_ids(chunk_id: int) -> list[str]:
        return [i for i in ledger.load_ids(chunk_id) if i not in walk.moved]

    unseen = {chunk_id: set(ids) for chunk_id, ids in missing.items()}
    return tail_without(parts, unseen, judged, load_ids, new)

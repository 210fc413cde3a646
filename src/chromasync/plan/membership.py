"""Which records belong to a collection: the primary's ids against the ledger.

Both callers take the same walk and hand it a *sink*: that of a cycle brings the ledger up to date,
that of a plan only looks. What is missing is a hint: nothing goes before the primary was asked for
it by id.
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
    """Takes what a walk of the primary finds."""

    def append(self, ids: list[str], moved: Mapping[str, int]) -> None:
        """Ids that come to the ledger's end, in order; those in `moved` leave the chunk named."""

    def drop_repeats(self, repeated: Mapping[int, list[int]]) -> None:
        """Rows, by chunk, of ids that the ledger has at an earlier place, too."""

    def gone_by_chunk(self) -> GoneByChunk:
        """What waits to be deleted after the appends, because the primary has it no more."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What the walk of the primary told.

    Attributes:
        seen: how many ids the primary listed.
        ordered: whether they came in the ledger's order.
        missing: all ledger ids that were not listed.
        unseen: the same by chunk.
        hints: those of them that are news, by chunk: nobody has looked into them yet.
        asked: ids by chunk to ask the primary for: those of `hints` that are not known to be gone,
            and those that are but were listed.
        ledger_count: records that the ledger had before.
        fresh_count: ids that were listed and the ledger did not have.
        tail: the newest part of the ledger; None when the primary was not walked.
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
    """The ledger as it is before the walk.

    Attributes:
        replica_id: the replica's collection.
        load_ids: a chunk's ids.
        holds: asked for only where something is missing.
    """

    mirror: Mirror
    replica_id: str
    heads: Sequence[ChunkHead]
    load_ids: Callable[[int], list[str]]
    holds: Callable[[], Sequence[Hold]]


def walk_primary(
    ledger: Before, listed: Callable[[], Iterator[list[str]]], sink: Sink
) -> Membership:
    """Hold the primary's ids against the ledger; what is new goes to the sink meanwhile.

    Args:
        listed: begins to list the primary's ids, page by page.

    Raises:
        DamagedChunk: a part of the ledger cannot be read.
        ServerError: the ids could not be listed.
    """
    kind: type[MergeWalk | SetWalk] = MergeWalk if ledger.mirror.ordered else SetWalk
    walk: Walk = kind(listed(), ledger.heads, ledger.load_ids)
    try:
        fresh_count = _hand_over(walk, sink)
    except Disordered:
        walk = SetWalk(listed(), ledger.heads, ledger.load_ids)
        fresh_count = _hand_over(walk, sink)
    missing = walk.missing  # named before rows go, because it counts them
    sink.drop_repeats(walk.repeated)
    gone = sink.gone_by_chunk() if missing or any(h.gone_count for h in ledger.heads) else {}
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
    """Give the sink what is new, and say how much of it the ledger did not have."""
    fresh_count = 0
    for ids in walk.new_ids():
        new = list(dict.fromkeys(ids))
        fresh_count += sum(record_id not in walk.moved for record_id in new)
        sink.append(new, walk.moved)
    return fresh_count


def fresh_hints(
    heads: Sequence[ChunkHead], missing: Mapping[int, list[str]], gone: GoneByChunk
) -> dict[int, set[str]]:
    """What is missing and differs from what is known to be gone already (and held).

    An empty set means that all ids reported missing earlier are listed again.
    """
    waiting = {head.id for head in heads if head.gone_count}
    hints = {c: set(missing.get(c, ())) for c in waiting | missing.keys()}
    return {c: ids for c, ids in hints.items() if ids != gone.get(c)}


def _tail(
    ledger: Before, walk: Walk, missing: Mapping[int, list[str]], gone: GoneByChunk, new: int
) -> Tail:
    """The newest part of the ledger; records that came in this walk stand behind it."""
    left = Counter(walk.moved.values())
    parts = [Part(h.id, h.count - left[h.id], h.added_cycle) for h in ledger.heads]
    waiting = (record_id for ids in gone.values() for record_id in ids) if missing else ()
    holds = ledger.holds() if missing else ()
    judged = judged_before(ledger.mirror, waiting, holds, ledger.replica_id)

    def load_ids(chunk_id: int) -> list[str]:
        return [i for i in ledger.load_ids(chunk_id) if i not in walk.moved]

    unseen = {chunk_id: set(ids) for chunk_id, ids in missing.items()}
    return tail_without(parts, unseen, judged, load_ids, new)

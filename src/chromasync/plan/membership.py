"""Compares the primary's ids with the ledger, to find the new and the missing records.

A cycle and a plan use the same walk with different *sinks*: the sink of a cycle updates the ledger,
the sink of a plan stores nothing. A missing id is only a hint: nothing is deleted before the
primary was asked for the record by id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as Container
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Protocol

from chromasync.ledger.idset import ShortIds
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from chromasync.model import ChunkHead, Hold, Mirror
from chromasync.plan.older import Part, Tail, tail_without, were_judged
from chromasync.plan.removals import IdSum

GoneByChunk = Mapping[int | None, Container[str]]

NONE: frozenset[str] = frozenset()


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
        unseen: the same by chunk, for membership tests.
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
    unseen: Mapping[int, ShortIds] = field(default_factory=dict)
    hints: Mapping[int, AbstractSet[str]] = field(default_factory=dict)
    asked: Mapping[int, AbstractSet[str]] = field(default_factory=dict)
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
    repeated = walk.repeated
    moved, seen, ordered = walk.moved, walk.seen, walk.ordered
    del walk  # it may need a lot of memory
    found = _look_at(ledger.heads, missing, sink)
    sink.drop_repeats(repeated)
    hints = _Hints(found, ledger.load_ids)
    return Membership(
        seen,
        ordered,
        found.missing,
        found.unseen,
        hints,
        _Asked(hints, found.differing),
        sum(head.count for head in ledger.heads),
        fresh_count,
        _tail(ledger, moved, found, fresh_count),
    )


def _hand_over(walk: Walk, sink: Sink) -> int:
    """Give new ids to the sink; returns how many of them the ledger did not have."""
    fresh_count = 0
    for ids in walk.new_ids():
        new = list(dict.fromkeys(ids))
        fresh_count += sum(record_id not in walk.moved for record_id in new)
        sink.append(new, walk.moved)
    return fresh_count


@dataclass(slots=True)
class _Found:
    """The missing ids, looked at chunk by chunk.

    Attributes:
        missing: all of them.
        unseen: the same by chunk.
        gone: ids known to be gone, by chunk.
        differing: the chunks in which the two differ, with their ids known to be gone.
    """

    missing: IdSum
    unseen: dict[int, ShortIds]
    gone: GoneByChunk
    differing: dict[int, Container[str]]


def _look_at(heads: Sequence[ChunkHead], missing: Mapping[int, list[str]], sink: Sink) -> _Found:
    """Compare the missing ids with those known to be gone (and held)."""
    waiting = [head.id for head in heads if head.replica.gone_count]
    found = _Found(IdSum(), {}, sink.gone_by_chunk() if missing or waiting else {}, {})
    for chunk_id, ids in missing.items():
        found.missing.add(ids)
        found.unseen[chunk_id] = ShortIds(ids)
        known = found.gone.get(chunk_id, ())
        if set(known) != set(ids):
            found.differing[chunk_id] = known
    for chunk_id in waiting:
        if chunk_id not in found.unseen:
            found.differing[chunk_id] = found.gone.get(chunk_id, ())
    return found


class _Hints(Mapping[int, AbstractSet[str]]):
    """Missing ids by chunk, where they differ from the ids known to be gone (and held).

    An empty set means that all ids reported missing earlier are listed again. There may be millions
    of ids, so they are loaded from the ledger when they are asked for.
    """

    def __init__(self, found: _Found, load_ids: Callable[[int], list[str]]) -> None:
        self._chunks = found.differing
        self._unseen = found.unseen
        self._load_ids = load_ids

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[int]:
        return iter(self._chunks)

    def __getitem__(self, chunk_id: int) -> AbstractSet[str]:
        if chunk_id not in self._chunks:
            raise KeyError(chunk_id)
        unseen = self._unseen.get(chunk_id)
        return NONE if unseen is None else frozenset(unseen.among(self._load_ids(chunk_id)))


class _Asked(Mapping[int, AbstractSet[str]]):
    """Ids by chunk to read: those in which the hints differ from the ids known to be gone."""

    def __init__(self, hints: _Hints, gone: Mapping[int, Container[str]]) -> None:
        self._hints = hints
        self._gone = gone

    def __len__(self) -> int:
        return len(self._hints)

    def __iter__(self) -> Iterator[int]:
        return iter(self._hints)

    def __getitem__(self, chunk_id: int) -> AbstractSet[str]:
        return self._hints[chunk_id] ^ frozenset(self._gone.get(chunk_id, ()))


def _tail(ledger: Before, moved: Mapping[str, int], found: _Found, new: int) -> Tail:
    """The newest part of the ledger, without the records that this walk appended."""
    left = Counter(moved.values())
    parts = [Part(h.id, h.count - left[h.id], h.added_cycle) for h in ledger.heads]
    holds = ledger.holds() if found.unseen else ()
    gone = found.gone if found.unseen else {}
    judged = were_judged(ledger.mirror, gone.values(), holds, ledger.replica_id)

    def load_ids(chunk_id: int) -> list[str]:
        return [i for i in ledger.load_ids(chunk_id) if i not in moved]

    return tail_without(parts, found.unseen, gone if judged else {}, load_ids, new)

"""Whether a replica still holds what was left there, by what is counted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.ledger.plan import new_chunk
from chromasync.model import Chunk, Deletion, DeletionKind, Mirror, MirrorStatus
from chromasync.plan.doubt import Bounds, bounds_of, is_surely_unwritten, why_doubtful
from tests.support.ledgers import COLLECTION, chunk_of, head_with, mirror_of, names
from tests.support.properties import examples


def mirror(**fields: Any) -> Mirror:
    return mirror_of(COLLECTION, "t", "d", "docs", **fields)


def unasked() -> NoReturn:
    raise AssertionError("the ledger is not needed for this")


@pytest.mark.parametrize("status", MirrorStatus)
@pytest.mark.parametrize("vouched", [True, False])
@pytest.mark.parametrize(("count", "words"), [(9, "lost 1"), (10, ""), (12, "gained 2")])
def test_a_settled_collection_must_have_the_count_that_was_left(
    status: MirrorStatus, vouched: bool, count: int, words: str
) -> None:
    """Whatever its status, and whoever vouches for the replica."""
    row = mirror(status=status, replica_count=10, settled_cycle=3)
    why = why_doubtful(row, count, vouched=vouched, bounds=unasked)
    assert bool(why) is bool(words)
    assert words in why


@pytest.mark.parametrize("status", MirrorStatus)
def test_an_unfinished_collection_that_nobody_vouches_for_is_compared(status: MirrorStatus) -> None:
    """No count tells an older copy of the replica from one that was cut off earlier."""
    row = mirror(status=status, replica_count=10)
    assert "did not finish it" in why_doubtful(row, 10, vouched=False, bounds=unasked)


@pytest.mark.parametrize(("count", "doubtful"), [(4, True), (5, False), (8, False), (9, True)])
def test_a_vouched_collection_must_keep_within_bounds(count: int, doubtful: bool) -> None:
    """What was surely written is there, and no more than may have been."""
    why = why_doubtful(mirror(), count, vouched=True, bounds=lambda: Bounds(5, 8))
    assert bool(why) is doubtful
    assert ("5 to 8" in why) is doubtful


def unwritten(ids: list[str], **head: Any) -> Chunk:
    chunk = new_chunk(COLLECTION, ids, 0, {}, suspect=False)
    return replace(chunk, head=head_with(chunk.head, **head))


def waiting(kind: DeletionKind, count: int) -> Deletion:
    return Deletion(1, COLLECTION, kind, None, names(count))


def test_what_the_replica_of_an_unfinished_collection_can_have() -> None:
    """Written records surely; of what was in hand, or is to be deleted, any number."""
    chunks = [chunk_of(names(5)), unwritten(names(3, "n")), unwritten(names(4, "h"), in_hand=True)]
    chunks.append(chunk_of(names(2, "k"), in_hand=True))
    assert bounds_of(chunks, [], 0) == Bounds(5, 5 + 4 + 2)
    deletions = [waiting(DeletionKind.GONE, 2), waiting(DeletionKind.SURPLUS, 7)]
    assert bounds_of(chunks, deletions, 1) == Bounds(5 - 2 - 1, 5 + 4 + 2 + 7)
    assert bounds_of([], deletions, 9) == Bounds(0, 7)


sizes = st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), max_size=6)


@examples(200)
@given(sizes, st.data())
def test_no_cut_is_outside_of_the_bounds(
    made: list[tuple[int, bool, bool]], data: st.DataObject
) -> None:
    """However much of what was in hand went through, and however many deletes did."""
    chunks, count = [], 0
    for number, (size, written, in_hand) in enumerate(made):
        ids = names(size, f"c{number}-")
        chunk = chunk_of(ids, in_hand=in_hand) if written else unwritten(ids, in_hand=in_hand)
        chunks.append(chunk)
        through = data.draw(st.integers(0, size)) if in_hand else size * written
        count += through
    surely = bounds_of(chunks, [], 0).least
    gone, surplus = data.draw(st.integers(0, surely)), data.draw(st.integers(0, 5))
    deletions = [waiting(DeletionKind.GONE, gone), waiting(DeletionKind.SURPLUS, surplus)]
    count += data.draw(st.integers(0, surplus)) - data.draw(st.integers(0, gone))
    bounds = bounds_of(chunks, deletions, 0)
    assert bounds.least <= count <= bounds.most


@pytest.mark.parametrize(
    ("head", "surely"),
    [({}, True), ({"suspect": True}, False), ({"in_hand": True}, False), ({"read_cycle": 3}, False),
     ({"checked_cycle": 3}, False)],
)  # fmt: skip
def test_a_head_tells_whether_nothing_was_ever_written(head: dict[str, Any], surely: bool) -> None:
    """One that was read, checked or in someone's hands may have been."""
    assert is_surely_unwritten(unwritten(["a"], **head).head) is surely

"""Which records of a chunk must be read, and what a head may say of that."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chromasync.ledger.plan import (
    asked_of,
    due_ids,
    extended,
    has_unread,
    must_read,
    rechecked,
    without_ids,
    without_rows,
)
from chromasync.model import ChunkHead, Task
from tests.support.ledgers import COLLECTION, chunk_of, head_with, names

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
BEFORE = NOON - timedelta(days=1)
SETTLED = chunk_of(
    names(20), chunk_id=7, read_at=NOON, checked_at=NOON, read_cycle=3, looked_cycle=3
).head


def head(**changes: Any) -> ChunkHead:
    return head_with(SETTLED, **changes)


def due(
    which: ChunkHead, *hinted: str, before: datetime = BEFORE
) -> frozenset[str] | set[str] | None:
    return due_ids(which, set(hinted), check_before=before)


PART: dict[str, Any] = {"recheck": True, "recheck_ids": ("r1", "r2")}


@pytest.mark.parametrize(
    ("which", "hinted", "expected"),
    [
        (head(), [], frozenset()),
        (head(), ["r5"], frozenset({"r5"})),
        (head(**PART), [], frozenset({"r1", "r2"})),
        (head(**PART), ["r2", "r3"], frozenset({"r1", "r2", "r3"})),
        (head(recheck_ids=("r1",)), [], frozenset()),
        (head(recheck=True), [], None),
        (head(recheck=True, recheck_ids=()), [], None),
        (head(read_at=None), [], None),
        (head(read_at=None, **PART), [], None),
        (head(suspect=True, **PART), [], None),
        (head(reduced_count=1), [], frozenset()),
        (head(reduced_count=1), ["r1"], None),
        (head(), [f"r{n}" for n in range(5)], frozenset(f"r{n}" for n in range(5))),
        (head(), [f"r{n}" for n in range(6)], None),
    ],
)
def test_what_must_be_read(
    which: ChunkHead, hinted: list[str], expected: frozenset[str] | None
) -> None:
    """What changed and what is hinted at, and all of it where little would be spared."""
    assert due(which, *hinted) == expected


def test_what_is_due_for_a_check_is_read_whole() -> None:
    """A chunk that needs a read is read on both sides when its check is due, and only then."""
    later = NOON + timedelta(seconds=1)
    assert due(head(), before=later) == frozenset()
    assert due(head(), "r1", before=later) is None
    assert due(head(**PART, checked_at=None)) is None


@pytest.mark.parametrize(
    ("read", "looked", "counts"),
    [(3, 3, True), (3, 5, True), (None, None, True), (None, 4, True), (4, 3, False),
     (1, None, False)],
)  # fmt: skip
def test_ids_of_before_a_whole_read_are_worth_nothing(
    read: int | None, looked: int | None, counts: bool
) -> None:
    """A program of before notes that it read all, and leaves ids that it does not know."""
    which = head(read_cycle=read, looked_cycle=looked, **PART)
    assert due(which) == (frozenset({"r1", "r2"}) if counts else None)
    grown = extended(replace(chunk_of(names(20)), head=which), ["x"], {}, cycle_id=9)
    assert due(grown.head) == (frozenset({"r1", "r2", "x"}) if counts else None)
    later = replace(grown.head, read_cycle=10, recheck=True)
    assert due(later) is None


def test_new_ids_leave_the_other_instants_true() -> None:
    """What was added is due and unread; the chunk stays as read as it was."""
    before = replace(chunk_of(names(20)), head=head(read_seconds=2.0))
    grown = extended(before, ["x"], {}, cycle_id=4)
    assert due(grown.head) == {"x"}
    assert (grown.head.read_at, grown.head.read_cycle) == (NOON, 3)
    assert grown.head.read_seconds == pytest.approx(2.1)
    assert has_unread(grown.head)
    assert not has_unread(before.head)
    assert not has_unread(replace(grown.head, looked_cycle=4))
    assert not has_unread(replace(grown.head, read_cycle=4))
    again = extended(grown, ["y"], {}, cycle_id=4)
    assert due(again.head) == {"x", "y"}


def test_a_chunk_that_was_never_read_stays_so() -> None:
    """More ids make no difference to a chunk of which all must be read."""
    grown = extended(chunk_of(["a"]), ["b"], {}, cycle_id=4)
    assert (grown.head.read_at, grown.head.recheck, due(grown.head)) == (None, False, None)


def test_what_must_be_read_whole_stays_so() -> None:
    """More ids never make less of a chunk due."""
    whole = replace(chunk_of(names(20)), head=head(recheck=True))
    assert due(extended(whole, ["x"], {}, cycle_id=4).head) is None


def test_ids_that_leave_are_not_looked_at_again() -> None:
    """The last one that leaves takes the need for a read along, and does not leave all behind."""
    part = replace(chunk_of(names(20)), head=head(**PART))
    assert due(without_ids(part, {"r1"}).head) == {"r2"}
    assert due(without_rows(part, {1, 2}).head) == frozenset()
    assert not must_read(without_ids(part, {"r1", "r2"}).head)
    whole = replace(part, head=head(recheck=True))
    assert due(without_ids(whole, {"r1", "r2"}).head) is None


def test_much_of_a_chunk_is_remembered_as_all() -> None:
    """A list of ids is kept only while it spares a read."""
    assert rechecked(head(), frozenset()).recheck is False
    few = rechecked(head(), frozenset(names(5)))
    assert (few.recheck, few.recheck_ids) == (True, ("r0", "r1", "r2", "r3", "r4"))
    many = rechecked(head(), frozenset(names(6)))
    assert (many.recheck, many.recheck_ids) == (True, None)
    assert rechecked(head(), None).recheck


def task(*ids: str, whole: bool = False, check: bool = False) -> Task:
    record_ids = None if whole else ids
    return Task(1, 1, COLLECTION, "docs", 7, check, 0, NOON, 5, record_ids=record_ids)


@pytest.mark.parametrize(
    ("which", "claimed", "expected"),
    [
        (head(), task("r1"), {"r1"}),
        (head(**PART), task("r1", "r4"), {"r1", "r2", "r4"}),
        (head(), task(), set()),
        (head(), task(whole=True), None),
        (head(), task("r1", check=True), None),
        (head(suspect=True), task("r1"), None),
        (head(read_at=None), task("r1"), None),
        (head(recheck=True), task("r1"), None),
        (head(reduced_count=1), task("r1"), None),
    ],
)
def test_what_a_claimed_task_looks_at(
    which: ChunkHead, claimed: Task, expected: set[str] | None
) -> None:
    """The ids that it names, and all of a chunk that is not trusted by now."""
    assert asked_of(which, claimed) == expected

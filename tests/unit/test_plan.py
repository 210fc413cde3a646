"""Which chunks are read again, and how ids enter and leave chunks."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from chromasync.ledger.digest import ids_digest
from chromasync.ledger.plan import (
    Carried,
    carry_from,
    extended,
    is_overdue,
    must_read,
    new_chunk,
    without_ids,
    without_rows,
)
from chromasync.ledger.scrub import choose_scrubs, reread_cycles
from chromasync.model import UNKNOWN_DIGEST, Chunk, ChunkHead, ReplicaChunk
from tests.support.ledgers import COLLECTION, chunk_of, head_with, mark_of

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOON - timedelta(seconds=seconds)


def head(
    number: int,
    *,
    read: datetime | None = NOON,
    checked: datetime | None = NOON,
    seconds: float = 1.0,
    suspect: bool = False,
    recheck: bool = False,
) -> ChunkHead:
    return ChunkHead(
        number,
        COLLECTION,
        0,
        10,
        b"",
        read_at=read,
        read_seconds=seconds,
        recheck=recheck,
        replica=ReplicaChunk(checked_at=checked, suspect=suspect),
    )


def chosen(heads: list[ChunkHead], budget: float, *, before: datetime) -> list[tuple[int, bool]]:
    return [(s.head.id, s.check_replica) for s in choose_scrubs(heads, budget, before)]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (head(1), False),
        (head(1, read=None), True),
        (head(1, suspect=True), True),
        (head(1, recheck=True), True),
    ],
)
def test_new_suspect_and_changed_chunks_must_be_read(which: ChunkHead, expected: bool) -> None:
    """A chunk that was never read, is not trusted or may have been torn has no choice."""
    assert must_read(which) is expected


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (head(1, checked=ago(1)), True),
        (head(1, checked=NOON), False),
        (head(1, checked=None), True),
        (head(1, read=None, checked=None), False),
        (head(1, read=None, checked=ago(1)), True),
    ],
)
def test_a_look_at_the_replica_falls_due(which: ChunkHead, expected: bool) -> None:
    """It is due when older than the instant named, or never taken of a chunk that was read."""
    assert is_overdue(which, NOON) is expected


def test_all_are_read_while_they_fit() -> None:
    """With budget for everything, each chunk is chosen once, longest unread first."""
    heads = [head(1, read=ago(5)), head(2, read=None), head(3, read=ago(9))]
    assert chosen(heads, 3.5, before=ago(99)) == [(2, False), (3, False), (1, False)]


def test_beyond_the_budget_the_oldest_go_first() -> None:
    """Chunks are taken until the budget is spent; the last one may overdraw it."""
    heads = [head(n, read=ago(n)) for n in range(1, 6)]
    assert chosen(heads, 2.5, before=ago(99)) == [(5, False), (4, False), (3, False)]
    assert chosen(heads, 2.0, before=ago(99)) == [(5, False), (4, False)]


def test_without_a_budget_nothing_is_chosen() -> None:
    """A budget of nothing reads nothing, even chunks that cost nothing."""
    assert chosen([head(1, seconds=0.0), head(2)], 0.0, before=NOON) == []
    assert chosen([], 5.0, before=NOON) == []


def test_a_due_check_of_the_replica_goes_with_the_read() -> None:
    """The budget pays for both sides of the chunk longest unread before it pays for the next."""
    heads = [
        head(1, read=ago(4), checked=ago(30)),
        head(2, read=ago(3), checked=None),
        head(3, read=ago(2), checked=ago(5)),
        head(4, read=ago(1), checked=ago(50)),
    ]
    due = ago(10)
    assert chosen(heads, 0.5, before=due) == [(1, True)]
    assert chosen(heads, 4.0, before=due) == [(1, True), (2, True)]
    assert chosen(heads, 4.5, before=due) == [(1, True), (2, True), (3, False)]
    assert chosen(heads, 99.0, before=due) == [(1, True), (2, True), (3, False), (4, True)]
    assert dict(chosen(heads, math.inf, before=NOON)) == dict.fromkeys((1, 2, 3, 4), True)


CYCLE, DAY = timedelta(hours=1), timedelta(days=1)


def rotate(heads: list[ChunkHead], budget: float, cycles: int) -> dict[int, list[tuple[int, bool]]]:
    """By chunk, the cycles in which it was read, and whether the replica's side was, too."""
    known = {h.id: h for h in heads}
    seen: dict[int, list[tuple[int, bool]]] = {h.id: [] for h in heads}
    for cycle in range(cycles):
        now = NOON + cycle * CYCLE
        for scrub in choose_scrubs(known.values(), budget, now - DAY):
            seen[scrub.head.id].append((cycle, scrub.check_replica))
            checked = now if scrub.check_replica else scrub.head.replica.checked_at
            known[scrub.head.id] = head_with(scrub.head, read_at=now, checked_at=checked)
    return seen


@pytest.mark.parametrize(
    ("count", "budget"),
    [(10, 15.0), (29, 15.0), (30, 15.0), (31, 15.0), (100, 15.0), (1000, 15.0), (40, 0.1)],
)
def test_no_chunk_starves_on_either_side(count: int, budget: float) -> None:
    """Each is read within the promised cycles, and on both sides at the first read that is due.

    With 0.5 seconds a chunk, 30 chunks are what the larger budget reads on one side.
    """
    heads = [head(n, seconds=0.5) for n in range(count)]
    rotation, day = int(reread_cycles(sum(h.read_seconds for h in heads), budget)), DAY // CYCLE
    cycles = 2 * (rotation + day)
    for times in rotate(heads, budget, cycles).values():
        assert longest_gap([cycle for cycle, _ in times], cycles) <= rotation
        checks = [cycle for cycle, checked in times if checked]
        assert longest_gap(checks, cycles) <= day + 1 + rotation


def longest_gap(cycles: list[int], end: int) -> int:
    """The most cycles in a row without one of these, the open ones at both ends included."""
    return max(b - a for a, b in pairwise([-1, *cycles, end]))


@pytest.mark.parametrize(
    ("seconds", "budget", "expected"),
    [
        ([], 0.0, 1.0),
        ([1.0, 1.0], 4.0, 1.0),
        ([1.0, 1.0], 2.0, 2.0),
        ([1.0, 1.0], 1.0, 4.0),
        ([1.0, 1.25], 1.0, 5.0),
        ([1.0], 0.0, math.inf),
    ],
)
def test_the_time_to_read_everything_again(
    seconds: list[float], budget: float, expected: float
) -> None:
    """It is the number of budgets that both sides of the whole take; infinite without any."""
    assert reread_cycles(sum(seconds), budget) == expected


def rows_of(chunk: Chunk) -> dict[str, tuple[bytes, bytes]]:
    return {
        record_id: (chunk.applied.embedding.row(n), chunk.applied.payload.row(n))
        for n, record_id in enumerate(chunk.ids)
    }


def test_a_new_chunk_knows_nothing_but_what_is_carried() -> None:
    """New ids are unknown, moved ids keep their digests, and the head counts them."""
    carried = Carried(
        mark_of("b", "embedding"), mark_of("b", "payload"), b"r" * 16, suspect=False, in_hand=False
    )
    made = new_chunk("c", ["a", "b"], 70, {"b": carried, "z": carried}, suspect=False)
    assert rows_of(made) == {
        "a": (UNKNOWN_DIGEST, UNKNOWN_DIGEST),
        "b": (carried.embedding, carried.payload),
    }
    assert made.head == ChunkHead(0, "c", 70, 2, ids_digest(["a", "b"]))
    assert must_read(made.head)


@pytest.mark.parametrize("adopting", [True, False])
@pytest.mark.parametrize("carries", [True, False])
def test_suspicion_comes_with_the_records(adopting: bool, carries: bool) -> None:
    """A chunk is suspect when its collection is adopted or one of its records comes suspect."""
    carry = {"a": Carried(b"e" * 16, b"p" * 16, b"r" * 16, suspect=carries, in_hand=False)}
    assert new_chunk("c", ["a"], 0, carry, suspect=adopting).head.replica.suspect is (
        adopting or carries
    )
    grown = extended(chunk_of(["x"], suspect=adopting), ["a"], carry)
    assert grown.head.replica.suspect is (adopting or carries)
    assert not extended(chunk_of(["x"]), ["y"], {"a": carry["a"]}).head.replica.suspect


def test_an_extended_chunk_keeps_what_it_had() -> None:
    """More ids at the end change no row before them, nor when these were read."""
    before = chunk_of(["a", "b"], chunk_id=7, read_at=NOON, checked_at=NOON)
    after = extended(before, ["c"], {})
    assert after.ids == ["a", "b", "c"]
    assert rows_of(after) == {**rows_of(before), "c": (UNKNOWN_DIGEST, UNKNOWN_DIGEST)}
    assert (after.head.id, after.head.count, after.head.read_at) == (7, 3, NOON)
    assert must_read(after.head)
    assert after.head.ids_digest == ids_digest(after.ids)
    assert after.head.replica.checked_at == NOON


def test_rows_that_leave_take_their_digests_along() -> None:
    """Without some rows the others keep order, digests and the rest of the head."""
    before = chunk_of(["a", "b", "c"], chunk_id=7, read_at=NOON, gone_count=2)
    after = without_rows(before, {0, 2, 9})
    assert after == chunk_of(["b"], chunk_id=7, read_at=NOON, gone_count=2)
    assert without_ids(before, {"c", "a", "unknown"}) == after
    assert without_ids(before, set()) == before
    assert without_ids(before, {"a", "b", "c"}).ids == []


def test_what_is_carried_is_what_the_chunk_knows() -> None:
    """Carrying and appending moves digests and suspicion unchanged; other ids stay behind."""
    source = chunk_of(["a", "b"], suspect=True)
    carry = carry_from(source, {"b", "unknown"})
    assert list(carry) == ["b"]
    moved = new_chunk("c", ["b"], 0, carry, suspect=False)
    assert rows_of(moved)["b"] == rows_of(source)["b"]
    assert moved.head.replica.suspect

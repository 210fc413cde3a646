"""The plan's promises for any chunks: the budget, the order, the bound, and aligned digests."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chromasync.ledger.digest import ids_digest
from chromasync.ledger.plan import (
    carry_from,
    extended,
    new_chunk,
    without_ids,
    without_rows,
)
from chromasync.ledger.scrub import choose_scrubs, reread_cycles
from chromasync.model import UNKNOWN_DIGEST, Chunk, ChunkHead
from tests.support.ledgers import COLLECTION, chunk_of, head_with, mark_of, names
from tests.support.properties import examples

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
eighths = st.integers(0, 80).map(lambda n: n / 8)
"""Seconds that add up without rounding."""
instants = st.one_of(st.none(), st.integers(0, 50).map(lambda n: NOON - timedelta(hours=n)))


@st.composite
def all_heads(draw: st.DrawFn) -> list[ChunkHead]:
    count = draw(st.integers(0, 12))
    blank = ChunkHead(0, COLLECTION, 0, 1, b"")
    return [
        head_with(
            blank,
            id=n + 1,
            read_at=draw(instants),
            checked_at=draw(instants),
            read_seconds=draw(eighths),
        )
        for n in range(count)
    ]


def age(instant: datetime | None) -> float:
    return math.inf if instant is None else (NOON - instant).total_seconds()


@examples(300)
@given(all_heads(), eighths, instants.filter(bool))
def test_the_budget_is_kept(heads: list[ChunkHead], budget: float, due: datetime) -> None:
    """Only the last chunk, both sides of it, overdraws the budget; nothing else ends the choice."""
    chosen = choose_scrubs(heads, budget, due)
    costs = [s.head.read_seconds for s in chosen]
    costs += [s.head.read_seconds for s in chosen if s.check_replica]
    assert sum(costs) <= budget + 2 * max(costs, default=0.0)
    assert len({s.head.id for s in chosen}) == len(chosen)
    if len(chosen) < len(heads):
        assert sum(costs) >= budget
    total = sum(head.read_seconds for head in heads)
    if 2 * total < budget:
        assert len(chosen) == len(heads)


@examples(300)
@given(all_heads(), eighths, instants.filter(bool))
def test_the_oldest_go_first(heads: list[ChunkHead], budget: float, due: datetime) -> None:
    """No chunk is passed over for one read more recently, and each due check goes with its read."""
    chosen = choose_scrubs(heads, budget, due)
    taken = {s.head.id for s in chosen}
    assert all(age(a.head.read_at) >= age(b.head.read_at) for a, b in pairwise(chosen))
    left = [age(h.read_at) for h in heads if h.id not in taken]
    if chosen and left:
        assert min(age(s.head.read_at) for s in chosen) >= max(left)
    for scrub in chosen:
        checked = scrub.head.replica.checked_at
        assert scrub.check_replica is (checked is None or checked < due)


@examples(200)
@given(all_heads(), st.integers(1, 80).map(lambda n: n / 8))
def test_everything_is_read_again_within_the_bound(heads: list[ChunkHead], budget: float) -> None:
    """In each run of `reread_cycles` cycles, every chunk is read at least once."""
    bound = int(reread_cycles(sum(h.read_seconds for h in heads), budget))
    last_read = {head.id: 0 for head in heads}
    for cycle in range(1, 3 * bound + 1):
        now = NOON + timedelta(minutes=cycle)
        read = {s.head.id for s in choose_scrubs(heads, budget, NOON - timedelta(days=9))}
        heads = [replace(head, read_at=now) if head.id in read else head for head in heads]
        last_read.update(dict.fromkeys(read, cycle))
        assert all(cycle - last <= bound for last in last_read.values()), (cycle, bound)
        if cycle >= bound:
            assert all(cycle - last < bound for last in last_read.values()), (cycle, bound)


def assert_aligned(chunk: Chunk, unknown: set[str]) -> None:
    """Each id has its own digests, and the head tells of these very ids."""
    assert chunk.head.ids_digest == ids_digest(chunk.ids)
    for row, record_id in enumerate(chunk.ids):
        expected = (mark_of(record_id, "embedding"), mark_of(record_id, "payload"))
        if record_id in unknown:
            expected = (UNKNOWN_DIGEST, UNKNOWN_DIGEST)
        assert (chunk.applied.embedding.row(row), chunk.applied.payload.row(row)) == expected


@examples(200)
@given(st.data(), st.integers(0, 8), st.integers(0, 8))
def test_ids_and_digests_stay_aligned(data: st.DataObject, first: int, second: int) -> None:
    """Whatever leaves one chunk and enters another, each id keeps its digests."""
    source, home = chunk_of(names(first, "s")), chunk_of(names(second, "h"), suspect=True)
    leaving = data.draw(st.sets(st.sampled_from(source.ids))) if first else set()
    strangers = names(data.draw(st.integers(0, 3)), "x")
    arriving = data.draw(st.permutations([*leaving, *strangers]))
    carry = carry_from(source, leaving)
    rows = {n for n, record_id in enumerate(source.ids) if record_id in leaving}
    unknown = set(strangers)
    rest = without_rows(source, rows)
    assert rest == without_ids(source, leaving)
    assert rest.ids == [i for i in source.ids if i not in leaving]
    assert_aligned(rest, unknown)
    grown = extended(home, arriving, carry)
    assert grown.ids == home.ids + arriving
    assert_aligned(grown, unknown)
    fresh = new_chunk("c", arriving, 0, carry, suspect=False)
    assert fresh.ids == arriving
    assert_aligned(fresh, unknown)
    assert set(carry_from(grown, set(grown.ids))) == set(grown.ids)

"""Whether a collection of the replica is mostly what the primary has, told from a sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.lab.fake import FakeServer
from chromasync.model import Collection, Hold, HoldKind, Side, Space
from chromasync.plan.likeness import (
    SAMPLE,
    Likeness,
    hold_adoption,
    is_decided,
    spread_runs,
)
from chromasync.plan.pairing import Match, Pairing
from chromasync.plan.removals import IdSum
from chromasync.plan.sampler import Sampler
from chromasync.store import SqlStore
from tests.support.ledgers import joined, mirror_of, names, record

pytestmark = pytest.mark.usefixtures("impatient")


# ---- what is taken ------------------------------------------------------------------------------


@given(st.integers(0, 3_000_000))
def test_a_sample_is_spread_over_the_whole_and_takes_nothing_twice(count: int) -> None:
    """Runs lie within the collection, in order and apart, from its start to its end."""
    runs = spread_runs(count)
    assert sum(length for _, length in runs) == min(count, SAMPLE)
    ends = [0, *(offset + length for offset, length in runs)]
    assert all(offset >= end for (offset, _), end in zip(runs, ends, strict=False))
    assert not runs or (runs[0][0], ends[-1]) == (0, count)


# ---- what is compared ---------------------------------------------------------------------------


class Sides:
    """A collection on two servers in memory."""

    def __init__(self, store: SqlStore, space: Space = Space.COSINE) -> None:
        self.primary = FakeServer(Side.PRIMARY)
        self.replica = FakeServer(Side.REPLICA)
        self.left = self.primary.make(space=space)
        self.right = self.replica.make(space=space)
        self.sampler = Sampler(self.primary, self.replica, store)

    def look(self) -> Likeness:
        return self.sampler.of_replica(self.left, self.right)


@pytest.fixture
def sides(store: SqlStore) -> Sides:
    return Sides(store)


def test_records_that_are_the_same_are_told_from_others(sides: Sides) -> None:
    """Missing ones and changed ones are not the same; what only the primary has does not count."""
    sides.primary.put(sides.left, joined(*[record(i) for i in names(60)]))
    sides.replica.put(sides.right, joined(*[record(i) for i in names(30)]))
    sides.replica.put(sides.right, record("r3", document="another text"))
    sides.replica.put(sides.right, joined(record("x1"), record("x2")))
    assert sides.look() == Likeness(60, 32, compared=32, same=29)


def test_a_last_place_of_a_cosine_embedding_is_no_difference(sides: Sides) -> None:
    """The differ's tolerances apply: what a server does to numbers is nobody's other record."""
    one = record("r0")
    assert one.embeddings is not None
    sides.primary.put(sides.left, one)
    drifted = np.nextafter(one.embeddings, np.float32(2), dtype=np.float32)
    sides.replica.put(sides.right, replace(one, embeddings=drifted))
    assert sides.look().same == 1


def test_what_cannot_be_read_says_nothing_for_the_primary_and_no_for_the_replica(
    sides: Sides,
) -> None:
    """A record that the primary cannot give is left out; one of the replica is not the same."""
    everything = joined(*[record(i) for i in names(10)])
    sides.primary.put(sides.left, everything)
    sides.replica.put(sides.right, everything)
    sides.primary.broken.unreadable |= {"r0", "r1"}
    sides.replica.broken.unreadable |= {"r2"}
    assert sides.look() == Likeness(10, 10, compared=8, same=7)


def test_a_large_collection_costs_a_sample(sides: Sides) -> None:
    """So many records are read on each side, whatever its size."""
    everything = joined(*[record(i) for i in names(5 * SAMPLE)])
    sides.primary.put(sides.left, everything)
    sides.replica.put(sides.right, everything)
    likeness = sides.look()
    assert (likeness.compared, likeness.same) == (SAMPLE, SAMPLE)
    for server in (sides.primary, sides.replica):
        assert sum(len(call.ids) for call in server.calls if call.name == "read") == SAMPLE


# ---- what follows -------------------------------------------------------------------------------

PRIMARY = Collection("p", "docs", "t", "d")
REPLICA = Collection("r", "docs", "t", "d")
ADOPTION = Pairing(Match.ADOPT, PRIMARY, mirror_of("p", "t", "d", "docs"), REPLICA)


@pytest.mark.parametrize(
    ("compared", "same", "mostly"),
    [(200, 200, True), (200, 100, True), (200, 99, False), (1, 0, False), (3, 2, True)],
)
def test_half_is_mostly(compared: int, same: int, mostly: bool) -> None:
    """At least half of the sample is the same."""
    likeness = Likeness(500, 400, compared, same)
    assert likeness.is_mostly_same is mostly
    assert (hold_adoption(ADOPTION, likeness, no_ids) is None) is mostly


def no_ids(_: Collection) -> IdSum:
    return IdSum()


def test_an_empty_replica_is_free_and_an_empty_sample_proves_nothing() -> None:
    """Nothing can be overwritten where nothing is; records that nobody can compare are held."""
    assert hold_adoption(ADOPTION, Likeness(500, 0, 0, 0), no_ids) is None
    assert hold_adoption(ADOPTION, Likeness(500, 3, 0, 0), no_ids) is not None
    assert hold_adoption(ADOPTION, Likeness(0, 3, 3, 0), no_ids) is not None


def test_a_copy_on_the_primarys_server_is_held_however_like_it_is() -> None:
    """It may be an application's own snapshot, which a cycle would overwrite."""
    for count in (0, 400):
        like = Likeness(500, count, count // 2, count // 2)
        found = hold_adoption(ADOPTION, like, no_ids, beside=True)
        assert (found is None) is (count == 0)
    assert found is not None
    assert "an application's own" in found.reason
    assert hold_adoption(ADOPTION, like, no_ids) is None


def held(ids: tuple[str, ...] = ("a", "b"), replica: Collection = REPLICA) -> Hold:
    likeness = Likeness(500, 400, 200, 3)
    pairing = replace(ADOPTION, replica=replica)
    found = hold_adoption(pairing, likeness, lambda _: IdSum(ids))
    assert found is not None
    return found


def test_a_hold_says_what_each_side_has() -> None:
    """Place, counts of both sides and of the sample are in it."""
    hold = held()
    assert (hold.kind, hold.full_name, hold.count) == (HoldKind.ADOPTION, "t/d/docs", 400)
    for figure in ("of 200 compared", "3 are the same", "500 records on the primary", "400 on the"):
        assert figure in hold.reason


def test_an_approval_is_for_these_records_of_this_replica() -> None:
    """It covers neither another collection nor one that has other records by now."""
    approved = [replace(held(), approved_digest=held().set_digest)]
    assert is_decided(held(), approved)
    assert not is_decided(held(), [held()])
    assert not is_decided(held(("a", "c")), approved)
    assert not is_decided(held(replica=replace(REPLICA, id="r2")), approved)

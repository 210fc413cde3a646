"""An attempt at single records that is cut off anywhere leaves the chunk to be compared whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromasync import faultpoints
from chromasync.errors import ServerUnreachable
from chromasync.model import Side
from chromasync.reports import Outcome
from chromasync.store import SqlStore
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]

POINTS = [
    faultpoints.AFTER_CLAIM,
    faultpoints.AFTER_READ,
    faultpoints.MID_WRITE,
    faultpoints.AFTER_WRITE,
]
"""All of an attempt, before it is recorded."""


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """Sixty records in a chunk of at most a hundred, of which nothing is left to be read."""
    more = {"SYNC_CHUNK_SIZE": "100", "SYNC_MAX_DELETE": "100%"}
    with house_of(store, 1, SYNC_SCRUB_BUDGET="0", **more) as house:
        house.primary.put(house.home, joined(*[record(i, "old") for i in names(60)]))
        for _ in range(2):
            house.sync()
        assert house.sync().counts.read == 0
        yield house


def change(house: House) -> None:
    """One record is deleted, two come."""
    house.primary.remove(house.home, ["r7"])
    house.primary.put(house.home, joined(*[record(i, "new") for i in names(2, "x")]))


def assert_equal(house: House) -> None:
    one, other = (
        house.primary.contents(house.home),
        house.replica.contents(house.copy()),
    )
    assert sorted(zip(one.ids, one.documents, strict=True)) == sorted(
        zip(other.ids, other.documents, strict=True)
    )


@pytest.mark.parametrize("point", POINTS)
def test_a_part_that_is_cut_off_is_made_good(house: House, point: str) -> None:
    """Whatever was read, written or recorded by then, the next cycle makes both sides equal."""
    change(house)
    left = [1]

    def die(reached: str) -> None:
        if reached == point and left[0]:
            left[0] -= 1
            raise ServerUnreachable("killed", side=Side.REPLICA)

    with faultpoints.injected(die), pytest.raises(ServerUnreachable):
        house.sync()
    (head,) = house.store.chunk_heads(house.home.id)
    assert head.replica.suspect
    report = house.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.read == 61, "what was cut off is compared whole"
    assert_equal(house)
    house.sync()
    assert house.sync().counts.read == 0


def test_a_part_that_is_not_cut_off_is_all_that_is_read(house: House) -> None:
    """Two ids that came, and again in the next cycle; the one that went is not there to be read."""
    change(house)
    report = house.sync()
    assert (report.outcome, report.counts.read) == (Outcome.IDENTICAL, 2)
    assert_equal(house)
    assert [house.sync().counts.read for _ in range(2)] == [2, 0]

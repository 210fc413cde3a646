"""What a plan tells of single cases; `tests/property/test_planned.py` has random worlds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromasync.dryrun import DryRun
from chromasync.model import HoldKind
from chromasync.quiet import Quiet
from chromasync.reports import PlannedCollection
from chromasync.store import SqlStore
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record
from tests.unit.life import approve, primary_dies, record_of

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """Identical on both sides."""
    with house_of(store, SYNC_DRIFT="hold", SYNC_SCRUB_BUDGET="50%") as house:
        house.fill(25)
        house.sync()
        house.sync()
        yield house


def planned(house: House) -> PlannedCollection:
    parts = (house.primary, house.replica, house.store, house.settings)
    (one,) = DryRun(*parts).plan(Quiet()).collections
    return one


def test_what_others_changed_is_not_counted_as_updated(house: House) -> None:
    """With SYNC_DRIFT=hold, the plan says what the cycle leaves as it is."""
    house.replica.put(house.copy(), record_of("r3", "by others"))
    house.primary.put(house.home, joined(record_of("r3", "here"), record_of("r4", "here")))
    one = planned(house)
    assert (one.update, one.held, one.undecided) == (1, True, True)
    report = house.sync()
    assert one.reason == report.holds[0].reason
    assert report.counts.updated == 1
    assert [hold.kind for hold in report.holds] == [HoldKind.DIVERGED]


def test_a_decided_divergence_is_planned_as_it_is_done(house: House) -> None:
    """After an approval the primary's side counts: what others added goes, the rest is mended."""
    house.replica.put(house.copy(), joined(record_of("r3", "by others"), record("theirs")))
    primary_dies(house)
    house.sync()
    assert planned(house).undecided
    approve(house)
    one = planned(house)
    assert (one.update, one.delete, one.held) == (1, 1, False)
    report = house.sync()
    assert (report.counts.replaced, report.counts.deleted, report.holds) == (1, 1, ())


def test_only_what_is_held_counts_as_held(house: House) -> None:
    """Records that go and others that are held are told apart, in one collection."""
    house.replica.put(house.copy(), joined(*[record(i) for i in names(2, "theirs")]))
    house.sync()
    house.primary.remove(house.home, names(3))
    one = planned(house)
    assert (one.delete, one.held_count, one.held) == (5, 2, True)
    report = house.sync()
    assert (report.counts.deleted, [hold.count for hold in report.holds]) == (3, [2])


def test_surplus_of_an_empty_collection_is_planned(house: House) -> None:
    """A plan shows what a cycle holds where the primary has no records."""
    empty = house.primary.make("empty")
    house.sync()
    (copy,) = [c for c in house.replica.list_collections(empty.tenant, empty.database)
               if c.name == "empty"]  # fmt: skip
    house.replica.put(copy, record("theirs"))
    for _ in range(2):
        parts = (house.primary, house.replica, house.store, house.settings)
        found = {c.name: c for c in DryRun(*parts).plan(Quiet()).collections}
        assert (found["empty"].delete, found["empty"].held) == (1, True)
        assert [hold.count for hold in house.sync().holds] == [1]

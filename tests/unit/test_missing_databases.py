"""A cycle while a database that the settings name is missing on the primary."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromasync.dryrun import DryRun
from chromasync.model import Collection, CycleStatus, HoldKind, Mirror, MirrorStatus
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome, PlanReport
from chromasync.status import take_snapshot
from chromasync.store import SqlStore
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record

pytestmark = pytest.mark.usefixtures("impatient")

TENANT = "default_tenant"
HR = (TENANT, "hr")


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """Two databases, both named, with a collection each, and identical on both sides."""
    with house_of(store, SYNC_DATABASES="default_database,hr") as house:
        people = house.primary.make("people", place=HR)
        house.fill(5)
        put(house, people, 5)
        assert house.sync().outcome is Outcome.IDENTICAL
        yield house


def put(house: House, collection: Collection, count: int) -> None:
    house.primary.put(collection, joined(*[record(i) for i in names(count)]))


def plan(house: House) -> PlanReport:
    return DryRun(house.primary, house.replica, house.store, house.settings).plan(Quiet())


def of(house: House, name: str) -> Mirror:
    (found,) = (mirror for mirror in house.store.mirrors() if mirror.name == name)
    return found


def assert_failed_alone(house: House, report: CycleReport) -> None:
    """The cycle names it and ends with 4; its collections are as they were, with the reason."""
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, 4)
    assert report.cycle.status is CycleStatus.FAILED
    assert "no database 'hr' in tenant 'default_tenant'" in str(report.cycle.error)
    assert "remove it from SYNC_DATABASES" in str(report.cycle.error)
    gone = of(house, "people")
    assert (gone.status, gone.primary.missing_cycles) == (MirrorStatus.ERROR, 0)
    assert "no database 'hr'" in str(gone.last_error)
    (there,) = house.replica.list_collections(*HR)
    assert len(house.replica.contents(there)) == 5
    assert house.store.holds() == []
    assert take_snapshot(house.store, house.settings).exit_code == 4


def test_the_others_go_on_and_nothing_of_it_is_touched(house: House) -> None:
    """In any number of cycles: what is added elsewhere arrives, and nothing counts as vanished."""
    house.primary.lose_database(*HR)
    for count in (8, 12, 15):
        house.fill(count)
        report = house.sync()
        assert_failed_alone(house, report)
        assert of(house, "things").status is MirrorStatus.IDENTICAL
        assert of(house, "things").replica_count == count
    assert of(house, "people").consecutive_errors == 3


def test_what_vanished_elsewhere_is_confirmed_meanwhile(house: House) -> None:
    """The other databases were listed whole, so a collection that is gone there is dropped."""
    extra = [house.primary.make(name) for name in ("one", "two")]
    for collection in extra:
        put(house, collection, 2)
    house.primary.lose_database(*HR)
    house.sync()
    house.primary._shared.collections.pop(extra[0].id)
    held = house.sync()
    assert [(h.kind, h.collection_name) for h in held.holds] == [(HoldKind.DROP, "one")]
    report = house.sync()
    assert report.counts.deleted == 2
    assert_failed_alone(house, report)


def test_the_plan_says_so_beforehand(house: House) -> None:
    """Neither a drop nor a hold is planned; the database is named, with exit code 4."""
    house.primary.lose_database(*HR)
    planned = plan(house)
    assert [c.name for c in planned.collections] == ["things"]
    assert (planned.exit_code, planned.is_idle) == (4, True)
    (failure,) = planned.failures
    assert "no database 'hr'" in failure


def test_a_database_that_comes_back_is_mirrored_again(house: House) -> None:
    """Nothing of it is copied anew, and the error is forgotten."""
    people = of(house, "people")
    collections, records = house.primary._shared.collections, house.primary._shared.records
    kept = collections[people.collection_id], records[people.collection_id]
    house.primary.lose_database(*HR)
    house.sync()
    house.primary._shared.databases[TENANT].add("hr")
    collections[people.collection_id], records[people.collection_id] = kept
    report = house.sync()
    assert (report.outcome, report.counts.applied) == (Outcome.IDENTICAL, 0)
    assert of(house, "people").last_error is None


def test_names_that_were_not_mirrored_are_left_as_they_are(store: SqlStore) -> None:
    """A database that was never there is told too, and no collection is marked for it."""
    with house_of(store, SYNC_DATABASES="default_database,misspelt") as house:
        house.fill(3)
        report = house.sync()
        assert (report.exit_code, report.cycle.status) == (4, CycleStatus.FAILED)
        assert "no database 'misspelt'" in str(report.cycle.error)
        assert of(house, "things").status is MirrorStatus.IDENTICAL
        assert take_snapshot(store, house.settings).exit_code == 1

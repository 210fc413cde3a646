"""A tiny collection that is due to be read is read with its ids, and needs a task only to mend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromasync.cycle.ahead import TINY
from chromasync.lab.fake import FakeServer
from chromasync.ledger.digest import replica_digests
from chromasync.model import ChunkHead, Collection
from chromasync.reports import CycleReport, Outcome
from chromasync.store import SqlStore
from tests.support.house import House, house_of
from tests.support.ledgers import record

pytestmark = pytest.mark.usefixtures("impatient")

COUNT = 5


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """Five records that two cycles have copied and read again."""
    with house_of(store, SYNC_CHUNK_SIZE=str(10 * TINY)) as house:
        house.fill(COUNT)
        house.sync()
        house.sync()
        yield house


def tasks_of(report: CycleReport) -> int:
    return report.tasks.completed + report.tasks.failed


def content(server: FakeServer, collection: Collection) -> dict[str, bytes]:
    """Digests of all records by their ids."""
    records = server.contents(collection)
    digests = replica_digests(records)
    return {record_id: digests.row(i) for i, record_id in enumerate(records.ids)}


def head_of(house: House) -> ChunkHead:
    (head,) = house.store.chunk_heads(house.home.id)
    return head


def test_an_unchanged_one_needs_no_task(house: House) -> None:
    """It is read whole instead of listed, and that counts like any read."""
    calls = len(house.primary.calls)
    report = house.sync()
    asked = [call.name for call in house.primary.calls[calls:]]
    assert tasks_of(report) == 0
    assert "list_ids" not in asked
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.read == report.cycle.counts.read == COUNT
    assert head_of(house).read_cycle == report.cycle.id
    assert head_of(house).read_at == report.cycle.started_at


def test_a_changed_record_is_mended_in_the_same_cycle(house: House) -> None:
    """What was read tells that something differs; a task reads it again and writes it."""
    house.primary.put(house.home, record("r1", "another text"))
    report = house.sync()
    assert (tasks_of(report), report.counts.updated) == (1, 1)
    assert content(house.replica, house.copy()) == content(house.primary, house.home)


def test_added_and_deleted_records_are_found_as_ever(house: House) -> None:
    """The ids come out of the records, and go into the ledger as any others do."""
    house.primary.put(house.home, record("new"))
    house.primary.remove(house.home, ["r0"])
    report = house.sync()
    assert (report.counts.inserted, report.counts.deleted) == (1, 1)
    assert content(house.replica, house.copy()) == content(house.primary, house.home)


def test_one_that_has_grown_is_listed(house: House) -> None:
    """What does not come whole is not taken for all that there is."""
    house.fill(TINY + 1, "more")
    report = house.sync()
    assert report.counts.inserted == TINY + 1
    assert report.outcome is Outcome.IDENTICAL
    assert content(house.replica, house.copy()) == content(house.primary, house.home)


def test_one_that_became_empty_is_held(house: House) -> None:
    """No record came, which is no content to compare: all is waited with, as ever."""
    house.primary.remove(house.home, [f"r{n}" for n in range(COUNT)])
    report = house.sync()
    assert report.outcome is Outcome.HELD
    assert len(house.replica.contents(house.copy())) == COUNT


def test_a_record_that_cannot_be_given_is_left_to_a_task(house: House) -> None:
    """The others are read all the same, and it is set aside with the reason."""
    house.primary.broken.unreadable.add("r2")
    report = house.sync()
    assert report.outcome is Outcome.LIMITED
    assert [record.record_id for record in report.quarantined] == ["r2"]


def test_a_chunk_that_was_distrusted_meanwhile_stays_so(house: House) -> None:
    """Someone's doubt about the replica outlasts a look at the primary."""

    def doubt(_: object) -> None:
        house.store.distrust(house.home.id)

    house.primary.on_request(doubt)
    report = house.sync()
    house.primary.on_request(None)
    assert (tasks_of(report), report.counts.read) == (1, COUNT)
    assert head_of(house).replica.suspect


def test_the_replica_is_looked_at_when_its_turn_comes(house: House) -> None:
    """A full cycle reads both sides, by a task."""
    house.replica.put(house.copy(), record("r1", "changed by others"))
    report = house.sync(full=True)
    assert tasks_of(report) == 1
    assert report.counts.drifted == 1

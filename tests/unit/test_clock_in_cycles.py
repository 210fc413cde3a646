"""Cycles whose clock jumped: everything is read again once, and what waits says until when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import update

from chromasync.cycle import clock as cycle_clock
from chromasync.cycle.clock import FUTURE, MEANWHILE, CycleClock
from chromasync.cycle.coordinator import Coordinator
from chromasync.dryrun import DryRun
from chromasync.lab.fake import Call
from chromasync.lease import monotonic
from chromasync.model import MirrorStatus
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome
from chromasync.status import take_snapshot
from chromasync.store import SqlStore
from chromasync.store.schema import Later, cycles
from chromasync.store.schema_ledger import chunks, mirrors, primary_collections, replica_chunks
from tests.store.samples import arrange
from tests.support.house import CHUNK, House, house_of
from tests.support.ledgers import joined, names, record

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]

DAY = 86_400.0
COUNT = 4 * CHUNK


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """A collection that is identical and at rest: without a budget, nothing is read again."""
    with house_of(store, SYNC_SCRUB_BUDGET="0") as house:
        house.fill(COUNT)
        for _ in range(3):
            report = house.sync()
        assert (report.outcome, report.counts.read) == (Outcome.IDENTICAL, 0)
        yield house


def move_instants(store: SqlStore, seconds: float) -> None:
    """Let everything that was read, walked and closed have been so at this instant from now."""
    dated = {
        chunks: ("read_at",),
        replica_chunks: ("checked_at",),
        primary_collections: ("walked_at",),
        mirrors: ("replica_walked_at", "identical_as_of"),
        cycles: ("started_at", "finished_at"),
    }
    for table, columns in dated.items():
        arrange(store, update(table).values({name: Later(seconds) for name in columns}))


def change_in_place(house: House, count: int = 3) -> None:
    """Other documents on the primary, which no walk of ids can see."""
    house.primary.put(house.home, joined(*[record(i, "new") for i in names(count)]))


def read_ids(server_calls: list[Call]) -> set[str]:
    """Ids of records that were asked for, but for those of marks."""
    read = {i for call in server_calls if call.name == "read" for i in call.ids}
    return {record_id for record_id in read if "/" not in record_id}


def assert_read_again_once(house: House, report: CycleReport) -> None:
    assert (report.outcome, report.counts.read, report.counts.updated) == (
        Outcome.IDENTICAL, COUNT, 3,
    )  # fmt: skip
    assert report.identical_as_of is not None
    assert report.identical_as_of <= house.store.now()
    after = house.sync()
    assert (after.outcome, after.warnings, after.counts.read) == (Outcome.IDENTICAL, (), CHUNK)
    assert house.sync().counts.read == 0


@pytest.mark.parametrize("seconds", [2.0, 3_600.0, DAY])
def test_what_was_read_in_the_future_is_read_again_once(house: House, seconds: float) -> None:
    """The clock was ahead and is right again: both sides are compared, with one warning."""
    change_in_place(house)
    move_instants(house.store, seconds)
    replica_calls = len(house.replica.calls)
    report = house.sync()
    assert report.warnings == (FUTURE,)
    assert read_ids(house.replica.calls[replica_calls:]) == set(names(COUNT))
    assert_read_again_once(house, report)


def test_one_chunk_in_the_future_makes_all_unknown(house: House) -> None:
    """The others seem to be past, and may be as wrong."""
    change_in_place(house)
    last = house.store.chunk_heads(house.home.id)[-1].id
    arrange(house.store, update(chunks).where(chunks.c.id == last).values(read_at=Later(DAY)))
    assert_read_again_once(house, house.sync())


def test_a_full_cycle_reads_everything_whatever_the_instants(house: House) -> None:
    """Also what seems to have been read in this very cycle, on both sides."""
    change_in_place(house)
    move_instants(house.store, 0.5)
    calls = len(house.replica.calls)
    report = house.sync(full=True)
    assert (report.counts.read, report.counts.updated) == (COUNT, 3)
    assert read_ids(house.replica.calls[calls:]) == set(names(COUNT))


def test_a_cycle_that_is_cut_off_after_a_jump_leaves_all_to_be_read(house: House) -> None:
    """What was forgotten stays so for whoever comes next."""
    change_in_place(house)
    move_instants(house.store, DAY)
    house.stops_at(house.primary, "list_ids")
    with pytest.raises(Exception, match="asked to stop"):
        house.sync()
    heads = house.store.chunk_heads(house.home.id)
    assert all(head.read_at is None or head.read_cycle == 4 for head in heads)
    assert house.store.mirrors()[0].identical_as_of is None


def test_a_plan_knows_of_the_jump(house: House) -> None:
    """It reads what a cycle would read, and finds what that would find."""
    change_in_place(house)
    parts = (house.primary, house.replica, house.store, house.settings)
    (before,) = DryRun(*parts).plan(Quiet()).collections
    assert before.update == 0
    move_instants(house.store, DAY)
    (planned,) = DryRun(*parts).plan(Quiet()).collections
    assert (planned.create, planned.update, planned.delete) == (0, 3, 0)
    assert house.sync().counts.updated == 3


# ---- within one process --------------------------------------------------------------------------


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that passed on the monotonic clock and not on the wall's; to be changed in place."""
    seconds = [0.0]
    monkeypatch.setattr(cycle_clock, "monotonic", lambda: monotonic() + seconds[0])
    return seconds


def sync(house: House, clock: CycleClock) -> CycleReport:
    """One cycle of a process that has this clock."""
    parts = (house.primary, house.replica, house.store, house.settings)
    led = Coordinator(*parts, lead=house.lead, pool=house.pool, stop=house.stop, clock=clock)
    return led.run_cycle(Quiet())


@pytest.mark.parametrize(("seconds", "way"), [(3_600.0, "back"), (-3_600.0, "forwards")])
def test_a_wall_clock_that_moved_otherwise_makes_all_unknown(
    house: House, passed: list[float], seconds: float, way: str
) -> None:
    """No instant lies in the future, and yet none is believed; it is said once."""
    clock = CycleClock()
    assert sync(house, clock).warnings == ()
    change_in_place(house)
    passed[0] += seconds
    report = sync(house, clock)
    (warning,) = report.warnings
    assert way in warning
    assert "3,600." in warning or "3,599." in warning
    assert_read_again_once(house, report)
    assert sync(house, clock).warnings == ()


def test_a_clock_that_runs_right_costs_nothing(house: House, passed: list[float]) -> None:
    """A difference within the tolerance is none."""
    clock = CycleClock()
    sync(house, clock)
    passed[0] += 0.5
    report = sync(house, clock)
    assert (report.warnings, report.counts.read) == ((), 0)


@pytest.mark.parametrize("seconds", [3_600.0, -3_600.0])
def test_nothing_is_called_identical_while_the_clock_jumps(
    house: House, passed: list[float], seconds: float
) -> None:
    """The cycle says so, and the next one, of whatever process, reads everything again."""
    clock = CycleClock()
    sync(house, clock)
    change_in_place(house)
    house.fill(CHUNK, "more")

    def jump(call: Call) -> None:
        if call.name == "add":
            passed[0] = seconds

    house.replica.on_request(jump)
    report = sync(house, clock)
    assert MEANWHILE in report.warnings
    assert report.outcome is not Outcome.IDENTICAL
    (collection,) = report.collections
    assert collection.identical_as_of is None
    house.replica.on_request(None)
    after = house.sync()
    assert (after.outcome, after.counts.read, after.counts.updated) == (
        Outcome.IDENTICAL, COUNT + CHUNK, 3,
    )  # fmt: skip


# ---- what people are told ------------------------------------------------------------------------


def test_the_status_claims_nothing_after_the_clock_went_back(house: House) -> None:
    """Before the next cycle: no instant, no lag, and an exit code that is not well."""
    move_instants(house.store, DAY)
    snapshot = take_snapshot(house.store, house.settings)
    assert snapshot.is_dated_back
    assert (snapshot.identical_as_of, snapshot.lag_seconds, snapshot.exit_code) == (None, None, 1)
    house.sync()
    snapshot = take_snapshot(house.store, house.settings)
    assert (snapshot.is_dated_back, snapshot.exit_code) == (False, 0)
    assert snapshot.lag_seconds is not None
    assert snapshot.lag_seconds >= 0


def test_what_waits_is_told_by_the_cycle_and_the_status(house: House) -> None:
    """For what, and until when; after the lease it is compared, and all is well."""
    (first, *_) = house.store.chunk_heads(house.home.id)
    house.store.distrust(house.home.id, [first.id])
    arrange(
        house.store,
        update(replica_chunks).where(replica_chunks.c.suspect).values(distrusted_at=Later(DAY)),
    )
    report = house.sync()
    (collection,) = report.collections
    assert collection.status is MirrorStatus.SYNCING
    lease = timedelta(seconds=house.settings.sync_lease_seconds)
    told = house.store.suspicions()[house.home.id]
    assert told.until_at is not None
    assert told.until_at <= house.store.now() + lease
    words = f"may write until {told.until_at:%Y-%m-%d %H:%M:%S} UTC"
    assert words in collection.message
    assert words in take_snapshot(house.store, house.settings).collections[0].message
    arrange(
        house.store,
        update(replica_chunks).where(replica_chunks.c.suspect).values(distrusted_at=Later(-1)),
    )
    shown = take_snapshot(house.store, house.settings).collections[0].message
    assert "The next cycle compares 1 chunk on both sides." in shown
    report = house.sync()
    assert (report.outcome, report.collections[0].message) == (Outcome.IDENTICAL, "")

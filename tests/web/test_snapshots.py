"""One look at the store for all who watch, and what grows old meanwhile."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from chromasync.errors import StoreUnavailable
from chromasync.model import Cycle, CycleStatus, OpCounts
from chromasync.reports import StatusSnapshot
from chromasync.web import snapshots as looking
from chromasync.web.snapshots import SnapshotCache
from chromasync.web.sums import CycleSums
from tests.cli.fakes import NOON, collection
from tests.web import scenes
from tests.web.conftest import World


class Clock:
    """A monotonic clock that the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of each cache in this test."""
    clock = Clock()
    monkeypatch.setattr(looking, "time", clock)
    return clock


def test_ten_tabs_cost_one_snapshot_a_second(clock: Clock, world: World) -> None:
    """Whoever asks within a second gets the same; the next second brings a new one."""
    snapshots = SnapshotCache(world.take)
    for second in range(60):
        clock.now = 1000.0 + second * 1.001
        seen = [snapshots.look() for _ in range(10)]
        assert all(latest is seen[0] for latest in seen)
    assert world.looks == snapshots.looks == 60


def test_nobody_watching_costs_nothing(clock: Clock, world: World) -> None:
    """Without a look there is no snapshot."""
    SnapshotCache(world.take)
    clock.now += 3600
    assert world.looks == 0


def test_the_lag_grows_between_looks_and_while_the_store_is_away(
    clock: Clock, world: World
) -> None:
    """It follows from stored instants, so a dead store does not stop it."""
    snapshots = SnapshotCache(world.take)
    lag = world.snapshot.lag_seconds
    assert lag is not None
    assert snapshots.look().lag_seconds == pytest.approx(lag)
    clock.now += 0.5
    assert snapshots.look().lag_seconds == pytest.approx(lag + 0.5)
    world.error = StoreUnavailable("It is away.")
    clock.now += 99.5
    latest = snapshots.look()
    assert latest.lag_seconds == pytest.approx(lag + 100)
    assert latest.error is world.error
    assert latest.now == NOON + timedelta(seconds=100)


def test_a_store_that_hangs_holds_up_only_one_reader(world: World) -> None:
    """While one look waits for the store, the others get what was seen before."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> StatusSnapshot:
        snapshot = world.take()
        if world.looks > 1:
            begun.set()
            assert go_on.wait(60)
        return snapshot

    snapshots = SnapshotCache(slow, seconds=0.0)
    first = snapshots.look()
    thread = threading.Thread(target=snapshots.look)
    thread.start()
    assert begun.wait(60)
    assert snapshots.look() is first
    go_on.set()
    thread.join()
    assert snapshots.look() is not first


def test_a_change_on_the_page_is_seen_at_once(clock: Clock, world: World) -> None:
    """After a button was pressed, the next look is a new one."""
    snapshots = SnapshotCache(world.take)
    snapshots.look()
    snapshots.forget()
    snapshots.look()
    assert world.looks == 2


def at(*cycles: Cycle, read: int = 0) -> StatusSnapshot:
    """A snapshot with these cycles, and the counts of the running one's tasks so far."""
    shown = collection(counts=OpCounts(read=read, inserted=read))
    return replace(scenes.quiet(), cycles=cycles, collections=(shown,))


def done(number: int, read: int) -> Cycle:
    return Cycle(number, NOON, CycleStatus.COMPLETED, NOON, OpCounts(read=read, inserted=read))


def test_a_sum_over_cycles_never_falls() -> None:
    """Each record counts once from the first look on, whatever becomes of its cycle."""
    sums = CycleSums()
    steps = [
        (at(Cycle(8, NOON), done(7, 900), read=50), 0),
        (at(Cycle(8, NOON), done(7, 900), read=80), 30),
        (at(done(8, 100)), 50),
        (at(done(10, 5), done(9, 3), done(8, 100)), 58),
        (at(Cycle(11, NOON), done(10, 5), read=40), 98),
        (at(done(11, 10), done(10, 5)), 98),
        (at(), 98),
        (at(done(12, 2), done(11, 10)), 100),
    ]
    for snapshot, expected in steps:
        sums.note(snapshot)
        assert (sums.counts.read, sums.counts.inserted) == (expected, expected)

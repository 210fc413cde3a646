"""Threads wait for their turn, and stop waiting when the process ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from chromasync.chroma.pace import LONGEST_GAP_SECONDS, Pace
from chromasync.chroma.pacer import Pacer
from chromasync.errors import LeaseLost, Stopped

FAR = 100.0


class Clock:
    """A clock that is set by hand, and tells when it is read."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.read = threading.Semaphore(0)

    def __call__(self) -> float:
        self.read.release()
        return self.now


def take(pacer: Pacer, path: str = "/count") -> float:
    """One request; returns how long it waited."""
    with pacer.turn(path) as turn:
        turn.answered(0.001, 2)
        return turn.waited_seconds


def until_it_waits(clock: Clock) -> None:
    """Return when a waiting thread has read the clock several times."""
    for _ in range(4):
        assert clock.read.acquire(timeout=60)


def waiting(pacer: Pacer, clock: Clock, act: Callable[[], object]) -> BaseException | float:
    """The outcome of a thread that has to wait, after `act`."""
    take(pacer)
    with ThreadPoolExecutor(1) as threads:
        while clock.read.acquire(blocking=False):
            pass
        outcome = threads.submit(take, pacer)
        until_it_waits(clock)
        assert not outcome.done()
        act()
        return outcome.exception() or outcome.result()


@pytest.fixture
def clock() -> Clock:
    """A clock at rest."""
    return Clock()


@pytest.fixture
def pacer(clock: Clock) -> Pacer:
    """One request in a hundred seconds."""
    made = Pacer(Pace(), clock)
    made.allow(1 / FAR)
    return made


def test_a_wait_lasts_until_the_turn_comes(pacer: Pacer, clock: Clock) -> None:
    """It is measured, so that the meter can count it."""

    def pass_time() -> None:
        clock.now += FAR

    assert waiting(pacer, clock, pass_time) == pytest.approx(FAR)


def test_a_stop_ends_the_wait(pacer: Pacer, clock: Clock) -> None:
    """The thread gives up at once, because its turn is far away."""
    pacer.stop = threading.Event()
    assert isinstance(waiting(pacer, clock, pacer.stop.set), Stopped)


def test_a_drain_ends_the_wait(pacer: Pacer, clock: Clock) -> None:
    """Also where nobody sets the stop event."""
    with ThreadPoolExecutor(1) as threads:
        drained = threading.Event()

        def drain() -> None:
            def hold() -> None:
                with pacer.hurried():
                    drained.wait()

            threads.submit(hold)

        assert isinstance(waiting(pacer, clock, drain), Stopped)
        drained.set()


def test_a_drain_lifts_the_gaps(clock: Clock) -> None:
    """The tasks at hand can be finished."""
    pacer = Pacer(Pace(0.01), clock)
    for _ in range(3):
        with pacer.turn("/get") as turn:
            clock.now += 5
            turn.answered(5.0, 1_000_000)
        clock.now += LONGEST_GAP_SECONDS
    with pacer.turn("/get") as turn:
        clock.now += 5
        turn.answered(5.0, 1_000_000)
    with pacer.hurried():
        assert take(pacer, "/get") == 0
    with pacer.hurried(), pacer.turn("/get"):
        assert take(pacer, "/get") == 0


def test_a_turn_ends_in_every_case(clock: Clock) -> None:
    """Otherwise no large read could begin any more."""
    pacer = Pacer(Pace(0.12), clock)
    with pytest.raises(LeaseLost), pacer.turn("/get"):
        raise LeaseLost("lost")
    with pacer.turn("/get") as turn:
        turn.refused(None)
    clock.now += LONGEST_GAP_SECONDS
    assert take(pacer, "/get") == 0


def test_a_thread_waits_until_a_large_read_has_ended(clock: Clock) -> None:
    """While the pace is slow, large reads are alone."""
    pacer = Pacer(Pace(0.12), clock)
    with pacer.turn("/get") as turn:
        turn.refused(None)
    clock.now += 1
    with ThreadPoolExecutor(1) as threads:
        with pacer.turn("/get"):
            while clock.read.acquire(blocking=False):
                pass
            outcome = threads.submit(take, pacer, "/get")
            until_it_waits(clock)
            assert not outcome.done()
        assert outcome.result() == 0  # the clock stood still


def test_the_reason_is_told_for_a_while(pacer: Pacer, clock: Clock) -> None:
    """It stands in status until nothing has waited for some time."""
    assert pacer.reason == ""
    waiting(pacer, clock, lambda: setattr(clock, "now", clock.now + FAR))
    assert "SYNC_MAX_REQUESTS_PER_SECOND" in pacer.reason
    clock.now += 60
    assert pacer.reason == ""

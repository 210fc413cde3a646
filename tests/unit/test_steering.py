"""What operators ask of a process: it obeys the store's last answer, at stopping points first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from chromasync import steering as module
from chromasync.errors import Paused, StoreUnavailable
from chromasync.events import Event
from chromasync.model import ControlRow, Orders
from chromasync.steering import Steering, Watch
from chromasync.store import SqlStore

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
PAUSE = ControlRow(NOON, "ann@here", "disk swap", NOON + timedelta(hours=1))
PATIENCE = 30.0


def told(row: ControlRow, at: datetime = NOON) -> Steering:
    """A process that has read this row."""
    steering = Steering()
    steering.note(Orders(row, at))
    return steering


def until(true: Callable[[], bool]) -> None:
    """Wait until another thread has done something."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nothing_is_asked_before_the_first_answer() -> None:
    """A process whose store has not answered yet goes on."""
    steering = Steering()
    steering.check()
    steering.admit()
    assert not steering.is_paused
    assert not steering.has_request


def test_a_pause_says_who_when_why_and_until_when() -> None:
    """Whatever ends early for it tells the operator's own words."""
    with pytest.raises(Paused) as caught:
        told(PAUSE).check()
    assert caught.value.what == (
        "ann@here paused chromasync at 2030-01-01 12:00:00 UTC (disk swap). It ends at "
        "2030-01-01 13:00:00 UTC."
    )


def test_requests_stop_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cycle may reach a stopping point; then no request at all is sent."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    steering = told(PAUSE)
    clock[0] += module.GRACE_SECONDS - 0.01
    steering.admit()
    clock[0] += 0.02
    with pytest.raises(Paused):
        steering.admit()
    # another answer about the same pause gives no second grace
    steering.note(Orders(PAUSE, NOON + timedelta(seconds=3)))
    with pytest.raises(Paused):
        steering.admit()


def test_a_pause_ends_with_its_time_and_with_a_resume() -> None:
    """Both are told by the next answer of the store; each change is logged once."""
    with capture_logs() as lines:
        steering = told(PAUSE)
        steering.note(Orders(PAUSE, NOON + timedelta(minutes=59)))
        steering.note(Orders(PAUSE, NOON + timedelta(minutes=61)))
        steering.check()
        steering.note(Orders(PAUSE, NOON))
        steering.note(Orders(ControlRow(), NOON))
        steering.admit()
    assert [line["event"] for line in lines] == [Event.PAUSED, Event.RESUMED] * 2
    assert lines[0]["by"] == "ann@here"
    assert lines[0]["reason"] == "disk swap"
    assert lines[0]["until"] == "2030-01-01T13:00:00+00:00"


def test_a_request_is_served_once() -> None:
    """The cycle that began for it counts at once, before the store's next answer."""
    steering = told(ControlRow(wanted_number=3, begun_number=2))
    seen = [steering.has_request]
    steering.note_begun(3)
    seen.append(steering.has_request)
    steering.note(Orders(ControlRow(wanted_number=4, begun_number=3), NOON))
    seen.append(steering.has_request)
    assert seen == [True, False, True]


def test_a_watch_needs_the_store_at_the_start(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether everything is paused is known before anything is done."""
    steering = Steering()
    store.pause("ann@here", "")
    watch = Watch(store, steering)
    watch.start()
    assert steering.is_paused
    watch.stop()

    def away() -> Orders:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(store, "orders", away)
    with pytest.raises(StoreUnavailable):
        Watch(store, Steering()).start()


def test_a_watch_outlives_an_outage_of_the_store(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last answer stays valid meanwhile: nothing goes on because the store is away."""
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    answer, away, failed = store.orders, threading.Event(), threading.Event()

    def orders() -> Orders:
        if away.is_set():
            failed.set()
            raise StoreUnavailable("locked")
        return answer()

    monkeypatch.setattr(store, "orders", orders)
    steering = Steering()
    watch = Watch(store, steering)
    watch.start()
    try:
        store.pause("ann@here", "")
        until(lambda: steering.is_paused)
        away.set()
        assert failed.wait(PATIENCE)
        store.resume()
        assert steering.is_paused
        away.clear()
        until(lambda: not steering.is_paused)
    finally:
        watch.stop()


def test_a_pause_that_ends_soon_is_looked_at_then(store: SqlStore) -> None:
    """The next look comes when the pause should be over, if that is earlier."""
    steering = Steering()
    watch = Watch(store, steering)
    store.pause("ann@here", "", 0.5)
    watch.look()
    assert watch._pause() <= 0.55
    store.pause("ann@here", "", 500)
    watch.look()
    assert watch._pause() == module.WATCH_SECONDS


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ended_by_itself_is_told(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose control row is read no more must be restarted; one that was stopped not."""
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.01)
    watch, answers = Watch(store, Steering()), iter([store.orders()])
    monkeypatch.setattr(store, "orders", lambda: next(answers))
    assert watch.ended_threads() == ()
    watch.start()
    until(lambda: bool(watch.ended_threads()))
    assert watch.ended_threads() == ("control-watch",)
    watch.stop()
    assert watch.ended_threads() == ()

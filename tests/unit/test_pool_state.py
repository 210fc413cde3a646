"""What the threads of a pool agree on: who may begin, and for how long nobody may."""

from __future__ import annotations

import threading

import pytest

from chromasync.errors import StoreUnavailable
from chromasync.worker import state as stating
from chromasync.worker.state import BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, State


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, to be set."""
    now = [1000.0]
    monkeypatch.setattr(stating, "monotonic", lambda: now[0])
    return now


def begins(state: State, number: int = 0, *, joins: bool = True) -> bool:
    return state.begin(number, lambda: joins)


def test_beside_others_only_whoever_may_join_begins() -> None:
    """With nobody busy anyone may begin; the task at hand is shown until its thread has ended."""
    state = State()
    assert begins(state, 1, joins=False)
    assert not begins(state, 2, joins=False)
    assert begins(state, 2)
    assert (state.is_busy, state.task_at_hand()) == (True, None)
    state.has_claimed(2, 7)
    assert state.task_at_hand() == 7
    state.end(1)
    state.end(2)
    assert (state.is_busy, state.task_at_hand()) == (False, None)


def test_nobody_begins_while_the_pool_is_recalled_or_once_it_stops() -> None:
    """A recall ends, a stop does not, and only the first stop is one."""
    state = State()
    state.recall(recalled=True)
    assert not begins(state)
    state.recall(recalled=False)
    assert begins(state)
    state.end(0)
    assert (state.stopping, state.stop(), state.stop(), state.stopping) == (
        False,
        True,
        False,
        True,
    )
    assert not begins(state)
    state.idle(60.0)  # does not wait any more


def test_backing_off_takes_longer_each_time(clock: list[float]) -> None:
    """Up to a minute, and trouble that comes meanwhile does not lengthen it; then it is as new."""
    state = State()
    waits: list[float] = []
    while len(waits) < 6:
        state.back_off(StoreUnavailable("away"))
        state.back_off(StoreUnavailable("away"))
        began = clock[0]
        while not begins(state):
            clock[0] += 1
        state.end(0)
        waits.append(clock[0] - began)
    assert waits == [BACKOFF_SECONDS, 10, 20, 40, LONGEST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS]
    state.recover()
    state.back_off(StoreUnavailable("away"))
    clock[0] += BACKOFF_SECONDS
    assert begins(state)


def test_the_newest_trouble_is_known_until_the_pool_recovers(clock: list[float]) -> None:
    """Then threads begin at once."""
    state = State()
    state.back_off(StoreUnavailable("away"))
    state.back_off(StoreUnavailable("locked"))
    assert str(state.trouble) == str(StoreUnavailable("locked"))
    assert not begins(state)
    state.recover()
    assert state.trouble is None
    assert begins(state)


def test_an_idle_thread_looks_again_when_it_is_told() -> None:
    """It does not wait for its time to be over."""
    state = State()
    idle = threading.Thread(target=state.idle, args=(600.0,))
    idle.start()
    while idle.is_alive():
        state.notify()
        idle.join(0.01)

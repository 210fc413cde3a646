"""The keeper asks for the share of requests, and lets nothing be sent without one."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest

from chromasync import shares
from chromasync.chroma.pace import Pace
from chromasync.chroma.pacer import Pacer
from chromasync.errors import StoreUnavailable
from chromasync.ports import Control
from chromasync.shares import RESERVE, SOON_SECONDS, VALID_SECONDS, ShareKeeper

LIMIT = 10.0
OURS = LIMIT * (1 - RESERVE)


class Granting:
    """A store that grants what the test says, and notes what it is asked."""

    def __init__(self) -> None:
        self.grants: list[float | Exception] = []
        self.asked: list[tuple[float, float]] = []
        self.given_up: list[str] = []

    def take_share(self, holder: str, limit: float, using: float, ttl_seconds: float) -> float:
        assert holder == "me"
        assert ttl_seconds > VALID_SECONDS
        self.asked.append((limit, using))
        grant = self.grants.pop(0) if self.grants else limit
        if isinstance(grant, Exception):
            raise grant
        return grant

    def give_up_share(self, holder: str) -> None:
        self.given_up.append(holder)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of the keeper: its only item is the present time."""
    now = [1000.0]
    monkeypatch.setattr(shares, "monotonic", lambda: now[0])
    monkeypatch.setattr(shares, "SOON_SECONDS", 3600.0)  # the thread asks nothing by itself
    return now


@pytest.fixture
def pace() -> Pace:
    """The pace that the keeper steers."""
    return Pace()


def kept(store: Granting, pace: Pace) -> ShareKeeper:
    return ShareKeeper(cast("Control", store), "me", LIMIT, Pacer(pace))


def delay(pace: Pace, now: float) -> float:
    return pace.delay(now, "/count", large=False)


def test_the_share_is_valid_for_a_while_only(clock: list[float], pace: Pace) -> None:
    """A process that cannot ask again stops sending before its share goes to others."""
    with kept(Granting(), pace):
        assert pace.spacing.rate == OURS
        assert delay(pace, clock[0] + VALID_SECONDS - 0.1) == 0
        assert delay(pace, clock[0] + VALID_SECONDS) == math.inf
    assert delay(pace, clock[0]) == math.inf


def test_a_reduced_share_is_offered_to_the_others(clock: list[float], pace: Pace) -> None:
    """The store hears of it only after this process has begun to keep to it."""
    store = Granting()
    with kept(store, pace) as keeper:
        store.grants = [4.0, 4.0, 4.0]
        pauses = [keeper.ask() for _ in range(3)]
    assert [using for _, using in store.asked] == [0.0, OURS, 4.0, 4.0]
    assert pauses[0] > pauses[1]  # the first one is SOON_SECONDS, set to an hour here
    assert store.given_up == ["me"]
    assert clock


def test_an_expired_share_is_not_called_ours(clock: list[float], pace: Pace) -> None:
    """After a freeze, others may have it."""
    store = Granting()
    with kept(store, pace) as keeper:
        clock[0] += VALID_SECONDS + 1
        keeper.ask()
    assert [using for _, using in store.asked] == [0.0, 0.0]


def test_a_store_that_is_away_stops_a_start(clock: list[float], pace: Pace) -> None:
    """Nothing is sent without knowing about the others."""
    store = Granting()
    store.grants = [StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable), kept(store, pace):
        pytest.fail("it started")
    assert delay(pace, clock[0]) == math.inf


def test_the_thread_asks_again_after_a_failure(monkeypatch: pytest.MonkeyPatch, pace: Pace) -> None:
    """An outage of the store ends the share, and its end brings it back."""
    monkeypatch.setattr(shares, "SOON_SECONDS", 0.001)
    assert SOON_SECONDS < VALID_SECONDS
    store = Granting()
    store.grants = [0.0, StoreUnavailable("away"), 3.0]
    with kept(store, pace) as keeper:
        while not _has(store, 4):
            keeper._stop.wait(0.001)
    assert [using for _, using in store.asked[:4]] == [0.0, 0.0, 0.0, 3.0]


def _has(store: Any, count: int) -> bool:
    return len(store.asked) >= count

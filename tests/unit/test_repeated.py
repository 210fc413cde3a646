from __future__ import annotations

import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from chromasync import repeated
from chromasync.events import Event
from chromasync.repeated import EVERY_SECONDS, Limiter, Repeated

AWAY = {"event": "backing off", "log_level": "warning", "reason": "It is away."}


class Clock:
    """Moves when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def calls(clock: Clock) -> Repeated:
    return Repeated(Event.BACKING_OFF, "the servers", clock)


def fail(calls: Repeated, clock: Clock, times: int, seconds: float, why: str) -> list[Any]:
    """What is logged of so many failures, each so long after the one before."""
    with capture_logs() as lines:
        for _ in range(times):
            calls.failed(why)
            clock.now += seconds
    return lines


def test_the_first_failure_is_told_at_once_and_more_after_a_while(
    clock: Clock, calls: Repeated
) -> None:
    """Of a failure eight times a second for 75 seconds, three lines are left that count it all."""
    lines = fail(calls, clock, 600, 0.125, "It is away.")
    assert lines == [AWAY, AWAY | {"times": 240}, AWAY | {"times": 240}]


def test_a_seldom_failure_is_told_each_time(clock: Clock, calls: Repeated) -> None:
    """What fails once in half a minute or less often is never left out, and has no count."""
    assert fail(calls, clock, 3, EVERY_SECONDS, "It is away.") == [AWAY] * 3


def test_another_reason_is_told_at_once(clock: Clock, calls: Repeated) -> None:
    """A new reason does not wait; two that alternate do not fill the log."""
    assert fail(calls, clock, 1, 1, "It is away.") == [AWAY]
    assert fail(calls, clock, 1, 1, "It is full.") == [AWAY | {"reason": "It is full."}]
    assert fail(calls, clock, 1, 1, "It is away.") == []
    clock.now += EVERY_SECONDS
    assert fail(calls, clock, 1, 1, "It is away.") == [AWAY | {"times": 2}]


def test_recovery_is_told_once_with_its_figures(clock: Clock, calls: Repeated) -> None:
    """The next success says after how many failures and seconds; further ones say nothing."""
    fail(calls, clock, 5, 2, "It is away.")
    with capture_logs() as lines:
        calls.succeeded()
        calls.succeeded()
    assert lines == [
        {
            "event": "recovered",
            "log_level": "info",
            "what": "the servers",
            "after": 5,
            "seconds": 10.0,
        }
    ]


def test_what_never_failed_does_not_recover(calls: Repeated) -> None:
    """A success without a failure before is no news."""
    with capture_logs() as lines:
        calls.succeeded()
    assert lines == []


def test_what_fails_every_other_time_does_not_fill_the_log(clock: Clock, calls: Repeated) -> None:
    """Failure and success in turn, for a minute, are two lines of each; the rest is counted."""
    with capture_logs() as lines:
        for _ in range(60):
            calls.failed("It is away.")
            calls.succeeded()
            clock.now += 1
    assert [line["event"] for line in lines] == ["backing off", "recovered"] * 2
    assert [line["after"] for line in lines if "after" in line] == [1, 30]
    assert lines[2]["times"] == 30


def test_fields_go_with_the_failure(calls: Repeated) -> None:
    """What is given beside the reason stands in the line."""
    with capture_logs() as lines:
        calls.failed("It is away.", retry_in_seconds=5.0)
    assert lines == [AWAY | {"retry_in_seconds": 5.0}]


def test_many_threads_tell_it_once(clock: Clock, calls: Repeated) -> None:
    """Threads that fail for one reason give one line, and every failure is counted."""

    def fail_often() -> None:
        for _ in range(50):
            calls.failed("It is away.")

    with capture_logs() as lines:
        threads = [threading.Thread(target=fail_often) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        calls.succeeded()
    assert [line["event"] for line in lines] == ["backing off", "recovered"]
    assert lines[1]["after"] == 200


def test_texts_that_came_long_ago_are_forgotten(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reasons that are all different take no more memory than those of half a minute."""
    monkeypatch.setattr(repeated, "MOST_TEXTS", 10)
    limiter = Limiter(clock)
    for number in range(1_000):
        assert limiter.count(f"reason {number}") == 1
        clock.now += EVERY_SECONDS / 5
    assert len(limiter._told) <= 10

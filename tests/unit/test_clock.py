"""Clocks that jump: what is noticed, and what stored instants are worth then."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.ledger.plan import is_overdue, must_read
from chromasync.model import ChunkHead
from chromasync.plan.clock import Clock, Reading, is_ahead, known, step_between
from chromasync.timing import STEP_SECONDS
from tests.support.ledgers import head_with, mirror_of
from tests.support.properties import examples

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
DAY = 86_400.0
times = st.floats(0, 10 * DAY)
waits = st.floats(0, 100)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def reading(wall: float, before: float, wait: float = 0.0) -> Reading:
    return Reading(later(wall), before, before + wait)


@examples(300)
@given(times, st.tuples(waits, st.floats(0, 1)), st.tuples(waits, st.floats(0, 1)))
def test_a_clock_that_runs_right_never_jumps(
    passed: float, one: tuple[float, float], two: tuple[float, float]
) -> None:
    """However long the store took to tell its time, and whenever within that it looked."""
    first = reading(one[0] * one[1], 0.0, one[0])
    began = one[0] + passed
    second = reading(began + two[0] * two[1], began, two[0])
    assert step_between(first, second) == 0.0


@examples(300)
@given(times, st.floats(3, 1e7), st.booleans())
def test_a_jump_is_noticed_with_its_size(passed: float, jump: float, back: bool) -> None:
    """Either way, when it is larger than two clocks that run right may differ by."""
    jump += passed * 0.01
    jump = -jump if back else jump
    step = step_between(reading(0.0, 0.0), reading(passed + jump, passed))
    assert step == pytest.approx(jump, abs=1e-3)


@pytest.mark.parametrize(
    ("stored", "ahead"),
    [(None, False), (-1.0, False), (0.0, False), (STEP_SECONDS, False), (STEP_SECONDS + 1, True)],
)
def test_a_stored_instant_that_is_still_to_come_tells_of_a_jump(
    stored: float | None, ahead: bool
) -> None:
    """Everything was stored by this clock, so it went back; an inaccuracy is no jump."""
    instant = None if stored is None else later(stored)
    assert is_ahead(instant, NOON) is ahead


def test_an_instant_that_is_still_to_come_is_unknown() -> None:
    """However little it is ahead."""
    assert [known(later(n), NOON) for n in (-1, 0)] == [later(-1), NOON]
    assert known(later(0.001), NOON) is known(None, NOON) is None


@pytest.mark.parametrize(
    ("clock", "at", "lost"),
    [(Clock(NOON, jumped=False), -5, False), (Clock(NOON, jumped=False), 5, True),
     (Clock(NOON, jumped=True), -5, True)],
)  # fmt: skip
def test_a_chunk_of_which_no_instant_is_known_is_read_and_checked(
    clock: Clock, at: float, lost: bool
) -> None:
    """It counts as never read and never checked, but not as new; one read before numbers, too."""
    for number in (7, None):
        head = head_with(ChunkHead(1, "c", 0, 1, b""), read_at=later(at), checked_at=later(at))
        seen = clock.head(replace(head, read_cycle=number))
        assert must_read(seen) is lost
        assert is_overdue(seen, later(-DAY)) is lost
        assert seen.read_cycle == (number or 0 if lost else number)


def test_a_new_chunk_stays_new() -> None:
    """A chunk that was never read is not taken for one whose instants were lost."""
    seen = Clock(NOON, jumped=True).head(ChunkHead(1, "c", 0, 1, b""))
    assert seen.read_cycle is None
    assert not is_overdue(seen, NOON)


def test_a_mirror_keeps_what_is_known_of_it() -> None:
    """Walks and "as of" that are still to come are unknown; the others stay."""
    row = mirror_of(
        "c", "t", "d", "n", walked_at=later(1), replica_walked_at=NOON, identical_as_of=later(-9)
    )
    seen = Clock(NOON, jumped=False).mirror(row)
    assert seen == row.with_primary(walked_at=None)
    lost = Clock(NOON, jumped=True).mirror(row)
    assert (lost.primary.walked_at, lost.replica_walked_at) == (None, None)
    assert lost.identical_as_of is None

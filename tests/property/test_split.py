"""For any set of bad items: exactly they are blamed, and everything else is sent once."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.errors import RequestRefused
from chromasync.reconcile.split import PROBES, SINGLES_BEFORE_PROBING, Splitter
from tests.support.properties import examples

SURELY_ALL_ASKED = SINGLES_BEFORE_PROBING + 1 + PROBES
"""Up to so many items, each is asked alone before the server is called broken."""


def run(bad: set[int], count: int) -> tuple[list[int], list[int]]:
    """Which items were blamed, and which were taken, in the order of requests."""
    taken: list[int] = []

    def send(items: Sequence[int]) -> None:
        if bad.intersection(items):
            raise RequestRefused("bad", side="replica")
        taken.extend(items)

    return [item for item, _ in Splitter(send).run(range(count))], taken


@examples(300)
@given(st.data(), st.integers(1, SURELY_ALL_ASKED))
def test_exactly_the_bad_are_blamed(data: st.DataObject, count: int) -> None:
    """With at least one good item among a few, the bad are blamed and the good sent once."""
    good = data.draw(st.sets(st.integers(0, count - 1), min_size=1))
    bad = set(range(count)) - good
    blamed, taken = run(bad, count)
    assert blamed == sorted(bad)
    assert sorted(taken) == sorted(good)


@examples(300)
@given(st.data(), st.integers(1, 400))
def test_exactly_the_bad_are_blamed_among_many(data: st.DataObject, count: int) -> None:
    """However many are bad, and wherever they stand, as long as the last item is good."""
    bad = set(data.draw(st.lists(st.integers(0, count - 1), max_size=40)))
    start = data.draw(st.integers(0, count))
    bad |= set(range(start, data.draw(st.integers(start, count))))
    bad.discard(count - 1)
    blamed, taken = run(bad, count)
    assert blamed == sorted(bad)
    assert sorted(taken) == [n for n in range(count) if n not in bad]


@examples(50)
@given(st.integers(SINGLES_BEFORE_PROBING + 1, 2000))
def test_when_everything_fails_nobody_is_blamed(count: int) -> None:
    """A server that takes nothing at all raises its own error."""
    with pytest.raises(RequestRefused):
        run(set(range(count)), count)

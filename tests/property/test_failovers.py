"""Nothing overwrites what applications wrote to a promoted replica, whatever happens and whenever.

A world has an application, an operator, and services with the settings of before the promotion and
with those of after it. Each may act at any instant of each other, and may die there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.actors import Cut
from tests.support.failovers import world_of
from tests.support.properties import examples

ACTS = [
    *("old", "old", "new", "write", "write", "create", "wait"),
    *("switchover", "failover", "cancel", "leave", "return"),
]
PROMOTIONS = ["switchover", "failover"]
some = st.lists(st.sampled_from(ACTS), max_size=2)
fates = st.sampled_from(["go on", "go on", "die", "interrupt"])


def cut(most: int, meanwhile: st.SearchStrategy[list[str]]) -> st.SearchStrategy[Cut]:
    """A process is cut at one of its instants, or in one of its first writes."""
    anywhere = st.builds(Cut, st.integers(1, most), meanwhile, fates)
    in_write = st.builds(Cut, st.integers(1, 4), meanwhile, fates, in_write=st.just(True))
    return anywhere | in_write


with_promotion = st.builds(
    lambda before, promotion, after: [*before, promotion, *after],
    some,
    st.sampled_from(PROMOTIONS),
    some,
)
steps = st.one_of(
    st.tuples(st.sampled_from(ACTS), st.none()),
    st.tuples(st.just("old"), cut(80, with_promotion)),
    st.tuples(st.just("failover"), cut(14, some)),
    st.tuples(st.just("switchover"), cut(240, some)),
    st.tuples(st.just("new"), cut(80, some)),
)


@pytest.mark.long
@pytest.mark.slower
@examples(12)
@given(
    seed=st.integers(0, 10**6),
    program=st.lists(steps, min_size=1, max_size=5),
    mark=st.sampled_from(["true", "true", "false"]),
)
def test_whatever_comes_back_overwrites_nothing(
    seed: int, program: list[tuple[str, Cut | None]], mark: str
) -> None:
    """No write reaches a promoted server; both become equal, and only differences travel."""
    with (
        tempfile.TemporaryDirectory() as folder,
        world_of(Path(folder), seed, SYNC_MARK=mark) as world,
    ):
        for name, cut_at in program:
            world.act("write")
            world.act(name, cut_at)
            world.check()
            world.learn()
        world.settle()

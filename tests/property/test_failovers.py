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

from tests.support.failovers import Cut, world_of
from tests.support.properties import examples

ACTS = [
    *("old", "old", "new", "write", "write", "create", "wait"),
    *("switchover", "failover", "cancel", "leave", "return"),
]

cuts = st.builds(
    Cut,
    nth=st.integers(1, 90),
    meanwhile=st.lists(st.sampled_from(ACTS), max_size=4),
    fate=st.sampled_from(["go on", "go on", "die", "interrupt"]),
)
steps = st.tuples(st.sampled_from(ACTS), st.none() | cuts)


@pytest.mark.slower
@examples(20)
@given(
    seed=st.integers(0, 10**6),
    program=st.lists(steps, min_size=1, max_size=6),
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
        for name, cut in program:
            world.act(name, cut)
            world.check()
            world.learn()
        world.settle()

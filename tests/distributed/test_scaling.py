"""Several workers share the waiting: with a network in between, four are faster than one."""

from __future__ import annotations

import pytest

from bench.kept import timed_lines
from bench.scaling import PHASES, measured, parse, speedup
from tests.chaos.profile import NIGHTLY

LEAST = 3.5 if NIGHTLY else 1.5
"""Other tests share the processors; the nightly run and `make bench-scaling` have them alone."""

RECORDS = 6000 if NIGHTLY else 800


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_four_workers_are_faster_than_one() -> None:
    """50 ms more for each request: first copy and reading everything again take a fraction."""
    rounds = 2 if NIGHTLY else 1
    options = parse(
        [
            *("--records", str(RECORDS), "--rounds", str(rounds)),
            *("--workers", "1", "4", "--latency", "0.05"),
        ]
    )
    points = measured(options, timed_lines())
    ratios = [speedup(points, points[-1], what) for what in PHASES]
    assert min(ratios) > LEAST, points

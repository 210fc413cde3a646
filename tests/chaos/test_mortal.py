"""Death in a thread of a worker: the machine that kills must be as quiet as a real death."""

from __future__ import annotations

from chromasync import faultpoints
from tests.chaos.mortal import sync_until
from tests.chaos.scenes import SETTINGS
from tests.support.stage import Stage


def test_workers_die_silently_and_the_next_cycle_finishes(stage: Stage) -> None:
    """Their threads end with SystemExit, which pytest would report and Python does not."""
    stage.create("docs", count=60)
    for point in (faultpoints.AFTER_CLAIM, faultpoints.AFTER_READ, faultpoints.MID_WRITE):
        assert sync_until(stage, point, 1, full=False, **SETTINGS) is None
    stage.sync(**SETTINGS)
    stage.assert_identical()

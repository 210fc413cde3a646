"""Promotions that meet each other, a cancellation or a jump of the clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from chromasync import faultpoints
from chromasync.errors import GuardRefusal
from chromasync.failover_reports import PromoteOutcome
from chromasync.marks import Marks
from chromasync.model import DirectionState, Kept
from chromasync.quiet import Quiet
from chromasync.store import SqlStore
from tests.chaos.mortal import swept
from tests.support.actors import Process
from tests.support.failovers import HOME, World, world_of

pytestmark = pytest.mark.slower


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two servers in memory; the second one follows the first."""
    with world_of(tmp_path, 1) as world:
        yield world


def at(point: str, act: Callable[[], object]) -> faultpoints.Hook:
    """Act once, when a promotion reaches this point."""
    left = [point]

    def hook(reached: str) -> None:
        if reached in left:
            left.remove(reached)
            act()

    return hook


def run(world: World, *, planned: bool = False) -> PromoteOutcome:
    """One run of `promote`."""
    process = Process(world, None, promotes=True)
    return world.promotion(process, planned=planned).run("ann@here").outcome


@pytest.mark.parametrize("planned", [True, False])
@pytest.mark.parametrize("begun_again", [True, False])
def test_a_promotion_that_was_cancelled_meanwhile_says_so(
    world: World, planned: bool, begun_again: bool
) -> None:
    """Applications must not be pointed to a replica that follows, or that others still write to."""

    def cancel() -> None:
        world.store.cancel_promotion()
        if begun_again:
            begin(world, "bob@there")

    with (
        faultpoints.injected(at(faultpoints.AFTER_PROMOTION_MARK, cancel)),
        pytest.raises(GuardRefusal, match="cancelled meanwhile"),
    ):
        run(world, planned=planned)
    state = DirectionState.PROMOTING if begun_again else DirectionState.FOLLOWING
    assert world.store.direction().state is state
    world.store.cancel_promotion()
    world.act("write")
    report = world.cycle(turned=False)
    assert report is not None, world.log
    assert report.exit_code == 0
    world.check()


def test_a_comparison_undoes_no_promotion_of_another_run(world: World) -> None:
    """Someone gave up what is not copied, while this run still compared."""

    def other() -> None:
        world.act("failover")
        world.act("write")

    with faultpoints.injected(at(faultpoints.BEFORE_COMPARISON, other)):
        assert run(world, planned=True) is PromoteOutcome.ALREADY
    assert world.store.direction().state is DirectionState.PROMOTED
    world.check()


def test_kept_collections_are_named(world: World) -> None:
    """They are like any other on the promoted replica, and would be mirrored back."""
    world.store.save_kept(Kept("id", *HOME, "docs.chromasync-kept-1"))
    report = world.promotion(Process(world, None, promotes=True), planned=False).run("ann@here")
    assert any("docs.chromasync-kept-1" in warning for warning in report.warnings)


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)])
def test_a_jump_of_the_clock_neither_shortens_nor_prolongs_the_wait(
    world: World, monkeypatch: pytest.MonkeyPatch, jump: timedelta
) -> None:
    """A frozen leader may write until its lead ends on its own clock."""
    world.store.take_lead("elsewhere:1:1:led", 30)
    real, moved = SqlStore.now, [timedelta(0)]
    monkeypatch.setattr(SqlStore, "now", lambda store: real(store) + moved[0])

    def jumps(_: str) -> None:
        moved[0] = jump

    def skipped(seconds: float) -> None:
        jumps("")
        skip(seconds)

    skip = world.clock.skip
    monkeypatch.setattr(world.clock, "skip", skipped)
    world.clock.rule(monkeypatch)
    before = world.clock.now()
    assert run(world) is PromoteOutcome.PROMOTED
    assert 30.0 <= world.clock.now() - before < 60.0


class Ending(Process):
    """A service that ends while the replica is being promoted; it froze in its last write."""

    def reach(self, *, writes: bool = False) -> None:
        """Let the promotion become final between the read of the mark and its write."""
        if threading.current_thread().name == "mark-release" and writes:
            with self.world.clock.frozen():
                self.world.act("failover")


def test_a_process_that_ends_leaves_the_mark_of_a_promotion(world: World) -> None:
    """It says in its own mark that it has ended, but only while it leads."""
    world.act("write")
    ending = Ending(world, None)
    participant = world.participant(ending, turned=False)
    with swept(participant):
        participant.run_cycle(Quiet())
        begin(world)
        world.clock.skip(30.5)
        participant.__exit__(None, None, None)
    world.act("failover")
    world.check()
    assert {mark.promoted for mark in Marks(world.second).read([HOME]).values()} == {0}


def begin(world: World, who: str = "ann@here") -> None:
    """Begin a promotion, and wait for nothing."""
    world.store.begin_promotion(who, "http://two", planned=False, lease_seconds=120)

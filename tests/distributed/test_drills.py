"""The three drills with a coordinator and workers: nothing is lost until someone decides.

They work without a pause while it happens, so each look at the replica may be the one that hurts.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from chromasync.model import Cycle, HoldKind
from tests.chaos.profile import NIGHTLY
from tests.chaos.test_failover import POINTS
from tests.distributed.fleet import Fleet
from tests.support.drills import (
    RECORDS,
    SINCE,
    Contents,
    another_server,
    application_goes_on,
    arrange,
    every,
    fresh,
    older_copy,
    primary_dies,
    primary_returns,
    restorable,
)
from tests.support.stage import Stage, fill, vectors

DECIDE = 6
CYCLES = 4
"""So many go by before it is looked whether something is lost."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stage]:
    """Servers that keep their data in folders of their own."""
    with restorable(tmp_path) as stage:
        yield stage


def at_work(fleet: Fleet) -> None:
    """A coordinator and two workers, and three collections that are identical."""
    fleet.coordinator()
    fleet.worker("one")
    fleet.worker("two")
    arrange(fleet.stage)
    fleet.assert_converges()


def ended(fleet: Fleet) -> list[Cycle]:
    """Cycles that came to an end, the newest first."""
    return [cycle for cycle in fleet.store.cycles(50) if cycle.finished_at is not None]


def let_cycles_pass(fleet: Fleet, count: int = CYCLES) -> None:
    """Wait until so many cycles that begin after now have ended."""
    asked_at = fleet.store.now()
    fleet.until(
        lambda: sum(cycle.started_at > asked_at for cycle in ended(fleet)) >= count,
        f"{count} more cycles",
    )


def assert_held(fleet: Fleet, kind: HoldKind) -> None:
    """Cycles go by, and it is held all the time; `status` says that someone must decide."""
    fleet.until(lambda: kind in {hold.kind for hold in fleet.store.holds()}, f"{kind} is held")
    let_cycles_pass(fleet)
    assert kind in {hold.kind for hold in fleet.store.holds()}
    done = fleet.stage.command("status", DATABASE_URL=fleet.database_url)
    assert done.returncode == DECIDE, done.stdout


def decide(fleet: Fleet) -> None:
    """Someone decides for the primary, as often as something is held."""

    def approved() -> bool:
        for hold in fleet.store.holds():
            fleet.store.approve(hold)
        return not fleet.store.holds()

    fleet.until(approved, "everything is decided")
    fleet.assert_converges()


@pytest.mark.long
def test_a_stale_primary_overwrites_nothing(stage: Stage, fleet: Fleet) -> None:
    """The primary dies while all are at work, and comes back after the application went on."""
    at_work(fleet)
    primary_dies(stage)
    fleet.until(lambda: fleet.store.deployment().away_since is not None, "it is missed")
    precious = application_goes_on(stage)
    primary_returns(stage)
    assert_held(fleet, HoldKind.DIVERGED)
    assert every(stage) == precious
    told = [line for line in fleet.members[0].log.splitlines() if '"event": "held"' in line]
    assert len(told) == 2, "each hold is said once: that of docs, and that of the new collection"
    assert any("the replica has 40 (app0, app1, app2" in line for line in told)
    fleet.members[0].kill()
    fleet.members[1].kill()
    fleet.coordinator("heir")
    let_cycles_pass(fleet)
    assert every(stage) == precious
    decide(fleet)


@pytest.mark.long
def test_another_server_at_the_address_changes_nothing(stage: Stage, fleet: Fleet) -> None:
    """It answers instead of the primary from one request to the next."""
    at_work(fleet)
    precious = every(stage)
    with another_server(stage):
        assert_held(fleet, HoldKind.OTHER_PRIMARY)
        assert every(stage) == precious
    fleet.assert_converges()
    assert every(stage) == precious


@pytest.mark.long
def test_an_older_primary_deletes_nothing(own: Stage, tmp_path: Path, database_url: str) -> None:
    """Restored from a backup while all are at work, and written to since; no record is lost.

    An edit may be: of a cycle that the restore comes in the middle of (see docs/guards.md).
    """
    fleet = Fleet(own, database_url)
    try:
        at_work(fleet)

        def cycle() -> None:
            let_cycles_pass(fleet, 2)

        with older_copy(own, tmp_path, cycle), fresh(own) as stage:
            fleet.stage = stage
            assert_held(fleet, HoldKind.OLDER_PRIMARY)
            assert set(SINCE) <= every(stage)["docs"].keys()
            decide(fleet)
    finally:
        fleet.close()


class Fortune:
    """Kills members of a fleet at random instants, and starts others in their place."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = random.Random(seed)
        self._number = itertools.count()

    def strike(self) -> None:
        """One member dies, or is to die at a named point; another one begins."""
        living = [member for member in self.fleet.members if member.running]
        victim = self.random.choice(living)
        if self.random.random() < 0.7:
            victim.kill()
        point = f"{self.random.choice(POINTS)}:{self.random.randrange(1, 9)}"
        doomed = {"CHROMASYNC_FAULTPOINT": point} if self.random.random() < 0.5 else {}
        start = self.fleet.coordinator if self.random.random() < 0.5 else self.fleet.worker
        start(f"member{next(self._number)}", **doomed)


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(30 if NIGHTLY else 1))
def test_a_failover_at_a_random_instant_loses_nothing(
    stage: Stage, fleet: Fleet, seed: int
) -> None:
    """Coordinators and workers die before, meanwhile and afterwards."""
    fortune = Fortune(fleet, seed)
    at_work(fleet)
    docs = stage.primary.get_collection("docs", embedding_function=None)
    fill(docs, fortune.random.randrange(20, 200), start=RECORDS)
    if fortune.random.random() < 0.5:
        fortune.strike()
    primary_dies(stage)
    fleet.coordinator("steady")
    fleet.until(lambda: fleet.store.deployment().away_since is not None, "it is missed")
    precious: dict[str, Contents] = {}
    for name in ("docs", "mail"):
        count = fortune.random.randrange(1, 60)
        ids = [f"app{n}" for n in range(count)]
        stage.on_replica(name).add(ids=ids, embeddings=vectors(count, seed=1))
        precious[name] = dict.fromkeys(ids, (None, None))
        if fortune.random.random() < 0.5:
            fortune.strike()
    primary_returns(stage)
    for turn in range(3):
        fortune.strike()
        fleet.coordinator(f"after{turn}")
        let_cycles_pass(fleet, 2)
        there = every(stage)
        assert {n: {i: there[n].get(i) for i in kept} for n, kept in precious.items()} == precious
    assert_held(fleet, HoldKind.DIVERGED)
    decide(fleet)

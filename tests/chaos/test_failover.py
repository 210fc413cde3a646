"""A fail-over at a random instant: the primary dies, the application goes on, the primary returns.

The program is killed at random named points before, meanwhile and afterwards. Whatever the order,
nothing that the application wrote to the replica is lost until someone decides.
"""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from chromasync import faultpoints
from chromasync.errors import ServerUnreachable
from chromasync.lab.proxy import Request, ResetBefore
from chromasync.model import HoldKind
from chromasync.reports import Outcome
from tests.chaos.mortal import sync_until
from tests.chaos.profile import NIGHTLY
from tests.support.drills import Contents, contents, primary_dies, primary_returns
from tests.support.stage import Stage, fill, vectors

SETTINGS = {"SYNC_CHUNK_SIZE": "25", "SYNC_WORKERS": "2"}
SEEDS = range(100 if NIGHTLY else 2)
MOST_DECISIONS = 6
POINTS = [
    faultpoints.AFTER_OPEN,
    faultpoints.AFTER_WALK,
    faultpoints.AFTER_PLAN,
    faultpoints.AFTER_CLAIM,
    faultpoints.AFTER_READ,
    faultpoints.BEFORE_SEND,
    faultpoints.MID_WRITE,
    faultpoints.AFTER_WRITE,
    faultpoints.AFTER_COMPLETE,
    faultpoints.AFTER_COMMIT,
    faultpoints.BEFORE_CLOSE,
]


class DiesAfter:
    """A primary that resets every connection after so many requests."""

    def __init__(self, requests: int) -> None:
        self._left = requests

    def __call__(self, _: Request) -> ResetBefore | None:
        self._left -= 1
        return ResetBefore() if self._left < 0 else None


class Failover:
    """One fail-over with everything at random.

    Attributes:
        precious: what the application wrote to the replica, by collection and id.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(seed)
        self.precious: dict[str, Contents] = {}

    def arrange(self) -> None:
        """Three collections, and changes on the primary that a cycle may be in the middle of."""
        for name in ("docs", "mail", "wiki"):
            self.stage.create(name, count=100)
        self.stage.sync(**SETTINGS)
        docs = self.stage.primary.get_collection("docs", embedding_function=None)
        if self.random.random() < 0.7:
            fill(docs, self.random.randrange(1, 90), start=100)
        if self.random.random() < 0.5:
            docs.delete(ids=[f"r{n}" for n in range(self.random.randrange(1, 9))])

    def cycle(self) -> None:
        """A cycle that may be killed, and may meet a primary that is away."""
        point = self.random.choice(POINTS)
        nth = self.random.randrange(1, 6) if self.random.random() < 0.5 else 1_000_000
        with suppress(ServerUnreachable):
            sync_until(self.stage, point, nth, full=self.random.random() < 0.3, **SETTINGS)

    def primary_dies(self) -> None:
        """At once, or in the middle of a cycle; some cycles fail meanwhile."""
        if self.random.random() < 0.6:
            self.stage.servers.primary_proxy.fault = DiesAfter(self.random.randrange(1, 40))
            self.cycle()
        primary_dies(self.stage)
        with pytest.raises(ServerUnreachable):  # that is how the outage is known
            self.stage.sync(**SETTINGS)

    def application_goes_on(self) -> None:
        """It writes to the replica: in any collection it adds, and it makes one of its own."""
        for name in self.random.sample(["docs", "mail", "wiki"], self.random.randrange(1, 4)):
            collection = self.stage.on_replica(name)
            count = self.random.randrange(1, 50)
            ids = [f"app{n}" for n in range(count)]
            collection.add(ids=ids, embeddings=vectors(count), documents=["by the app"] * count)
            self._keep(name, ids)
        if self.random.random() < 0.5:
            fill(self.stage.replica.create_collection("own", embedding_function=None), 5)
            self._keep("own", [f"r{n}" for n in range(5)])

    def _keep(self, name: str, ids: list[str]) -> None:
        there = contents(self.stage.on_replica(name))
        self.precious.setdefault(name, {}).update({i: there[i] for i in ids})

    def assert_nothing_lost(self) -> None:
        """Every record that the application was acknowledged for is as it wrote it."""
        for name, kept in self.precious.items():
            there = contents(self.stage.on_replica(name))
            assert {i: there.get(i) for i in kept} == kept, name


@pytest.mark.long
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_that_the_application_wrote_is_lost(stage: Stage, seed: int) -> None:
    """Until someone decides for the primary; then both sides become identical."""
    failover = Failover(stage, seed)
    failover.arrange()
    if failover.random.random() < 0.5:
        failover.cycle()
    failover.primary_dies()
    failover.application_goes_on()
    primary_returns(stage)
    for _ in range(failover.random.randrange(1, 5)):
        failover.cycle()
        failover.assert_nothing_lost()
    report = stage.sync(**SETTINGS)
    failover.assert_nothing_lost()
    assert report.exit_code == 6
    assert {hold.kind for hold in report.holds} >= {HoldKind.DIVERGED}
    for _ in range(MOST_DECISIONS):
        stage.approve()
        if stage.sync(**SETTINGS).outcome is Outcome.IDENTICAL:
            break
    stage.assert_identical()
    stage.assert_quiet(**SETTINGS)

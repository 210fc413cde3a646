"""A site over snapshots in memory, asked without a network, and one that is really served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from chromasync.errors import ChromasyncError
from chromasync.model import Duty, Hold, Side, Vitals
from chromasync.reports import StatusSnapshot
from chromasync.web.access import Access
from chromasync.web.site import Site
from chromasync.web.snapshots import SnapshotCache
from tests.support.browser import running_chromium
from tests.web import scenes

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TOKEN = "correct-horse-battery"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
HERE = "http://127.0.0.1"


@dataclass
class FakeOperator:
    """Remembers what it was asked for; `trouble` is raised instead."""

    asked: list[tuple[object, ...]] = field(default_factory=list)
    trouble: ChromasyncError | None = None

    def _note(self, *call: object) -> None:
        self.asked.append(call)
        if self.trouble is not None:
            raise self.trouble

    def pause(self, who: str, reason: str, seconds: float | None) -> None:
        self._note("pause", who, reason, seconds)

    def resume(self) -> None:
        self._note("resume")

    def want_cycle(self, who: str) -> None:
        self._note("sync", who)

    def approve_set(self, collection_id: str, digest: str) -> list[Hold]:
        self._note("approve", collection_id, digest)
        return [scenes.HOLD]


@dataclass
class FakeProcess:
    """A process of the service that says what the test wants it to say."""

    vital: Vitals = field(default_factory=lambda: Vitals(Duty.LEADING))
    counts: dict[Side, dict[str, int]] = field(default_factory=dict)

    def vitals(self) -> Vitals:
        return self.vital

    def outcomes(self) -> dict[Side, dict[str, int]]:
        return self.counts


@dataclass
class World:
    """What a site shows, and who carries out what is asked on it."""

    snapshot: StatusSnapshot = field(default_factory=scenes.quiet)
    error: ChromasyncError | None = None
    operator: FakeOperator = field(default_factory=FakeOperator)
    process: FakeProcess | None = None
    looks: int = 0

    def take(self) -> StatusSnapshot:
        """One look at the store."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        return self.snapshot

    def site(self, token: str | None = TOKEN, host: str = "127.0.0.1", **more: Any) -> Site:
        """A site over this world, which looks again at every request."""
        seconds = more.pop("seconds", 0.0)
        return Site(
            SnapshotCache(self.take, seconds),
            Access(token, host),
            self.operator,
            process=self.process,
            measure=scenes.measured,
            **more,
        )


@pytest.fixture
def world() -> World:
    """A quiet day."""
    return World()


Ask = Callable[..., TestClient]


@pytest.fixture
def ask(world: World) -> Iterator[Ask]:
    """A client of the world's site; the keywords are those of `World.site`."""
    with ExitStack() as stack:

        def connect(*, base_url: str = HERE, **options: Any) -> TestClient:
            client = TestClient(world.site(**options).asgi, base_url=base_url)
            client.follow_redirects = False
            return stack.enter_context(client)

        yield connect


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless browser for the whole session."""
    with running_chromium() as browser:
        yield browser

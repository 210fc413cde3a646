"""Those who ask for advice all the time: a thread that records it, and pages that show it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from chromasync import advice
from chromasync.advice import cached, keeper
from chromasync.advice.cached import CachedAdvice
from chromasync.advice.keeper import AdviceKeeper
from chromasync.advice.recorded import recommendation_of
from chromasync.advice_reports import AdviceReport, Bottleneck, Sign
from chromasync.config import Settings, load_settings
from chromasync.errors import StoreUnavailable
from chromasync.events import Event
from chromasync.model import Measurement, Recommendation
from chromasync.reports import (
    StatusSnapshot,
)
from chromasync.status import take_snapshot
from chromasync.store import SqlStore
from tests.unit.pools import PATIENCE

NOW = datetime(2030, 1, 1, tzinfo=UTC)
REPORT = AdviceReport(
    NOW,
    is_enough=True,
    current_phase="phase 0",
    guide_phase="phase 2 with 2 workers",
    recommended_phase="phase 1",
    headline="Phase 1 fits.",
    signs=(Sign("documents", 5, 3, exceeded=True), Sign("growth_per_day", None, 9, exceeded=False)),
    bottleneck=Bottleneck.REPLICA,
    bottleneck_reason="It is slow.",
    rules=("large",),
    changes=("Do this.", "Or that."),
    monthly_cost=1234.5,
    currency="USD",
)


def settings_of(**flags: str) -> Settings:
    return load_settings(flags={"PRIMARY_URL": "http://p:1", "REPLICA_URL": "http://r:2"} | flags)


def test_advice_is_asked_for_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error is logged once, and does not end the thread; its end is the end of the block."""
    monkeypatch.setattr(keeper, "EVERY_SECONDS", 0.001)
    outcomes: list[Exception | None] = [StoreUnavailable("away"), StoreUnavailable("away"), None]
    asked_often = threading.Event()

    def advise() -> AdviceReport:
        if not outcomes:
            asked_often.set()
        elif (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return REPORT

    with capture_logs() as lines, AdviceKeeper(settings_of(), advise) as kept:
        assert asked_often.wait(PATIENCE)
    assert not kept._thread.is_alive()
    assert [line["event"] for line in lines] == [Event.NO_ADVICE, Event.RECOVERED]


def test_a_worker_gives_no_advice() -> None:
    """Its coordinator does."""
    with AdviceKeeper(settings_of(SYNC_DISTRIBUTED="true"), lambda: REPORT) as kept:
        assert kept._thread.ident is None


def test_what_is_recorded_of_an_advice() -> None:
    """Both phases, why in words, the price, the rules, and what they were applied to."""
    assert recommendation_of(REPORT) == Recommendation(
        "phase 0",
        "phase 1",
        "Phase 1 fits. It is slow. Do this. Or that.",
        "1,234.50 USD",
        ("large",),
        {"documents": 5, "growth_per_day": None, "bottleneck": Bottleneck.REPLICA},
    )


def test_a_page_gets_the_advice_of_the_last_minute(
    store: SqlStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it asks, the history is read once in a while; errors are shown."""
    clock = [100.0]
    monkeypatch.setattr(cached, "monotonic", lambda: clock[0])
    asked: list[float] = []
    trouble: list[Exception] = []

    def measure(seconds: float) -> list[Measurement]:
        asked.append(seconds)
        if trouble:
            raise trouble.pop()
        return store.measurements(seconds)

    seen: list[StatusSnapshot] = []
    given = CachedAdvice(lambda: seen[-1] if seen else None, measure, settings)
    assert given.sentences() == []
    seen.append(take_snapshot(store, settings))
    first = given.sentences()
    assert first == ["Not enough history for advice: 0 of 3 cycles have closed."]
    clock[0] += cached.KEPT_SECONDS - 0.01
    assert given.sentences() == first
    assert asked == [advice.HISTORY_SECONDS]
    clock[0] += 0.01
    trouble.append(StoreUnavailable("It is away."))
    assert given.sentences() == ["It is away."]
    clock[0] += cached.KEPT_SECONDS
    assert given.sentences() == first

"""Our own program, timed from the inside."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chromasync.app import Application
from chromasync.chroma.meter import Meter
from chromasync.config import Settings

OPTIONS = {
    "budget": "sync_scrub_budget",
    "share": "sync_primary_share",
    "memory_mb": "sync_max_memory_mb",
    "workers": "sync_workers",
    "mark": "sync_mark",
}


class Silent:
    """Progress that nobody watches."""

    def start(self, activity: str, total: int | None) -> None:
        """Nothing to show."""

    def advance(self, count: int) -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""


def cycles(
    primary_url: str,
    replica_url: str,
    state: str,
    count: int = 1,
    *,
    walk_only: bool = False,
    **options: float,
) -> dict[str, Any]:
    """Open the program once and run `count` cycles.

    Args:
        options: settings that differ from the defaults (`OPTIONS`).

    Returns:
        The seconds that opening took, and per cycle: seconds, records read, written, outcome.
    """
    if walk_only:
        options["budget"] = 0.0
    settings = _settings(primary_url, replica_url, state, **options)
    started = time.perf_counter()
    with Application.open(settings) as app:
        open_seconds = time.perf_counter() - started
        done = [_cycle(app) for _ in range(count)]
    return {"open_seconds": open_seconds, "cycles": done}


def approved(primary_url: str, replica_url: str, state: str, **options: float) -> dict[str, Any]:
    """Open the program once, approve everything that is held, and run a cycle."""
    started = time.perf_counter()
    with Application.open(_settings(primary_url, replica_url, state, **options)) as app:
        open_seconds = time.perf_counter() - started
        app.note_shown(app.status())
        held = sum(hold.count for hold in app.approve([], everything=True))
        return {"open_seconds": open_seconds, "held": held, "cycles": [_cycle(app)]}


def _cycle(app: Application) -> dict[str, Any]:
    began_at = time.monotonic()
    started, cpu, requests = time.perf_counter(), time.process_time(), _requests()
    report = app.sync(Silent())
    return {
        "requests": _requests() - requests,
        "seconds": time.perf_counter() - started,
        "span": [began_at, time.monotonic()],
        "cpu_seconds": time.process_time() - cpu,
        "read": report.counts.read,
        "applied": report.counts.applied,
        "deleted": report.counts.deleted,
        "outcome": report.outcome.value,
    }


def verify(primary_url: str, replica_url: str, state: str, **options: float) -> dict[str, Any]:
    """Open the program once and compare both sides record by record."""
    started = time.perf_counter()
    with Application.open(_settings(primary_url, replica_url, state, **options)) as app:
        open_seconds = time.perf_counter() - started
        report = app.verify(Silent())
    return {
        "requests": _requests(),
        "open_seconds": open_seconds,
        "seconds": report.duration_seconds,
        "same": sum(collection.same for collection in report.collections),
        "different": report.different,
    }


def plan(primary_url: str, replica_url: str, state: str, **options: float) -> dict[str, Any]:
    """Open the program once and ask what a cycle would do."""
    return _asked(_settings(primary_url, replica_url, state, **options), lambda a: a.plan(Silent()))


def status(primary_url: str, replica_url: str, state: str, **options: float) -> dict[str, Any]:
    """Open the program once and ask the state store."""
    return _asked(_settings(primary_url, replica_url, state, **options), Application.status)


def _asked(settings: Settings, ask: Callable[[Application], object]) -> dict[str, Any]:
    before = _requests()
    started = time.perf_counter()
    with Application.open(settings) as app:
        open_seconds = time.perf_counter() - started
        started = time.perf_counter()
        ask(app)
        seconds = time.perf_counter() - started
    return {
        "open_seconds": open_seconds,
        "seconds": seconds,
        "requests": _requests() - before,
    }


_noted: list[str] = []
_note = Meter.note


def _count_too(meter: Meter, outcome: str, **about: Any) -> None:
    _noted.append(outcome)
    _note(meter, outcome, **about)


_meter: Any = Meter
_meter.note = _count_too  # a bench process counts for itself


def _requests() -> int:
    """Requests to both servers so far, of this process."""
    return len(_noted)


def _settings(primary_url: str, replica_url: str, state: str, **options: float) -> Settings:
    """The defaults, except for these options (see `OPTIONS`)."""
    settings = Settings(primary_url=primary_url, replica_url=replica_url, sync_data_dir=Path(state))
    return settings.model_copy(update={OPTIONS[name]: value for name, value in options.items()})

"""Our own program, timed from the inside."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from chromasync.app import Application
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
    started, cpu = time.perf_counter(), time.process_time()
    report = app.sync(Silent())
    return {
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
        "open_seconds": open_seconds,
        "seconds": report.duration_seconds,
        "same": sum(collection.same for collection in report.collections),
        "different": report.different,
    }


def _settings(primary_url: str, replica_url: str, state: str, **options: float) -> Settings:
    """The defaults, except for these options (see `OPTIONS`)."""
    settings = Settings(primary_url=primary_url, replica_url=replica_url, sync_data_dir=Path(state))
    return settings.model_copy(update={OPTIONS[name]: value for name, value in options.items()})

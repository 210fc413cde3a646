"""Recorded histories for advice: cycles, minutes of processes, and the status at their end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from chromasync.advice import Asked, advise
from chromasync.advice_reports import AdviceReport
from chromasync.config import Settings, load_settings
from chromasync.model import (
    Measurement,
    MirrorStatus,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.reports import (
    CollectionReport,
    StatusSnapshot,
)
from chromasync.sizing.effort import Load, read_seconds
from chromasync.sizing.table import load_table

NOW = datetime(2030, 1, 8, 12, tzinfo=UTC)
DAY = 86_400.0
TABLE = load_table()
FLOATS, TEXT = 384, 600
SENT = FLOATS * 16 / 3 + TEXT
READING = read_seconds(Load(1, FLOATS, TEXT), TABLE.rates)


def settings_of(**flags: object) -> Settings:
    urls = {"PRIMARY_URL": "http://p:1", "REPLICA_URL": "http://r:2"}
    return load_settings(flags=urls | flags)


def cycle(seconds_ago: float, seconds: float, documents: int, **values: Any) -> Measurement:
    """A usual cycle: it re-reads a part, and writes what has changed."""
    given: dict[str, Any] = {
        "records_read": 20_000,
        "records_written": 30,
        "bytes_written": round(30 * SENT),
        "phase_seconds": {"walk": seconds / 10, "reconcile": seconds * 0.9},
        "span_seconds": seconds,
    }
    at = NOW - timedelta(seconds=seconds_ago)
    return Measurement(at, duration_seconds=seconds, primary_count=documents, **(given | values))


def minute(seconds_ago: float, name: str = "one", **values: Any) -> Measurement:
    """A minute of a process at work: 2 threads, which wait for nobody for long."""
    given: dict[str, Any] = {
        "records_read": 30_000,
        "primary_seconds": 30.0,
        "replica_seconds": 30.0,
        "cpu_percent": 50.0,
        "memory_mb": 150.0,
        "memory_limit_mb": 512.0,
        "phase_seconds": {"tasks": 100.0},
    }
    return Measurement(
        NOW - timedelta(seconds=seconds_ago),
        process_name=name,
        span_seconds=60.0,
        duration_seconds=60.0,
        active_workers=1,
        **(given | values),
    )


def history(
    documents: int, *, seconds: float = 20.0, growth: float = 100.0, **minutes: Any
) -> list[Measurement]:
    """Two days of cycles every half hour, and the minutes of the last half hour."""
    cycles = [
        cycle(age, seconds, round(documents - growth * age / DAY))
        for age in range(int(2 * DAY), 0, -1800)
    ]
    return [*cycles, *(minute(60.0 * n, **minutes) for n in range(30, 0, -1))]


def beat(name: str = "one", role: str = "single", threads: int = 2) -> WorkerBeat:
    return WorkerBeat(
        name, WorkerStatus.ACTIVE, None, 150, 50, "h", 1, "1", NOW, role=role, threads=threads
    )


def snapshot(
    documents: int, *workers: WorkerBeat, reread_seconds: float | None = 3600.0
) -> StatusSnapshot:
    """One collection of so many documents."""
    collection = CollectionReport(
        "id", "t", "d", "n", MirrorStatus.IDENTICAL, documents, documents, NOW, dimension=FLOATS
    )
    return StatusSnapshot(
        NOW,
        NOW,
        0.0,
        (collection,),
        workers or (beat(),),
        TaskCounts(),
        (),
        (),
        (),
        "s",
        reread_seconds=reread_seconds,
    )


CREW = (beat("one", "coordinator"), beat("two", "worker"), beat("three", "worker"))


def advice(
    documents: int,
    measured: Sequence[Measurement],
    *workers: WorkerBeat,
    reread_seconds: float | None = 3600.0,
    asked: Asked | None = None,
    **flags: object,
) -> AdviceReport:
    seen = snapshot(documents, *workers, reread_seconds=reread_seconds)
    return advise(seen, measured, settings_of(**flags), asked)


def exceeded(report: AdviceReport) -> set[str]:
    return {sign.name for sign in report.signs if sign.exceeded}

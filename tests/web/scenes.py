"""Snapshots for the page's tests: a quiet day, a first copy, a held delete, a dead service."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from chromasync.model import (
    ChunkCounts,
    ControlRow,
    Cycle,
    CycleStatus,
    Hold,
    HoldKind,
    MirrorStatus,
    OpCounts,
    Quarantined,
    TaskCounts,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.reports import CollectionReport, StatusSnapshot
from tests.cli.fakes import NOON, collection

STORE = "postgresql://db.internal/sync"
NAMES = ("passages", "users", "products", "tickets", "images", "faq", "reviews", "events")
HOSTILE = (
    "<script>document.title='hacked'</script>",
    "<img src=x onerror=\"document.title='hacked'\">",
    '"><b onmouseover=alert(1)>bold</b>',
    "'; DROP TABLE sync_tasks; --",
    "javascript:alert(1)",
    "{{ 7 * 7 }} ${7*7} <%= 7*7 %>",
    "name\nwith\nlines\x1b[31m\u202egnp.exe",
    "a" * 400,
    'back\\slash"quote\nline',
)
"""Names that would do harm where somebody forgot to escape them."""


def collections(count: int = len(NAMES), seed: int = 4) -> tuple[CollectionReport, ...]:
    """Identical collections of many sizes."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        name = NAMES[number] if number < len(NAMES) else f"{NAMES[number % 8]}-{number:04}"
        records = int(10 ** chance.uniform(2, 5.5))
        age = chance.uniform(2, 290)
        found.append(
            collection(
                name,
                primary_count=records,
                replica_count=records,
                identical_as_of=NOON - timedelta(seconds=age),
                counts=OpCounts(read=records // 40, updated=chance.choice([0, 0, 0, 3, 17])),
                chunks=ChunkCounts(
                    clean=records // 1000 + 1,
                    oldest_read_at=NOON - timedelta(seconds=age + chance.uniform(100, 9000)),
                ),
                probed_cycle=40 + number % 3,
                last_attempt_at=NOON,
                last_changed_at=NOON - timedelta(seconds=30 + number * 4817 % 40_000),
            )
        )
    return tuple(found)


def worker(name: str, **changes: object) -> WorkerBeat:
    """A process at work."""
    values: dict[str, object] = {
        "worker_id": f"{name}:4711:1795602368.3:fe71b8d8",
        "status": WorkerStatus.ACTIVE,
        "current_task_id": 1204,
        "memory_mb": 148.0,
        "cpu_percent": 61.0,
        "hostname": name,
        "pid": 4711,
        "version": "1.0.0",
        "last_heartbeat_at": NOON - timedelta(seconds=6),
        "role": "worker",
        "threads": 2,
        "tasks_done": 310,
        "memory_limit_mb": 512.0,
    }
    return WorkerBeat(**(values | changes))  # type: ignore[arg-type]


WORKERS = (
    worker("coordinator", role="coordinator", memory_mb=171.0, tasks_done=265),
    worker("worker-1", tasks_done=402, memory_mb=446.0),
    worker("worker-2", tasks_done=377, current_task_id=None, cpu_percent=4.0),
)


def quiet() -> StatusSnapshot:
    """All collections identical, three processes, a cycle a minute ago."""
    shown = collections()
    cycles = tuple(
        Cycle(
            42 - back,
            NOON - timedelta(seconds=60 + 300 * back),
            CycleStatus.COMPLETED,
            NOON - timedelta(seconds=48 + 300 * back),
            OpCounts(read=20_400, updated=40, inserted=12),
        )
        for back in range(10)
    )
    as_of = min(c.identical_as_of for c in shown if c.identical_as_of)
    return StatusSnapshot(
        taken_at=NOON,
        identical_as_of=as_of,
        lag_seconds=(NOON - as_of).total_seconds(),
        collections=shown,
        workers=WORKERS,
        tasks=TaskCounts(completed=38),
        cycles=cycles,
        holds=(),
        quarantined=(),
        store=STORE,
        reread_seconds=4 * 3600.0,
        clean_at=cycles[0].started_at,
        alert_lag_seconds=900.0,
        latest_as_of=NOON - timedelta(seconds=2),
    )


def copying() -> StatusSnapshot:
    """The first copy, with three of eight collections done and a cycle at work."""
    shown = [
        c
        if number < 3
        else replace(
            c,
            status=MirrorStatus.SYNCING if number < 5 else MirrorStatus.NEW,
            replica_count=c.primary_count // 3 if number < 5 else 0,
            identical_as_of=None,
            probed_cycle=None,
            counts=OpCounts(read=c.primary_count // 3, inserted=c.primary_count // 3),
            chunks=ChunkCounts(unread=12),
        )
        for number, c in enumerate(collections())
    ]
    return replace(
        quiet(),
        identical_as_of=None,
        lag_seconds=None,
        collections=tuple(shown),
        tasks=TaskCounts(pending=88, processing=6, completed=106),
        cycles=(Cycle(1, NOON - timedelta(seconds=92)),),
        clean_at=None,
    )


HOLD = Hold(
    "id-products",
    "products",
    HoldKind.DELETES,
    4_210,
    "more than 10% of its records would be deleted within a day",
    NOON - timedelta(minutes=9),
    tenant="default_tenant",
    database="default_database",
    set_digest="3f9a1b2c4d5e6f70",
    seen_cycles=2,
)
ASIDE = (
    Quarantined(
        "id-tickets", "ticket-88123", "Its document is larger than the replica takes", True
    ),
    Quarantined("id-tickets", "ticket-90017", "Its embedding has 1,535 numbers", False),
)


def held() -> StatusSnapshot:
    """A guard holds many deletes of one collection, and two records are quarantined."""
    shown = tuple(
        replace(c, status=MirrorStatus.HELD, held=HOLD.count, primary_count=c.primary_count - 4210)
        if c.name == "products"
        else replace(c, status=MirrorStatus.LIMITED, quarantined=2)
        if c.name == "tickets"
        else c
        for c in collections()
    )
    return replace(quiet(), collections=shown, holds=(HOLD,), quarantined=ASIDE)


def dead() -> StatusSnapshot:
    """Every process was killed three hours ago, in the middle of a cycle."""
    silent = tuple(
        replace(beat, status=WorkerStatus.DEAD, last_heartbeat_at=NOON - timedelta(hours=3))
        for beat in WORKERS
    )
    past = replace(
        quiet(),
        workers=silent,
        tasks=TaskCounts(pending=17, processing=4, completed=17),
        cycles=(Cycle(43, NOON - timedelta(hours=3, seconds=12)), *quiet().cycles),
    )
    back = timedelta(hours=3)
    return replace(
        past,
        clean_at=NOON - back - timedelta(seconds=312),
        identical_as_of=NOON - back - timedelta(seconds=320),
        lag_seconds=(back + timedelta(seconds=320)).total_seconds(),
        collections=tuple(
            replace(c, identical_as_of=c.identical_as_of and c.identical_as_of - back)
            for c in past.collections
        ),
    )


def paused() -> StatusSnapshot:
    """Someone paused everything."""
    control = ControlRow(NOON, "ann@laptop", "the primary's disk is replaced")
    return replace(quiet(), control=control)


def crowded(count: int = 1500) -> StatusSnapshot:
    """So many collections that nobody reads them one by one."""
    shown = [
        replace(c, status=MirrorStatus.ERROR, message="The primary cannot return record 'x17'.")
        if number % 400 == 199
        else c
        for number, c in enumerate(collections(count))
    ]
    return replace(quiet(), collections=tuple(shown))


def hostile() -> StatusSnapshot:
    """Names, messages, workers and holds that would run where they are not escaped."""
    shown = tuple(
        collection(name, collection_id=f"id-{number}", message=name, status=MirrorStatus.ERROR)
        for number, name in enumerate(HOSTILE)
    )
    holds = tuple(
        replace(HOLD, collection_name=name, collection_id=f"id-{number}", reason=name)
        for number, name in enumerate(HOSTILE)
    )
    return replace(
        quiet(),
        collections=shown,
        holds=holds,
        quarantined=tuple(Quarantined("id-0", name, name, absent=True) for name in HOSTILE),
        workers=tuple(worker(name, hostname=name, throttle_reason=name) for name in HOSTILE),
        warnings=HOSTILE,
        cycles=(replace(quiet().cycles[0], error=HOSTILE[0], status=CycleStatus.FAILED),),
        control=ControlRow(NOON, HOSTILE[0], HOSTILE[1]),
        store=HOSTILE[2],
    )


@dataclass(frozen=True)
class Row:
    """A measurement for charts."""

    recorded_at: datetime
    process_name: str | None
    duration_seconds: float
    records_read: int
    records_written: int
    lag_seconds: float | None


def measured(since_seconds: float) -> Sequence[Row]:
    """A week of cycles and minutes, with one bad hour in each day."""
    chance = random.Random(7)
    rows = []
    step = 300 if since_seconds < 90_000 else 1800
    for back in range(int(since_seconds), 0, -step):
        at = NOON - timedelta(seconds=back)
        is_bad = at.hour == 11 and 20 < at.minute < 40
        took = chance.uniform(9, 16) * (9 if is_bad else 1)
        rows.append(Row(at, None, took, 20_400, 52, took + chance.uniform(1, 9)))
        lag = chance.uniform(20, 290) + (400 if is_bad else 0)
        read = int(step / 60 * chance.uniform(3500, 4600) * (0.3 if is_bad else 1))
        rows.append(Row(at, "w", float(step), read, read // chance.randint(4, 30), lag))
    return rows

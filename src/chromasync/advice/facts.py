"""What the history says about load, growth, memory and waiting; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from chromasync.config import Role, Settings
from chromasync.model import Measurement, WorkerBeat, WorkerStatus
from chromasync.reports import StatusSnapshot
from chromasync.sizing.pace import is_copy
from chromasync.sizing.table import Thresholds

HOUR = 3600.0
DAY = 24 * HOUR
USUAL_SECONDS = DAY
"""Cycles of so many last seconds say what is usual."""
MEMORY_SECONDS = HOUR
FULL_SHARE = 0.5
"""Memory is consistently above its limit if so many of the measurements are."""
LEAST_MEMORY_ROWS = 10


@dataclass(frozen=True, slots=True)
class Deployed:
    """The processes at present."""

    role: Role
    workers: int
    threads: int

    @property
    def phase(self) -> str:
        """The guide's phase."""
        if self.role is Role.SINGLE:
            return "phase 0"
        return phase_name(self.workers)


def phase_name(workers: int) -> str:
    """The guide's phase with a coordinator and so many workers."""
    if not workers:
        return "phase 1"
    return f"phase 2 with {workers} worker{'' if workers == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Where the time of the processes went while they worked.

    Attributes:
        seconds: the time in which any process worked.
        thread_seconds: the time of all threads: the sum of the other four.
    """

    seconds: float
    primary: float
    replica: float
    throttled: float
    cpu: float
    records_read: int
    records_written: int

    @property
    def thread_seconds(self) -> float:
        """All of it."""
        return self.primary + self.replica + self.throttled + self.cpu

    def share(self, seconds: float) -> float:
        """The share of all thread seconds."""
        return seconds / self.thread_seconds if self.thread_seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the rules need; None where it is not known.

    Attributes:
        cycles: closed cycles in the history.
        cycle_seconds: the usual duration of cycles that did not mostly copy.
        growth_per_day: new documents a day.
        memory_share: the share that the fullest process used at least half of the last hour.
        memory_limit_mb: the limit of that process.
        leader_share: the share of the usual cycles in steps that only the leader does.
        waiting: None if the processes worked too little.
        rereads: whether usual cycles read much more than they write.
    """

    documents: int
    deployed: Deployed
    cycles: int
    cycle_seconds: float | None
    growth_per_day: float | None
    memory_share: float | None
    memory_limit_mb: float | None
    leader_share: float | None
    waiting: Waiting | None
    rereads: bool


LEADER_PHASES = ("list", "walk", "plan", "remove", "close")


def gather(
    snapshot: StatusSnapshot,
    measurements: Sequence[Measurement],
    settings: Settings,
    thresholds: Thresholds,
) -> Facts:
    """The facts at the time of the snapshot."""
    cycles = [one for one in measurements if one.is_cycle]
    processes = [one for one in measurements if not one.is_cycle]
    usual = _usual(snapshot, cycles)
    share, limit = _memory(snapshot, processes)
    return Facts(
        documents=sum(c.primary_count for c in snapshot.collections),
        deployed=deployed(snapshot, settings),
        cycles=len(cycles),
        cycle_seconds=_median(usual, thresholds.cycles),
        growth_per_day=growth_per_day(cycles, thresholds.growth_hours),
        memory_share=share,
        memory_limit_mb=limit,
        leader_share=_leader_share(usual),
        waiting=_waiting(snapshot, processes, thresholds.busy_minutes),
        rereads=sum(c.records_read for c in usual) > 2 * sum(c.records_written for c in usual),
    )


def deployed(snapshot: StatusSnapshot, settings: Settings) -> Deployed:
    """The processes that are active; the settings, where none is."""
    active = [worker for worker in snapshot.workers if worker.status is WorkerStatus.ACTIVE]
    roles = {worker.role for worker in active} & set(Role)
    threads = max((worker.threads for worker in active), default=0) or settings.sync_workers
    workers = sum(worker.role == Role.WORKER for worker in active)
    if not roles:
        return Deployed(settings.role, 0, threads)
    role = Role.SINGLE if roles == {Role.SINGLE} else Role.COORDINATOR
    return Deployed(role, workers, threads)


def growth_per_day(cycles: Sequence[Measurement], least_hours: float) -> float | None:
    """New documents a day between the first and the last cycle; None in too short a time."""
    if not cycles:
        return None
    first, last = cycles[0], cycles[-1]
    seconds = (last.recorded_at - first.recorded_at).total_seconds()
    if seconds < least_hours * HOUR:
        return None
    return (last.primary_count - first.primary_count) * DAY / seconds


def _usual(snapshot: StatusSnapshot, cycles: Sequence[Measurement]) -> list[Measurement]:
    """The cycles of the last day that did not mostly copy new records."""
    return [
        one
        for one in cycles
        if _age(snapshot, one) <= USUAL_SECONDS
        and one.duration_seconds > 0
        and not (is_copy(one) and one.records_written * 10 > one.primary_count)
    ]


def _median(cycles: Sequence[Measurement], least: int) -> float | None:
    if len(cycles) < least:
        return None
    return median(one.duration_seconds for one in cycles)


def _memory(
    snapshot: StatusSnapshot, processes: Sequence[Measurement]
) -> tuple[float | None, float | None]:
    """The share that the fullest process reached in half of its last hour, and its limit."""
    by_name: dict[str, list[Measurement]] = {}
    alive = {worker.worker_id for worker in snapshot.workers if _is_alive(worker)}
    for row in processes:
        recent = _age(snapshot, row) <= MEMORY_SECONDS
        if recent and row.process_name in alive and row.memory_share is not None:
            by_name.setdefault(row.process_name or "", []).append(row)
    shares = [
        (_upper_half(rows), rows[-1].memory_limit_mb)
        for rows in by_name.values()
        if len(rows) >= LEAST_MEMORY_ROWS
    ]
    return max(shares, key=lambda one: one[0], default=(None, None))


def _upper_half(rows: Sequence[Measurement]) -> float:
    """The share that was reached in FULL_SHARE of the rows."""
    shares = sorted((row.memory_share or 0.0 for row in rows), reverse=True)
    return shares[max(0, round(len(shares) * FULL_SHARE) - 1)]


def _is_alive(worker: WorkerBeat) -> bool:
    return worker.status in (WorkerStatus.ACTIVE, WorkerStatus.DRAINING)


def _leader_share(cycles: Sequence[Measurement]) -> float | None:
    total = sum(sum(one.phase_seconds.values()) for one in cycles)
    alone = sum(one.phase_seconds.get(phase, 0.0) for one in cycles for phase in LEADER_PHASES)
    return alone / total if total > 0 else None


def _waiting(
    snapshot: StatusSnapshot, processes: Sequence[Measurement], least_minutes: float
) -> Waiting | None:
    """The sums over the rows of the last day in which a process had tasks or requests."""
    rows = [one for one in processes if _age(snapshot, one) <= DAY and _worked(one)]
    seconds = sum(one.duration_seconds for one in rows)
    if seconds < least_minutes * 60:
        return None
    return Waiting(
        seconds=seconds,
        primary=sum(one.primary_seconds for one in rows),
        replica=sum(one.replica_seconds for one in rows),
        throttled=sum(one.throttled_seconds for one in rows),
        cpu=sum((one.cpu_percent or 0.0) / 100 * one.span_seconds for one in rows),
        records_read=sum(one.records_read for one in rows),
        records_written=sum(one.records_written for one in rows),
    )


def _worked(row: Measurement) -> bool:
    """Whether the processes did much: a minute with a short cycle says little."""
    used = row.primary_seconds + row.replica_seconds + row.throttled_seconds
    return max(used, row.phase_seconds.get("tasks", 0.0)) >= row.duration_seconds / 4


def _age(snapshot: StatusSnapshot, row: Measurement) -> float:
    return (snapshot.taken_at - row.recorded_at).total_seconds()

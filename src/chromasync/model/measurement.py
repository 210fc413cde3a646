"""What cycles and processes did and used, as `performance_metrics` has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chromasync.model.traffic import Traffic

ALL_PROCESSES = "*"
"""The beginning of the name in rows that cover all processes; no process has such a name."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process did and used in some time.

    Attributes:
        seconds: the time that it covers.
        records_read: records read from the primary by its tasks.
        records_written: records written or deleted on the replica by its tasks.
        phase_seconds: seconds by phase of a cycle; for other times, thread seconds by activity.
        memory_mb: the largest memory seen; None when unknown.
        memory_limit_mb: None without a limit.
        cpu_percent: the share of one processor; None when unknown.
    """

    seconds: float
    records_read: int = 0
    records_written: int = 0
    tasks_completed: int = 0
    tasks_failed: int = 0
    primary: Traffic = field(default_factory=Traffic)
    replica: Traffic = field(default_factory=Traffic)
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    memory_mb: float | None = None
    memory_limit_mb: float | None = None
    cpu_percent: float | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One row of `upgrade_recommendations`: what was recommended from `created_at` on, and why.

    `rules`: names of the rules that led to it. `measured`: what they were applied to, by name.
    """

    current_phase: str
    recommended_phase: str
    reason: str
    estimated_monthly_cost: str | None = None
    rules: tuple[str, ...] = ()
    measured: Mapping[str, float | str | None] = field(default_factory=dict)
    created_at: datetime | None = None

    def says_the_same(self, other: Recommendation) -> bool:
        """Whether both recommend the same for the same reasons, whatever was measured."""
        mine = (self.current_phase, self.recommended_phase, self.rules)
        return mine == (other.current_phase, other.recommended_phase, other.rules)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One row of `performance_metrics`: a cycle, or some time of one process or of all.

    Counts, bytes and waiting times are sums; they are 0 in rows of older programs.

    Attributes:
        recorded_at: the end of the time that the row covers.
        cycle_id: the cycle; for processes the newest one that had closed, 0 for none.
        process_name: None for a cycle. A name that begins with ALL_PROCESSES stands for all
            processes together.
        span_seconds: time of processes; larger than the duration if the row covers several.
        duration_seconds: the time that the row covers; a rate is a count divided by it.
        bytes_read: bytes of the primary's answers.
        bytes_written: bytes of requests to the replica.
        primary_requests: for a cycle, the requests of the process that led it, like all that
            follows up to the phases. The rows of processes have the others.
        refused_requests: answers of either side that asked to slow down.
        primary_seconds: seconds that threads waited for answers of the primary.
        replica_seconds: seconds that threads waited for answers of the replica.
        throttled_seconds: seconds that threads waited before they might send.
        phase_seconds: seconds by phase of a cycle; for processes, thread seconds by activity.
        lag_seconds: the lag at `recorded_at`, the largest of several; None when unknown.
        memory_mb: the memory of the process that was nearest to its limit.
        memory_limit_mb: the limit of that process; None without a limit.
        cpu_percent: the share of one processor, on average over the processes.
        active_workers: processes; for a cycle, those that were active at its end.
        primary_count: records on the primary at the end of the newest closed cycle.
    """

    recorded_at: datetime
    cycle_id: int = 0
    process_name: str | None = None
    span_seconds: float = 0.0
    duration_seconds: float = 0.0
    records_read: int = 0
    records_written: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    primary_requests: int = 0
    replica_requests: int = 0
    refused_requests: int = 0
    primary_seconds: float = 0.0
    replica_seconds: float = 0.0
    throttled_seconds: float = 0.0
    phase_seconds: Mapping[str, float] = field(default_factory=dict)
    lag_seconds: float | None = None
    memory_mb: float | None = None
    memory_limit_mb: float | None = None
    cpu_percent: float | None = None
    active_workers: int = 0
    primary_count: int = 0
    tasks_completed: int = 0
    tasks_failed: int = 0

    @property
    def is_cycle(self) -> bool:
        """Whether the row is one of a cycle."""
        return self.process_name is None

    @property
    def memory_share(self) -> float | None:
        """The used share of the memory limit; None without a limit or before the first beat."""
        if not self.memory_limit_mb or self.memory_mb is None:
            return None
        return self.memory_mb / self.memory_limit_mb

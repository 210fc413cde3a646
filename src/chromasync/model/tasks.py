"""Cycles, their tasks, and the workers that do the tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from chromasync.model.deployment import MarkRow
from chromasync.model.ledger import Chunk, Mirror, Quarantined


@dataclass(frozen=True, slots=True)
class Term:
    """One period of leadership: `number` rises with each change of holder."""

    holder: str
    number: int


class CycleStatus(StrEnum):
    """State of a cycle."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class OpCounts:
    """Counts of records: read from the primary, and by operation on the replica."""

    read: int = 0
    inserted: int = 0
    updated: int = 0
    replaced: int = 0
    deleted: int = 0
    drifted: int = 0
    quarantined: int = 0

    @property
    def applied(self) -> int:
        """Records written or deleted on the replica."""
        return self.inserted + self.updated + self.replaced + self.deleted

    def __add__(self, other: OpCounts) -> OpCounts:
        return OpCounts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Cycle:
    """One full pass, numbered; `counts` includes its tasks and its deletes.

    `exit_code` is that of the error that ended it early; None if none did.
    """

    id: int
    started_at: datetime
    status: CycleStatus = CycleStatus.RUNNING
    finished_at: datetime | None = None
    counts: OpCounts = OpCounts()
    error: str | None = None
    exit_code: int | None = None


MAX_RETRIES = 5
"""A task with more retries than this fails, and its chunk waits until it is planned anew."""


class TaskStatus(StrEnum):
    """State of a task, as published."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class NewTask:
    """A chunk to reconcile, as the plan adds it to the queue.

    `hold_foreign`: records that others wrote on the replica are reported, not overwritten.
    `record_ids`: the records to reconcile; None for all of the chunk.
    """

    collection_id: str
    collection_name: str
    chunk_id: int
    start_offset: int
    end_offset: int
    check_replica: bool = False
    hold_foreign: bool = False
    record_ids: tuple[str, ...] | None = None

    @property
    def record_count(self) -> int:
        """Records to read."""
        whole = self.end_offset - self.start_offset
        return whole if self.record_ids is None else len(self.record_ids)


@dataclass(frozen=True, slots=True)
class Task:
    """A claimed task; `fence` rises with each claim and guards every write about it.

    `record_ids`: the records to reconcile; None for all of the chunk.
    """

    id: int
    fence: int
    collection_id: str
    collection_name: str
    chunk_id: int
    check_replica: bool
    retry_count: int
    claimed_at: datetime
    cycle_id: int = 0
    hold_foreign: bool = False
    record_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TaskInput:
    """The ledger's facts that a worker needs for a task, as of one instant.

    Attributes:
        chunk: None if it was forgotten meanwhile.
        mirror: None if it was forgotten meanwhile.
        quarantined: the quarantined records of the collection.
        mark: the mark of the collection's database; None if there is none.
    """

    chunk: Chunk | None
    mirror: Mirror | None
    quarantined: list[Quarantined]
    mark: MarkRow | None = None


@dataclass(frozen=True, slots=True)
class ChunkResult:
    """The result of reconciling one chunk: its new ledger entry and all else to record.

    `chunk` still lists the ids in `gone`; they leave it when their deletion is done. Records in
    `foreign` were written by others on the replica, and left as they are. `asked` has the records
    that were read, None for all. The result says nothing about the others, which stay unchanged.
    """

    chunk: Chunk
    gone: list[str]
    quarantined: list[Quarantined]
    counts: OpCounts
    foreign: list[str] = field(default_factory=list)
    asked: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """The number of a cycle's tasks by state."""

    pending: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0

    @property
    def live(self) -> int:
        """Tasks that are not finished yet."""
        return self.pending + self.processing

    @property
    def total(self) -> int:
        """All tasks."""
        return self.live + self.completed + self.failed


SILENT_SECONDS = 60.0
"""A worker without a heartbeat for so long counts as dead; leases alone decide about its tasks."""


class WorkerStatus(StrEnum):
    """State of a worker, as published."""

    ACTIVE = "active"
    DRAINING = "draining"
    STOPPED = "stopped"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class WorkerBeat:
    """A worker's heartbeat; memory and CPU are those of its own process.

    `memory_limit_mb` is None without a limit. `tasks_done` counts since the process began.
    `throttle_reason` is None while the process sends as many requests as it can.
    """

    worker_id: str
    status: WorkerStatus
    current_task_id: int | None
    memory_mb: float
    cpu_percent: float
    hostname: str
    pid: int
    version: str
    last_heartbeat_at: datetime | None = None
    role: str = ""
    threads: int = 0
    tasks_done: int = 0
    memory_limit_mb: float | None = None
    throttle_reason: str | None = None

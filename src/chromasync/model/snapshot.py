"""What the store knows at one instant, for those who show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from chromasync.model.control import ControlRow
from chromasync.model.direction import Direction
from chromasync.model.holds import Hold
from chromasync.model.ledger import Mirror, Quarantined, Suspicion
from chromasync.model.tasks import Cycle, OpCounts, TaskCounts, WorkerBeat, WorkerStatus


@dataclass(frozen=True, slots=True)
class ChunkCounts:
    """The chunks of a collection, each in one of four states.

    Attributes:
        clean: read whole, and nothing is in doubt.
        unread: never read whole.
        recheck: records changed, so they are read once more.
        suspect: the ledger may be wrong about the replica.
        oldest_read_at: the oldest instant before which a chunk was read whole; None if unknown.
    """

    clean: int = 0
    unread: int = 0
    recheck: int = 0
    suspect: int = 0
    oldest_read_at: datetime | None = None

    @property
    def total(self) -> int:
        """All chunks."""
        return self.clean + self.unread + self.recheck + self.suspect


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """One view of the store: what others commit meanwhile is in all of it or in none of it.

    Attributes:
        taken_at: the store's own time; no instant that it gave before is later.
        mirrors: all, by tenant, database and name.
        holds: all, oldest first.
        quarantined: all, by collection and age.
        suspicions: the suspect chunks, by collection id.
        live_trials: the self-tests that live.
        workers: all, the latest heartbeat first; silent ones are dead.
        cycles: the newest ones, newest first, as many as were asked for.
        counts: what the tasks of the counted cycle did, by collection id.
        tasks: its tasks by state.
        clean_at: when the newest completed cycle began, however long ago; None without one.
        read_seconds: how long reading all its chunks once takes, by collection id.
        chunks: the chunks by state, by collection id.
        control: the pause in force and the requested cycles.
        direction: whether the replica follows, or was promoted.
    """

    taken_at: datetime
    mirrors: tuple[Mirror, ...]
    holds: tuple[Hold, ...]
    quarantined: tuple[Quarantined, ...]
    suspicions: Mapping[str, Suspicion]
    live_trials: frozenset[str]
    workers: tuple[WorkerBeat, ...]
    cycles: tuple[Cycle, ...]
    counts: Mapping[str, OpCounts]
    tasks: TaskCounts
    clean_at: datetime | None
    read_seconds: Mapping[str, float]
    chunks: Mapping[str, ChunkCounts] = field(default_factory=dict)
    control: ControlRow = field(default_factory=ControlRow)
    direction: Direction = field(default_factory=Direction)

    @property
    def active_workers(self) -> int:
        """How many processes are at work."""
        return sum(worker.status is WorkerStatus.ACTIVE for worker in self.workers)

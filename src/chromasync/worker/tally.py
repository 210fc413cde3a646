"""Counts the work of this process: its tasks, their records, and the time of its threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

from chromasync.model import Durations, OpCounts


@dataclass(frozen=True, slots=True)
class Work:
    """Work since the process began; the difference of two is the work between them.

    `busy_seconds`: time that threads spent on tasks; several threads work at the same time.
    """

    tasks_done: int = 0
    tasks_failed: int = 0
    records_read: int = 0
    records_written: int = 0
    busy_seconds: float = 0.0

    def __sub__(self, other: Work) -> Work:
        return Work(*(getattr(self, name) - getattr(other, name) for name in self.__slots__))


class Tally:
    """The counts of one process; safe to use from many threads."""

    def __init__(self) -> None:
        self._work = Work()
        self._durations = Durations()
        self._leases_lost = 0
        self._lock = threading.Lock()

    @property
    def work(self) -> Work:
        """All work so far."""
        with self._lock:
            return self._work

    @property
    def durations(self) -> Durations:
        """How long the tasks took, whatever their outcome."""
        return self._durations

    @property
    def leases_lost(self) -> int:
        """Tasks that were put down because their lease was lost."""
        return self._leases_lost

    def note_done(self, counts: OpCounts) -> None:
        """Count a task that was completed, with its records."""
        self._add(tasks_done=1, records_read=counts.read, records_written=counts.applied)

    def note_failed(self) -> None:
        """Count a task that failed."""
        self._add(tasks_failed=1)

    def note_busy(self, seconds: float) -> None:
        """Count the time that a thread spent on a task, whatever its outcome."""
        self._add(busy_seconds=seconds)
        with self._lock:
            self._durations = self._durations.with_one(seconds)

    def note_lost(self) -> None:
        """Count a task whose lease was lost."""
        with self._lock:
            self._leases_lost += 1

    def _add(self, **more: float) -> None:
        with self._lock:
            sums = {name: getattr(self._work, name) + count for name, count in more.items()}
            self._work = replace(self._work, **sums)

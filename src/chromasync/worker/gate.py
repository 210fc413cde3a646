"""Admission of tasks: first attempts run side by side, and a retried task runs alone.

A chunk may kill its process, for example because it needs too much memory. Then every task of that
process is charged with a retry. From the second attempt on, each of these tasks runs alone. So only
the lethal chunk kills the process again, and only that chunk is charged until it fails for good.

No thread waits here while it holds a task: if the running task killed the process, the waiting task
would be charged, too. So a task that cannot run at once is handed back. If it is a retried task,
the gate makes a reservation for it. While there is a reservation, no task is claimed beside others.
So the running tasks end, and then tasks run one at a time, oldest first, until the reserved task
has its turn or another process has it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from chromasync.model import Task


class Gate:
    """Admits tasks, or turns them away."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._alone = False
        self._reserved_for: int | None = None
        self._closed = False

    @property
    def free(self) -> bool:
        """Whether a task may be claimed beside others: no retried task runs or is reserved for."""
        with self._lock:
            return not self._alone and self._reserved_for is None

    def close(self) -> None:
        """Admit no further task."""
        with self._lock:
            self._closed = True

    def found_none(self) -> None:
        """No task is available: another process has the reserved one. Drop the reservation."""
        with self._lock:
            self._drop_reservation()

    @contextmanager
    def passing(self, task: Task) -> Iterator[bool]:
        """Admit a task until the end of the block; False if it cannot run at once."""
        entered = self._enter(task, alone=task.retry_count > 0)
        try:
            yield entered
        finally:
            if entered:
                self._leave()

    def _enter(self, task: Task, *, alone: bool) -> bool:
        with self._lock:
            if self._closed or self._alone:
                return False
            if alone and self._running:
                self._reserved_for = task.id
                return False
            # Tasks arrive oldest first. An id at or past the reserved one means that its turn has
            # come, or that another process has it.
            if self._reserved_for is not None and task.id >= self._reserved_for:
                self._drop_reservation()
            self._running += 1
            self._alone = alone
            return True

    def _drop_reservation(self) -> None:
        # While other tasks run, this claim may be older than the reservation, so it proves nothing.
        if not self._running:
            self._reserved_for = None

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            self._alone = False

"""The recorder thread of a process: once a minute it records what the process did and used.

A row has the difference of two readings of this process's counts. If the store is away, the next
row covers that minute, too. It has the number of the row that failed and replaces it, in case only
the answer was lost. So each second is counted once. No other thread waits for the recorder.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Protocol

import psutil

from chromasync.errors import ChromasyncError
from chromasync.events import Event
from chromasync.lease import monotonic
from chromasync.model import Traffic, Usage
from chromasync.ports import Reader, Store
from chromasync.processes import ended_among
from chromasync.repeated import Repeated
from chromasync.worker.tally import Tally, Work

ROW_SECONDS = 60.0
SAMPLE_SECONDS = 5.0
THIN_ROWS = 30
"""A process merges old rows once in so many of its own, about every half hour."""
PATIENCE_SECONDS = 5.0
"""The end of the process waits no longer for a row that is being written."""
SHORTEST_SECONDS = 5.0
"""A process that ends records its last seconds only if there are so many."""


class Resources(Protocol):
    """Where the memory and the processor time of this process are read."""

    def memory_mb(self) -> float:
        """The memory of this process."""

    def cpu_seconds(self) -> float:
        """The processor time of this process so far."""


class OwnResources:
    """The resources of this process, as the operating system tells them."""

    def __init__(self) -> None:
        self._process = psutil.Process()

    def memory_mb(self) -> float:
        """The resident memory."""
        return float(self._process.memory_info().rss / 1e6)

    def cpu_seconds(self) -> float:
        """The processor time of all threads so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The counts of this process at one instant."""

    at: float
    work: Work
    primary: Traffic
    replica: Traffic
    cpu_seconds: float


class Recorder:
    """Records the usage of this process until it is stopped.

    Args:
        store: the state store.
        name: this process, see `heartbeat.process_name`.
        primary, replica: servers whose requests are counted.
        tally: the work of the pool.
        memory_limit_mb: None without a limit.
        resources: where memory and processor time are read.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        *,
        primary: Reader,
        replica: Reader,
        tally: Tally,
        memory_limit_mb: float | None = None,
        resources: Resources | None = None,
    ) -> None:
        self._store = store
        self._name = name
        self._servers = primary, replica
        self._tally = tally
        self._memory_limit_mb = memory_limit_mb
        self._resources = resources or OwnResources()
        self._peak_mb = 0.0
        self._row = 0
        self._thin_at_row = random.randrange(THIN_ROWS)  # noqa: S311 (not all at once)
        self._last = self._read()
        self._outcome = Repeated(Event.NOT_MEASURED, "records of performance")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to count, and start the thread."""
        self._last = self._read()
        self._thread.start()

    def ended_threads(self) -> tuple[str, ...]:
        """The name of the thread if it has ended although nobody stopped it."""
        return () if self._stop.is_set() else ended_among([self._thread])

    def stop(self) -> None:
        """End the thread, and record the last seconds; does nothing if it was never started."""
        if self._thread.ident is None or self._stop.is_set():
            return
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)
        if self._thread.is_alive():
            return
        if monotonic() - self._last.at >= SHORTEST_SECONDS:
            self._try(self._store.urgent())

    def record(self, store: Store) -> None:
        """Record everything since the last row; raises StoreError, and then counts on."""
        self.sample()
        now = self._read()
        store.record_usage(self._name, self._row, self._usage(now))
        self._last, self._peak_mb = now, 0.0
        self._row += 1
        if self._row % THIN_ROWS == self._thin_at_row:
            store.thin_measurements()

    def sample(self) -> None:
        """Look at the memory, which is recorded with its peak."""
        self._peak_mb = max(self._peak_mb, self._resources.memory_mb())

    def _run(self) -> None:
        due = monotonic() + ROW_SECONDS
        while not self._stop.wait(SAMPLE_SECONDS):
            self.sample()
            if monotonic() >= due:
                self._try(self._store)
                due = monotonic() + ROW_SECONDS

    def _try(self, store: Store) -> None:
        try:
            self.record(store)
        except ChromasyncError as error:
            self._outcome.failed(str(error))
        else:
            self._outcome.succeeded()

    def _read(self) -> _Reading:
        primary, replica = (server.traffic() for server in self._servers)
        cpu = self._resources.cpu_seconds()
        return _Reading(monotonic(), self._tally.work, primary, replica, cpu)

    def _usage(self, now: _Reading) -> Usage:
        last, work = self._last, now.work - self._last.work
        seconds = now.at - last.at
        return Usage(
            seconds=seconds,
            records_read=work.records_read,
            records_written=work.records_written,
            tasks_completed=work.tasks_done,
            tasks_failed=work.tasks_failed,
            primary=now.primary - last.primary,
            replica=now.replica - last.replica,
            phase_seconds={"tasks": work.busy_seconds},
            memory_mb=self._peak_mb,
            memory_limit_mb=self._memory_limit_mb,
            cpu_percent=100 * (now.cpu_seconds - last.cpu_seconds) / max(seconds, 1e-3),
        )

"""The role of this process: who plans, who works, and the rhythm of cycles.

Single: leader and workers in one process. It leads for as long as it runs, so no other process may
hold tasks: what an earlier process left behind is taken back at once.
"""

from __future__ import annotations

import threading
import time
from typing import Self

import structlog

from chromasync.config import Settings
from chromasync.cycle.coordinator import Coordinator, Pairs
from chromasync.errors import ChromasyncError, Retry, Stopped
from chromasync.lease import Lead
from chromasync.model import Task
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.reconcile.chunk import ChunkReconciler, Pair
from chromasync.reports import CycleReport
from chromasync.worker import WorkerPool, process_name

LEAD_SECONDS = 30.0
RETRY_SECONDS = 5.0
"""First wait after a cycle that could not reach a server; doubles up to the interval."""

log = structlog.get_logger()


class SingleRole:
    """One process that does everything; a context manager.

    Args:
        stop: set by someone else when this process shall end.

    Raises (on entering):
        AnotherInstance: another process leads on this store.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Writer,
        store: Store,
        settings: Settings,
        stop: threading.Event | None = None,
    ) -> None:
        self._stop = stop or threading.Event()
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._pairs: Pairs = {}

    def __enter__(self) -> Self:
        name = process_name()
        self._lead = Lead(self._store, name, LEAD_SECONDS)
        led = self._store.led_by(self._lead.term)
        led.cancel_tasks("the process that planned it ended")
        self._pool = WorkerPool(
            self._store,
            ChunkReconciler(self._primary, self._replica),
            self._find_pair,
            name=name,
            threads=self._settings.sync_workers,
            lease_seconds=self._settings.sync_lease_seconds,
            memory_mb=self._settings.sync_max_memory_mb,
        )
        self._coordinator = Coordinator(
            self._primary,
            self._replica,
            self._store,
            self._settings,
            lead=self._lead,
            pool=self._pool,
            pairs=self._pairs,
            stop=self._stop,
        )
        self._pool.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.stop()
        self._lead.give_up()

    def _find_pair(self, task: Task) -> Pair | None:
        return self._pairs.get(task.collection_id)

    def run_cycle(self, progress: Progress, *, full: bool = False) -> CycleReport:
        """One cycle; see `Coordinator.run_cycle`."""
        return self._coordinator.run_cycle(progress, full=full)

    def run(self, progress: Progress) -> None:
        """Cycles, one each SYNC_INTERVAL, until `stop` is set.

        An error that a repetition may mend is retried sooner; any other ends the service.
        """
        wait = RETRY_SECONDS
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                report = self.run_cycle(progress)
                log.info("cycle closed", outcome=report.outcome, cycle=report.cycle.id)
                wait, pause = RETRY_SECONDS, self._settings.sync_interval
            except Stopped:
                return
            except ChromasyncError as error:
                if error.retry is not Retry.TRANSIENT:
                    raise
                log.warning("cycle failed", reason=str(error), retry_in_seconds=wait)
                pause, wait = wait, min(2 * wait, self._settings.sync_interval)
            self._stop.wait(max(0.0, began + pause - time.monotonic()))

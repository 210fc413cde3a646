"""Workers: threads that claim tasks, reconcile their chunks and record the outcome.

The workers of a process live as long as its role. Between cycles they wait for `wake`; while tasks
are there they claim a few at a time, oldest first.

What an error means for a task: a lost lease leaves it to its new owner, or hands it back when
nobody has taken it; an unreachable server or store hands it back unharmed and pauses the worker;
anything that a repetition cannot mend fails it with its reason at once; anything unforeseen is
retried with backoff, then fails. A chunk whose task was broken off is suspect.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import structlog

from chromasync import __version__, faultpoints
from chromasync.errors import ChromasyncError, DamagedChunk, LeaseLost, Retry
from chromasync.lease import Lease, LeaseKeeper, monotonic
from chromasync.model import Task, WorkerBeat, WorkerStatus
from chromasync.ports import Store
from chromasync.reconcile.chunk import ChunkReconciler, Pair

MAX_RETRIES = 5
CLAIM_SIZE = 1
IDLE_SECONDS = 1.0
BEAT_SECONDS = 15.0
MEMORY_SHARE = 0.85

log = structlog.get_logger()

FindPair = Callable[[Task], Pair | None]
"""The two collections of a task, or None when its mirror is gone."""


def process_name() -> str:
    """A name for this process that no other process ever has: host:pid:start:random."""
    started = psutil.Process().create_time()
    return f"{socket.gethostname()}:{os.getpid()}:{started}:{uuid.uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why tasks were handed back: a server or the store cannot be reached."""

    error: ChromasyncError


class WorkerPool:
    """The worker threads of this process.

    Args:
        store: the state store.
        reconciler: does the work of one task.
        find_pair: the collections of a task.
        name: this process, see `process_name`.
        threads: how many tasks at a time.
        lease_seconds: see `lease`.
        memory_mb: with this much memory nearly used, only one thread works; None for no limit.
    """

    def __init__(
        self,
        store: Store,
        reconciler: ChunkReconciler,
        find_pair: FindPair,
        *,
        name: str,
        threads: int,
        lease_seconds: float,
        memory_mb: int | None = None,
    ) -> None:
        self._store = store
        self._memory_bytes = math.inf if memory_mb is None else memory_mb * 1e6 * MEMORY_SHARE
        self._reconciler = reconciler
        self._find_pair = find_pair
        self._lease_seconds = lease_seconds
        self._keeper = LeaseKeeper(store, lease_seconds)
        self._wake = threading.Condition()
        self._stopping = False
        self._ended = threading.Event()
        self.progressed = threading.Event()
        self.trouble: Trouble | None = None
        self.name = name
        self._process = psutil.Process()
        self._busy: dict[str, int | None] = {}
        self._threads = [
            threading.Thread(target=self._run, args=(f"{name}/{n}",), name=f"worker-{n}")
            for n in range(threads)
        ]
        self._beater = threading.Thread(target=self._beat_on, name="beater", daemon=True)

    def start(self) -> None:
        """Start the threads."""
        self._process.cpu_percent()
        self._keeper.start()
        for thread in self._threads:
            thread.start()
        self.beat()
        self._beater.start()

    def stop(self) -> None:
        """Drain: finish the tasks at hand, claim no more, and end the threads; once is enough."""
        if self._ended.is_set():
            return
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()
        self._ended.set()
        self._beater.join()
        self._keeper.stop()
        self.beat(WorkerStatus.STOPPED)

    def wake(self) -> None:
        """Tell idle threads that there may be tasks."""
        with self._wake:
            self.trouble = None
            self._wake.notify_all()

    @property
    def alive(self) -> bool:
        """Whether every thread is still running."""
        return all(thread.is_alive() for thread in self._threads)

    def beat(self, status: WorkerStatus = WorkerStatus.ACTIVE) -> None:
        """Write this process's proof of life, with its own memory and CPU."""
        self._store.beat(
            WorkerBeat(
                worker_id=self.name,
                status=status,
                current_task_id=next((i for i in list(self._busy.values()) if i), None),
                memory_mb=self._process.memory_info().rss / 1e6,
                cpu_percent=self._process.cpu_percent(),
                hostname=socket.gethostname(),
                pid=os.getpid(),
                version=__version__,
            )
        )

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                self.beat()
            except ChromasyncError as error:
                log.warning("no proof of life", reason=str(error))

    def _run(self, worker_id: str) -> None:
        while not self._stopping:
            try:
                worked = (
                    self.trouble is None and self._begin(worker_id) and self._work_once(worker_id)
                )
            except ChromasyncError as error:
                self._note_trouble(error)
                worked = False
            if not worked:
                with self._wake:
                    if not self._stopping:
                        self._wake.wait(IDLE_SECONDS)

    def _begin(self, worker_id: str) -> bool:
        """Take a place at work if memory allows it; with none at work, one always may begin."""
        with self._wake:
            if self._busy and self._process.memory_info().rss >= self._memory_bytes:
                return False
            self._busy[worker_id] = None
            return True

    def _work_once(self, worker_id: str) -> bool:
        """Claim and do tasks, then give the place up; whether there were any."""
        try:
            asked_at = monotonic()
            tasks = self._store.claim_tasks(self.name, CLAIM_SIZE, self._lease_seconds)
            for task in tasks:
                self._busy[worker_id] = task.id
                self._do(task, self._keeper.hold(task, asked_at))
            return bool(tasks)
        finally:
            self._busy.pop(worker_id, None)

    def _do(self, task: Task, lease: Lease) -> None:
        try:
            faultpoints.reach(faultpoints.AFTER_CLAIM)
            self._reconcile(task, lease)
        except LeaseLost as error:
            log.warning("lease lost", task=task.id, reason=error.what)
            self._distrust(task)
            self._store.release_tasks([task])
        except DamagedChunk as error:
            self._store.fail_task(task, str(error), max_retries=0)
            self._store.forget_chunks(task.collection_id)
        except ChromasyncError as error:
            self._distrust(task)
            if error.retry is Retry.TRANSIENT:
                self._store.release_tasks([task])
                self._note_trouble(error)
            else:
                self._store.fail_task(task, str(error), max_retries=0)
        except Exception as error:
            log.exception("task failed unexpectedly", task=task.id)
            words = f"unexpected {type(error).__name__}: {error}"
            self._distrust(task)
            self._store.fail_task(task, words, max_retries=MAX_RETRIES)
        finally:
            self._keeper.let_go(task)
            self.progressed.set()

    def _distrust(self, task: Task) -> None:
        """What a broken-off attempt wrote to the replica, nobody knows."""
        self._store.distrust(task.collection_id, [task.chunk_id])

    def _reconcile(self, task: Task, lease: Lease) -> None:
        chunk = self._store.load_chunk(task.chunk_id)
        pair = self._find_pair(task)
        if chunk is None or pair is None:
            self._store.fail_task(task, "its chunk is no longer in the ledger", max_retries=0)
            return
        known = self._store.quarantined(task.collection_id)
        set_aside = {record.record_id: record for record in known}
        result = self._reconciler.reconcile(pair, chunk, task, lease.check, set_aside)
        if not self._store.complete_task(task, result):
            log.warning("completion refused", task=task.id, reason="another worker owns the task")
        faultpoints.reach(faultpoints.AFTER_COMPLETE)

    def _note_trouble(self, error: ChromasyncError) -> None:
        self.trouble = Trouble(error)
        self.progressed.set()
        log.warning("paused", reason=str(error))

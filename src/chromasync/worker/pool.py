"""The worker threads of this process: they claim tasks, attempt them, and finally drain.

The pool lives as long as the process's role. Each thread claims one task at a time, oldest first.
Threads claim no tasks in advance. So every held task is being worked on, and when a process dies,
only such tasks are charged with a retry. If no task is available, the threads look again about
twice a second, or as soon as `wake` is called.

Recall: when a cycle ends early, the threads put their tasks down before the next write. So no task
of the cycle is held in this process when the cycle is closed.

Pause: while someone has paused the service, the threads claim nothing. They put their tasks down
before the next request.

Backoff: when a server or the store cannot be reached, no thread claims for some time, longer each
time, until a task succeeds or `wake` is called.

Drain: the threads claim no more. They may finish their tasks within `DRAIN_SECONDS`. Then their
leases are taken away, so that they put the tasks down before the next write. Tasks of threads that
still wait for a server are handed back by the thread that drains.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType

from chromasync.errors import ChromasyncError, StoreError
from chromasync.events import Event
from chromasync.lease import LeaseKeeper, monotonic
from chromasync.logs import get_logger
from chromasync.marks import MarkKeeper
from chromasync.memory import Memory
from chromasync.model import Task, WorkerBeat
from chromasync.ports import Reconciler, Store
from chromasync.processes import ended_among
from chromasync.repeated import Repeated
from chromasync.steering import Steering
from chromasync.worker.attempt import Attempts
from chromasync.worker.gate import Gate
from chromasync.worker.heartbeat import Heartbeat
from chromasync.worker.state import State
from chromasync.worker.tally import Tally
from chromasync.worker.throttle import Pacings, reason_of, share_among_active

IDLE_SECONDS = 0.5
POLL_SECONDS = 0.05
RECALL_SECONDS = 5.0
DRAIN_SECONDS = 18.0
PUT_DOWN_SECONDS = 3.0

log = get_logger()


class WorkerPool:
    """The worker threads of this process.

    Args:
        store: the state store.
        reconciler: does the work of one task.
        name: this process, see `heartbeat.process_name`.
        threads: the number of tasks at a time; with 0, it only sends heartbeats and rescues.
        lease_seconds: see `lease`.
        marks: writes a cycle's mark before the first write; None where no marks are kept.
        steering: what operators asked of this process.
        pacings: the pace of this process's requests, by side.
        memory_mb: when most of this memory is used, only one thread works; None for no limit.
        role: the role of this process, for its heartbeats.

    Attributes:
        tally: the work of the threads so far.
        progressed: set whenever a task ended or an error made the pool back off.
    """

    def __init__(
        self,
        store: Store,
        reconciler: Reconciler,
        *,
        name: str,
        threads: int,
        lease_seconds: float,
        memory_mb: int | None = None,
        marks: MarkKeeper | None = None,
        role: str = "",
        steering: Steering | None = None,
        pacings: Pacings = MappingProxyType({}),
    ) -> None:
        self._pacings = pacings
        self.tally = Tally()
        self._role = role
        self._memory_mb = memory_mb
        self._store = store
        self._steering = steering or Steering()
        self._memory = Memory(memory_mb, threads)
        self._state = State()
        self._lease_seconds = lease_seconds
        self._keeper = LeaseKeeper(store.urgent(), lease_seconds, self._steering.check)
        self._heartbeat = Heartbeat(
            store, name, self._state.task_at_hand, self._state.notify, self._complete_beat
        )
        self._abandoned = threading.Event()
        self._store_calls = Repeated(Event.BACKING_OFF, "the state store")
        self._server_calls = Repeated(Event.BACKING_OFF, "the servers")
        self._attempts = Attempts(
            store,
            reconciler,
            self._note_trouble,
            self._abandoned,
            answered=self._server_calls.succeeded,
            marks=marks,
            tally=self.tally,
        )
        self._watched = False
        self._gate = Gate()
        self._threads = [
            threading.Thread(target=self._run, args=(n,), name=f"worker-{n}", daemon=True)
            for n in range(threads)
        ]
        self.progressed = threading.Event()
        self.name = name

    def start(self) -> None:
        """Start the threads; raises StoreError when the store cannot be reached."""
        self._heartbeat.start()
        self._keeper.start()
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """End the backoff, and wake idle threads, because there may be tasks."""
        self._state.recover()
        self._state.notify()

    @property
    def trouble(self) -> ChromasyncError | None:
        """The last error that made the pool back off; None when it has recovered.

        The pool recovers when a task succeeds or `wake` is called.
        """
        return self._state.trouble

    @property
    def alive(self) -> bool:
        """Whether every thread is still running."""
        return all(thread.is_alive() for thread in self._threads)

    def ended_threads(self) -> tuple[str, ...]:
        """Names of threads that have ended although the pool is not stopping."""
        threads = (*self._threads, self._heartbeat.thread, self._keeper.thread)
        return () if self._state.stopping else ended_among(threads)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Do not log trouble during the block: the cycle in it reports `trouble` itself."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False

    @contextmanager
    def recalled(self) -> Iterator[None]:
        """Put the held tasks down, at most RECALL_SECONDS long, and claim none in the block."""
        self._state.recall(recalled=True)
        try:
            deadline = time.monotonic() + RECALL_SECONDS
            self._lose_leases()
            while self._state.is_busy and time.monotonic() < deadline:
                self.progressed.wait(POLL_SECONDS)
                self.progressed.clear()
                self._lose_leases()  # a claim that was under way may have brought one more
            yield
        finally:
            self._state.recall(recalled=False)

    def drain(self) -> None:
        """Claim no more, finish or put down the held tasks, and end the threads; idempotent."""
        if not self._state.stop():
            return
        self._gate.close()
        if not self._joined(0.0):
            self._heartbeat.drain()
        if not self._joined(DRAIN_SECONDS):
            self._lose_leases()
            self._joined(PUT_DOWN_SECONDS)
        self._abandoned.set()
        if not self._joined(1.0):
            self._hand_back()
        self._keeper.stop()
        self._heartbeat.stop()

    # ---- one thread -------------------------------------------------------------------------

    def _run(self, number: int) -> None:
        claim = _new_claim()
        while not self._state.stopping:
            worked = False
            try:
                if not self._steering.is_paused and self._state.begin(number, self._may_join):
                    worked = self._work_once(number, claim)
                    claim = _new_claim()
            except ChromasyncError as error:
                # the claim keeps its number: if its answer was lost, the next gets the same task
                self._note_trouble(error)
            if not worked:
                self._idle()

    def _may_join(self) -> bool:
        """Whether a task may be claimed beside others."""
        return self._gate.free and self._memory.may_join

    def _work_once(self, number: int, claim: int) -> bool:
        """Claim and do one task, then stop being busy; returns whether a task was done."""
        try:
            asked_at = monotonic()
            task = self._store.claim_task(self.name, self._lease_seconds, claim)
            self._store_calls.succeeded()
            if task is None:
                self._gate.found_none()
                return False
            self._state.has_claimed(number, task.id)
            return self._do(task, asked_at)
        finally:
            self._state.end(number)

    def _do(self, task: Task, asked_at: float) -> bool:
        """Do a task, or hand it back if the gate turns it away; returns whether it was done."""
        lease = self._keeper.hold(task, asked_at)
        began = monotonic()
        try:
            with self._gate.passing(task) as passed:
                # a claim that was under way may have brought a task into a pause
                entered = passed and not self._steering.is_paused
                if not entered:
                    self._attempts.hand_back(task)
                elif self._attempts.make(task, lease):
                    self._state.recover()
            if entered and task.retry_count:
                self._state.notify()  # threads that could not begin while this task ran alone
            return entered
        finally:
            self._keeper.let_go(lease)
            self.tally.note_busy(monotonic() - began)
            self.progressed.set()

    def _idle(self) -> None:
        self._state.idle(IDLE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 (spread)

    # ---- all threads ------------------------------------------------------------------------

    def _complete_beat(self, beat: WorkerBeat) -> WorkerBeat:
        """A heartbeat with all that the pool knows about this process."""
        share_among_active(self._pacings, self._store)
        return replace(
            beat,
            role=self._role,
            threads=len(self._threads),
            tasks_done=self.tally.work.tasks_done,
            memory_limit_mb=self._memory_mb,
            throttle_reason=reason_of(self._pacings),
        )

    def _note_trouble(self, error: ChromasyncError) -> None:
        """Let every thread back off; within `watched`, the reason is logged as debug only."""
        if self._watched:
            log.debug(Event.BACKING_OFF, reason=str(error))
        else:
            calls = self._store_calls if isinstance(error, StoreError) else self._server_calls
            calls.failed(str(error))
        self._state.back_off(error)
        self.progressed.set()

    def _joined(self, seconds: float) -> bool:
        """Wait for the threads; returns whether all have ended."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _lose_leases(self) -> None:
        for lease in self._keeper.held():
            lease.lose()

    def _hand_back(self) -> None:
        for lease in self._keeper.held():
            log.warning(Event.HANDED_BACK, task=lease.task.id)
            lease.lose()
            try:
                self._attempts.put_down(lease)
            except ChromasyncError as error:
                log.warning(Event.NOT_HANDED_BACK, reason=str(error))


def _new_claim() -> int:
    return random.getrandbits(63)

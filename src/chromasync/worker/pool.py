"""The worker threads of this process: claim, attempt, and, in the end, drain.

The pool lives as long as the process's role. While tasks are there, each thread claims one at a
time, oldest first; nothing is claimed ahead, so a task that is held is a task that is worked on,
and only such tasks are charged when a process dies. When there are none, the threads look again
twice a second or so, or as soon as `wake` tells them.

Recalling: when a cycle ends early, its tasks are put down before their next write, so that the
cycle's end finds nothing in anyone's hands here.

Backing off: when a server or the store cannot be reached, no thread claims for a while, longer each
time, until a task succeeds or `wake` is called.

Draining: no more claims; the tasks at hand may be finished for `DRAIN_SECONDS`; then their leases
are taken away, so that they are put down before the next write; what hangs in a server even then is
handed back from outside.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import structlog

from chromasync.errors import ChromasyncError, StoreError
from chromasync.events import Event
from chromasync.lease import LeaseKeeper, monotonic
from chromasync.marks import MarkKeeper
from chromasync.model import Task
from chromasync.ports import Reconciler, Store
from chromasync.repeated import Repeated
from chromasync.worker.attempt import Attempts
from chromasync.worker.gate import Gate
from chromasync.worker.heartbeat import Heartbeat
from chromasync.worker.state import State

IDLE_SECONDS = 0.5
POLL_SECONDS = 0.05
RECALL_SECONDS = 5.0
DRAIN_SECONDS = 18.0
PUT_DOWN_SECONDS = 3.0
MEMORY_SHARE = 0.85

log = structlog.get_logger()


class WorkerPool:
    """The worker threads of this process.

    Args:
        store: the state store.
        reconciler: does the work of one task.
        name: this process, see `heartbeat.process_name`.
        threads: how many tasks at a time; with none, it only beats and rescues.
        lease_seconds: see `lease`.
        marks: writes a cycle's mark before the first write; None where no marks are kept.
        memory_mb: with this much memory nearly used, only one thread works; None for no limit.

    Attributes:
        progressed: set whenever a task ended or trouble came.
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
    ) -> None:
        self._store = store
        self._memory_bytes = math.inf if memory_mb is None else memory_mb * 1e6 * MEMORY_SHARE
        self._process = psutil.Process()
        self._state = State()
        self._lease_seconds = lease_seconds
        self._keeper = LeaseKeeper(store.urgent(), lease_seconds)
        self._heartbeat = Heartbeat(store, name, self._state.task_at_hand, self._state.notify)
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
        """Tell threads that idle or back off that there may be tasks."""
        self._state.recover()
        self._state.notify()

    @property
    def trouble(self) -> ChromasyncError | None:
        """Why tasks were handed back last: a server or the store cannot be reached.

        It is gone when a task succeeds again, or `wake` is called.
        """
        return self._state.trouble

    @property
    def alive(self) -> bool:
        """Whether every thread is still running."""
        return all(thread.is_alive() for thread in self._threads)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Leave it to the block to tell of trouble: a cycle ends with what it finds there."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False

    @contextmanager
    def recalled(self) -> Iterator[None]:
        """Let the tasks at hand be put down, wait for that a while, and claim none in the block."""
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
        """Finish or put down the tasks at hand, claim no more, end the threads; once is enough."""
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
                if self._state.begin(number, self._may_join):
                    worked = self._work_once(number, claim)
                    claim = _new_claim()
            except ChromasyncError as error:
                # the claim keeps its number: if only its answer was lost, it is given again
                self._note_trouble(error)
            if not worked:
                self._idle()

    def _may_join(self) -> bool:
        """Whether a task may be claimed beside others."""
        return self._gate.free and bool(self._process.memory_info().rss < self._memory_bytes)

    def _work_once(self, number: int, claim: int) -> bool:
        """Claim and do one task, then give the place up; whether there was one to be done."""
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
        """Do a task, or hand it back where the gate turns it away; whether it was done."""
        lease = self._keeper.hold(task, asked_at)
        try:
            with self._gate.passing(task) as entered:
                if not entered:
                    self._attempts.hand_back(task)
                elif self._attempts.make(task, lease):
                    self._state.recover()
            if entered and task.retry_count:
                self._state.notify()  # those that it kept out
            return entered
        finally:
            self._keeper.let_go(lease)
            self.progressed.set()

    def _idle(self) -> None:
        self._state.idle(IDLE_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 (spread)

    # ---- all threads ------------------------------------------------------------------------

    def _note_trouble(self, error: ChromasyncError) -> None:
        """Let every thread back off; `watched` says whose line has the reason."""
        if self._watched:
            log.debug(Event.BACKING_OFF, reason=str(error))
        else:
            calls = self._store_calls if isinstance(error, StoreError) else self._server_calls
            calls.failed(str(error))
        self._state.back_off(error)
        self.progressed.set()

    def _joined(self, seconds: float) -> bool:
        """Wait for the threads; whether all have ended."""
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

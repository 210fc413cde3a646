"""Leases: the right to write for a task, for a limited time, renewed on a thread of its own.

A claim gives a lease of L seconds in the store, and a fencing token (the *fence*). A lease ends in
two ways:

* In the store, at `lease_expires_at`. After that any worker may rescue the task, which raises its
  fence. The old holder's completion then matches no row and changes nothing.
* In this process, at the *local expiry* on the monotonic clock. It is counted from before the
  claim was sent, so it is never later than the store's. The fence protects the store, but not
  Chroma. So every write first calls `Lease.check`: it allows no write to begin in the last quarter
  of the lease, and returns the seconds that are left for the request.

Invariant: no request of a task is in progress when its lease ends in the store. A renewal moves
the local expiry only after the store confirmed it. A renewal that fails or comes late only ends
work early. A task that makes no progress for `STALL_LEASES` leases is not renewed any more, so a
hanging thread does not keep its chunk from others.

One case is left: a process may freeze between the check and the first byte of its request. When it
resumes, its completion is refused or its next check fails. It then reports its chunk as suspect,
and the next cycle compares both sides, whatever the new owner found.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

from chromasync.errors import AnotherInstance, LeaseLost, ReplicaPromoted, StoreError
from chromasync.events import Event
from chromasync.model import Task
from chromasync.ports import Control, Queue
from chromasync.repeated import Repeated

MARGIN_SHARE = 0.25
"""Last part of the lease, in which no write may begin."""

RENEWALS_PER_LEASE = 3
RETRIES_PER_LEASE = 20
"""Number of retries of a failed renewal during one lease."""

STALL_LEASES = 5
"""A task without progress for so many leases is not renewed."""

_clock = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Seconds on a clock that also runs while the machine is suspended."""
    return time.clock_gettime(_clock) if _clock is not None else time.monotonic()


def _go_on() -> None:
    """Interrupt nothing."""


class Lease:
    """The right to write for one task until it expires (on `monotonic`).

    Args:
        interrupt: called by each check; raises when the task is to be put down.
    """

    def __init__(
        self,
        task: Task,
        asked_at: float,
        lease_seconds: float,
        interrupt: Callable[[], None] = _go_on,
    ) -> None:
        self.task = task
        self._interrupt = interrupt
        self._seconds = lease_seconds
        self._lost = False
        self._wrote = False
        self._expires_at = asked_at + lease_seconds
        self._progress_at = monotonic()

    def extend(self, asked_at: float) -> None:
        """The store confirmed a renewal that was asked for at `asked_at`."""
        self._expires_at = asked_at + self._seconds

    def lose(self) -> None:
        """Note that another worker owns the task now, or that the task must be interrupted."""
        self._lost = True

    def note_write(self) -> None:
        """Note that a write follows; called before `check`, so that every write is noted."""
        self._wrote = True

    @property
    def wrote(self) -> bool:
        """Whether the replica may hold writes of this task that are not in the ledger."""
        return self._wrote

    @property
    def stalled(self) -> bool:
        """Whether the task made no progress for too long."""
        return monotonic() - self._progress_at > STALL_LEASES * self._seconds

    def check(self) -> float:
        """The seconds that a request may take now; the call counts as progress.

        Raises:
            LeaseLost: no request may begin any more.
            Paused: someone paused the service.
        """
        self._interrupt()
        now = monotonic()
        left = self._expires_at - now
        if self._lost or left <= self._seconds * MARGIN_SHARE:
            raise LeaseLost(
                f"The lease of task {self.task.id} expired before the work was done.",
                untouched="Nothing more is written for it.",
                hint="Another worker takes the task over.",
            )
        self._progress_at = now
        return left


class Renewing:
    """A daemon thread that calls `renew` a few times per `seconds`, and sooner after a failure."""

    def __init__(self, name: str, seconds: float, renew: Callable[[], bool]) -> None:
        self._seconds = seconds
        self._renew = renew
        self._renewals = Repeated(Event.RENEWAL_FAILED, name)
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; the first call comes after a third of the time."""
        self.thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self.thread.ident is not None:
            self.thread.join()

    def _run(self) -> None:
        wait = self._seconds / RENEWALS_PER_LEASE
        while not self._stop.wait(wait):
            try:
                if not self._renew():
                    return
                self._renewals.succeeded()
                wait = self._seconds / RENEWALS_PER_LEASE
            except StoreError as error:
                self._renewals.failed(str(error), renewal=self.thread.name)
                wait = self._seconds / RETRIES_PER_LEASE


class LeaseKeeper:
    """Renews the leases that this process holds, on a thread that does nothing else.

    Args:
        interrupt: see `Lease`.
    """

    def __init__(
        self, queue: Queue, lease_seconds: float, interrupt: Callable[[], None] = _go_on
    ) -> None:
        self._queue = queue
        self._interrupt = interrupt
        self._lease_seconds = lease_seconds
        self._held: dict[int, Lease] = {}
        self._lock = threading.Lock()
        self._renewing = Renewing("lease-keeper", lease_seconds, self.renew)

    def start(self) -> None:
        """Begin to renew."""
        self._renewing.start()

    def stop(self) -> None:
        """Stop renewing; leases still held expire."""
        self._renewing.stop()

    @property
    def thread(self) -> threading.Thread:
        """The thread that renews."""
        return self._renewing.thread

    def hold(self, task: Task, asked_at: float) -> Lease:
        """Keep the lease of a task that was claimed by a call made at `asked_at`."""
        lease = Lease(task, asked_at, self._lease_seconds, self._interrupt)
        with self._lock:
            self._held[task.id] = lease
        return lease

    def let_go(self, lease: Lease) -> None:
        """Stop renewing this lease; a newer lease of the same task in another thread stays."""
        task_id = lease.task.id
        with self._lock:
            if self._held.get(task_id) is lease:
                del self._held[task_id]

    def held(self) -> list[Lease]:
        """The leases that this process holds now."""
        with self._lock:
            return list(self._held.values())

    def renew(self) -> bool:
        """Renew all held leases once; leases that the store does not confirm are lost."""
        held = {lease.task.id: lease for lease in self.held() if not lease.stalled}
        if held:
            asked_at = monotonic()
            tasks = [lease.task for lease in held.values()]
            kept = self._queue.renew_tasks(tasks, self._lease_seconds)
            for task_id, lease in held.items():
                if task_id in kept:
                    lease.extend(asked_at)
                else:
                    lease.lose()
        return True


class Lead:
    """Leadership of this process: a lease row with a term, renewed on a thread of its own.

    `term` guards the leader's writes to the store; `check` guards its writes to the replica.

    Args:
        control: the store, for urgent calls (`Store.urgent`).
        holder: this process, see `heartbeat.process_name`.
        ttl_seconds: a leader that is silent for so long is replaced.

    Raises:
        AnotherInstance: another process leads.
    """

    def __init__(self, control: Control, holder: str, ttl_seconds: float) -> None:
        self._control = control
        self._ttl_seconds = ttl_seconds
        asked_at = monotonic()
        term = control.take_lead(holder, ttl_seconds)
        if term is None:
            raise AnotherInstance(
                "Another chromasync process leads on this state store.",
                untouched="This process changed nothing.",
                hint="Stop the other process, or wait until it has ended.",
            )
        self.term = term
        self._expires_at = asked_at + ttl_seconds
        self._renewing = Renewing("lead-keeper", ttl_seconds, self._renew)

    def start(self) -> Self:
        """Begin to renew."""
        self._renewing.start()
        return self

    @property
    def holds(self) -> bool:
        """Whether this process certainly leads."""
        return self._left() > self._ttl_seconds * MARGIN_SHARE

    def check(self) -> float:
        """The seconds that a request may take now.

        Raises:
            LeaseLost: this process does not certainly lead any more.
        """
        if not self.holds:
            raise LeaseLost(
                "This process no longer leads.",
                untouched="The current cycle ends; nothing more is written for it.",
                hint="The new leader goes on.",
            )
        return self._left()

    def give_up(self) -> None:
        """Stop renewing, and let another process lead at once."""
        self._renewing.stop()
        self._expires_at = 0.0
        self._control.give_up_lead(self.term)

    def _left(self) -> float:
        return self._expires_at - monotonic()

    def _renew(self) -> bool:
        asked_at = monotonic()
        try:
            renewed = self._control.take_lead(self.term.holder, self._ttl_seconds)
        except ReplicaPromoted:
            renewed = None
        if renewed != self.term:
            self._expires_at = 0.0
            return False
        self._expires_at = asked_at + self._ttl_seconds
        return True

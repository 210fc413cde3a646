"""Leases: the right to write for a task, for a limited time, renewed on a thread of its own.

A claim gives a lease of L seconds in the store and a fence number. Two different things end it:

* In the store, `lease_expires_at`: afterwards any worker may rescue the task, which raises its
  fence, so the old holder's completion matches no row and changes nothing.
* Here, a *local deadline* on the monotonic clock, counted from before the claim was sent and
  shortened by a margin: the fence protects the record, not Chroma, so `Lease.check` refuses to
  write once the deadline has passed, whatever the network did meanwhile.

Invariant: local deadline + longest request ≤ the store's expiry. Renewal moves the deadline only
after the store confirmed it. A renewal that fails or comes late only ends work early.
"""

from __future__ import annotations

import threading
import time

import structlog

from chromasync.errors import AnotherInstance, LeaseLost, StoreError
from chromasync.model import Task
from chromasync.ports import Control, Queue

MARGIN_SHARE = 0.25
"""Part of the lease at its end in which no write begins any more."""

RENEWALS_PER_LEASE = 3

_clock = getattr(time, "CLOCK_BOOTTIME", None)
log = structlog.get_logger()


def monotonic() -> float:
    """Seconds on a clock that also counts while the machine is suspended."""
    return time.clock_gettime(_clock) if _clock is not None else time.monotonic()


class Lease:
    """The right to write for one task until `deadline` (on `monotonic`)."""

    def __init__(self, task: Task, asked_at: float, lease_seconds: float) -> None:
        self.task = task
        self._lost = False
        self._deadline = 0.0
        self.extend(asked_at, lease_seconds)

    def extend(self, asked_at: float, lease_seconds: float) -> None:
        """The store confirmed a lease that was asked for at `asked_at`."""
        self._deadline = asked_at + lease_seconds * (1 - MARGIN_SHARE)

    def lose(self) -> None:
        """The store says that someone else owns the task now."""
        self._lost = True

    def check(self) -> None:
        """Raise LeaseLost unless writing is still allowed."""
        if self._lost or monotonic() >= self._deadline:
            raise LeaseLost(
                f"The lease of task {self.task.id} ran out before the work was done.",
                untouched="What it had not written yet stays unwritten.",
                hint="Another worker takes the task over.",
            )


class LeaseKeeper:
    """Renews the leases that this process holds, on a thread that does nothing else."""

    def __init__(self, queue: Queue, lease_seconds: float) -> None:
        self._queue = queue
        self._lease_seconds = lease_seconds
        self._held: dict[int, Lease] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def start(self) -> None:
        """Begin to renew."""
        self._thread.start()

    def stop(self) -> None:
        """Stop renewing; leases still held run out."""
        self._stop.set()
        self._thread.join()

    def hold(self, task: Task, asked_at: float) -> Lease:
        """Keep the lease of a task that was claimed by a call made at `asked_at`."""
        lease = Lease(task, asked_at, self._lease_seconds)
        with self._lock:
            self._held[task.id] = lease
        return lease

    def let_go(self, task: Task) -> None:
        """Renew the task's lease no longer."""
        with self._lock:
            self._held.pop(task.id, None)

    def renew(self) -> None:
        """Renew all leases held, once; those that the store does not confirm are lost."""
        with self._lock:
            held = dict(self._held)
        if not held:
            return
        asked_at = monotonic()
        kept = self._queue.renew_tasks([x.task for x in held.values()], self._lease_seconds)
        for task_id, lease in held.items():
            if task_id in kept:
                lease.extend(asked_at, self._lease_seconds)
            else:
                lease.lose()

    def _run(self) -> None:
        while not self._stop.wait(self._lease_seconds / RENEWALS_PER_LEASE):
            try:
                self.renew()
            except StoreError as error:
                log.warning("lease renewal failed", reason=str(error))


class Lead:
    """Leadership of this process: a lease row with a term, renewed on a thread of its own.

    `term` guards what the leader writes to the store; `check` what it writes to the replica.

    Args:
        holder: this process, see `worker.process_name`.
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
                untouched="This one changed nothing.",
                hint="Stop the other one, or wait until it is done.",
            )
        self.term = term
        self._deadline = asked_at + ttl_seconds * (1 - MARGIN_SHARE)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lead-keeper", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise LeaseLost unless this process surely still leads."""
        if monotonic() >= self._deadline:
            raise LeaseLost(
                "This process no longer leads.",
                untouched="The cycle at hand ends here; nothing more is written for it.",
                hint="The process that leads now goes on.",
            )

    def give_up(self) -> None:
        """Stop renewing, and let another process lead at once."""
        self._stop.set()
        self._thread.join()
        self._control.give_up_lead(self.term)

    def _run(self) -> None:
        while not self._stop.wait(self._ttl_seconds / RENEWALS_PER_LEASE):
            asked_at = monotonic()
            try:
                renewed = self._control.take_lead(self.term.holder, self._ttl_seconds)
            except StoreError as error:
                log.warning("renewing the lead failed", reason=str(error))
                continue
            if renewed != self.term:
                self._deadline = 0.0
                return
            self._deadline = asked_at + self._ttl_seconds * (1 - MARGIN_SHARE)

"""The role of this process: whether it plans, whether it works, and when cycles run.

All roles run the same program; they differ in two points only.

    role          plans                                   works
    single        must lead; ends if another one leads    yes
    coordinator   leads, or stands by and takes over      yes, unless switched off
    worker        never                                   yes

Every process obeys a pause (`steering`): it sends no request and claims no task until it ends. A
leader keeps its lead meanwhile. Someone may also ask the leader for a cycle at any time.

Leadership is a lease row with a term. A leader that is silent for SYNC_LEAD_SECONDS is replaced.
Each term begins with calling back the tasks of earlier terms: their chunks are planned again from
the ledger, and chunks whose task was still held are suspect until they have been compared. A
process may therefore change its role at any time, even with tasks in progress.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Self

from chromasync.config import Role, Settings
from chromasync.cycle.clock import CycleClock
from chromasync.cycle.coordinator import Coordinator
from chromasync.cycle.tell import CycleTeller, Figures
from chromasync.cycle.turn import turn_if_asked
from chromasync.errors import (
    AnotherInstance,
    ChromasyncError,
    LeaseLost,
    Paused,
    ReplicaPromoted,
    Retry,
    ServerError,
    ServerUnreachable,
    SettingsError,
    Stopped,
    StoreError,
)
from chromasync.events import Event
from chromasync.lease import Lead
from chromasync.logs import get_logger
from chromasync.marks import MarkKeeper
from chromasync.memory import Memory
from chromasync.model import Duty, Side, Vitals
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.reconcile.chunk import ChunkReconciler
from chromasync.reports import CycleReport
from chromasync.steering import NAP_SECONDS, Steering, Watch
from chromasync.worker.heartbeat import process_name
from chromasync.worker.pool import WorkerPool
from chromasync.worker.recorder import Recorder

STANDBYS_PER_LEAD = 10
"""Number of attempts of a waiting process to take the lead, within the time of one lead."""

PATIENT_LEADS = 1.2
"""Longest wait of the service for an abandoned lead, as a multiple of the lead's time."""
RETRY_SECONDS = 5.0
"""First pause after a failed cycle; it doubles up to the interval."""

log = get_logger()


class Participant:
    """This process in its role; a context manager that starts and drains its workers.

    Args:
        stop: an event that the caller sets to end this process.
        leads_at_once: take the lead on entering, before any thread starts.
        patience_seconds: longest wait for the lead then; a killed leader keeps it for a while.
        steering: what operators asked of this process; the servers ask it before each request.

    Raises (on entering):
        AnotherInstance: `leads_at_once`, and another process leads on this store.
        Stopped: `stop` was set while it waited for the lead.
        StoreError: the store cannot be used.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Writer,
        store: Store,
        settings: Settings,
        stop: threading.Event | None = None,
        *,
        leads_at_once: bool = True,
        patience_seconds: float = 0.0,
        steering: Steering | None = None,
    ) -> None:
        self._steering = steering or Steering()
        self._watch = Watch(store.urgent(), self._steering)
        self._stop = stop or threading.Event()
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._leads_at_once = leads_at_once
        self._patience_seconds = patience_seconds
        self._name = process_name()
        self._lead: Lead | None = None
        self._marks = MarkKeeper(replica)
        self._clock = CycleClock()
        self._coordinator: Coordinator | None = None
        self._started = False
        self._teller = CycleTeller()
        self._pool = WorkerPool(
            store,
            ChunkReconciler(
                primary, replica, Memory(settings.sync_max_memory_mb, settings.worker_threads)
            ),
            name=self._name,
            threads=settings.worker_threads,
            lease_seconds=settings.sync_lease_seconds,
            memory_mb=settings.sync_max_memory_mb,
            marks=self._marks if settings.sync_mark else None,
            role=settings.role.value,
            steering=self._steering,
            pacings={Side.PRIMARY: primary.pacing, Side.REPLICA: replica.pacing},
        )
        self._recorder = Recorder(
            store,
            self._name,
            primary=primary,
            replica=replica,
            tally=self._pool.tally,
            memory_limit_mb=settings.sync_max_memory_mb,
        )

    @property
    def name(self) -> str:
        """The unique name of this process, see `heartbeat.process_name`."""
        return self._name

    def __enter__(self) -> Self:
        if self._leads_at_once:
            # a service goes on although the replica was promoted, or the direction cannot be turned
            # yet because a server is away; each cycle raises that again
            with suppress(ReplicaPromoted, ServerUnreachable):
                self._wait_for_lead()
        self._watch.start()
        self._pool.start()
        self._recorder.start()
        self._started = True
        return self

    def __exit__(self, *_: object) -> None:
        with self._primary.pacing.hurried(), self._replica.pacing.hurried():
            self._pool.drain()
        self._recorder.stop()
        self._watch.stop()
        if self._lead is not None:
            self._marks.release(self._name, self._lead.check)
        self._give_up_lead()

    def run_cycle(
        self,
        progress: Progress,
        *,
        full: bool = False,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport:
        """One cycle; see `Coordinator.run_cycle`.

        Raises:
            AnotherInstance: another process leads.
            Paused: someone paused the service.
        """
        self._coordinator = None
        self._steering.check()
        lead = self._take_lead()
        self._coordinator = Coordinator(
            self._primary,
            self._replica,
            self._store,
            self._settings,
            lead=lead,
            pool=self._pool,
            stop=self._stop,
            marks=self._marks,
            clock=self._clock,
            steering=self._steering,
        )
        return self._coordinator.run_cycle(progress, full=full, adopt=adopt, rebuild=rebuild)

    def vitals(self) -> Vitals:
        """What this process knows about itself; may be called from any thread."""
        tally = self._pool.tally
        parts = (self._pool, self._watch, self._recorder)
        ended = tuple(name for part in parts for name in part.ended_threads())
        return Vitals(self._duty(), ended, tally.durations, tally.leases_lost)

    def _duty(self) -> Duty:
        lead = self._lead
        if self._stop.is_set():
            return Duty.ENDING
        if not self._started:
            return Duty.STARTING
        if lead is not None and lead.holds:
            return Duty.LEADING
        return Duty.WORKING if self._settings.role is Role.WORKER else Duty.WAITING

    def serve(self, progress: Progress) -> None:
        """Work until `stop` is set; in the roles that plan, run a cycle each SYNC_INTERVAL.

        A refusal by a server in the first cycle means a wrong setting and ends the process. After
        a closed cycle, a refusing server is waited for like an unreachable one.

        Raises:
            ChromasyncError: an error that a repetition cannot fix.
        """
        log.info(Event.STARTED, role=self._settings.role.value, worker=self._name)
        if self._settings.role is Role.WORKER:
            self._stop.wait()
            return
        rhythm = _Rhythm(self._settings.sync_interval)
        while not self._stop.is_set():
            try:
                self._wait_out_pause()
                self._serve_once(progress, rhythm)
            except Stopped:
                return
            except AnotherInstance:
                if self._settings.role is Role.SINGLE:
                    raise
                self._stand_by()

    def _serve_once(self, progress: Progress, rhythm: _Rhythm) -> None:
        """One cycle, its log line, and the pause after it."""
        began = time.monotonic()
        try:
            report = self.run_cycle(progress)
        except Stopped as error:
            self._teller.stopped(error, self._figures())
            raise
        except Paused as error:
            self._teller.stopped(error, self._figures())
            return
        except LeaseLost as error:
            self._teller.failed(error, self._figures())
            self._give_up_lead()
            return
        except ChromasyncError as error:
            if not rhythm.outlasts(error):
                self._teller.gave_up(self._figures())
                raise
            pause = rhythm.after_failure()
            self._teller.failed(error, self._figures(), retry_in_seconds=pause)
        else:
            self._teller.closed(report)
            pause = rhythm.after_success()
        self._rest(began + pause)

    def _rest(self, due: float) -> None:
        """Wait until the next cycle is due, or someone asks for one."""
        while (left := due - time.monotonic()) > 0 and not self._steering.has_request:
            if self._stop.wait(min(left, NAP_SECONDS)):
                return

    def _wait_out_pause(self) -> None:
        while self._steering.is_paused and not self._stop.wait(NAP_SECONDS):
            pass

    def _figures(self) -> Figures | None:
        """The figures of the cycle that ended early; None when none could begin."""
        return None if self._coordinator is None else self._coordinator.figures

    def _wait_for_lead(self) -> None:
        deadline = time.monotonic() + self._patience_seconds
        waits = False
        while True:
            try:
                self._take_lead()
            except AnotherInstance:
                if self._stop.is_set():
                    raise Stopped("It was asked to stop while it waited for the lead.") from None
                if time.monotonic() >= deadline:
                    raise
                if not waits:
                    log.info(Event.WAITS_FOR_LEAD)
                waits = True
                self._stand_by()
            else:
                return

    def _stand_by(self) -> None:
        """Wait for a random time before the next attempt to take the lead."""
        pause = self._settings.sync_lead_seconds / STANDBYS_PER_LEAD
        self._stop.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 (no secret)

    # ---- leadership -------------------------------------------------------------------------

    def _take_lead(self) -> Lead:
        """The lead, newly taken or still held; a new term calls back tasks of earlier terms."""
        if self._lead is not None and self._lead.holds:
            return self._lead
        self._give_up_lead()
        turn_if_asked(self._primary, self._replica, self._store, self._settings)
        seconds = self._settings.sync_lead_seconds
        self._lead = lead = Lead(self._store.urgent(), self._name, seconds).start()
        try:
            # tasks of this process for the former leader are interrupted, not called back
            with self._pool.recalled():
                led = self._store.led_by(lead.term)
                called_back = led.cancel_tasks("the process that planned it ended")
        except BaseException:
            self._give_up_lead()
            raise
        log.info(Event.LEADS, term=lead.term.number, called_back=called_back)
        return lead

    def _give_up_lead(self) -> None:
        lead, self._lead = self._lead, None
        if lead is not None:
            try:
                lead.give_up()
            except StoreError as error:
                log.warning(Event.LEAD_NOT_GIVEN_UP, reason=str(error))


class _Rhythm:
    """The time from the start of a cycle to the start of the next, in seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._retry = RETRY_SECONDS
        self._has_closed = False

    def outlasts(self, error: ChromasyncError) -> bool:
        """Whether another cycle follows this error."""
        passing = error.retry is Retry.TRANSIENT
        return passing or (self._has_closed and isinstance(error, ServerError))

    def after_success(self) -> float:
        """The interval."""
        self._has_closed = True
        self._retry = RETRY_SECONDS
        return self._interval

    def after_failure(self) -> float:
        """A pause that is shorter than the interval at first, and grows with each failure."""
        pause, self._retry = self._retry, min(2 * self._retry, self._interval)
        return min(pause, self._interval)


def refuse_to_plan(settings: Settings) -> None:
    """Raise SettingsError when this process is a worker, because workers do not plan."""
    if settings.role is Role.WORKER:
        raise SettingsError(
            "SYNC_DISTRIBUTED=true without SYNC_COORDINATOR=true makes this process a worker, "
            "and a worker does not plan cycles.",
            untouched="Nothing was started.",
            hint="Run it in a process with SYNC_COORDINATOR=true, or set SYNC_DISTRIBUTED=false.",
        )

"""Asks the process that leads for a cycle, shows its progress, and reports it from the store.

The request and the answer go through the store, so the service may run on another machine. The
report is that of the newest cycle that has ended: it began after the request, like the cycle that
served it.
"""

from __future__ import annotations

import threading

from chromasync.config import Settings
from chromasync.errors import AnotherInstance, Stopped
from chromasync.model import Cycle, CycleStatus, Term
from chromasync.ports import Progress, Store
from chromasync.processes import host_and_pid
from chromasync.reports import CycleReport
from chromasync.status import stored_report
from chromasync.steering import paused_error

LOOK_SECONDS = 0.25
"""Pause between two looks at the store."""

CYCLES_LOOKED_AT = 20
MOST_REPORT_TRIES = 40
"""Looks for an instant at which no cycle runs; cycles may follow each other without a pause."""


class WantedCycle:
    """A cycle that another process runs for this one.

    Args:
        stop: set when the caller gives up.
    """

    def __init__(
        self, store: Store, settings: Settings, progress: Progress, stop: threading.Event
    ) -> None:
        self._store = store
        self._settings = settings
        self._progress = progress
        self._stop = stop
        self._shown: tuple[int, int] = (-1, 0)

    def run(self, leader: Term, who: str, *, full: bool) -> CycleReport | None:
        """Ask for a cycle that begins from now on, and wait for its end.

        Args:
            leader: the process that leads, for a note.
            who: who asks, as `user@host`.
            full: read everything on both sides.

        Returns:
            Its report; None when nobody leads any more.

        Raises:
            Paused: someone paused the service.
            Stopped: `stop` was set.
            StoreError: the store cannot be reached.
        """
        host, pid = host_and_pid(leader.holder)
        self._progress.note(f"The process {pid} on {host} leads; it was asked for a cycle.")
        while True:
            cycle = self._begun(self._store.want_cycle(who, full=full))
            ended = None if cycle is None else self._ended(cycle)
            if ended is None:
                self._progress.note("The process that led has ended, and nobody leads now.")
                return None
            if ended.status is not CycleStatus.ABANDONED:
                return self._report(ended)
            self._look()
            self._progress.note(f"Cycle {ended.id} ended early: {ended.error} It is asked again.")

    def _begun(self, number: int) -> int | None:
        """The cycle that began for this request; None when nobody leads any more."""
        self._progress.start("waiting for the cycle to begin", None)
        while True:
            row = self._store.control()
            if row.begun_number >= number and row.begun_cycle is not None:
                return row.begun_cycle
            if self._store.leader() is None:
                return None
            self._look()

    def _ended(self, cycle_id: int) -> Cycle | None:
        """The cycle when it has ended; None when nobody leads any more."""
        while True:
            recent = self._store.cycles(CYCLES_LOOKED_AT)
            cycle = next((c for c in recent if c.id == cycle_id), recent[0])
            if cycle.status is not CycleStatus.RUNNING:
                return cycle
            if self._store.leader() is None:
                return None
            self._show(cycle_id)
            self._look()

    def _show(self, cycle_id: int) -> None:
        counts = self._store.task_counts(cycle_id)
        done = counts.completed + counts.failed
        total, shown = self._shown
        if counts.total != total:
            walking = not counts.total
            activity = "walking" if walking else "reconciling"
            self._progress.start(f"{activity} (cycle {cycle_id})", counts.total or None)
            shown = 0
        if done > shown:
            self._progress.advance(done - shown)
        self._shown = counts.total, done

    def _report(self, ended: Cycle) -> CycleReport:
        for _ in range(MOST_REPORT_TRIES):
            report = stored_report(self._store, self._settings, ended.id)
            if report is not None and report.cycle.status is not CycleStatus.ABANDONED:
                return report
            self._look()
        raise Stopped(
            f"Cycle {ended.id} has ended, but the next ones leave no time to report it.",
            hint="`chromasync status` shows the present state.",
        )

    def _look(self) -> None:
        """Wait for the next look; raises Paused or Stopped if there is none."""
        if self._stop.wait(LOOK_SECONDS):
            raise Stopped("The wait for the cycle was ended.")
        orders = self._store.orders()
        if orders.paused:
            raise paused_error(orders.row)


def no_own_cycle() -> AnotherInstance:
    """The error of a command that needs a cycle of its own while another process leads."""
    return AnotherInstance(
        "Another process leads on this state store, and its cycles neither adopt nor rebuild.",
        untouched="Nothing was changed.",
        hint="Stop it for --adopt or --rebuild. `chromasync approve` works beside it, and "
        "takes over a collection that is held, too.",
    )

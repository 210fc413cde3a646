"""Waits for states of the store: a leader, active workers, completed cycles."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from chromasync.errors import ChromasyncError, Retry
from chromasync.lease import monotonic
from chromasync.model import Cycle, CycleStatus, Mirror, MirrorStatus, WorkerBeat, WorkerStatus
from chromasync.ports import Store
from chromasync.worker.heartbeat import process_name

LOOK_SECONDS = 0.1
PROBE_SECONDS = 5.0
"""Time for which we hold the lead after a crash while we test for a leader."""
RECENT_SECONDS = 30.0
"""A process counts as gone after this time without a heartbeat: twice the usual pause."""
CYCLES_LOOKED_AT = 50
HELD = (MirrorStatus.HELD, MirrorStatus.DIVERGED, MirrorStatus.DOUBTFUL)
CLOSED = (CycleStatus.COMPLETED, CycleStatus.FAILED)

T = TypeVar("T")


class TimedOut(ChromasyncError):
    """The state that the self-test waited for did not come in time."""

    retry = Retry.TRANSIENT
    exit_code = 3


class Held(ChromasyncError):
    """A guard holds changes of the self-test."""


class Watch:
    """Polls the store until a condition is true.

    Args:
        store: the state store.
        check: called at each poll; raises an error that makes waiting pointless.
        seconds: time limit of all waiting together.
    """

    def __init__(self, store: Store, check: Callable[[], None], seconds: float) -> None:
        self._store = store
        self._check = check
        self._seconds = seconds
        self._deadline = monotonic() + seconds

    def until(self, true: Callable[[], T | None], what: str) -> T:
        """Wait until `true` returns a result, and return it.

        Raises:
            TimedOut: the time is over; `what` names the expected state.
        """
        while True:
            self._check()
            found = true()
            if found:
                return found
            if monotonic() > self._deadline:
                raise self._timed_out(what)
            time.sleep(LOOK_SECONDS)

    def until_active(self, pids: Collection[int]) -> None:
        """Wait until the processes with these ids have sent a heartbeat."""

        def all_active() -> bool:
            return {beat.pid for beat in active_workers(self._store)} >= set(pids)

        self.until(all_active, "the processes that it started showed no sign of life")

    def until_identical(self, collection_ids: Sequence[str], since_at: datetime) -> None:
        """Wait until cycles found these collections identical, all read after `since_at`.

        It also waits until the cycle is closed, which happens after the collections are recorded.
        """

        def identical() -> bool:
            mirrors = [self._store.mirror(key) for key in collection_ids]
            return all(self._is_identical(mirror, since_at) for mirror in mirrors)

        self.until(identical, "no cycle found the test's collections identical")
        running = {c.id for c in self._store.cycles(1) if c.status is CycleStatus.RUNNING}

        def closed() -> bool:
            newest = self._store.cycles(CYCLES_LOOKED_AT)
            return not any(c.id in running and c.status is CycleStatus.RUNNING for c in newest)

        self.until(closed, "the cycle that found the test's collections identical did not end")

    def _is_identical(self, mirror: Mirror | None, since_at: datetime) -> bool:
        if mirror is None or mirror.last_attempt_at is None or mirror.last_attempt_at < since_at:
            return False
        if mirror.status in HELD:
            self._refuse_hold(mirror)
        good = mirror.status in (MirrorStatus.IDENTICAL, MirrorStatus.LIMITED)
        return good and mirror.identical_as_of is not None and mirror.identical_as_of > since_at

    def _refuse_hold(self, mirror: Mirror) -> None:
        for hold in self._store.holds():
            if hold.collection_id == mirror.collection_id:
                raise Held(
                    f"{hold.count:,} records of {mirror.name} are held: {hold.reason}.",
                    hint="The test deletes a few records; SYNC_MAX_DELETE must allow this.",
                )

    def _timed_out(self, what: str) -> TimedOut:
        newest = next(iter(self._store.cycles(1)), None)
        said = "No cycle has run." if newest is None else _sentence(newest)
        return TimedOut(
            f"In {self._seconds:.0f} seconds, {what}.",
            hint=f"{said} --timeout gives it more time.",
        )


def someone_leads(store: Store, lead_seconds: float) -> bool:
    """Whether another process leads on the store and is alive.

    It waits for the lead of a dead process to expire, which takes `lead_seconds` at most.
    """
    name = process_name()
    deadline = monotonic() + lead_seconds + PROBE_SECONDS
    while True:
        term = store.take_lead(name, PROBE_SECONDS)
        if term is not None:
            store.give_up_lead(term)
            return False
        if active_workers(store) or monotonic() > deadline:
            return True
        time.sleep(LOOK_SECONDS)


def active_workers(store: Store) -> list[WorkerBeat]:
    """The active workers with a recent heartbeat, by process id."""
    earliest = store.now() - timedelta(seconds=RECENT_SECONDS)
    found = [
        beat
        for beat in store.workers()
        if beat.status is WorkerStatus.ACTIVE
        and beat.last_heartbeat_at is not None
        and beat.last_heartbeat_at > earliest
    ]
    return sorted(found, key=lambda beat: beat.pid)


def closed_cycles(store: Store, since_at: datetime) -> list[Cycle]:
    """The cycles that began after `since_at` and ended, oldest first.

    Failed cycles count, too: another collection than the test's may have caused the failure.
    """
    return [
        cycle
        for cycle in reversed(store.cycles(CYCLES_LOOKED_AT))
        if cycle.started_at > since_at and cycle.status in CLOSED
    ]


def seconds_of(cycle: Cycle) -> float:
    """The duration of a cycle."""
    if cycle.finished_at is None:
        return 0.0
    return (cycle.finished_at - cycle.started_at).total_seconds()


def _sentence(cycle: Cycle) -> str:
    reason = f": {cycle.error}" if cycle.error else "."
    return f"The newest cycle, {cycle.id}, is {cycle.status.value}{reason}"

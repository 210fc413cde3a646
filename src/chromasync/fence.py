"""A fence: waits until all that was written to the primary before now is verified on the replica.

A collection is verified when its *identical as of* is not before the instant of the call: then all
its ids were walked, and all its records were read on both sides, after that instant. A record that
others change meanwhile may be newer on the replica; it is not older than the call. Any cycle that
begins after the call finds the collections that the primary had at that time, and the second such
cycle drops those that it had lost. So cycles follow each other until all collections are verified,
or until something other than time is in the way. The first of them reads everything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from chromasync.errors import Stopped
from chromasync.model import MirrorStatus
from chromasync.ports import Progress
from chromasync.reports import (
    CollectionReport,
    CycleReport,
    FenceOutcome,
    FenceReport,
    StatusSnapshot,
    must_decide,
)

BETWEEN_SECONDS = 1.0
NAMES_SHOWN = 5
STUCK = {MirrorStatus.ERROR, MirrorStatus.UNANSWERING}

Cycles = Callable[[bool], CycleReport]
"""Runs one cycle, or has it run; full if the argument is True. Raises Stopped at the deadline."""


class Fence:
    """One fence.

    Args:
        asked_at: the instant of the call, by the store's clock.
        cycles: runs the cycles.
        look: the present status.
        stop: set at the deadline.
    """

    def __init__(
        self,
        asked_at: datetime,
        cycles: Cycles,
        look: Callable[[], StatusSnapshot],
        stop: threading.Event,
    ) -> None:
        self._asked_at = asked_at
        self._cycles = cycles
        self._look = look
        self._stop = stop
        self._began = time.monotonic()
        self._count = 0

    def wait(self, progress: Progress) -> FenceReport:
        """Wait for the fence.

        Raises:
            ChromasyncError: a cycle of this process ended early.
        """
        full = True
        while True:
            last = self._next_cycle(full)
            seen = self._look()
            verdict = self._judge(seen, last)
            if verdict is not None:
                return verdict
            if last is not None:
                full &= last.cycle.started_at < self._asked_at
                left = self._unverified(seen)
                progress.note(f"Another cycle follows: {_say_left(left)}")
            if self._stop.wait(BETWEEN_SECONDS):
                return self._timed_out()

    def _next_cycle(self, full: bool) -> CycleReport | None:  # noqa: FBT001 -- as `Cycles`
        """One more cycle; None if time ran out, or if the next ones left none to report it."""
        try:
            last = self._cycles(full)
        except Stopped:
            return None
        self._count += 1
        return last

    def _judge(self, seen: StatusSnapshot, last: CycleReport | None) -> FenceReport | None:
        """The report; None if another cycle may help."""
        if self._is_verified(seen):
            return self._report(seen, FenceOutcome.VERIFIED, "")
        left = self._unverified(seen)
        if must_decide(seen.holds):
            names = _names(h.collection_name for h in seen.holds)
            why = f"Someone must decide which side is right: {names}."
            return self._report(seen, FenceOutcome.UNDECIDED, why)
        if last is not None and last.cycle.error is not None:
            why = f"Cycle {last.cycle.id} failed: {last.cycle.error}"
            return self._report(seen, FenceOutcome.FAILED, why, last.cycle.exit_code)
        stuck = [c for c in left if c.status in STUCK]
        if stuck:
            why = f"{stuck[0].name} failed: {stuck[0].message}"
            return self._report(seen, FenceOutcome.FAILED, why)
        return self._obstacle(seen, left)

    def _obstacle(self, seen: StatusSnapshot, left: list[CollectionReport]) -> FenceReport | None:
        """The report if a hold or a quarantined record is in the way."""
        # what waits for a second cycle, or is approved, is done by the next one
        held = {
            h.collection_id
            for h in seen.holds
            if not h.unconfirmed and h.approved_digest != h.set_digest
        }
        waiting = [c for c in left if c.collection_id in held]
        if waiting:
            why = f"Held until someone approves it: {_names(c.name for c in waiting)}."
            return self._report(seen, FenceOutcome.HELD, why)
        limited = [c for c in left if c.status is MirrorStatus.LIMITED]
        if limited:
            why = _say_limited(limited)
            return self._report(seen, FenceOutcome.LIMITED, why)
        return None

    def _is_verified(self, seen: StatusSnapshot) -> bool:
        listed = seen.clean_at is not None and seen.clean_at >= self._asked_at
        return listed and not self._unverified(seen)

    def _unverified(self, seen: StatusSnapshot) -> list[CollectionReport]:
        return [
            c
            for c in seen.collections
            if c.identical_as_of is None or c.identical_as_of < self._asked_at
        ]

    def _timed_out(self) -> FenceReport:
        seen = self._look()
        why = f"The time ran out. {_say_left(self._unverified(seen))}"
        return self._report(seen, FenceOutcome.TIMED_OUT, why)

    def _report(
        self,
        seen: StatusSnapshot,
        outcome: FenceOutcome,
        reason: str,
        error_code: int | None = None,
    ) -> FenceReport:
        return FenceReport(
            asked_at=self._asked_at,
            outcome=outcome,
            reason=reason,
            collections=len(seen.collections),
            records=sum(c.primary_count for c in seen.collections),
            identical_as_of=seen.identical_as_of,
            cycles=self._count,
            duration_seconds=time.monotonic() - self._began,
            error_code=error_code,
        )


@contextmanager
def set_after(seconds: float | None, stop: threading.Event) -> Iterator[None]:
    """Set the event when the block has lasted for so many seconds; never if None."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, stop.set)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _say_limited(limited: list[CollectionReport]) -> str:
    quarantined = sum(c.quarantined for c in limited)
    names = _names(c.name for c in limited)
    if quarantined:
        records = "record is" if quarantined == 1 else "records are"
        return f"{quarantined:,} {records} quarantined, in: {names}."
    return f"The replica's server cannot store everything of: {names}."


def _say_left(left: list[CollectionReport]) -> str:
    if not left:
        return "No cycle that began after the call has been completed."
    noun = "collection is" if len(left) == 1 else "collections are"
    return f"{len(left):,} {noun} not verified: {_names(c.name for c in left)}."


def _names(names: Iterable[str]) -> str:
    listed = sorted(set(names))
    more = f" and {len(listed) - NAMES_SHOWN:,} more" if len(listed) > NAMES_SHOWN else ""
    return ", ".join(listed[:NAMES_SHOWN]) + more

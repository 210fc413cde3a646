"""Makes the replica the primary: a planned switchover, or a failover when the primary is dead.

    switchover   fence → nobody may write → compare every record → promoted
    failover             nobody may write                        → promoted

*Nobody may write* is `Store.begin_promotion`, and a wait until the last lease of a worker or leader
has ended. From then on no process of the store can write to the replica, whatever it was doing. The
comparison comes after that, so nothing but an application can make both sides differ.

The promotion is in the store before the mark is on the replica. If this process dies between any
two steps, nobody writes to the replica, and the same command goes on. The mark keeps out other
stores, and this store if it is restored from an older backup.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from chromasync import faultpoints
from chromasync.config import Settings
from chromasync.errors import GuardRefusal, ServerError, ServerUnreachable, Stopped
from chromasync.events import Event
from chromasync.failover_reports import PromotedCollection, PromoteOutcome, PromoteReport
from chromasync.marks import REFUSALS, Marks, say_refused
from chromasync.model import Direction, DirectionState
from chromasync.plan.mark import Mark
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.processes import machine_name
from chromasync.reports import FenceOutcome, FenceReport, StatusSnapshot, VerifyReport

MARGIN_SECONDS = 1.0
"""Waited beyond the last lease, because instants in the store are rounded."""

LOOK_SECONDS = 0.25
WRITE_SECONDS = 30.0
"""Time for the request that writes the mark."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Checks:
    """What a switchover does besides; the composition root provides it.

    Attributes:
        fence: waits until all that was written to the primary is verified on the replica.
        verify: compares both sides record by record.
    """

    fence: Callable[[], FenceReport]
    verify: Callable[[], VerifyReport]


class Promotion:
    """One run of `promote`.

    Args:
        look: the present status.
        checks: those of a switchover; None for a failover.
        anyway: promote in a failover although the primary answers.
        stop: set when the wait is to end.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Writer,
        store: Store,
        settings: Settings,
        *,
        look: Callable[[], StatusSnapshot],
        checks: Checks | None,
        anyway: bool,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._look = look
        self._checks = checks
        self._anyway = anyway
        self._progress = progress
        self._stop = stop
        self._began = time.monotonic()
        self._waited = 0.0

    def run(self, who: str) -> PromoteReport:
        """Promote the replica.

        Args:
            who: who promotes, as `user@host`.

        Raises:
            GuardRefusal: nothing was copied to the replica, or the primary answers in a failover.
            ServerUnreachable: the replica does not answer.
            Stopped: `stop` was set during the wait; nobody writes until the command is repeated.
        """
        if self._store.direction().state is DirectionState.PROMOTED:
            return self._report(PromoteOutcome.ALREADY, warnings=self._mark())
        self._refuse_nothing()
        self._replica.list_databases(self._settings.sync_tenants[0])
        if self._checks is not None:
            return self._switch_over(who, self._checks)
        self._refuse_alive()
        self._begin(who, planned=False)
        return self._finish()

    def _switch_over(self, who: str, checks: Checks) -> PromoteReport:
        fenced = None
        if self._store.direction().is_following:
            fenced = checks.fence()
            if fenced.outcome is not FenceOutcome.VERIFIED:
                return self._report(PromoteOutcome.NOT_FENCED, fenced.reason, fence=fenced)
        self._begin(who, planned=True)
        faultpoints.reach(faultpoints.BEFORE_COMPARISON)
        try:
            compared = checks.verify()
        except BaseException:
            self._store.cancel_promotion()
            raise
        if compared.exit_code:
            self._store.cancel_promotion()
            words = _say_different(compared)
            return self._report(PromoteOutcome.DIFFERENT, words, fence=fenced, verify=compared)
        return self._finish(fence=fenced, verify=compared)

    # ---- refusals ---------------------------------------------------------------------------

    def _refuse_nothing(self) -> None:
        if any(m.replica_id is not None for m in self._store.mirrors()):
            return
        raise GuardRefusal(
            "Nothing was copied to the replica yet.",
            untouched="Nothing was changed.",
            hint="Check SYNC_DATA_DIR or DATABASE_URL, PRIMARY_URL and REPLICA_URL.",
        )

    def _refuse_alive(self) -> None:
        if self._anyway:
            return
        try:
            self._primary.list_databases(self._settings.sync_tenants[0])
        except ServerUnreachable:
            return
        except ServerError as error:
            self._progress.note(f"The primary answers with an error: {error.what}")
            return
        raise GuardRefusal(
            "The primary answers.",
            untouched="Nothing was changed.",
            hint="Stop the applications' writes and use --wait-for-fence, so that nothing is lost; "
            "or use --anyway to give up what was not copied yet.",
        )

    # ---- steps ------------------------------------------------------------------------------

    def _begin(self, who: str, *, planned: bool) -> None:
        begun = self._store.begin_promotion(who, self._settings.replica_url, planned=planned)
        log.info(Event.PROMOTING, planned=planned, by=who)
        faultpoints.reach(faultpoints.AFTER_PROMOTION_BEGAN)
        began = time.monotonic()
        if begun.writers_until is not None:
            self._wait_for_writers(begun)
        self._waited = time.monotonic() - began

    def _wait_for_writers(self, begun: Direction) -> None:
        """Wait until the last lease of a worker or leader has ended; raises Stopped."""
        shown = 0.0
        self._progress.start("waiting until no process can write to the replica", None)
        while (left := self._left(begun)) > 0:
            if left < shown - 10 or not shown:
                shown = left
                self._progress.note(f"The last right to write ends in at most {left:.0f} seconds.")
            if self._stop.wait(min(left, LOOK_SECONDS)):
                raise Stopped(
                    "The promotion was interrupted while it waited.",
                    untouched="Nothing is written to the replica meanwhile.",
                    hint="Run the command again, or with --cancel to let the replica follow.",
                )

    def _left(self, begun: Direction) -> float:
        if begun.writers_until is None:
            return 0.0
        return (begun.writers_until - self._store.now()).total_seconds() + MARGIN_SECONDS

    def _finish(
        self, *, fence: FenceReport | None = None, verify: VerifyReport | None = None
    ) -> PromoteReport:
        as_of = self._store.now() if verify is not None else self._look().identical_as_of
        self._store.finish_promotion(as_of)
        faultpoints.reach(faultpoints.AFTER_PROMOTION)
        log.warning(Event.PROMOTED, replica=self._settings.replica_url)
        return self._report(
            PromoteOutcome.PROMOTED, fence=fence, verify=verify, warnings=self._mark()
        )

    def _mark(self) -> tuple[str, ...]:
        """Say in the replica's marks that it was promoted; returns a warning if it refuses."""
        if not self._settings.sync_mark:
            return ()
        spots = {(m.tenant, m.database) for m in self._store.mirrors() if m.replica_id}
        marks = Marks(self._replica)
        try:
            known = marks.read(spots)
            turns = self._store.direction().turns
            due = {s: self._promoted(known.get(s)) for s in spots if not _says(known.get(s), turns)}
            marks.write(self._replica.permitted_by(lambda: WRITE_SECONDS), due)
        except REFUSALS as error:
            return (say_refused(error),)
        return ()

    def _promoted(self, known: Mark | None) -> Mark:
        turns, now = self._store.direction().turns, self._store.now()
        fresh = Mark(
            store_id=self._store.deployment().store_id,
            cycle_id=0 if known is None else known.cycle_id,
            nonce=secrets.token_hex(8),
            holder="",
            machine=machine_name(),
            written_at=now,
            interval_seconds=self._settings.sync_interval,
        )
        return replace(fresh, final=True, released=True, promoted=turns)

    def _report(
        self,
        outcome: PromoteOutcome,
        reason: str = "",
        *,
        fence: FenceReport | None = None,
        verify: VerifyReport | None = None,
        warnings: tuple[str, ...] = (),
    ) -> PromoteReport:
        seen = self._look()
        return PromoteReport(
            outcome=outcome,
            direction=seen.direction,
            collections=tuple(
                PromotedCollection(
                    c.tenant,
                    c.database,
                    c.name,
                    c.status,
                    c.replica_count,
                    c.identical_as_of,
                    c.held,
                    c.quarantined,
                )
                for c in seen.collections
            ),
            taken_at=seen.taken_at,
            reason=reason,
            waited_seconds=self._waited,
            duration_seconds=time.monotonic() - self._began,
            fence=fence,
            verify=verify,
            warnings=warnings,
        )


def _says(mark: Mark | None, turns: int) -> bool:
    return mark is not None and mark.promoted == turns


def _say_different(compared: VerifyReport) -> str:
    if compared.failures:
        return compared.failures[0]
    if not compared.different:
        return (
            f"{compared.inconclusive:,} records changed on the primary during the comparison: "
            "an application still writes to it."
        )
    return (
        f"Both sides differ in {compared.different:,} places after the fence: an application still "
        "writes to the primary, or somebody wrote to the replica."
    )

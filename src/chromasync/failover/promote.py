"""Makes the replica the primary: a planned switchover, or a failover when the primary is dead.

    switchover   fence → nobody may write → compare every record → promoted
    failover             nobody may write                        → promoted

*Nobody may write* is `Store.begin_promotion`, and a wait until the last lease of a worker or leader
has ended. From then on no process of the store can write to the replica, whatever it was doing. The
comparison comes after that, so nothing but an application can make both sides differ.

If this process dies between any two steps, nobody writes to the replica, and the same command goes
on. The mark on the replica is written before the promotion is final. It keeps out other stores, and
this store if it is restored from an older backup.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from chromasync import faultpoints
from chromasync.config import Settings
from chromasync.errors import GuardRefusal, ServerError, ServerUnreachable
from chromasync.events import Event
from chromasync.failover.replica import (
    Examined,
    examine_replica,
    refuse_stranger,
    warn_of_kept,
)
from chromasync.failover_reports import PromotedCollection, PromoteOutcome, PromoteReport
from chromasync.lease import monotonic
from chromasync.logs import get_logger
from chromasync.marks import REFUSALS, Marks, say_refused
from chromasync.model import Direction, DirectionState
from chromasync.plan.mark import Mark
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.processes import machine_name
from chromasync.reports import FenceOutcome, FenceReport, StatusSnapshot, VerifyReport

MARGIN_SECONDS = 1.0
"""Waited beyond the last lease, because instants in the store are rounded."""

LOOK_SECONDS = 0.25
NOTE_SECONDS = 10.0
RATE_LIMITED = 429
"""A gateway answers 502 or 503 for a server that is dead, but no gateway answers this for it."""

WRITE_SECONDS = 30.0
"""Time for the request that writes the mark."""

log = get_logger()


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
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store
        self._settings = settings
        self._look = look
        self._checks = checks
        self._anyway = anyway
        self._progress = progress

    def run(self, who: str) -> PromoteReport:
        """Promote the replica. If it cannot be done, the replica follows on.

        Args:
            who: who promotes, as `user@host`.

        Raises:
            GuardRefusal: nothing was copied to the server at REPLICA_URL, or the primary answers in
                a failover.
            AnotherStore, ReplicaPromoted: another store works on the replica, or promoted it.
            ServerError: the replica cannot be asked, or takes no mark.
        """
        began = time.monotonic()
        examined = examine_replica(self._replica, self._store, marked=self._settings.sync_mark)
        before = self._store.direction()
        if before.state is DirectionState.PROMOTED:
            warnings = self._mark(before.turns) if examined.listed else ()
            return report_promotion(self._look(), PromoteOutcome.ALREADY, warnings=warnings)
        refuse_stranger(examined, self._settings.replica_url)
        if self._checks is not None:
            report = self._switch_over(who, self._checks)
        else:
            report = self._fail_over(who, examined)
        return replace(report, duration_seconds=time.monotonic() - began)

    def _switch_over(self, who: str, checks: Checks) -> PromoteReport:
        """Promote with a fence and a comparison."""
        fenced = None
        if self._store.direction().is_following:
            fenced = checks.fence()
            if fenced.outcome is not FenceOutcome.VERIFIED:
                report = report_promotion(self._look(), PromoteOutcome.NOT_FENCED, fenced.reason)
                return replace(report, fence=fenced)
        with self._nobody_writes(who, planned=True) as (turns, waited):
            faultpoints.reach(faultpoints.BEFORE_COMPARISON)
            compared_at = self._store.now()
            compared = checks.verify()
            warnings = () if compared.exit_code else self._mark(turns)
        if compared.exit_code:
            report = self._give_up(turns, _say_different(compared))
        else:
            report = self._finish(turns, compared_at, warnings)
        return replace(report, fence=fenced, verify=compared, waited_seconds=waited)

    def _fail_over(self, who: str, examined: Examined) -> PromoteReport:
        """Promote what the replica has."""
        self._refuse_alive()
        with self._nobody_writes(who, planned=False) as (turns, waited):
            warnings = (*examined.warnings, *self._mark(turns))
        as_of = None if examined.unsure else self._look().identical_as_of
        report = self._finish(turns, as_of, warnings)
        return replace(
            report,
            waited_seconds=waited,
            collections=tuple(
                replace(c, identical_as_of=None, unsure=True)
                if c.collection_id in examined.unsure
                else c
                for c in report.collections
            ),
        )

    def _refuse_alive(self) -> None:
        """Raise if the primary answers, be it with an error: its writes may go on.

        Raises:
            GuardRefusal: it answers, and nobody said that this does not matter.
        """
        if self._anyway:
            return
        self._progress.start("asking the primary", None)
        try:
            self._primary.list_databases(self._settings.sync_tenants[0])
        except ServerUnreachable as error:
            if error.status != RATE_LIMITED:
                return
            said = f"The primary answers, although with an error: {error.what}"
        except ServerError as error:
            said = f"The primary answers, although with an error: {error.what}"
        else:
            said = "The primary answers."
        raise GuardRefusal(
            said,
            untouched="Nothing was changed.",
            hint="Stop the applications' writes and use --wait-for-fence, so that nothing is lost; "
            "or use --anyway to give up what was not copied yet.",
        )

    # ---- steps ------------------------------------------------------------------------------

    @contextmanager
    def _nobody_writes(self, who: str, *, planned: bool) -> Iterator[tuple[int, float]]:
        """In the block, no process can write to the replica.

        If the block fails or is interrupted, the replica follows again.

        Yields:
            `Direction.turns` of this promotion, and the seconds of the wait.
        """
        begun = self._store.begin_promotion(
            who,
            self._settings.replica_url,
            planned=planned,
            lease_seconds=self._settings.sync_lease_seconds,
        )
        log.info(Event.PROMOTING, planned=planned, by=who)
        faultpoints.reach(faultpoints.AFTER_PROMOTION_BEGAN)
        try:
            yield begun.turns, self._wait_for_writers(begun)
        except BaseException:
            self._store.cancel_promotion(begun.turns)
            raise

    def _wait_for_writers(self, begun: Direction) -> float:
        """Wait until the last lease of a worker or leader has ended; returns the seconds.

        Leases end by the monotonic clocks of their processes. So the wait is one of the monotonic
        clock, too: a jump of the store's clock meanwhile does not shorten it.
        """
        began, noted = monotonic(), math.inf
        longest = self._longest_wait(begun)
        self._progress.start("waiting until no process can write to the replica", None)
        while (left := longest - (monotonic() - began)) > 0:
            if left < noted - NOTE_SECONDS:
                noted = left
                self._progress.note(f"The last right to write ends in at most {left:.0f} seconds.")
            time.sleep(min(left, LOOK_SECONDS))
        return monotonic() - began

    def _longest_wait(self, begun: Direction) -> float:
        """Seconds until the last lease has ended; not more than when the promotion began."""
        if begun.writers_until is None or begun.since_at is None:
            return 0.0
        left = begun.writers_until - max(self._store.now(), begun.since_at)
        return left.total_seconds() + MARGIN_SECONDS

    def _finish(
        self, turns: int, as_of: datetime | None, warnings: tuple[str, ...]
    ) -> PromoteReport:
        """Make the promotion final.

        Raises:
            GuardRefusal: someone cancelled it, so the replica follows the primary.
        """
        faultpoints.reach(faultpoints.AFTER_PROMOTION_MARK)
        done = self._store.finish_promotion(turns, as_of)
        if done.state is not DirectionState.PROMOTED or done.turns != turns:
            raise GuardRefusal(
                "This promotion was cancelled meanwhile, or the state store was restored from a "
                "backup: the replica was not promoted.",
                untouched="Nothing may write to it but chromasync.",
                hint="Run `chromasync promote` again before applications use the replica.",
            )
        log.warning(Event.PROMOTED, replica=self._settings.replica_url)
        warnings += tuple(warn_of_kept(self._store))
        return report_promotion(self._look(), PromoteOutcome.PROMOTED, warnings=warnings)

    def _give_up(self, turns: int, reason: str) -> PromoteReport:
        """Let the replica follow again, unless another run has promoted it meanwhile."""
        self._store.cancel_promotion(turns)
        seen = self._look()
        if seen.direction.state is DirectionState.PROMOTED:
            return report_promotion(seen, PromoteOutcome.ALREADY, warnings=(reason,))
        return report_promotion(seen, PromoteOutcome.DIFFERENT, reason)

    def _mark(self, turns: int) -> tuple[str, ...]:
        """Say in the replica's marks that it was promoted; returns a warning if it refuses."""
        if not self._settings.sync_mark:
            return ()
        spots = {(m.tenant, m.database) for m in self._store.mirrors() if m.replica_id}
        # cycles also mark databases that have no collections
        spots |= {_spot(row.place) for row in self._store.marks().values() if row.written}
        marks = Marks(self._replica)
        try:
            known = marks.read(spots)
            due = {
                spot: self._mark_after(known.get(spot), turns)
                for spot in spots
                if spot not in known or known[spot].promoted != turns
            }
            marks.write(self._replica.permitted_by(lambda: WRITE_SECONDS), due)
        except REFUSALS as error:
            return (say_refused(error),)
        return ()

    def _mark_after(self, known: Mark | None, turns: int) -> Mark:
        return Mark(
            store_id=self._store.deployment().store_id,
            cycle_id=0 if known is None else known.cycle_id,
            nonce=secrets.token_hex(8),
            holder="",
            machine=machine_name(),
            written_at=self._store.now(),
            interval_seconds=self._settings.sync_interval,
            final=True,
            released=True,
            promoted=turns,
        )


def _spot(place: str) -> tuple[str, str]:
    tenant, _, database = place.partition("/")
    return tenant, database


def report_promotion(
    seen: StatusSnapshot,
    outcome: PromoteOutcome,
    reason: str = "",
    *,
    warnings: tuple[str, ...] = (),
) -> PromoteReport:
    """The report of an outcome, with the state of the collections."""
    return PromoteReport(
        outcome=outcome,
        direction=seen.direction,
        collections=tuple(
            PromotedCollection(
                c.collection_id,
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
        warnings=warnings,
    )


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

"""Logs the cycles of a service: one line per cycle, with its figures.

A cycle that fails for the same reason as a recent one is only counted (see `repeated`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from chromasync.cycle.work import CycleWork
from chromasync.errors import ChromasyncError, LeaseLost, Paused
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import Hold, HoldKind, MirrorStatus
from chromasync.repeated import Limiter, Repeated, repeats
from chromasync.reports import CollectionReport, CycleReport, Outcome

STOPPED = "stopped"
"""Outcome of a cycle that ended early because the process was asked to stop."""

PAUSED = "paused"
"""Outcome of a cycle that ended early because someone paused the service."""

FIGURES = (
    "cycle",
    "seconds",
    "read",
    "inserted",
    "updated",
    "replaced",
    "deleted",
    "held",
    "quarantined",
    "collections",
    "tasks",
    "identical_as_of",
    "lag_seconds",
)
"""Fields of the line for every outcome; unknown values are None."""

Figures = Mapping[str, object]
log = get_logger()


def figures_of(report: CycleReport) -> Figures:
    """All figures of a cycle that was closed in the store."""
    ended_at = report.cycle.finished_at or (
        report.cycle.started_at + timedelta(seconds=report.duration_seconds)
    )
    as_of = report.identical_as_of
    counts = report.counts
    return {
        "cycle": report.cycle.id,
        "seconds": round(report.duration_seconds, 3),
        "read": counts.read,
        "inserted": counts.inserted,
        "updated": counts.updated,
        "replaced": counts.replaced,
        "deleted": counts.deleted,
        "held": sum(hold.count for hold in report.holds),
        "quarantined": len(report.quarantined),
        "collections": len(report.collections),
        "tasks": report.tasks.total,
        "identical_as_of": None if as_of is None else as_of.isoformat(),
        "lag_seconds": None if as_of is None else round((ended_at - as_of).total_seconds(), 3),
    }


def known_figures(cycle: CycleWork) -> Figures:
    """The figures that this process knows without the store."""
    known = {"cycle": cycle.cycle.id, "seconds": round(cycle.seconds, 3), "deleted": cycle.deleted}
    return dict.fromkeys(FIGURES) | known


def is_same_failure(first: ChromasyncError, second: ChromasyncError) -> bool:
    """Whether the second error repeats the first one, which is logged already."""
    return str(first) == str(second) or (
        isinstance(first, LeaseLost) and isinstance(second, LeaseLost)
    )


class CycleTeller:
    """Logs the cycles of one process with their holds, warnings and failed collections."""

    def __init__(self) -> None:
        self._failures = Repeated(Event.CYCLE_CLOSED, "cycles")
        self._limiter = Limiter()
        self._held: dict[tuple[str, HoldKind], str] = {}

    def closed(self, report: CycleReport) -> None:
        """A cycle was closed, with any outcome."""
        fields = {"outcome": report.outcome.value, **figures_of(report)}
        if report.outcome is Outcome.FAILED:
            reason = {"reason": report.cycle.error} if report.cycle.error else {}
            log.warning(Event.CYCLE_CLOSED, **fields, **reason)
        else:
            log.info(Event.CYCLE_CLOSED, **fields)
        self._failures.succeeded()
        for text in report.warnings:
            if times := self._limiter.count(text):
                log.warning(Event.CYCLE_WARNS, text=text, **repeats(times))
        self._tell_failed(report)
        self._tell_holds(report.holds)

    def failed(self, error: ChromasyncError, figures: Figures | None, **fields: object) -> None:
        """A cycle ended early, or could not begin and has no figures."""
        given = figures or dict.fromkeys(FIGURES)
        self._failures.failed(str(error), outcome=Outcome.FAILED.value, **given, **fields)

    def stopped(self, error: ChromasyncError, figures: Figures | None) -> None:
        """The process was asked to stop or to pause, possibly during a cycle."""
        if figures is not None:
            outcome = PAUSED if isinstance(error, Paused) else STOPPED
            log.info(Event.CYCLE_CLOSED, outcome=outcome, **figures, reason=error.what)

    def gave_up(self, figures: Figures | None) -> None:
        """A cycle ended early, and the process ends with it; its last message has the reason."""
        if figures is not None:
            log.warning(Event.CYCLE_CLOSED, outcome=Outcome.FAILED.value, **figures, ends=True)

    def _tell_failed(self, report: CycleReport) -> None:
        """Log each reason of failed collections once, except the reason of the cycle itself."""
        told = report.cycle.error or ""
        for reason, failed in _by_reason(report.collections).items():
            if reason in told:
                continue
            if times := self._limiter.count(f"{failed[0].collection_id} {reason}"):
                more = {"collections": len(failed)} if len(failed) > 1 else {}
                log.warning(
                    Event.COLLECTION_FAILED,
                    name=failed[0].name,
                    **more,
                    reason=reason,
                    **repeats(times),
                )

    def _tell_holds(self, holds: Iterable[Hold]) -> None:
        """Log a hold when it is new, and again when its set has changed."""
        told, self._held = self._held, {(h.collection_id, h.kind): h.set_digest for h in holds}
        for hold in holds:
            if told.get((hold.collection_id, hold.kind)) != hold.set_digest:
                log.warning(
                    Event.HELD,
                    name=hold.full_name,
                    kind=hold.kind.value,
                    records=hold.count,
                    digest=hold.set_digest,
                    reason=hold.reason,
                )


def _by_reason(collections: Iterable[CollectionReport]) -> dict[str, list[CollectionReport]]:
    """The failed collections by their message."""
    found: dict[str, list[CollectionReport]] = {}
    for report in collections:
        if report.status in {MirrorStatus.ERROR, MirrorStatus.UNANSWERING}:
            found.setdefault(report.message, []).append(report)
    return found

"""A fence asks for cycles until everything is verified, or says what else is in the way."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chromasync import fence as fencing
from chromasync.errors import ServerUnreachable, Stopped
from chromasync.fence import Fence, set_after
from chromasync.model import Hold, HoldKind, MirrorStatus
from chromasync.quiet import Quiet
from chromasync.reports import CollectionReport, CycleReport, FenceOutcome, StatusSnapshot
from tests.cli.fakes import HOLD, NOON, collection, cycle_report, snapshot

LATER = NOON + timedelta(seconds=5)
EARLIER = NOON - timedelta(seconds=5)
VERIFIED = collection(identical_as_of=LATER)
SYNCING = collection("more", status=MirrorStatus.SYNCING, identical_as_of=EARLIER)


def seen(
    *collections: CollectionReport, clean_at: datetime = LATER, holds: Sequence[Hold] = ()
) -> StatusSnapshot:
    """A status with these collections after a cycle that began then."""
    return replace(snapshot(), collections=collections, clean_at=clean_at, holds=tuple(holds))


def ended(at: datetime = LATER, error: str | None = None, code: int | None = None) -> CycleReport:
    """A cycle that began then."""
    report = cycle_report()
    cycle = replace(report.cycle, started_at=at, error=error, exit_code=code)
    return replace(report, cycle=cycle)


class Service:
    """Runs cycles after which the status is as the test says, one after the other."""

    def __init__(self, *after: StatusSnapshot, report: CycleReport | None = None) -> None:
        self.after = list(after)
        self.report = report or ended()
        self.asked: list[bool] = []
        self.stop = threading.Event()

    def cycle(self, full: bool) -> CycleReport:
        self.asked.append(full)
        return self.report

    def look(self) -> StatusSnapshot:
        return self.after.pop(0) if len(self.after) > 1 else self.after[0]

    def fence(self) -> Fence:
        return Fence(NOON, self.cycle, self.look, self.stop)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause between two cycles."""
    monkeypatch.setattr(fencing, "BETWEEN_SECONDS", 0.0)


def test_one_cycle_that_reads_everything_is_enough() -> None:
    """Every collection was read after the call."""
    service = Service(seen(VERIFIED))
    report = service.fence().wait(Quiet())
    assert (report.outcome, report.exit_code, report.reason) == (FenceOutcome.VERIFIED, 0, "")
    assert (report.asked_at, report.collections, report.records) == (NOON, 1, 1234)
    assert service.asked == [True]


def test_cycles_follow_until_the_last_collection_is_verified() -> None:
    """What one full cycle left is finished by ordinary ones."""
    service = Service(seen(VERIFIED, SYNCING), seen(VERIFIED, SYNCING), seen(VERIFIED, VERIFIED))
    report = service.fence().wait(Quiet())
    assert (report.outcome, report.cycles) == (FenceOutcome.VERIFIED, 3)
    assert service.asked == [True, False, False]


def test_collections_that_no_later_cycle_listed_are_not_trusted() -> None:
    """A new collection may be missing from the store until a cycle that began after the call."""
    service = Service(seen(VERIFIED, clean_at=EARLIER), seen(VERIFIED), report=ended(EARLIER))
    report = service.fence().wait(Quiet())
    assert (report.outcome, report.cycles) == (FenceOutcome.VERIFIED, 2)
    assert service.asked == [True, True]


@pytest.mark.parametrize(
    ("status", "outcome", "code", "reason"),
    [
        (
            seen(VERIFIED, collection("old", status=MirrorStatus.HELD), holds=[HOLD]),
            FenceOutcome.HELD,
            4,
            "Held until someone approves it: old.",
        ),
        (
            seen(
                VERIFIED,
                collection("old", status=MirrorStatus.DIVERGED),
                holds=[replace(HOLD, kind=HoldKind.DIVERGED)],
            ),
            FenceOutcome.UNDECIDED,
            6,
            "Someone must decide which side is right: old.",
        ),
        (
            seen(collection("docs", status=MirrorStatus.LIMITED, quarantined=2)),
            FenceOutcome.LIMITED,
            4,
            "2 records are quarantined, in: docs.",
        ),
        (
            seen(collection("docs", status=MirrorStatus.LIMITED, identical_as_of=None)),
            FenceOutcome.LIMITED,
            4,
            "The replica's server cannot store everything of: docs.",
        ),
        (
            seen(
                collection("docs", status=MirrorStatus.ERROR, message="No.", identical_as_of=None)
            ),
            FenceOutcome.FAILED,
            4,
            "docs failed: No.",
        ),
    ],
)
def test_what_time_does_not_solve_ends_the_fence(
    status: StatusSnapshot, outcome: FenceOutcome, code: int, reason: str
) -> None:
    """It says what is in the way, and names the collections."""
    old = tuple(
        c if c is VERIFIED else replace(c, identical_as_of=EARLIER) for c in status.collections
    )
    report = Service(replace(status, collections=old)).fence().wait(Quiet())
    assert (report.outcome, report.exit_code, report.reason) == (outcome, code, reason)


def test_a_hold_elsewhere_is_not_in_the_way() -> None:
    """A collection of the replica alone has no record of the primary."""
    elsewhere = replace(HOLD, kind=HoldKind.SURPLUS_COLLECTION)
    report = Service(seen(VERIFIED, holds=[elsewhere])).fence().wait(Quiet())
    assert report.outcome is FenceOutcome.VERIFIED


def test_what_the_next_cycle_lets_through_is_waited_for() -> None:
    """A dropped collection needs a second cycle, and an approved hold the next one."""
    gone = collection("old", status=MirrorStatus.VANISHED, identical_as_of=EARLIER)
    for hold in replace(HOLD, unconfirmed=True), replace(HOLD, approved_digest=HOLD.set_digest):
        service = Service(seen(VERIFIED, gone, holds=[hold]), seen(VERIFIED))
        report = service.fence().wait(Quiet())
        assert (report.outcome, report.cycles) == (FenceOutcome.VERIFIED, 2)


def test_a_failed_cycle_of_the_service_ends_it_with_its_exit_code() -> None:
    """As if this command had run the cycle."""
    failed = ended(error="The primary does not answer.", code=3)
    report = Service(seen(SYNCING), report=failed).fence().wait(Quiet())
    assert (report.outcome, report.exit_code) == (FenceOutcome.FAILED, 3)
    assert report.reason == "Cycle 7 failed: The primary does not answer."


def test_the_deadline_ends_it_in_a_cycle_and_between_two() -> None:
    """It names what was not verified in time."""
    service = Service(seen(VERIFIED, SYNCING))
    service.stop.set()
    report = service.fence().wait(Quiet())
    assert (report.outcome, report.exit_code) == (FenceOutcome.TIMED_OUT, 1)
    assert report.reason == "The time ran out. 1 collection is not verified: more."

    def stopped(full: bool) -> CycleReport:
        raise Stopped("The wait for the cycle was ended.")

    fence = Fence(NOON, stopped, service.look, service.stop)
    assert fence.wait(Quiet()).outcome is FenceOutcome.TIMED_OUT


@pytest.mark.parametrize("enough", [True, False])
def test_a_cycle_that_could_not_be_reported(enough: bool) -> None:
    """The next ones left no time to: the status says whether it was enough, or one more follows."""
    first = VERIFIED if enough else SYNCING
    service, unreported = Service(seen(first), seen(VERIFIED)), ["it has ended; others go on"]

    def cycle(full: bool) -> CycleReport:
        if unreported:
            raise Stopped(unreported.pop())
        return service.cycle(full)

    report = Fence(NOON, cycle, service.look, service.stop).wait(Quiet())
    assert report.outcome is FenceOutcome.VERIFIED
    assert service.asked == ([] if enough else [True])


def test_an_error_of_an_own_cycle_is_that_of_the_command() -> None:
    """Nobody has to read the reason out of a report."""

    def away(full: bool) -> CycleReport:
        raise ServerUnreachable("no answer", side="primary")

    with pytest.raises(ServerUnreachable):
        Fence(NOON, away, Service(seen()).look, threading.Event()).wait(Quiet())


def test_the_deadline_is_set_and_taken_back() -> None:
    """An end before the deadline leaves nothing behind."""
    stop = threading.Event()
    with set_after(0.001, stop):
        assert stop.wait(30)
    before = set(threading.enumerate())
    stop.clear()
    with set_after(3600, stop), set_after(None, stop):
        timers = set(threading.enumerate()) - before
    assert len(timers) == 1
    for timer in timers:
        timer.join(30)
        assert not timer.is_alive()
    assert not stop.is_set()

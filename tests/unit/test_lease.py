"""The right to write: a local deadline, moved only by what the store confirmed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast

import pytest
from structlog.testing import capture_logs

from chromasync import lease as leasing
from chromasync.errors import (
    AnotherInstance,
    ChromasyncError,
    LeaseLost,
    ReplicaPromoted,
    Retry,
    StoreUnavailable,
)
from chromasync.events import Event
from chromasync.lease import MARGIN_SHARE, Lead, Lease, LeaseKeeper
from chromasync.model import Task, Term
from chromasync.ports import Control, Queue

SECONDS = 100.0
USABLE = SECONDS * (1 - MARGIN_SHARE)
SHORT = 0.03
"""A lease that a keeper's thread renews at once; the clock of the test does not move by itself."""
PATIENCE = 30.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(leasing, "monotonic", clock)
    return clock


def task(number: int = 1, fence: int = 1) -> Task:
    return Task(number, fence, "c", "docs", 7, False, 0, datetime(2030, 1, 1, tzinfo=UTC))


def allowed(lease: Lease | Lead) -> bool:
    try:
        lease.check()
    except LeaseLost:
        return False
    return True


class Renewals:
    """A queue that knows renewals alone; answers what it is told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[list[int]] = []
        self.confirmed: set[int] = set()
        self.takes = 0.0
        self.error: StoreUnavailable | None = None
        self.answered: queue.SimpleQueue[int] = queue.SimpleQueue()

    def renew_tasks(self, tasks: Sequence[Task], lease_seconds: float) -> set[int]:
        self.asked.append([t.id for t in tasks])
        self.clock.advance(self.takes)
        try:
            if self.error is not None:
                raise self.error
            return set(self.confirmed)
        finally:
            self.answered.put(len(self.asked))


@pytest.fixture
def renewals(clock: Clock) -> Renewals:
    return Renewals(clock)


def keeper_of(renewals: Renewals, seconds: float = SECONDS) -> LeaseKeeper:
    return LeaseKeeper(cast("Queue", renewals), seconds)


# ---- one lease ---------------------------------------------------------------------------------


def test_a_lease_ends_before_it_does_in_the_store(clock: Clock) -> None:
    """Requests may begin until the margin begins, counted from before the claim was sent."""
    asked_at = clock.now
    clock.advance(10)
    lease = Lease(task(), asked_at, SECONDS)
    assert allowed(lease)
    clock.advance(USABLE - 10 - 0.001)
    assert allowed(lease)
    clock.advance(0.001)
    assert not allowed(lease)
    assert MARGIN_SHARE > 0


def test_a_claim_that_took_too_long_is_no_lease(clock: Clock) -> None:
    """When the answer to the claim came late, no write begins at all."""
    asked_at = clock.now
    clock.advance(USABLE)
    assert not allowed(Lease(task(), asked_at, SECONDS))


def test_a_lost_lease_says_what_that_means(clock: Clock) -> None:
    """The error names the task, is of its own kind of retry, and stays for good."""
    lease = Lease(task(42), clock.now, SECONDS)
    lease.lose()
    with pytest.raises(LeaseLost, match="task 42") as caught:
        lease.check()
    assert caught.value.retry is Retry.LEASE_LOST
    lease.extend(clock.now)
    assert not allowed(lease)


def test_the_clock_of_leases_never_goes_back() -> None:
    """The real clock counts seconds, rising."""
    first = leasing.monotonic()
    assert leasing.monotonic() >= first > 0


def test_without_a_clock_that_counts_suspension_the_usual_one_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On systems that lack the boot clock, time is the ordinary monotonic one."""
    monkeypatch.setattr(leasing, "_clock", None)
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    assert leasing.monotonic() == 5.0


def test_a_request_may_take_what_is_left_of_the_lease(clock: Clock) -> None:
    """None is still under way when the lease ends in the store."""
    lease = Lease(task(), clock.now, SECONDS)
    clock.advance(30)
    assert lease.check() == SECONDS - 30


def test_a_task_without_progress_is_not_renewed(clock: Clock, renewals: Renewals) -> None:
    """A thread that hangs keeps its chunk from others for a few leases, not for ever."""
    keeper = keeper_of(renewals)
    hanging, busy = keeper.hold(task(1), clock.now), keeper.hold(task(2), clock.now)
    renewals.confirmed = {1, 2}
    for _ in range(2 * leasing.STALL_LEASES + 3):
        clock.advance(SECONDS / 2)
        keeper.renew()
        busy.check()
    assert renewals.asked[-1] == [2]
    assert (allowed(hanging), allowed(busy)) == (False, True)


# ---- renewing ----------------------------------------------------------------------------------


def test_a_confirmed_renewal_extends_from_when_it_was_asked(
    clock: Clock, renewals: Renewals
) -> None:
    """The new deadline counts from before the request, not from its answer."""
    keeper = keeper_of(renewals)
    lease = keeper.hold(task(), clock.now)
    renewals.confirmed, renewals.takes = {1}, 20
    clock.advance(50)
    keeper.renew()
    clock.advance(USABLE - 20 - 0.001)
    assert allowed(lease)
    clock.advance(0.001)
    assert not allowed(lease)


def test_a_lease_that_is_not_confirmed_is_lost(clock: Clock, renewals: Renewals) -> None:
    """The store leaves out a task that someone else owns now: its lease ends, others go on."""
    keeper = keeper_of(renewals)
    mine, taken = keeper.hold(task(1), clock.now), keeper.hold(task(2), clock.now)
    renewals.confirmed = {1}
    keeper.renew()
    assert (allowed(mine), allowed(taken)) == (True, False)


def test_a_renewal_that_fails_extends_nothing(clock: Clock, renewals: Renewals) -> None:
    """Without an answer the old deadline stands; a later confirmation extends again."""
    keeper = keeper_of(renewals)
    lease = keeper.hold(task(), clock.now)
    renewals.error = StoreUnavailable("locked")
    clock.advance(USABLE - 1)
    with pytest.raises(StoreUnavailable):
        keeper.renew()
    assert allowed(lease)
    clock.advance(1)
    assert not allowed(lease)
    renewals.error, renewals.confirmed = None, {1}
    keeper.renew()
    assert allowed(lease)


def test_only_leases_that_are_held_are_renewed(clock: Clock, renewals: Renewals) -> None:
    """What was let go is not asked for, and with nothing held nobody is asked."""
    keeper = keeper_of(renewals)
    keeper.renew()
    assert renewals.asked == []
    first = keeper.hold(task(1), clock.now)
    keeper.hold(task(2), clock.now)
    keeper.let_go(first)
    keeper.let_go(first)
    keeper.renew()
    assert renewals.asked == [[2]]


def test_another_threads_lease_of_the_same_task_is_kept(clock: Clock, renewals: Renewals) -> None:
    """Whoever handed a task back lets go of its own lease, not of the one that came after it."""
    keeper = keeper_of(renewals)
    former = keeper.hold(task(1), clock.now)
    later = keeper.hold(task(1, fence=3), clock.now)
    keeper.let_go(former)
    assert keeper.held() == [later]
    keeper.let_go(later)
    assert keeper.held() == []


def test_the_keeper_renews_by_itself_and_survives_errors(clock: Clock, renewals: Renewals) -> None:
    """Its thread asks again and again, also after the store failed, until it is stopped."""
    keeper = keeper_of(renewals, SHORT)
    lease = keeper.hold(task(), clock.now - 1_000)
    renewals.error = StoreUnavailable("locked")
    keeper.start()
    try:
        for _ in range(2):
            renewals.answered.get(timeout=PATIENCE)
        assert not allowed(lease)
        renewals.error, renewals.confirmed = None, {1}
        seen = len(renewals.asked)
        while renewals.answered.get(timeout=PATIENCE) < seen + 3:
            pass
        assert allowed(lease)
    finally:
        keeper.stop()
    assert not any(t.name == "lease-keeper" for t in threading.enumerate())


def test_renewals_that_fail_are_told_once(clock: Clock, renewals: Renewals) -> None:
    """However often it asks while the store is away, one line tells it, and one that it is back."""
    keeper = keeper_of(renewals, SHORT)
    keeper.hold(task(), clock.now)
    renewals.error = StoreUnavailable("locked")
    with capture_logs() as lines:
        keeper.start()
        try:
            for _ in range(4):
                renewals.answered.get(timeout=PATIENCE)
            renewals.error, renewals.confirmed = None, {1}
            seen = len(renewals.asked)
            while renewals.answered.get(timeout=PATIENCE) < seen + 3:
                pass
        finally:
            keeper.stop()
    assert [line["event"] for line in lines] == [Event.RENEWAL_FAILED, Event.RECOVERED]
    assert (lines[0]["renewal"], lines[1]["what"]) == ("lease-keeper", "lease-keeper")
    assert lines[1]["after"] >= 4


# ---- leading -----------------------------------------------------------------------------------


class Leases:
    """A control that knows the lead alone; answers with the term it is told to."""

    def __init__(self, clock: Clock, term: Term | None) -> None:
        self.clock = clock
        self.term = term
        self.takes = 0.0
        self.error: ChromasyncError | None = None
        self.given_up: list[Term] = []
        self.count = 0
        self.answered: queue.SimpleQueue[int] = queue.SimpleQueue()

    def take_lead(self, holder: str, ttl_seconds: float) -> Term | None:
        self.count += 1
        self.clock.advance(self.takes)
        try:
            if self.error is not None:
                raise self.error
            return self.term
        finally:
            self.answered.put(self.count)

    def give_up_lead(self, term: Term) -> None:
        self.given_up.append(term)

    def wait_for_answers(self, count: int) -> None:
        """Until so many more requests were answered; what came of all but the last is settled."""
        end = self.count + count
        while self.answered.get(timeout=PATIENCE) < end:
            pass


MINE = Term("me", 3)


@contextmanager
def leading(leases: Leases, seconds: float) -> Iterator[Lead]:
    lead = Lead(cast("Control", leases), "me", seconds).start()
    try:
        yield lead
    finally:
        lead.give_up()


def test_only_one_process_leads(clock: Clock) -> None:
    """When another has the lead, this process is told so and changes nothing."""
    with pytest.raises(AnotherInstance, match="Another chromasync process leads") as caught:
        Lead(cast("Control", Leases(clock, None)), "me", SECONDS)
    assert caught.value.exit_code == 5
    assert not any(t.name == "lead-keeper" for t in threading.enumerate())


def test_a_lead_ends_locally_before_it_does_in_the_store(clock: Clock) -> None:
    """Counted from before it was asked for, less the margin."""
    leases = Leases(clock, MINE)
    leases.takes = 10
    with leading(leases, SECONDS) as lead:
        assert lead.term == MINE
        clock.advance(USABLE - 10 - 0.001)
        assert allowed(lead)
        clock.advance(0.001)
        assert not allowed(lead)
    assert leases.given_up == [MINE]


def test_a_lead_is_renewed_by_itself(clock: Clock) -> None:
    """A frozen leader may not write until the store has confirmed the same term again."""
    leases = Leases(clock, MINE)
    with leading(leases, SHORT) as lead:
        leases.wait_for_answers(2)
        assert allowed(lead)
        leases.error = StoreUnavailable("locked")
        leases.wait_for_answers(2)
        clock.advance(3_600)
        assert not allowed(lead)
        leases.wait_for_answers(2)
        assert not allowed(lead)
        leases.error = None
        leases.wait_for_answers(2)
        assert allowed(lead)
    assert not any(t.name == "lead-keeper" for t in threading.enumerate())


@pytest.mark.parametrize("now", [None, Term("other", 4), Term("me", 5)])
def test_a_leader_that_was_replaced_notices(clock: Clock, now: Term | None) -> None:
    """Another holder or another number is another term: writing ends, and nothing is renewed."""
    leases = Leases(clock, MINE)
    with leading(leases, SHORT) as lead:
        (thread,) = [t for t in threading.enumerate() if t.name == "lead-keeper"]
        leases.term = now
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()
        with pytest.raises(LeaseLost, match="no longer leads"):
            lead.check()


def test_a_leader_learns_that_the_replica_was_promoted(clock: Clock) -> None:
    """Its lead was taken for good: that is no failure of the thread that renews it."""
    leases = Leases(clock, MINE)
    with leading(leases, SHORT) as lead:
        (thread,) = [t for t in threading.enumerate() if t.name == "lead-keeper"]
        leases.error = ReplicaPromoted("It was promoted.")
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()
        assert not lead.holds


Check = Callable[[], float]


def test_two_views_of_a_lease_agree_across_threads(clock: Clock) -> None:
    """A lease lost by the keeper's thread is lost for a worker that is in the middle of work."""
    lease = Lease(task(), clock.now, SECONDS)
    lost, told = threading.Event(), threading.Event()
    seen: list[bool] = []

    def work(check: Check) -> None:
        check()
        told.set()
        assert lost.wait(PATIENCE)
        seen.append(allowed(lease))

    worker = threading.Thread(target=work, args=(lease.check,))
    worker.start()
    assert told.wait(PATIENCE)
    lease.lose()
    lost.set()
    worker.join(PATIENCE)
    assert seen == [False]

"""A command asks the process that leads for a cycle, over the store alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import pytest

from chromasync import wanted as module
from chromasync.config import Settings
from chromasync.errors import LeaseLost, Paused, Stopped
from chromasync.lease import Lead
from chromasync.model import CycleStatus, MirrorStatus
from chromasync.reports import Outcome
from chromasync.store import SqlStore
from chromasync.wanted import WantedCycle, no_own_cycle
from tests.store.samples import COLLECTION, plan_into
from tests.support.ledgers import mirror_of

ENDED_WELL = (CycleStatus.COMPLETED, None, None)
PATIENCE = 30.0

End = tuple[CycleStatus, str | None, int | None]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks at the store follow each other at once."""
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.005)


@dataclass
class Told:
    """What a person was shown."""

    notes: list[str] = field(default_factory=list)
    activities: list[tuple[str, int | None]] = field(default_factory=list)

    def start(self, activity: str, total: int | None) -> None:
        self.activities.append((activity, total))

    def advance(self, count: int) -> None:
        """Nobody counts here."""

    def note(self, text: str) -> None:
        self.notes.append(text)


class Leader:
    """Another process that leads: it runs one cycle for each request, which ends as given."""

    def __init__(self, store: SqlStore, *ends: End) -> None:
        self.store = store
        self.ends = list(ends)
        self.lead = Lead(store, "there:1:0:x", 60)
        self.full: list[bool] = []
        self.during: Callable[[int], None] = lambda cycle_id: None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        led = self.store.led_by(self.lead.term)
        while self.ends and not self.over.wait(0.005):
            row = self.store.control()
            if row.has_request:
                status, error, code = self.ends.pop(0)
                self.full.append(row.wanted_full)
                cycle = led.open_cycle()
                led.begin_wanted(row.wanted_number, cycle.id)
                self.during(cycle.id)
                with suppress(LeaseLost):  # a leader that was killed closes nothing
                    led.close_cycle(cycle.id, status, 0, error, exit_code=code)


@contextmanager
def led(store: SqlStore, *ends: End) -> Iterator[Leader]:
    """A store that another process leads."""
    leader = Leader(store, *ends)
    leader.thread.start()
    try:
        yield leader
    finally:
        leader.over.set()
        leader.thread.join(PATIENCE)
        assert not leader.thread.is_alive()


def wanted(
    store: SqlStore, settings: Settings, told: Told, stop: threading.Event | None = None
) -> WantedCycle:
    return WantedCycle(store, settings, told, stop or threading.Event())


def test_the_report_of_the_cycle_comes_from_the_store(store: SqlStore, settings: Settings) -> None:
    """It has the states of the collections, and names who runs the cycle."""
    store.save_mirror(
        mirror_of(
            COLLECTION,
            "t",
            "d",
            "docs",
            replica_id="replica",
            status=MirrorStatus.IDENTICAL,
            count=7,
        )
    )
    told = Told()
    with led(store, ENDED_WELL) as leader:
        report = wanted(store, settings, told).run(leader.lead.term, "ann@here", full=True)
    assert report is not None
    assert (report.outcome, report.exit_code, report.cycle.id) == (Outcome.IDENTICAL, 0, 1)
    assert [(c.name, c.primary_count) for c in report.collections] == [("docs", 7)]
    assert leader.full == [True]
    assert told.notes == ["The process 1 on there leads; it was asked for a cycle."]
    assert store.control().wanted_by == "ann@here"


def test_the_progress_is_that_of_the_tasks(store: SqlStore, settings: Settings) -> None:
    """Without a task it walks; then it counts tasks."""
    told, shown = Told(), threading.Event()
    with led(store, ENDED_WELL) as leader:

        def work(cycle_id: int) -> None:
            while ("walking (cycle 1)", None) not in told.activities:
                assert not shown.wait(0.005)
            plan_into(store, store.cycles(1)[0], 3)
            while ("reconciling (cycle 1)", 3) not in told.activities:
                assert not shown.wait(0.005)
            store.cancel_tasks("done")

        leader.during = work
        report = wanted(store, settings, told).run(leader.lead.term, "ann@here", full=False)
    assert report is not None


def test_a_failed_cycle_has_the_exit_code_of_its_error(store: SqlStore, settings: Settings) -> None:
    """A script sees the same as if it had run the cycle itself."""
    with led(store, (CycleStatus.FAILED, "The primary does not answer.", 3)) as leader:
        report = wanted(store, settings, Told()).run(leader.lead.term, "ann@here", full=False)
    assert report is not None
    assert (report.outcome, report.exit_code) == (Outcome.FAILED, 3)
    assert report.cycle.error == "The primary does not answer."


def test_a_cycle_that_ends_early_is_asked_for_again(store: SqlStore, settings: Settings) -> None:
    """The process was restarted; the next cycle is the one that counts."""
    told = Told()
    with led(store, (CycleStatus.ABANDONED, "It was stopped.", 130), ENDED_WELL) as leader:
        report = wanted(store, settings, told).run(leader.lead.term, "ann@here", full=False)
    assert report is not None
    assert (report.cycle.id, report.exit_code) == (2, 0)
    assert told.notes[1:] == ["Cycle 1 ended early: It was stopped. It is asked again."]


def test_a_leader_that_ends_before_it_begins_the_cycle(store: SqlStore, settings: Settings) -> None:
    """The caller leads then."""
    told = Told()
    with led(store) as leader:
        leader.lead.give_up()
        assert wanted(store, settings, told).run(leader.lead.term, "ann@here", full=False) is None
    assert told.notes[1:] == ["The process that led has ended, and nobody leads now."]


def test_a_leader_that_is_killed_in_the_cycle(store: SqlStore, settings: Settings) -> None:
    """The cycle stays open in the store, and nobody waits for it."""
    with led(store, ENDED_WELL) as leader:
        gone = threading.Event()

        def die(cycle_id: int) -> None:
            leader.lead.give_up()
            assert gone.wait(PATIENCE)

        leader.during = die
        report = wanted(store, settings, Told()).run(leader.lead.term, "ann@here", full=False)
        assert report is None
        assert store.cycles(1)[0].status is CycleStatus.RUNNING
        gone.set()


def test_a_pause_ends_the_wait(store: SqlStore, settings: Settings) -> None:
    """It says who paused."""
    with led(store) as leader:
        store.pause("bob@there", "disk swap")
        with pytest.raises(Paused, match="bob@there"):
            wanted(store, settings, Told()).run(leader.lead.term, "ann@here", full=False)


def test_a_caller_may_give_up(store: SqlStore, settings: Settings) -> None:
    """The request stays: it was made."""
    stop = threading.Event()
    stop.set()
    with led(store) as leader, pytest.raises(Stopped):
        wanted(store, settings, Told(), stop).run(leader.lead.term, "ann@here", full=False)
    assert store.control().has_request


def test_the_refusal_of_a_cycle_of_ones_own_says_what_to_do() -> None:
    """Exit code 5, as for every second leader."""
    error = no_own_cycle()
    assert error.exit_code == 5
    assert "--adopt or --rebuild" in str(error)

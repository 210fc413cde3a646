"""The self-test from beginning to end: its steps in order, and their output."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from chromasync.config import MaxDelete, Settings
from chromasync.errors import ChromasyncError
from chromasync.lab.selftest.acts import Play, check_names, check_servers
from chromasync.lab.selftest.cleanup import clean_up, clear_leftovers
from chromasync.lab.selftest.crew import Crew
from chromasync.lab.selftest.lifetime import kept_alive
from chromasync.lab.selftest.report import (
    FAILED,
    NOT_SHOWN,
    PASSED,
    TITLE,
    VERIFIED,
    SelftestReport,
)
from chromasync.lab.selftest.stage import Place, Say, Stage, find_place, open_stage
from chromasync.lab.selftest.verdict import judge_sides
from chromasync.lab.selftest.watch import Watch, someone_leads
from chromasync.ledger.scrub import reread_seconds

OWN_SECONDS = 120.0
"""Time limit with the self-test's own processes only."""
CYCLES_WAITED_FOR = 4
"""Time limit of both acts, in intervals of a running coordinator."""
CHUNK_SIZE = 20
QUICK = {
    "sync_interval": 2.0,
    "sync_chunk_size": CHUNK_SIZE,
    "sync_workers": 1,
    "sync_scrub_budget": 1.0,
    "sync_lead_seconds": 10.0,
    "sync_lease_seconds": 20.0,
    "sync_coordinator_works": True,
    "sync_max_delete": MaxDelete(10, is_percentage=True),
    # it leaves no trace on the servers, and touches nothing that a mark vouches for
    "sync_mark": False,
}
"""Settings of our own coordinator and workers that override the given ones."""


def run_selftest(
    settings: Settings, say: Say, *, timeout_seconds: float | None = None, sqlite: bool = False
) -> SelftestReport:
    """Run the self-test, print its progress, and report the figures.

    All findings and errors are in the report, which also has the command's exit code.

    Args:
        settings: the servers and the store, or none of them.
        say: takes one line for people.
        timeout_seconds: limit of all waiting together; None chooses one.
        sqlite: an own store shall be SQLite, even where PostgreSQL is installed.
    """
    began = time.monotonic()
    report = SelftestReport()
    say(TITLE)
    try:
        with find_place(settings, say, sqlite=sqlite) as place, open_stage(place) as stage:
            _describe(place, report)
            _play(stage, say, report, timeout_seconds)
    except ChromasyncError as error:
        report.note(str(error), error.exit_code)
    except Exception:
        say(FAILED)
        raise
    report.duration_seconds = time.monotonic() - began
    for problem in report.problems:
        say(problem)
    say(PASSED if report.passed else FAILED)
    return report


def _describe(place: Place, report: SelftestReport) -> None:
    report.servers = "own" if place.own else "configured"
    report.store = place.store_kind


def _play(stage: Stage, say: Say, report: SelftestReport, timeout_seconds: float | None) -> None:
    """Both acts and the verdict; at the end, processes and collections are always removed."""
    check_servers(stage)
    running = someone_leads(stage.store, stage.settings.sync_lead_seconds)
    report.coordinator = "running" if running else "started"
    if running:
        check_names(stage)
        say("A coordinator leads on this store already, so two workers are started to join it.")
    else:
        say("No process leads on this store, so a coordinator and two workers are started.")
    settings = stage.settings if running else stage.only_ours.model_copy(update=QUICK)
    seconds = timeout_seconds or _usual_seconds(stage, running=running)
    _clear_leftovers(stage, say, report)
    with (
        _cleaned_up(stage, say, report),
        kept_alive(stage.store, stage.prefix),
        Crew(settings, stage.place.folder) as crew,
    ):
        watch = Watch(stage.store, crew.check, seconds)
        play = Play(
            stage,
            crew,
            watch,
            say,
            report,
            running=running,
            chunk_size=settings.sync_chunk_size,
            lasts_seconds=seconds + _quiet_seconds(stage),
        )
        play.copy()
        play.change()
        # the verdict is about servers at rest: nobody mends what it is about to find
        crew.end()
        if judge_sides(stage, play.subjects, say, report):
            say(VERIFIED)


@contextmanager
def _cleaned_up(stage: Stage, say: Say, report: SelftestReport) -> Iterator[None]:
    try:
        yield
    finally:
        problems = clean_up(stage, _quiet_seconds(stage))
        for problem in problems:
            report.note(problem, NOT_SHOWN)
        if not problems:
            say(
                "Cleaned up: the test's processes have ended, its collections are gone from both "
                "sides, and the store has forgotten them."
            )


def _clear_leftovers(stage: Stage, say: Say, report: SelftestReport) -> None:
    """Remove the collections of earlier self-tests that were killed."""
    count, problems = clear_leftovers(stage, _quiet_seconds(stage))
    for problem in problems:
        report.note(problem, NOT_SHOWN)
    if count:
        say(f"Removed first: {count} collections of self-tests that were killed.")


def _quiet_seconds(stage: Stage) -> float:
    """Longest wait for the end of a running cycle, before anything is removed."""
    return OWN_SECONDS + stage.settings.sync_interval


def _usual_seconds(stage: Stage, *, running: bool) -> float:
    """The default time limit, which depends on the interval of a running coordinator."""
    if not running:
        return OWN_SECONDS
    settings, seen = stage.settings, stage.store.snapshot(0)
    read_seconds = sum(seen.read_seconds.values())
    reread = reread_seconds(settings, seen.active_workers, read_seconds) or 0.0
    return OWN_SECONDS + CYCLES_WAITED_FOR * settings.sync_interval + reread

"""What the first line of `status` and the last of `sync` say of how fresh the replica is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from chromasync.model import Cycle, CycleStatus
from chromasync.reports import Outcome, StatusSnapshot
from chromasync.wording.freshness import NEVER_REREAD, headline, reread_sentence, verdict
from tests.cli.fakes import NOON, cycle_report, empty_snapshot, snapshot

WEEK = timedelta(days=7)
AS_OF = "Identical as of 2030-01-02 12:00:00 UTC"
OLD = "Out of date: the newest completed cycle began 7 d ago, and SYNC_ALERT_LAG is 15 min."
NEVER = "Not identical yet: no cycle has ended with all collections identical."
AHEAD = (
    "Not known to be fresh: the last stored instant is 2030-01-02 12:00:00 UTC, but it is "
    "2029-12-26 12:00:00 UTC now. A clock has jumped; the next completed cycle shows the "
    "freshness again."
)
FAILED = (Cycle(8, NOON, CycleStatus.FAILED),)


def later(by: timedelta, **changes: object) -> StatusSnapshot:
    """The same store, looked at so much later."""
    return replace(snapshot(), taken_at=NOON + by, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "line"),
    [
        (later(timedelta(minutes=15)), f"{AS_OF}, 15 min ago."),
        (later(WEEK), f"{OLD} {AS_OF}, 7 d ago."),
        (later(WEEK, identical_as_of=None), f"{OLD} {NEVER}"),
        (
            later(timedelta(0), clean_at=None, cycles=FAILED),
            f"Out of date: no completed cycle is known. {AS_OF}, 0 s ago.",
        ),
        (later(timedelta(0), clean_at=None, identical_as_of=None, cycles=FAILED), NEVER),
        (later(-WEEK), AHEAD),
        (later(-WEEK, clean_at=NOON - WEEK), AHEAD),
    ],
    ids=["just in time", "old", "old, never identical", "none", "first", "ahead", "one ahead"],
)
def test_the_first_line_is_well_only_while_the_newest_cycle_is(
    seen: StatusSnapshot, line: str
) -> None:
    """Too long ago and in the future are said before anything else."""
    assert headline(seen) == line
    assert (seen.exit_code == 0) == line.startswith(AS_OF)


def test_before_the_first_cycle_nothing_is_out_of_date() -> None:
    """There is nothing yet that could be."""
    assert headline(empty_snapshot()).startswith("No cycle has run yet")


def test_without_a_scrub_budget_the_status_says_never() -> None:
    """A line that is left out would be no warning."""
    assert reread_sentence(snapshot()) == "Every record is read again within 4 h."
    assert reread_sentence(replace(snapshot(), reread_seconds=None)) == NEVER_REREAD
    assert "never read again, because SYNC_SCRUB_BUDGET is 0" in NEVER_REREAD


@pytest.mark.parametrize("outcome", [Outcome.IDENTICAL, Outcome.LIMITED])
def test_a_cycle_that_reads_nothing_again_claims_no_more_than_was_read(outcome: Outcome) -> None:
    """The instant is named for what it is: that of the last read."""
    report = cycle_report(outcome)
    assert "last read" not in verdict(report)
    never = verdict(replace(report, never_reread=True))
    assert never.startswith(f"{AS_OF}, when the oldest record was last read")

"""`pause` and `resume`: what is asked of the program, and what people read."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from chromasync.model import ControlRow
from chromasync.reports import FenceOutcome
from tests.cli.conftest import Invoke
from tests.cli.fakes import NOON, FakeProgram, fence_report, snapshot

HOUR = 3600.0
SERVERLESS = {"PRIMARY_URL": "", "REPLICA_URL": ""}


def test_a_pause_needs_no_server(invoke: Invoke, fake: FakeProgram) -> None:
    """It says what happens within which time, and how it ends."""
    result = invoke("pause", "--reason", "disk swap", env=SERVERLESS)
    assert result.exit_code == 0
    assert fake.asked == [("pause", None, "disk swap")]
    assert result.stdout == (
        "Paused. Within 5 seconds no process of this store sends a request to either server. It "
        "lasts until someone runs: chromasync resume\n"
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", HOUR / 2),
        ("2h", 2 * HOUR),
        ("1d", 24 * HOUR),
        ("1h30m", 1.5 * HOUR),
        ("0.5h", HOUR / 2),
        ("2H", 2 * HOUR),
        ("366d", 366 * 24 * HOUR),
    ],
)
def test_a_pause_with_an_end(invoke: Invoke, fake: FakeProgram, text: str, seconds: float) -> None:
    """The time has a unit, so that nobody takes minutes for seconds."""
    result = invoke("pause", "--for", text)
    assert result.exit_code == 0
    assert fake.asked == [("pause", seconds, "")]
    end = NOON + timedelta(seconds=seconds)
    assert f"It ends at {end:%Y-%m-%d %H:%M:%S} UTC" in result.stdout


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-2h", "2w", "1h30", "0s", "0.5s", "367d", "9" * 400 + "d"]
)
def test_a_time_that_says_nothing_is_a_usage_error(
    invoke: Invoke, fake: FakeProgram, text: str
) -> None:
    """It names the value and what is allowed, and pauses nothing."""
    result = invoke("pause", "--for", text)
    assert result.exit_code == 2
    assert "--for" in result.stderr
    assert ("like 90s, 30m, 2h, 1d" in result.stderr) != ("between 1s and 366d" in result.stderr)
    assert fake.asked == []


def test_resume_says_whether_anything_was_paused(invoke: Invoke, fake: FakeProgram) -> None:
    """Both are fine; a script may resume twice."""
    assert invoke("resume", env=SERVERLESS).stdout.startswith("Resumed.")
    fake.was_paused = False
    result = invoke("resume")
    assert (result.exit_code, result.stdout) == (0, "Nothing was paused.\n")


def test_the_documents_of_pause_and_resume(invoke: Invoke) -> None:
    """They have the control row, and whether a pause was and is in force."""
    document = json.loads(invoke("pause", "--for", "1h", "--json").stdout)
    assert document["control"]["paused_until"] == "2030-01-02T13:00:00Z"
    assert (document["was_paused"], document["is_paused"]) == (False, True)
    document = json.loads(invoke("resume", "--json").stdout)
    assert (document["was_paused"], document["is_paused"]) == (True, False)


def test_status_shows_who_paused_since_when_and_why(invoke: Invoke, fake: FakeProgram) -> None:
    """Right below its first line; the words of others cannot drive the terminal."""
    row = ControlRow(NOON, "ann@here", "disk\x1b[2Jswap.", NOON + timedelta(hours=1))
    fake.shown_status = replace(snapshot(), control=row)
    lines = invoke("status").stdout.splitlines()
    assert lines[1] == (
        "Paused since 2030-01-02 12:00:00 UTC, 12 s ago, by ann@here: disk\\x1b[2Jswap. It ends at "
        "2030-01-02 13:00:00 UTC, or earlier with: chromasync resume"
    )
    document = json.loads(invoke("status", "--json").stdout)
    assert document["is_paused"]
    assert document["control"]["paused_by"] == "ann@here"


def test_a_pause_that_ran_out_is_not_shown(invoke: Invoke, fake: FakeProgram) -> None:
    """Nobody has to clear it."""
    row = ControlRow(NOON, "ann@here", "", NOON + timedelta(seconds=1))
    fake.shown_status = replace(snapshot(), control=row)
    assert "Paused" not in invoke("status").stdout
    assert not json.loads(invoke("status", "--json").stdout)["is_paused"]


def test_a_fence_that_is_verified(invoke: Invoke, fake: FakeProgram) -> None:
    """It says as of when, and what it cost."""
    result = invoke("fence", "--timeout", "60")
    assert result.exit_code == 0
    assert fake.asked == [("fence", 60.0)]
    assert result.stdout == (
        "All that was written to the primary before 2030-01-02 12:00:00 UTC is on the replica: "
        "1,234 records in 1 collection, verified in 2 cycles and 3.2 s.\n"
    )


def test_a_fence_that_is_not_verified_says_why(invoke: Invoke, fake: FakeProgram) -> None:
    """The exit code is that of the reason."""
    fake.fenced = fence_report(outcome=FenceOutcome.TIMED_OUT, reason="The time\x07 ran out.")
    result = invoke("fence")
    assert result.exit_code == 1
    assert result.stdout.endswith("is verified. The time\\x07 ran out.\n")
    document = json.loads(invoke("fence", "--json").stdout)
    assert (document["exit_code"], document["outcome"]) == (1, "timed out")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_without_end_or_sense(invoke: Invoke, seconds: str) -> None:
    """Seconds are a number that a clock can reach."""
    assert invoke("fence", "--timeout", seconds).exit_code == 2

"""The command `promote`: what it asks for, and what it says to people and programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from chromasync.failover_reports import PromoteOutcome
from chromasync.model import Direction, DirectionState, MirrorStatus
from tests.cli.conftest import Invoke
from tests.cli.fakes import FakeProgram, fence_report, promote_report

PLANNED = Direction(DirectionState.PROMOTED, by="ann@here", url="http://two:8000", planned=True)


def test_a_failover_names_what_may_be_missing(invoke: Invoke, fake: FakeProgram) -> None:
    """Each collection has the instant, with its age, up to which it is complete."""
    result = invoke("promote")
    assert result.exit_code == 0
    assert fake.asked == [("promote", False, None, False)]
    said = result.stdout
    assert "Failover: the replica http://two:8000 is the primary now." in said
    assert "t/d/docs: 2030-01-02 12:00:00 UTC, 1 min 30 s ago (1,234 records)" in said
    assert "never copied whole (7 records, syncing)" in said
    assert "\x07" not in said


def test_a_switchover_says_that_nothing_is_lost(invoke: Invoke, fake: FakeProgram) -> None:
    """The fence has its limit."""
    fake.promoted = promote_report(direction=PLANNED, fence=fence_report())
    result = invoke("promote", "--wait-for-fence", "--timeout", "60")
    assert result.exit_code == 0
    assert fake.asked == [("promote", True, 60.0, False)]
    assert "Switchover: the replica http://two:8000 is the primary now." in result.stdout
    assert "nothing is lost" in result.stdout


@pytest.mark.parametrize(
    ("outcome", "code"), [(PromoteOutcome.DIFFERENT, 1), (PromoteOutcome.NOT_FENCED, 4)]
)
def test_what_was_not_promoted_says_why(
    invoke: Invoke, fake: FakeProgram, outcome: PromoteOutcome, code: int
) -> None:
    """The replica follows on, and the exit code says so, too."""
    fake.promoted = promote_report(outcome=outcome, reason="The time\x07 ran out.")
    result = invoke("promote", "--wait-for-fence")
    assert result.exit_code == code
    assert "The replica was not promoted, and follows on. The time" in result.stdout
    document = json.loads(invoke("promote", "--json", "--wait-for-fence").stdout)
    assert (document["outcome"], document["exit_code"]) == (outcome, code)


def test_a_second_promotion_does_nothing(invoke: Invoke, fake: FakeProgram) -> None:
    """It ends with 0, because the replica is promoted."""
    fake.promoted = promote_report(outcome=PromoteOutcome.ALREADY)
    result = invoke("promote")
    assert result.exit_code == 0
    assert "was promoted before" in result.stdout


def test_a_failover_waits_for_no_fence(invoke: Invoke, fake: FakeProgram) -> None:
    """The two kinds exclude each other."""
    result = invoke("promote", "--wait-for-fence", "--anyway")
    assert result.exit_code == 2
    assert fake.asked == []


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (PromoteOutcome.CANCELLED, "The replica follows again."),
        (PromoteOutcome.NOT_BEGUN, "No unfinished promotion was found"),
    ],
)
def test_an_unfinished_promotion_is_cancelled(
    invoke: Invoke, fake: FakeProgram, outcome: PromoteOutcome, said: str
) -> None:
    """Where there is none, nothing happens."""
    fake.promoted = promote_report(outcome=outcome)
    result = invoke("promote", "--cancel")
    assert result.exit_code == 0
    assert fake.asked == [("cancel",)]
    assert result.stdout.startswith(said)
    assert json.loads(invoke("promote", "--cancel", "--json").stdout)["outcome"] == outcome


@pytest.mark.parametrize("option", ["--anyway", "--wait-for-fence"])
def test_a_cancellation_goes_with_no_other_option(
    invoke: Invoke, fake: FakeProgram, option: str
) -> None:
    """Whoever gives both has not decided."""
    assert invoke("promote", "--cancel", option).exit_code == 2
    assert fake.asked == []


def test_what_is_not_known_is_not_promised(invoke: Invoke, fake: FakeProgram) -> None:
    """A collection that is not as it was left has no instant, and a warning says why."""
    (docs, _) = fake.promoted.collections
    unsure = replace(docs, identical_as_of=None, unsure=True)
    limited = replace(docs, status=MirrorStatus.LIMITED)
    fake.promoted = promote_report(collections=(unsure, limited), warnings=("Why\x07.",))
    said = invoke("promote").stdout
    assert "t/d/docs: unknown, see below (1,234 records)" in said
    assert "(1,234 records, some with parts missing)" in said
    assert "Why" in said.splitlines()[-1]

"""The functions over a program that answers from memory: what they pass on, return and raise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Event as ThreadEvent
from typing import Any

import pytest

import chromasync
from chromasync.app import Application
from chromasync.errors import AnotherInstance, Paused, SettingsError
from tests.cli.fakes import HOLD, FakeProgram
from tests.unit.configs import ONE, TWO

pytestmark = pytest.mark.usefixtures("two_servers_alone")
Pair = Callable[..., Any]
sync: Any = chromasync.sync
WITH_SERVERS = [chromasync.sync, chromasync.plan, chromasync.verify]


class Lines:
    """Remembers what is shown of the progress."""

    def __init__(self) -> None:
        self.shown: list[object] = []

    def start(self, activity: str, total: int | None) -> None:
        self.shown.append((activity, total))

    def advance(self, count: int) -> None:
        self.shown.append(count)

    def note(self, text: str) -> None:
        self.shown.append(text)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProgram:
    """The program behind the functions."""
    standin = FakeProgram()
    monkeypatch.setattr(Application, "open", standin.open)
    return standin


def test_sync_passes_its_options_on_and_returns_the_report(fake: FakeProgram) -> None:
    """The report is the frozen one of the program, which is closed afterwards."""
    report = chromasync.sync(ONE, TWO, full=True, adopt=True, rebuild=["docs", "users"])
    assert report is fake.cycle
    assert fake.asked == [("sync", True, "adopt", "docs", "users")]
    assert fake.closed
    with pytest.raises(AttributeError):
        report.outcome = chromasync.Outcome.HELD  # type: ignore[misc]


def test_one_name_to_rebuild_is_no_list_of_letters(fake: FakeProgram) -> None:
    """A single name may be given as it is."""
    chromasync.sync(ONE, TWO, rebuild="docs")
    chromasync.plan(ONE, TWO, rebuild="docs")
    assert fake.asked == [("sync", False, "docs"), ("plan", "docs")]


def test_plan_verify_and_status_return_their_reports(fake: FakeProgram) -> None:
    """Each function asks the program for what the command of its name asks for."""
    assert isinstance(chromasync.plan(ONE, TWO), chromasync.PlanReport)
    assert chromasync.verify(ONE, TWO, sample_percent=5, queries=3, repair=True) is fake.verified
    assert chromasync.status() is fake.shown_status
    assert chromasync.status(primary=ONE, replica=TWO, store="state.db") is fake.shown_status
    assert fake.asked == [("plan",), ("verify", 5, True, 3), ("status",), ("status",)]
    assert fake.settings is not None
    assert fake.settings.store.shown == "sqlite:///state.db"


def test_a_report_is_not_taken_for_one_that_a_person_has_seen(fake: FakeProgram) -> None:
    """So an approval by a bare name still needs a number or a digest."""
    chromasync.sync(ONE, TWO)
    chromasync.status()
    assert fake.shown == []


@pytest.mark.parametrize(
    ("what", "names"),
    [
        (HOLD, ("id-old@3f9a1b2c4d5e",)),
        ([HOLD, replace(HOLD, set_digest="77aa")], ("id-old@3f9a1b2c4d5e", "id-old@77aa")),
        ("old@3f9a", ("old@3f9a",)),
        (("old@3f9a", "new"), ("old@3f9a", "new")),
    ],
    ids=["hold", "holds", "name", "names"],
)
def test_approve_means_exactly_the_holds_that_it_is_given(
    fake: FakeProgram, what: Any, names: tuple[str, ...]
) -> None:
    """A hold of a report is named by collection and digest, so that no later one is meant."""
    assert chromasync.approve(what) == (HOLD,)
    assert fake.asked == [("approve", names, False)]


def test_approve_passes_the_expected_number_on(fake: FakeProgram) -> None:
    """A name may come with the number of records that its caller has seen."""
    chromasync.approve("old", expect=500)
    assert fake.asked == [("approve", ("old",), False, 500)]


@pytest.mark.parametrize("function", WITH_SERVERS, ids=lambda function: function.__name__)
def test_progress_goes_to_the_object_that_is_given(
    fake: FakeProgram, capsys: pytest.CaptureFixture[str], function: Pair
) -> None:
    """Without one nothing is shown."""
    lines = Lines()
    function(ONE, TWO, progress=lines)
    assert lines.shown == [("reading docs", 10), 10, "docs is done"]
    function(ONE, TWO)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("trouble", [Paused("Paused."), AnotherInstance("Another one leads.")])
@pytest.mark.parametrize("function", WITH_SERVERS, ids=lambda function: function.__name__)
def test_errors_of_the_program_are_raised_as_they_are(
    fake: FakeProgram, function: Pair, trouble: chromasync.ChromasyncError
) -> None:
    """The same object comes out, with its three sentences and its exit code."""
    fake.trouble = trouble
    with pytest.raises(type(trouble)) as caught:
        function(ONE, TWO)
    assert caught.value is trouble
    assert fake.closed


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (partial(chromasync.verify, sample_percent=0), "sample_percent is 0; allowed: a number"),
        (partial(chromasync.verify, sample_percent=float("nan")), "sample_percent is nan; allowed"),
        (partial(chromasync.verify, queries=-1), "queries is -1; allowed: a whole number from 0"),
        (partial(sync, rebuild=[1]), "rebuild is [1]; allowed: the name of a"),
    ],
    ids=["sample", "no number", "queries", "rebuild"],
)
def test_a_wrong_argument_is_refused(fake: FakeProgram, call: Pair, said: str) -> None:
    """It is a SettingsError like that of a wrong setting, and nothing is asked."""
    with pytest.raises(SettingsError) as caught:
        call(ONE, TWO)
    assert caught.value.what.startswith(said)
    assert fake.asked == []


def test_an_event_loop_goes_on_beside_a_call(
    fake: FakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an executor, a call blocks its own thread only."""
    go_on = ThreadEvent()

    def status(program: FakeProgram) -> chromasync.StatusSnapshot:
        assert go_on.wait(60)
        return program.shown_status

    async def both() -> chromasync.StatusSnapshot:
        waiting = asyncio.create_task(asyncio.to_thread(chromasync.status))
        await asyncio.sleep(0)
        go_on.set()
        return await waiting

    monkeypatch.setattr(FakeProgram, "status", status)
    # in a thread of its own: a browser of another test may have left a loop in this one
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(lambda: asyncio.run(both())).result() is fake.shown_status

"""What the tests themselves rely on: nothing is left behind, nothing is skipped in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import conftest
from tests.support import order, remains
from tests.support.measured import FOR_CHILDREN, TESTS, Measured

LEAVE = "import subprocess; subprocess.Popen(['sleep', '601'])"


def test_a_process_that_a_fixture_leaves_behind_is_told_and_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A child as well as an orphan; one that was there before is nobody's fault."""
    monkeypatch.setattr(remains, "LAST_SECONDS", 0.1)
    monkeypatch.setenv(remains.SIGN, "is put back")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE):
        block = remains.none_remain()
        block.__enter__()
        child = subprocess.Popen(["sleep", "600"])
        subprocess.run([sys.executable, "-I", "-S", "-c", LEAVE], check=True)
        with pytest.raises(AssertionError, match="nobody has ended") as caught:
            block.__exit__(None, None, None)
    assert child.wait(60) == -signal.SIGKILL
    told = sorted(line.partition(": ")[2] for line in str(caught.value).splitlines()[1:])
    assert told == ["sleep 600", "sleep 601"]


def test_where_all_has_ended_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends by itself is waited for."""
    monkeypatch.setenv(remains.SIGN, "is put back")
    with remains.none_remain():
        ends = subprocess.Popen(["sleep", "0.1"])
    assert ends.wait() == 0


def report_of(around: Any, **report: str) -> str:
    """The outcome that a hook makes of a report."""
    next(around)
    with pytest.raises(StopIteration) as given:
        around.send(SimpleNamespace(**report))
    return str(given.value.value.outcome)


def item_with(*marks: str) -> Any:
    """A test with these marks."""
    return SimpleNamespace(get_closest_marker=lambda name: name if name in marks else None)


@pytest.mark.parametrize(
    "hook",
    [lambda: conftest.pytest_runtest_makereport(item_with()), conftest.pytest_make_collect_report],
    ids=["test", "file"],
)
def test_what_skips_itself_fails(hook: Any) -> None:
    """A test or a file; one that passes, or fails as it is expected to, stays as it was."""
    for outcome, expected in (("skipped", "failed"), ("passed", "passed"), ("failed", "failed")):
        assert report_of(hook(), outcome=outcome) == expected
    assert report_of(hook(), outcome="skipped", wasxfail="a known defect") == "skipped"


def test_where_a_mark_says_that_a_test_is_void_it_is_skipped() -> None:
    """As on another operating system; the summary of the run tells it."""
    around = conftest.pytest_runtest_makereport(item_with("skipif"))
    assert report_of(around, outcome="skipped") == "skipped"


def test_only_the_tests_of_the_core_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The measurement and its children's stop for any other test, and go on afterwards."""
    monkeypatch.setenv(FOR_CHILDREN, "config")
    done: list[str] = []
    measurement: Any = SimpleNamespace(
        start=lambda: done.append("start"), stop=lambda: done.append("stop")
    )
    plugin = Measured(measurement)
    measured = []
    for folder in ("unit", "store", "server", "property", "unit"):
        item: Any = SimpleNamespace(path=Path(TESTS) / folder / "test_x.py")
        around = plugin.pytest_runtest_protocol(item)
        next(around)
        measured.append(FOR_CHILDREN in os.environ)
    assert done == ["stop", "start"]
    assert measured == [True, False, False, True, True]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_process_begins_with_its_share_of_the_longest(processes: int) -> None:
    """Every test is there once, and all others keep their random order."""
    names = "abcdEfGhijkLm"
    items: list[Any] = [
        SimpleNamespace(name=n, get_closest_marker=lambda _, n=n: n.isupper()) for n in names
    ]
    order.begin_with_the_longest(items, processes)
    given = "".join(item.name for item in items)
    assert sorted(given) == sorted(names)
    assert [n for n in given if n.islower()] == [n for n in names if n.islower()]
    for left in range(processes, 0, -1):  # as pytest-xdist gives them out
        part, given = given[: len(given) // left], given[len(given) // left :]
        assert part[0].isupper()

"""Tests whose program is missing: left out with one line, or failed where nothing may be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import programs
from tests.support.programs import PROGRAMS, STRICT, LeaveOut, Program

GONE = Program(("no-such-program-here",), "no-such-package", "the tests of a thing")


def item(*needs: str) -> Any:
    """A collected test with these needs."""
    marks = [SimpleNamespace(args=(name,)) for name in needs]
    return SimpleNamespace(iter_markers=lambda name: marks if name == "needs" else [])


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run on a machine where a program is missing and nothing can be installed."""
    monkeypatch.setitem(PROGRAMS, "gone", GONE)
    monkeypatch.setattr(programs, "_install", lambda program: None)
    monkeypatch.delenv(STRICT, raising=False)
    dropped: list[Any] = []

    def note(items: list[Any]) -> None:
        dropped.extend(items)

    hook = SimpleNamespace(pytest_deselected=note)
    return SimpleNamespace(hook=hook, dropped=dropped, workeroutput={})


def lines_of(plugin: LeaveOut) -> list[str]:
    """The lines at the end of the run."""
    told: list[str] = []
    reporter: Any = SimpleNamespace(write_line=told.append)
    plugin.pytest_terminal_summary(reporter)
    return told


def test_a_missing_program_leaves_out_its_tests_and_says_how_to_get_it(config: Any) -> None:
    """One line for any number of tests, also when another process of the run left them out."""
    items = [item("gone"), item(), item("gone")]
    kept = items[1]
    plugin, printer = LeaveOut(), LeaveOut()
    plugin.pytest_collection_modifyitems(config, items)
    assert items == [kept]
    assert len(config.dropped) == 2
    plugin.pytest_sessionfinish(SimpleNamespace(config=config))  # type: ignore[arg-type]
    printer.pytest_testnodedown(SimpleNamespace(workeroutput=config.workeroutput))
    line = (
        "Left out: the tests of a thing, because no-such-program-here is missing; "
        "apt-get install no-such-package"
    )
    assert lines_of(plugin) == lines_of(printer) == [line]


def test_where_nothing_may_be_left_out_the_test_fails(
    config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the run, and fails with the same advice."""
    monkeypatch.setenv(STRICT, "yes")
    items, plugin = [item("gone")], LeaveOut()
    plugin.pytest_collection_modifyitems(config, items)
    assert len(items) == 1
    assert lines_of(plugin) == []
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-package"):
        GONE.find()


def test_a_program_that_is_there_leaves_nothing_out(config: Any) -> None:
    """Whoever needs a program of every system runs."""
    shell = Program(("sh",), "dash", "nothing")
    items, plugin = [item("shell")], LeaveOut()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROGRAMS, "shell", shell)
        plugin.pytest_collection_modifyitems(config, items)
    assert (len(items), lines_of(plugin)) == (1, [])

"""The command `chromasync selftest`, with a self-test that says what it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from chromasync.cli import composition
from chromasync.cli.commands import program
from chromasync.config import Settings
from chromasync.lab.selftest import SelftestReport

Asked = list[tuple[float | None, bool]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Asked]:
    """What the self-test was asked for; it finds one difference."""
    asked: Asked = []

    def play(
        settings: Settings,
        say: Callable[[str], None],
        *,
        timeout_seconds: float | None,
        sqlite: bool,
    ) -> SelftestReport:
        assert not settings.primary_url
        asked.append((timeout_seconds, sqlite))
        say("🧪 one line")
        report = SelftestReport(tasks_created=7)
        report.note("It differs.", 1)
        report.note("The replica is away.", 3)
        return report

    monkeypatch.setattr(composition, "play_selftest", play)
    for name in ("PRIMARY_URL", "REPLICA_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield asked
    structlog.reset_defaults()


def invoke(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(program, ("selftest", *arguments), prog_name="chromasync")


def test_it_passes_its_options_on_and_ends_with_the_first_exit_code(asked: Asked) -> None:
    """The lines go to stdout, and the first thing that went wrong decides."""
    result = invoke("--timeout", "5", "--sqlite")
    assert result.exit_code == 1
    assert result.stdout == "🧪 one line\n"
    assert asked == [(5.0, True)]


def test_json_is_one_document_on_stdout(asked: Asked) -> None:
    """With --json the lines go to stderr, and stdout has the figures."""
    result = invoke("--json")
    assert result.stderr == "🧪 one line\n"
    document = json.loads(result.stdout)
    assert (document["command"], document["exit_code"]) == ("selftest", 1)
    assert document["tasks_created"] == 7
    assert document["problems"] == ["It differs.", "The replica is away."]
    assert asked == [(None, False)]


def test_quiet_says_nothing(asked: Asked) -> None:
    """With -q the exit code alone tells."""
    result = invoke("-q")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "")


def test_no_time_at_all_is_a_usage_error(asked: Asked) -> None:
    """The time limit is at least a second."""
    assert invoke("--timeout", "0").exit_code == 2
    assert asked == []

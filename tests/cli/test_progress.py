from __future__ import annotations

import json

import pytest
import stamina
import structlog

from chromasync.cli.logs import configure_logs
from chromasync.cli.progress import TerminalProgress
from chromasync.config import LogFormat, LogLevel
from chromasync.errors import ServerUnreachable


def test_a_terminal_sees_activity_count_and_total(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal the bar on stderr shows the activity and how far it is."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    with TerminalProgress() as progress:
        progress.start("listing", None)
        progress.advance(3)
        progress.start("reading docs", 2000)
        progress.advance(1500)
        progress.note("one note\n")
    out, err = capsys.readouterr()
    assert out == ""
    assert "reading docs" in err
    assert "1,500 of 2,000" in err
    assert "one note\\n" in err


def test_quiet_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet progress prints neither bars nor notes."""
    with TerminalProgress(quiet=True) as progress:
        progress.start("reading", 10)
        progress.advance(1)
        progress.note("hush")
    assert capsys.readouterr() == ("", "")


def test_logs_are_json_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, auto makes each line on stderr a JSON object with level and time."""
    configure_logs(LogFormat.AUTO, LogLevel.INFO)
    structlog.get_logger().debug("too small")
    structlog.get_logger().info("chunk done", chunk=3)
    out, err = capsys.readouterr()
    line = json.loads(err)
    assert out == ""
    assert (line["event"], line["chunk"], line["level"]) == ("chunk done", 3, "info")
    assert line["timestamp"].endswith("Z")


def test_an_exception_in_a_json_line_is_data(capsys: pytest.CaptureFixture[str]) -> None:
    """Tracebacks stay inside their line, so that a log collector keeps them together."""
    configure_logs(LogFormat.JSON, LogLevel.INFO)
    try:
        int("wrong")
    except ValueError:
        structlog.get_logger().exception("failed")
    line = json.loads(capsys.readouterr().err)
    assert line["exception"][0]["exc_type"] == "ValueError"


def test_the_console_format_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    """In console format a line starts with time and level, without escape codes for a file."""
    configure_logs(LogFormat.CONSOLE, LogLevel.WARNING)
    structlog.get_logger().warning("slow", seconds=3)
    err = capsys.readouterr().err
    assert "slow" in err
    assert "seconds=3" in err
    assert "\x1b" not in err


def test_retries_are_told_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """A repeated request is one short line with its cause, in the order people read."""
    configure_logs(LogFormat.JSON, LogLevel.INFO)
    caught: list[Exception] = []

    @stamina.retry(on=ServerUnreachable, attempts=2, wait_initial=0, wait_max=0, wait_jitter=0)
    def fail() -> None:
        caught.append(ServerUnreachable("The primary is away.", side="primary"))
        raise caught[-1]

    with pytest.raises(ServerUnreachable):
        fail()
    assert len(caught) == 2
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["attempt"], line["level"]) == ("trying again", 2, "warning")
    assert line["because"] == "The primary is away."
    assert "callable" not in line


@pytest.mark.parametrize(("watched", "lines"), [(False, 1), (True, 3)])
def test_retries_for_one_cause_are_told_once_in_a_while(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, watched: bool, lines: int
) -> None:
    """A log keeps the first of many; whoever watches a terminal sees each."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: watched)
    configure_logs(LogFormat.JSON, LogLevel.INFO)

    @stamina.retry(on=ServerUnreachable, attempts=4, wait_initial=0, wait_max=0, wait_jitter=0)
    def fail() -> None:
        raise ServerUnreachable("The primary is away.", side="primary")

    with pytest.raises(ServerUnreachable):
        fail()
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in told] == ["trying again"] * lines

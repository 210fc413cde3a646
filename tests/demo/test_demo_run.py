"""The demo as a whole, in a process of its own: what it says, what it leaves behind."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from chromasync.lab.chroma_server import LocalServerError
from chromasync.lab.demo import run_demo
from chromasync.lab.demo.show import Seen, Teller

KEEP = "from chromasync.lab.demo import run_demo; code = run_demo(Console(width=200), keep=True)"
PLAIN = KEEP.replace("True", "False")
LAZY = """
from chromasync.app import Application
honest, reports = Application.sync, []
def lazy(self, progress, **options):
    if not reports:
        reports.append(honest(self, progress, **options))
    return reports[0]
Application.sync = lazy
"""
"""Makes the program repeat its first report instead of doing anything after the first copy."""


@contextmanager
def playing(code: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo in a child whose temporary files all go into `folder`."""
    script = f"import sys\nfrom rich.console import Console\n{code}\nsys.exit(code)"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(folder), "COLUMNS": "200"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """What the process printed up to the line that contains `text`."""
    assert process.stdout is not None
    told = ""
    for line in process.stdout:
        told += line
        if text in line:
            return told
    pytest.fail(f"it never said {text!r}:\n{told}")


def look_until_fresh(line: str) -> subprocess.CompletedProcess[str]:
    """Type a command until its exit code is 0: on a slow machine a cycle may be late."""
    for _ in range(20):
        look = subprocess.run(
            ["/bin/sh", "-c", line],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        if look.returncode == 0:
            break
    return look


def left_behind(folder: Path) -> list[str]:
    """Files in `folder`, and running processes that were started for it."""
    processes = [
        " ".join(process.info["cmdline"])
        for process in psutil.process_iter(["cmdline"])
        if str(folder) in " ".join(process.info["cmdline"] or ())
    ]
    return [*processes, *(path.name for path in folder.iterdir())]


@pytest.mark.long
def test_the_demo_ends_identical_and_leaves_nothing(tmp_path: Path) -> None:
    """Every act is seen on the replica, both verdicts are identical, and all is cleaned up."""
    with playing(PLAIN, tmp_path) as process:
        told = process.communicate()[0]
    assert process.returncode == 0, told
    assert "WRONG" not in told
    for heading in ("Copying", "Adding", "Editing", "Deleting", "Renaming", "Searching"):
        assert f"\n{heading}" in told
    assert "the replica is identical." in told
    assert "says: identical." in told
    assert left_behind(tmp_path) == []


@pytest.mark.long
def test_keep_shows_how_to_look_until_interrupted(tmp_path: Path) -> None:
    """With keep, the printed commands work in any shell while it waits; Ctrl-C ends it well."""
    folder = tmp_path / "with a space"
    folder.mkdir()
    with playing(KEEP, folder) as process:
        told = read_until(process, "A cycle starts every")
        lines = [row.strip() for row in told.splitlines() if sys.executable in row]
        looks = [look_until_fresh(line) for line in lines]
        process.send_signal(signal.SIGINT)
        rest = process.communicate()[0]
    assert len(looks) == 2, told
    for look in looks:
        assert look.returncode == 0, look.stderr
        assert "library-docs" in look.stdout
    assert process.returncode == 0, told + rest
    assert left_behind(folder) == []


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C or SIGTERM in the middle stops both servers and removes their folders."""
    with playing(PLAIN, tmp_path) as process:
        read_until(process, "Two Chroma servers")
        process.send_signal(number)
        told = process.communicate()[0]
    assert process.returncode == 130, told
    assert "Interrupted." in told
    assert left_behind(tmp_path) == []


@pytest.mark.long
def test_what_did_not_arrive_is_told(tmp_path: Path) -> None:
    """A program that only claims to have worked is found out, and the exit code says so."""
    with playing(LAZY + PLAIN, tmp_path) as process:
        told = process.communicate()[0]
    assert process.returncode == 1, told
    assert "things were not right:" in told
    assert "the replica is not identical." in told
    assert "- Asked for these" in told
    assert left_behind(tmp_path) == []


def test_without_chroma_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo needs an extra; without it the error has the command to type."""
    monkeypatch.setitem(sys.modules, "chromadb", None)
    with pytest.raises(LocalServerError) as caught:
        run_demo(Console(file=io.StringIO()), keep=False)
    assert "pip install 'chromasync[demo]'" in caught.value.hint


def test_plain_output_has_no_control_characters() -> None:
    """Into a file or a pipe goes plain text, wrapped, with no trailing spaces in sentences."""
    file = io.StringIO()
    teller = Teller(Console(file=file, width=60))
    teller.title("A heading")
    teller.say("word " * 30)
    teller.judge(Seen("It is there.", right=True))
    teller.judge(Seen("It is [bold]not[/bold] there.", right=False))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert not any("\x1b" in line or line != line.rstrip() for line in lines)
    assert lines[-2:] == ["  ok     It is there.", "  WRONG  It is [bold]not[/bold] there."]
    assert (teller.right_count, len(teller.wrong)) == (1, 1)

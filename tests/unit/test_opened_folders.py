"""Opening a folder: which Chroma wrote it, who has it open, and what is made."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self, cast

import psutil
import pytest

from chromasync import folders
from chromasync.errors import (
    FolderError,
    FolderInUse,
)
from chromasync.folders import Use, in_use, open_folder, server
from chromasync.folders.database import DATABASE, Steps, refuse_steps, steps_of
from chromasync.folders.in_use import kept_alone, refuse_open, users_of
from chromasync.lab.chroma_server import LocalServerError
from tests.unit.steps import EARLY, FIRST, LATEST, write_steps

# ---- which Chroma wrote it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "ours", "may_upgrade", "words"),
    [
        (LATEST, LATEST, False, ""),
        (EARLY, EARLY, False, ""),  # a Chroma of 0.6 opens its own
        (FIRST, LATEST, True, ""),
        (FIRST, LATEST, False, "older Chroma"),
        (EARLY, LATEST, True, "0.5 or 0.6"),
        (EARLY, LATEST, False, "0.5 or 0.6"),
        (LATEST, FIRST, True, "newer Chroma"),
        (LATEST, FIRST, False, "newer Chroma"),
        (EARLY | {("sysdb", 10)}, LATEST, True, "newer Chroma"),
    ],
)
def test_another_chroma(there: Steps, ours: Steps, may_upgrade: bool, words: str) -> None:
    """Only the folder of a replica is upgraded, and only from 1.0 on."""
    folder = Path("/srv/chroma")
    if not words:
        refuse_steps(folder, there, ours, may_upgrade=may_upgrade)
        return
    with pytest.raises(FolderError, match=words) as caught:
        refuse_steps(folder, there, ours, may_upgrade=may_upgrade)
    assert "Nothing in it was changed." in str(caught.value)
    assert "give the server's URL" in caught.value.hint


def test_the_steps_are_read_from_the_file(tmp_path: Path) -> None:
    """A missing or empty file has none; what is no database of Chroma's is named."""
    assert steps_of(tmp_path) == frozenset()
    file = tmp_path / DATABASE
    file.touch()
    assert steps_of(tmp_path) == frozenset()
    file.write_text("These are my notes, not a database. " * 100)
    with pytest.raises(FolderError, match="is no database of Chroma's"):
        steps_of(tmp_path)
    file.unlink()
    write_steps(tmp_path, LATEST)
    before = file.read_bytes()
    assert steps_of(tmp_path) == LATEST
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


# ---- opening ---------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders on which a server was started; there is no real one."""
    found: list[Path] = []

    class Server:
        url = "http://127.0.0.1:4711"

        def __init__(self, path: Path, **_: Any) -> None:
            self.path = path

        def __enter__(self) -> Self:
            found.append(self.path)
            return self

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(folders, "ChromaServer", Server)
    monkeypatch.setattr(folders, "available_command", lambda: ["chroma"])
    monkeypatch.setattr(folders, "steps_by", lambda _: LATEST)
    return found


@pytest.mark.parametrize("use", list(Use))
def test_a_folder_with_data_is_opened(use: Use, tmp_path: Path, started: list[Path]) -> None:
    """Whatever the command does with it."""
    write_steps(tmp_path, LATEST)
    with open_folder(tmp_path, use) as url:
        assert url == "http://127.0.0.1:4711"
    assert started == [tmp_path]


def test_a_folder_that_is_read_is_never_made(tmp_path: Path, started: list[Path]) -> None:
    """A typing error in the primary's path is an error, and leaves nothing behind."""
    with (
        pytest.raises(FolderError, match="There is no folder"),
        open_folder(tmp_path / "chrona", Use.READ),
    ):
        pass
    (tmp_path / "empty").mkdir()
    with (
        pytest.raises(FolderError, match="no folder of Chroma's"),
        open_folder(tmp_path / "empty", Use.READ),
    ):
        pass
    (tmp_path / "empty" / DATABASE).touch()
    with (
        pytest.raises(FolderError, match="no data of Chroma's"),
        open_folder(tmp_path / "empty", Use.READ),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["empty", DATABASE]
    assert started == []


def test_a_new_replica_is_made_and_a_plan_makes_nothing(
    tmp_path: Path, started: list[Path]
) -> None:
    """A plan sees an empty folder in its place, which is gone afterwards."""
    new = tmp_path / "copy"
    with open_folder(new, Use.LOOK):
        assert not new.exists()
    with open_folder(new, Use.WRITE):
        assert new.is_dir()
    assert started[1] == new
    with open_folder(new, Use.LOOK):
        assert list(new.iterdir()) == []
    assert not started[0].exists()
    assert started[2] != new


@pytest.mark.parametrize("use", list(Use))
def test_only_a_replica_is_upgraded(use: Use, tmp_path: Path, started: list[Path]) -> None:
    """The target of a restore is new, so an older folder there is somebody else's."""
    write_steps(tmp_path, frozenset(sorted(LATEST)[:-1]))
    with ExitStack() as stack:
        if use is not Use.WRITE:
            stack.enter_context(pytest.raises(FolderError, match="older Chroma"))
        stack.enter_context(open_folder(tmp_path, use))
    assert started == ([tmp_path] if use is Use.WRITE else [])


@pytest.mark.parametrize("use", [Use.WRITE, Use.LOOK])
def test_where_no_replica_can_be(use: Use, tmp_path: Path, started: list[Path]) -> None:
    """Not below a folder that is missing, not over other files, and not in the place of a file."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    cases = {
        "unmounted/copy": "There is no folder .*unmounted",
        "notes": "no folder of Chroma's",
        "notes/mine.txt": "is not a folder",
    }
    for name, words in cases.items():
        with pytest.raises(FolderError, match=words), open_folder(tmp_path / name, use):
            pass
    assert started == []
    assert not (tmp_path / "unmounted").exists()


def test_a_folder_that_may_not_be_written(
    tmp_path: Path, started: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a folder nor in a database of someone else; Chroma would fail there."""
    write_steps(tmp_path, LATEST)
    real = os.access
    for place in (tmp_path, tmp_path / DATABASE):

        def access(path: Path, mode: int, place: Path = place) -> bool:
            return path != place and real(path, mode)

        monkeypatch.setattr(os, "access", access)
        with pytest.raises(FolderError, match="may not write"), open_folder(tmp_path, Use.READ):
            pass
    assert started == []


def test_an_old_folder_is_refused_before_a_server_starts(
    tmp_path: Path, started: list[Path]
) -> None:
    """A newer Chroma would convert it as soon as it starts."""
    write_steps(tmp_path, EARLY)
    for use in Use:
        with pytest.raises(FolderError, match=r"0\.5 or 0\.6"), open_folder(tmp_path, use):
            pass
    assert started == []


def test_without_a_chroma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra; nothing is made. A `chroma` on the path is enough."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(LocalServerError) as caught, open_folder(tmp_path / "new", Use.WRITE):
        pass
    assert "pip install 'chromasync[demo]'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    program = tmp_path / "chroma"
    program.touch(mode=0o755)
    assert server.available_command()[-1] == str(program)


# ---- who has it open -------------------------------------------------------------------------


@contextmanager
def child(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code`, says a line, and waits."""
    wait = f"{code}\nprint('ready', flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", wait, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_process_with_an_open_file_is_seen(tmp_path: Path) -> None:
    """Also by another path to the same file; this process itself counts, too."""
    folder = tmp_path / "chroma"
    (folder / "index").mkdir(parents=True)
    file = folder / "index" / "data.bin"
    file.touch()
    os.link(file, tmp_path / "elsewhere")
    with file.open(), pytest.raises(FolderInUse, match=rf"this process \({os.getpid()}\)"):
        refuse_open(folder)
    with child("import sys; kept = open(sys.argv[1])", str(tmp_path / "elsewhere")) as process:
        with pytest.raises(FolderInUse, match=rf"\({process.pid}\)"):
            refuse_open(folder)
        assert list(users_of(tmp_path / "other")) == []
    refuse_open(folder)


@pytest.mark.parametrize("words", [("run", "--path", "{}"), ("run", "--port", "1", "--path={}")])
def test_a_server_is_seen_by_its_command(words: tuple[str, ...], tmp_path: Path) -> None:
    """A server that was idle for long may have no file open."""
    named = [word.format(tmp_path) for word in words]
    with child("pass", *named) as process:
        assert [f"({process.pid})" in user for user in users_of(tmp_path)] == [True]
    assert list(users_of(tmp_path)) == []


def test_two_commands_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for a while, and then says why; no file is left in the folder."""
    with (
        kept_alone(tmp_path),
        pytest.raises(FolderInUse, match="Another command"),
        kept_alone(tmp_path, 0.0),
    ):
        pass
    first = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    monkeypatch.setattr(time, "sleep", lambda _: os.close(first))
    with kept_alone(tmp_path, 60.0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a lock nothing is opened."""

    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(FolderError, match="cannot be locked"), kept_alone(tmp_path):
        pass


@pytest.mark.parametrize(
    ("words", "serves"),
    [
        (["/usr/bin/chroma", "run"], True),
        (["python", "/usr/bin/chroma", "run", "--port", "8100"], True),
        (["chroma", "run", "--path", "chroma"], True),
        (["chroma", "run", "--path=other"], False),
        (["cargo", "run"], False),
    ],
)
def test_a_server_that_was_started_on_the_folder(
    words: list[str], serves: bool, tmp_path: Path
) -> None:
    """Without a path, `chroma run` serves the folder `chroma` of its working folder."""

    class Process:
        def cmdline(self) -> list[str]:
            return words

        def cwd(self) -> str:
            return str(tmp_path)

    found = in_use._serves(cast("psutil.Process", Process()), tmp_path / "chroma")
    assert found is serves

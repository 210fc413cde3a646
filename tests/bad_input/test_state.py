"""Bad state files, folders and disks: a clear error, nothing changed, the file left as it was."""

from __future__ import annotations

import contextlib
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from chromasync.config.settings import DATABASE_FILE
from chromasync.reports import Outcome
from chromasync.store import open_store
from tests.bad_input.conftest import contents
from tests.support.stage import ROOT, Stage, fill, run_command

DISK_BYTES = 4 * 2**20


def refused(stage: Stage, code: int, *words: str, command: str = "sync", **settings: str) -> None:
    """The command fails with this exit code and these words; servers and state are as before."""
    before, files = contents(stage), _files(stage.folder)
    ended = stage.command(*command.split(), **settings)
    assert ended.returncode == code, ended.stderr
    told = ended.stdout if command == "doctor" else ended.stderr
    for word in words:
        assert word in " ".join(told.split())
    assert ended.stderr.count("Error: ") == (command != "doctor")
    assert "Traceback" not in ended.stderr
    assert contents(stage) == before
    assert _files(stage.folder) == files


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_file_that_is_no_database(stage: Stage) -> None:
    """Some other file under the name of ours is left alone."""
    (stage.folder / "chromasync.db").write_text("These are my notes, not a database. " * 100)
    refused(stage, 4, "is not a database", "The file was left as it is.", "Name another file")


def test_a_database_of_another_program(stage: Stage) -> None:
    """A SQLite file with other tables is not ours to write into."""
    with contextlib.closing(sqlite3.connect(stage.folder / "chromasync.db")) as other, other:
        other.execute("CREATE TABLE invoices (id INTEGER)")
    refused(stage, 4, "belongs to another program (its tables: invoices)", "Name another file")


def test_a_newer_state_file(stage: Stage) -> None:
    """A file of a newer version is refused, and says so."""
    stage.sync()
    fill(stage.primary.get_collection("docs", embedding_function=None), 1, start=50)
    with stage.state() as state:
        state.execute("INSERT INTO sync_schema (version, applied_at) VALUES (99, 0)")
    refused(stage, 4, "has version 99", "It was left as it is.", "Run the newer chromasync")


@pytest.mark.long
@pytest.mark.parametrize("command", ["run", "plan", "status", "approve --all", "doctor"])
def test_no_command_uses_a_state_file_that_is_not_to_be_trusted(stage: Stage, command: str) -> None:
    """Whoever opens it ends with 4 and the reason, and leaves file and servers as they are."""
    stage.sync()
    with stage.state() as state:
        state.execute("INSERT INTO sync_schema (version, applied_at) VALUES (99, 0)")
    refused(stage, 4, "has version 99", command=command)
    file = stage.folder / "chromasync.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    refused(stage, 4, "is corrupted", command=command)


def test_missing_tables(stage: Stage) -> None:
    """A state file of ours that lost a table is not half used."""
    stage.sync()
    with stage.state() as state:
        state.execute("DROP TABLE sync_holds")
    refused(stage, 4, "Tables are missing", "sync_holds", "Move it away")


@pytest.mark.long
@pytest.mark.parametrize("part", ["head", "all pages"])
def test_a_corrupted_state_file(stage: Stage, part: str) -> None:
    """Damage to the file itself is told apart from an empty ledger; moving it away is the way."""
    stage.sync()
    file = stage.folder / "chromasync.db"
    whole = bytearray(file.read_bytes())
    if part == "head":
        whole[0:40] = bytes(40)
    else:
        whole[4096:] = os.urandom(len(whole) - 4096)
    file.write_bytes(whole)
    refused(stage, 4, "The state file", "The file was left as it is.")
    file.unlink()
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()


def test_a_folder_below_a_file(stage: Stage, tmp_path: Path) -> None:
    """There can be no state there: exit code 2, and nothing was started."""
    (tmp_path / "file").write_text("not a folder")
    refused(
        stage,
        2,
        "There can be no state file at",
        "Nothing was started.",
        "Name a writable place in SYNC_DATA_DIR",
        SYNC_DATA_DIR=str(tmp_path / "file" / "below"),
    )


def test_a_folder_that_cannot_be_written(stage: Stage) -> None:
    """As in a container with a read-only root: /proc takes no files, from root neither."""
    refused(stage, 2, "There can be no state file at /proc/1/", SYNC_DATA_DIR="/proc/1/chromasync")


def test_a_folder_in_place_of_the_file(stage: Stage) -> None:
    """DATABASE_URL names a folder."""
    refused(stage, 2, "it is a folder", DATABASE_URL=f"sqlite:///{stage.folder}")


def test_an_unknown_setting(stage: Stage) -> None:
    """A misspelt variable is named, with the one it looks like."""
    refused(stage, 2, "SYNC_INTERVALL is unknown", "SYNC_INTERVAL", SYNC_INTERVALL="5")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SYNC_MAX_DELETE", "many"),
        ("SYNC_CHUNK_SIZE", "0"),
        ("SYNC_SCRUB_BUDGET", "200%"),
        ("PRIMARY_URL", "localhost/8000"),
    ],
)
def test_a_value_that_is_not_allowed(stage: Stage, name: str, value: str) -> None:
    """The setting, its value and what is allowed."""
    refused(stage, 2, name, repr(value), "allowed: ", "Nothing was started.", **{name: value})


# ---- a full disk -----------------------------------------------------------------------------


def _limited(stage: Stage, size: int) -> subprocess.CompletedProcess[str]:
    """`sync` in a process whose files cannot grow beyond `size` bytes."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    # or else the limit would cut off the compiled modules that Python keeps
    settings = stage.values() | {"PYTHONDONTWRITEBYTECODE": "1"}
    return run_python(["-m", "chromasync", "sync"], settings, limit)


def run_python(
    arguments: Sequence[str], settings: Mapping[str, str], first: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Python with our package in a process of its own; `first` is done in it before anything."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, *arguments],
        env={**kept, "PYTHONPATH": str(ROOT / "src"), **settings},
        preexec_fn=first,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.long
@pytest.mark.parametrize("pages", [1, 40])
def test_a_state_file_that_cannot_grow(stage: Stage, pages: int) -> None:
    """Early or late in the first cycle: exit code 3, and the next cycle with space completes it."""
    fill(stage.primary.get_collection("docs", embedding_function=None), 3000, start=100)
    ended = _limited(stage, pages * 4096)
    assert ended.returncode == 3, (ended.returncode, ended.stderr)
    assert "Traceback" not in ended.stderr
    assert "the state file" in ended.stderr
    assert "Check the disk" in ended.stderr or "Free some space" in ended.stderr
    assert stage.primary.get_collection("docs", embedding_function=None).count() == 3005
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()


FULL_AT_PAGES = """
import sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
@event.listens_for(Engine, "connect")
def limit(connection, _):
    connection.execute("PRAGMA max_page_count = " + sys.argv[1])
from chromasync.cli.commands import program
program.main(sys.argv[2:], prog_name="chromasync")
"""
"""The program, for which SQLite calls the disk full when its file has so many pages."""


@dataclass(frozen=True)
class SmallDisk:
    """A folder on a disk without much space: a file system of its own where one can be mounted."""

    folder: Path
    mounted: bool

    def sync_while_full(self, stage: Stage) -> subprocess.CompletedProcess[str]:
        """`sync` with its state file on this disk, while there is no room for it."""
        settings = stage.values(SYNC_DATA_DIR=str(self.folder))
        if not self.mounted:
            most = _pages_of_a_new_file(self.folder) + 5
            return run_python(["-c", FULL_AT_PAGES, str(most), "sync"], settings)
        filler = self.folder / "filler"
        filler.write_bytes(bytes(DISK_BYTES - 200_000))
        ended = run_command("sync", **settings)
        filler.unlink()
        return ended


@pytest.fixture(params=["a file system", "a file"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of 4 MB; where nobody may mount one, SQLite is told how much room there is."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    mounted = request.param == "a file system" and _succeeds(*mount)
    yield SmallDisk(place, mounted)
    if mounted:
        subprocess.run(["umount", "-l", place], check=True)


def _pages_of_a_new_file(folder: Path) -> int:
    """How large a state file is before its first cycle; it is made in `folder`."""
    file = folder / DATABASE_FILE
    open_store(file).close()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    return int(pages)


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.long
def test_a_full_disk(stage: Stage, small_disk: SmallDisk) -> None:
    """The disk of the state file is full: exit code 3 says so; with space the copy completes."""
    fill(stage.primary.get_collection("docs", embedding_function=None), 3000, start=100)
    ended = small_disk.sync_while_full(stage)
    assert ended.returncode == 3, ended.stderr
    assert "The disk is full: the state file" in ended.stderr
    assert "Free some space" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert stage.sync(SYNC_DATA_DIR=str(small_disk.folder)).outcome is Outcome.IDENTICAL
    stage.assert_identical()

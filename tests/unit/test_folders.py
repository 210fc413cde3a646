"""Folders instead of servers: what means one, what is refused, and what is shown."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from chromasync import folders
from chromasync.alerts import place_of
from chromasync.app import Application
from chromasync.chroma import Connection
from chromasync.chroma.http_errors import from_exception
from chromasync.config import DATABASE_FILE, Settings, folder_of, load_settings
from chromasync.config.folders import read_folder
from chromasync.errors import (
    AnotherInstance,
    FolderError,
    FolderInUse,
    GuardRefusal,
    SettingsError,
)
from chromasync.failover.restore import refuse_urls, restore_settings
from chromasync.folders import Use, open_folder, server
from chromasync.folders.database import DATABASE, FIRST_OF_1_0, Steps, refuse_steps, steps_of
from chromasync.folders.in_use import kept_alone, refuse_open, users_of
from chromasync.guard import refuse_equal_urls, refuse_nested
from chromasync.lab.chroma_server import LocalServerError
from chromasync.model import Side, WorkerBeat, WorkerStatus
from chromasync.quiet import Quiet
from chromasync.reach import Places, connection_of

EARLY: Steps = frozenset({("metadb", 4), ("sysdb", 9)})
FIRST = EARLY | {FIRST_OF_1_0}
LATEST = FIRST | {("metadb", 6)}
SERVER = "http://one:8000"


def given(**values: Any) -> Settings:
    return load_settings(flags=values, servers_required=False)


# ---- what means a folder ---------------------------------------------------------------------


@pytest.mark.parametrize("text", [".", "..", "./chroma", "../chroma", "/srv/chroma/", "~/chroma"])
def test_a_path_means_a_folder(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path with a dot, a slash or a tilde at its start is one, by its real path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = Path(os.path.realpath(os.path.expanduser(text)))  # noqa: PTH111 -- another way
    settings = given(PRIMARY_URL=text)
    assert folder_of(settings.primary_url) == expected
    assert settings.primary_url == expected.as_uri()
    assert given(PRIMARY_URL=settings.primary_url) == settings


@pytest.mark.parametrize("text", ["", "chroma:8000", SERVER, "https://two/prefix"])
def test_a_server_stays_a_server(text: str) -> None:
    """A host with its port is no path."""
    assert read_folder(text) is None
    assert folder_of(given(PRIMARY_URL=text).primary_url) is None


@pytest.mark.parametrize("name", ["My Chroma", "a@b", "50%", "a?b#c", "Müller", "a:b"])
def test_any_name_of_a_folder(name: str, tmp_path: Path) -> None:
    """Characters with a meaning in URLs lead to the same folder, and hide nothing of it."""
    settings = given(REPLICA_URL=str(tmp_path / name), PRIMARY_URL=SERVER)
    assert folder_of(settings.replica_url) == tmp_path / name
    assert not settings.replica_headers
    assert settings.replica_url == read_folder(settings.replica_url)


def test_one_folder_has_one_url(tmp_path: Path) -> None:
    """A link to it, and a way around, lead to the same place."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    texts = ("real", "link", "real/../link/", "/real")
    assert len({read_folder(f"{tmp_path}/{text}") for text in texts}) == 1
    assert read_folder(f"file://localhost{tmp_path}/real") == read_folder(f"{tmp_path}/real")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file://server/share", "three slashes"),
        ("file:chroma", "begins with a slash"),
        ("file:///srv/chroma?mode=ro", "%3F"),
        ("./a\0b", "null"),
        ("chroma", "./chroma"),
    ],
)
def test_what_is_no_folder(text: str, words: str) -> None:
    """The error says how a folder is given."""
    with pytest.raises(SettingsError, match=words.replace("?", r"\?")):
        given(PRIMARY_URL=text)


# ---- the state file, and what is shown -------------------------------------------------------


def test_each_replica_has_a_state_file_of_its_own(tmp_path: Path) -> None:
    """Two backups of one folder do not meet in one file, nor with that of a service."""
    one, other = (
        given(PRIMARY_URL="/srv/chroma", REPLICA_URL=f"/srv/{name}") for name in ("one", "other")
    )
    away = given(PRIMARY_URL="/srv/chroma", REPLICA_URL=SERVER)
    names = [settings.store.path for settings in (one, other, away)]
    assert len(set(names)) == 3
    assert all(name is not None and name.name != DATABASE_FILE for name in names)
    assert names[0] is not None
    assert names[0].name.startswith("chromasync-one-")
    moved = given(PRIMARY_URL="/srv/moved", REPLICA_URL="/srv/one")
    assert moved.store == one.store
    service = given(PRIMARY_URL=SERVER, REPLICA_URL="http://two:8000").store.path
    assert service is not None
    assert service.name == DATABASE_FILE
    assert given(PRIMARY_URL="/srv/chroma").store.path == service
    chosen = given(PRIMARY_URL="/a", REPLICA_URL="/b", DATABASE_URL=f"sqlite:///{tmp_path}/x.db")
    assert chosen.store.path == tmp_path / "x.db"


def test_messages_name_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither errors nor alerts show the address of the private server, and it gets no secret."""
    opened = []

    @contextmanager
    def private(folder: Path, use: Use) -> Iterator[str]:
        opened.append((folder, use))
        yield "http://127.0.0.1:4711"

    monkeypatch.setattr("chromasync.reach.open_folder", private)
    settings = given(PRIMARY_URL="/srv/chroma", REPLICA_URL="/srv/copy", PRIMARY_TOKEN="secret")
    with ExitStack() as stack:
        places = Places(settings, stack)
        connection = places.connection(Side.PRIMARY)
        assert places.connection(Side.PRIMARY) == connection
        places.connection(Side.REPLICA)
    assert opened == [(Path("/srv/chroma"), Use.READ), (Path("/srv/copy"), Use.LOOK)]
    assert connection.place == "primary at /srv/chroma"
    assert connection.shown == "/srv/chroma"
    assert not connection.headers
    assert connection_of(settings, Side.PRIMARY).headers
    assert place_of(settings) == "chromasync /srv/chroma → /srv/copy"


# ---- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run", "fence", "promote"])
@pytest.mark.parametrize("side", ["PRIMARY_URL", "REPLICA_URL"])
def test_commands_that_need_servers(name: str, side: str, tmp_path: Path) -> None:
    """A folder is for one command; the error says how to serve it."""
    urls = {"PRIMARY_URL": SERVER, "REPLICA_URL": "http://two:8000"} | {side: "/srv/chroma"}
    settings = given(**urls, SYNC_DATA_DIR=str(tmp_path))
    with Application.open(settings) as app, pytest.raises(SettingsError) as caught:
        getattr(app, name)(Quiet())
    assert f"{side} is the folder /srv/chroma, and `chromasync {name}` needs" in caught.value.what
    assert "chroma run --path /srv/chroma" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_commands_that_need_the_store_alone(tmp_path: Path) -> None:
    """The state of a backup is shown, and the doctor reports a folder that is not there."""
    values = {"PRIMARY_URL": f"{tmp_path}/no", "REPLICA_URL": f"{tmp_path}/copy"}
    with Application.open(given(**values, SYNC_DATA_DIR=str(tmp_path / "state"))) as app:
        assert app.status().collections == ()
        with pytest.raises(SettingsError, match="no state store"):
            app.approve(["docs"], everything=False)
        found = {check.name: check for check in app.doctor().checks}
    assert "There is no folder" in found["primary"].detail
    assert not found["primary"].ok
    assert list(tmp_path.iterdir()) == []


def test_no_work_is_shared(tmp_path: Path) -> None:
    """Workers elsewhere cannot reach a folder, so a cycle with one is this process's alone."""
    values = {
        "PRIMARY_URL": "/srv/chroma",
        "REPLICA_URL": "/srv/copy",
        "SYNC_DATA_DIR": str(tmp_path),
    }
    shared = given(**values, SYNC_DISTRIBUTED="true", SYNC_COORDINATOR="true")
    with Application.open(shared) as app, pytest.raises(SettingsError, match="SYNC_DISTRIBUTED"):
        app.sync(Quiet())
    with Application.open(given(**values)) as app:
        app.store.beat(WorkerBeat("w", WorkerStatus.ACTIVE, None, 0, 0, "h", 1, "0", role="worker"))
        with pytest.raises(AnotherInstance, match="without the folder"):
            app.sync(Quiet())


@pytest.mark.parametrize(
    "places", [("/srv/a", "/srv/a"), ("/srv/a", "/srv/a/b"), ("/srv/a/b", "/srv/a")]
)
def test_one_folder_inside_the_other(places: tuple[str, str]) -> None:
    """What Chroma writes to the replica would change the primary's folder."""
    one, other = (Path(place).as_uri() for place in places)
    both = "both sides are" if one == other else "inside the other"
    for template in ({}, {"SYNC_TARGET": "{tenant}/{database}/{name}-copy"}):
        with pytest.raises(GuardRefusal):
            refuse_equal_urls(given(PRIMARY_URL=one, REPLICA_URL=other, **template))
    with pytest.raises(GuardRefusal, match=f"(?i){both}"):
        refuse_nested(one, other)
    for apart in (Path("/srv/ab").as_uri(), SERVER):
        refuse_equal_urls(given(PRIMARY_URL=Path("/srv/a").as_uri(), REPLICA_URL=apart))


def test_the_state_file_is_kept_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs in a folder of Chroma's leaves nothing there."""
    write_steps(tmp_path, LATEST)
    monkeypatch.chdir(tmp_path)
    for urls in (
        {"PRIMARY_URL": ".", "REPLICA_URL": SERVER},
        {"PRIMARY_URL": SERVER, "REPLICA_URL": str(tmp_path)},
    ):
        for act in (Application.sync, Application.plan):
            with (
                Application.open(given(**urls)) as app,
                pytest.raises(SettingsError, match=r"inside the folder .*Chroma's alone"),
            ):
                act(app, Quiet())
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE]


def test_a_private_server_that_has_ended() -> None:
    """The hint is not about a server that someone could start again."""
    where = Connection(Side.PRIMARY, "http://127.0.0.1:1", address="/srv/chroma").where()
    failure = from_exception(httpx2.ConnectError("refused"), where)
    assert "primary at /srv/chroma cannot be reached" in failure.what
    assert "Repeat the command." in failure.hint


def test_a_restore_into_a_folder_of_this_service() -> None:
    """Neither a side's folder nor one inside it is a new place."""
    settings = given(PRIMARY_URL=SERVER, REPLICA_URL="/srv/copy")
    for to in ("/srv/copy", "/srv/copy/new", "file:///srv/copy"):
        inside = restore_settings(settings, to, ())
        with pytest.raises(GuardRefusal):
            refuse_urls(settings, inside.replica_url)
    inside = restore_settings(settings, "/srv/new", ())
    refuse_urls(settings, inside.replica_url)
    assert inside.store.path is not None
    assert inside.store.path.name.startswith("restore-new-")


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


def write_steps(folder: Path, steps: Steps) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("CREATE TABLE migrations (dir, version, filename, sql, hash)")
        rows = [(part, number, "", "", "") for part, number in steps]
        database.executemany("INSERT INTO migrations VALUES (?, ?, ?, ?, ?)", rows)


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
    assert not started[0].exists()


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

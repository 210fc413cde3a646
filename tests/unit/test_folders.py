"""Folders instead of servers: what means one, what is refused, and what is shown."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from chromasync.alerts import place_of
from chromasync.app import Application
from chromasync.chroma import Connection
from chromasync.chroma.http_errors import from_exception
from chromasync.chroma.no_answer import NotConnected
from chromasync.config import DATABASE_FILE, Settings, folder_of, load_settings
from chromasync.config.folders import read_folder
from chromasync.errors import (
    AnotherInstance,
    FolderError,
    GuardRefusal,
    SettingsError,
)
from chromasync.failover.restore import refuse_urls, restore_settings
from chromasync.folders import Use
from chromasync.folders.database import DATABASE
from chromasync.guard import refuse_equal_urls, refuse_nested
from chromasync.model import Side, WorkerBeat, WorkerStatus
from chromasync.quiet import Quiet
from chromasync.reach import Places, connection_of
from tests.unit.steps import LATEST, write_steps

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


def test_a_restore_finds_the_state_without_the_primary(tmp_path: Path) -> None:
    """The primary was a folder and is gone; the file of a service beside it is not taken."""
    values = {"REPLICA_URL": SERVER, "SYNC_DATA_DIR": str(tmp_path)}
    own = given(PRIMARY_URL="/srv/chroma", **values).store
    assert given(**values).store.path == tmp_path / DATABASE_FILE
    assert own.path is not None
    own.path.touch()
    assert given(**values).store == own
    assert given(PRIMARY_URL="http://one:8000", **values).store.path == tmp_path / DATABASE_FILE


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


@pytest.mark.parametrize("side", ["PRIMARY_URL", "REPLICA_URL"])
def test_a_primary_whose_folder_is_gone_was_away(side: str, tmp_path: Path) -> None:
    """It may come back stale, so the next cycle looks who wrote to the replica meanwhile."""
    values = {"PRIMARY_URL": SERVER, "REPLICA_URL": SERVER, "SYNC_DATA_DIR": str(tmp_path)}
    values[side] = str(tmp_path / "gone" / "chroma")
    with Application.open(given(**values)) as app:
        with pytest.raises(FolderError, match="There is no folder"):
            app.sync(Quiet())
        assert (app.store.deployment().away_since is not None) is (side == "PRIMARY_URL")


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
    failure = from_exception(NotConnected("refused"), where)
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

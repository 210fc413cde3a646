"""Real folders: backups that the official client opens, folders in use, kills, and old versions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from chromasync.app import Application
from chromasync.config import load_settings
from chromasync.errors import FolderError, FolderInUse, GuardRefusal
from chromasync.folders.database import DATABASE, FIRST_OF_1_0, steps_of
from chromasync.folders.in_use import kept_alone, refuse_open
from chromasync.folders.server import SUPERVISOR, ChromaServer
from chromasync.lab.judge import judge
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome
from tests.compat_servers import PYTHON_SERVER, command
from tests.support.stage import ROOT, client_of, close_client, fill

RECORDS = 60
WAIT_SECONDS = 120.0

OFFICIAL = """
import json, sys
import chromadb
settings = chromadb.Settings(anonymized_telemetry=False)
client = chromadb.PersistentClient(sys.argv[1], settings=settings)
found = {
    collection.name: collection.get(include=["documents", "metadatas", "embeddings", "uris"])
    for collection in client.list_collections()
}
print(json.dumps({name: {
    "ids": got["ids"],
    "documents": got["documents"],
    "metadatas": got["metadatas"],
    "uris": got["uris"],
    "embeddings": [[float(x) for x in row] for row in got["embeddings"]],
} for name, got in found.items()}), flush=True)
sys.stdin.read()
"""
"""Reads a folder with the official client, and keeps it open until stdin is closed."""


@contextmanager
def opened_by_the_official_client(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The pid of a process that has a folder open, and all that its client finds there."""
    process = subprocess.Popen(
        [sys.executable, "-c", OFFICIAL, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.pid, json.loads(process.stdout.readline())
    finally:
        process.communicate()


def write(folder: Path, *, start: int = 0, count: int = RECORDS) -> None:
    """Add records to a folder, through a server that is stopped afterwards."""
    with ChromaServer(folder) as server:
        client = client_of(server.url, "default_database")
        for name, space in (("docs", "l2"), ("wares", "cosine")):
            configuration: Any = {"hnsw": {"space": space}}
            made = client.get_or_create_collection(
                name, embedding_function=None, configuration=configuration
            )
            fill(made, count, start=start)
        close_client(client)


def settings_of(folder: Path, **urls: str) -> dict[str, str]:
    return {"SYNC_DATA_DIR": str(folder / "state"), **urls}


def sync(folder: Path, **urls: str) -> CycleReport:
    with Application.open(load_settings(flags=settings_of(folder, **urls))) as app:
        return app.sync(Quiet())


@pytest.fixture
def primary(tmp_path: Path) -> Path:
    """A folder with two collections that nobody has open."""
    folder = tmp_path / "chroma"
    write(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def content_of(folder: Path) -> tuple[set[str], list[str]]:
    """The names of a folder's files, and its database as SQL.

    Chroma notes each of its starts in a table of its own, and may write its index anew.
    """
    with closing(sqlite3.connect(folder / DATABASE)) as database:
        rows = [line for line in database.iterdump() if "acquire_write" not in line]
    return set(files_of(folder)), rows


@pytest.mark.long
def test_a_backup_that_the_official_client_opens(primary: Path, tmp_path: Path) -> None:
    """The second run sends nothing, the third only what is new; the primary stays as it was."""
    urls = {"PRIMARY_URL": str(primary), "REPLICA_URL": str(tmp_path / "backup")}
    before = content_of(primary)
    first, second = sync(tmp_path, **urls), sync(tmp_path, **urls)
    assert (first.outcome, second.outcome) == (Outcome.IDENTICAL, Outcome.IDENTICAL)
    assert (first.counts.inserted, second.counts.applied) == (2 * RECORDS, 0)
    assert content_of(primary) == before
    write(primary, start=RECORDS, count=5)
    third = sync(tmp_path, **urls)
    assert (third.counts.inserted, third.counts.updated) == (10, 0)
    with opened_by_the_official_client(tmp_path / "backup") as (pid, found):
        assert set(found) == {"docs", "wares"}
        assert {len(got["ids"]) for got in found.values()} == {RECORDS + 5}
        with pytest.raises(FolderInUse, match=str(pid)):
            sync(tmp_path, **urls)
    with opened_by_the_official_client(primary) as (pid, original):
        assert original["docs"] == found["docs"]
        with pytest.raises(FolderInUse, match=str(pid)):
            sync(tmp_path, **urls)
    assert sync(tmp_path, **urls).counts.applied == 0


def test_a_folder_to_a_server(primary: Path, tmp_path: Path) -> None:
    """A server gets the folder's data; one that has the folder open keeps commands out."""
    with ChromaServer() as server:
        urls = {"PRIMARY_URL": str(primary), "REPLICA_URL": server.url}
        assert sync(tmp_path, **urls).outcome is Outcome.IDENTICAL
        with ChromaServer(primary) as other:
            clients = [client_of(url, "default_database") for url in (server.url, other.url)]
            assert judge(*clients).identical
            for client in clients:
                close_client(client)
            with pytest.raises(FolderInUse, match=str(other.pid)):
                sync(tmp_path, **urls)
        back = {"PRIMARY_URL": str(primary), "REPLICA_URL": str(tmp_path / "back")}
        with Application.open(load_settings(flags=settings_of(tmp_path, **back))) as app:
            plan = app.plan(Quiet())
        assert sum(collection.create for collection in plan.collections) == 2 * RECORDS
        assert not (tmp_path / "back").exists()
        with pytest.raises(FolderError, match="There is no folder"):
            sync(tmp_path, PRIMARY_URL=str(tmp_path / "chrona"), REPLICA_URL=server.url)


@pytest.mark.long
def test_a_restore_from_a_folder_to_a_folder(primary: Path, tmp_path: Path) -> None:
    """The copy is proven; a folder that is not empty is refused."""
    urls = {"PRIMARY_URL": str(primary), "REPLICA_URL": str(tmp_path / "backup")}
    sync(tmp_path, **urls)
    settings = load_settings(flags=settings_of(tmp_path, **urls))
    with Application.open(settings) as app:
        report = app.restore(Quiet(), str(tmp_path / "new"))
    assert report.is_identical
    assert report.recorded
    assert report.url == (tmp_path / "new").as_uri()
    write(tmp_path / "full")
    with Application.open(settings) as app, pytest.raises(GuardRefusal, match="is not empty"):
        app.restore(Quiet(), str(tmp_path / "full"))
    copied = {"PRIMARY_URL": str(tmp_path / "new"), "REPLICA_URL": urls["REPLICA_URL"]}
    assert sync(tmp_path, **copied).counts.applied == 0


@pytest.mark.long
def test_a_killed_command_leaves_no_server(primary: Path, tmp_path: Path) -> None:
    """Its servers end by themselves, and the next command goes on."""
    urls = {"PRIMARY_URL": str(primary), "REPLICA_URL": str(tmp_path / "backup")}
    held = "from chromasync.cycle.coordinator import Coordinator\nimport sys, time\n"
    held += "Coordinator.run_cycle = lambda *_, **__: (print('in', flush=True), time.sleep(600))\n"
    held += "from chromasync.cli.commands import main\nsys.argv[1:] = ['sync']\nmain()"
    environment = os.environ | settings_of(tmp_path, **urls) | {"PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", held], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    servers = psutil.Process(process.pid).children()
    assert len(servers) == 2
    with pytest.raises(FolderInUse, match="Another command"), kept_alone(primary, 0.0):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert sync(tmp_path, **urls).outcome is Outcome.IDENTICAL
    _, alive = psutil.wait_procs(servers, timeout=WAIT_SECONDS)
    assert alive == []


@pytest.mark.long
def test_the_program_on_the_path(primary: Path) -> None:
    """A `chroma` of the path serves under a supervisor, which ends it when it is killed itself."""
    program = shutil.which("chroma", path=str(Path(sys.executable).parent))
    assert program is not None
    run = [sys.executable, "-I", "-S", "-c", SUPERVISOR, program]
    server = ChromaServer(primary, command=run)
    for end in (server.stop, server.kill):
        server.start()
        served = psutil.Process(server.pid).children()
        assert [one.is_running() for one in served] == [True]
        end()
        _, alive = psutil.wait_procs(served, timeout=WAIT_SECONDS)
        assert alive == []
    refuse_open(primary)


@pytest.mark.long
def test_a_folder_of_0_6(tmp_path: Path) -> None:
    """It is refused untouched; through a server of its version it is mirrored."""
    folder = tmp_path / "old"
    run = command(PYTHON_SERVER)
    with ChromaServer(folder, command=run) as server, ChromaServer() as new:
        client = client_of(server.url, "default_database")
        fill_plain(client)
        urls = {"PRIMARY_URL": server.url, "REPLICA_URL": new.url}
        assert sync(tmp_path, **urls).outcome is Outcome.IDENTICAL
        close_client(client)
    assert FIRST_OF_1_0 not in steps_of(folder)
    before = files_of(folder)
    for urls in (
        {"PRIMARY_URL": str(folder), "REPLICA_URL": str(tmp_path / "new")},
        {"PRIMARY_URL": str(tmp_path / "new"), "REPLICA_URL": str(folder)},
    ):
        write(tmp_path / "new", count=1)
        with pytest.raises(FolderError, match=r"0\.5 or 0\.6") as caught:
            sync(tmp_path, **urls)
        assert "chromadb==0.6.3" in caught.value.hint
    assert files_of(folder) == before


def fill_plain(client: Any) -> None:
    made = client.create_collection("docs", embedding_function=None, metadata={"hnsw:space": "l2"})
    made.add(ids=["a", "b"], embeddings=[[1.0, 2.0], [3.0, 4.0]], documents=["one", "two"])


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.0.20", "1.3.7"])
def test_a_folder_of_an_older_1(version: str, tmp_path: Path) -> None:
    """To read it is refused, because its own version might not open it afterwards."""
    folder = tmp_path / "old"
    with ChromaServer(folder, command=command(version)):
        pass
    urls = {"PRIMARY_URL": str(folder), "REPLICA_URL": str(tmp_path / "new")}
    with pytest.raises(FolderError, match="older Chroma"):
        sync(tmp_path, **urls)
    write(tmp_path / "data")
    upgraded = sync(tmp_path, PRIMARY_URL=str(tmp_path / "data"), REPLICA_URL=str(folder))
    assert upgraded.outcome is Outcome.IDENTICAL
    assert ("metadb", 6) in steps_of(folder)

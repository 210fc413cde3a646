"""Runs a real Chroma server on a free loopback port.

It is that of the installed `chromadb` package, or the program `chroma`. The server ends with the
process that started it, even when that process is killed: it holds the read end of a pipe and ends
when the pipe closes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from chromasync.errors import ChromasyncError

PROGRAM = "chroma"
START_SECONDS = 60.0
STOP_SECONDS = 5.0
ATTEMPTS = 4
LOG_NAME = "chroma.log"

WATCHDOG = """
import os, signal, sys, threading, time
def _leave_with_parent():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(3)
    os._exit(1)
threading.Thread(target=_leave_with_parent, daemon=True).start()
"""
"""Python source that ends its process when the pipe on its standard input closes."""

RUST_SERVER = (
    WATCHDOG
    + """
sys.path.insert(0, sys.argv[1])
import chromadb_rust_bindings
chromadb_rust_bindings.cli(["chroma", *sys.argv[2:]])
"""
)

SUPERVISOR = """
import os, signal, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def _end(*_):
    child.terminate()
def _leave_with_parent():
    os.read(0, 1)
    _end()
    try:
        child.wait(3)
    except subprocess.TimeoutExpired:
        child.kill()
signal.signal(signal.SIGTERM, _end)
threading.Thread(target=_leave_with_parent, daemon=True).start()
sys.exit(child.wait())
"""
"""Python source that runs a command, and ends it when the pipe on its standard input closes."""


class LocalServerError(ChromasyncError):
    """A local Chroma server could not be started."""


class PortTaken(Exception):
    """Another process listens on the chosen port."""


def rust_command(folder: Path, python: str = sys.executable) -> list[str]:
    """The command that serves with the `chromadb_rust_bindings` found in `folder`.

    It leaves out site-packages and the rest of `chromadb`, because importing those takes seconds.
    """
    return [python, "-I", "-S", "-c", RUST_SERVER, str(folder)]


def installed_command() -> list[str]:
    """The command for the installed `chromadb`; raises LocalServerError if it is not installed."""
    command = _of_package()
    if command is None:
        raise LocalServerError(
            "No Chroma server is installed here.",
            hint="Install it with `pip install 'chromasync[demo]'`.",
        )
    return command


def _of_package() -> list[str] | None:
    spec = importlib.util.find_spec("chromadb_rust_bindings")
    if spec is None or spec.origin is None:
        return None
    return rust_command(Path(spec.origin).parent.parent)


def available_command() -> list[str]:
    """The command for the installed `chromadb`, or else for the program `chroma`.

    Raises:
        LocalServerError: there is neither.
    """
    command = _of_package()
    if command is not None:
        return command
    found = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    if found is None:
        raise LocalServerError(
            "A folder is opened by a Chroma server, and none is installed here.",
            untouched="Nothing was started.",
            hint="Install it with `pip install 'chromasync[demo]'`, or put a `chroma` on the path.",
        )
    return [sys.executable, "-I", "-S", "-c", SUPERVISOR, found]


class ChromaServer:
    """A real Chroma server as a child process, ready when `start` returns.

    Args:
        path: the folder for its data; a temporary one, removed by `stop`, when None.
        command: the command to run; `run --path … --host … --port …` is appended.
        port: a fixed port; a free one is taken when None, and kept across restarts.
        env: environment variables to add.
        workspace: the folder in which it runs and writes its log; that of its data when None.
        held: file descriptors that it keeps open as long as it runs.

    Raises:
        LocalServerError: from `start`, with the end of the server's log.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        command: Sequence[str] | None = None,
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        workspace: Path | None = None,
        held: Sequence[int] = (),
    ) -> None:
        self._temporary = path is None
        self.path = path.resolve() if path else Path(tempfile.mkdtemp(prefix="chromasync-"))
        self._command = command
        self._port = port
        self._env = dict(env or {})
        self._workspace = workspace or self.path
        self._held = tuple(held)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base URL; known once the server was started."""
        if self._port is None:
            raise LocalServerError("The local Chroma server has no port before it is started.")
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise LocalServerError("The local Chroma server is not running.")
        return self._process.pid

    @property
    def log(self) -> str:
        """The server's output so far."""
        file = self._workspace / LOG_NAME
        return file.read_text(errors="replace") if file.exists() else ""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start it and wait until it answers; the data of an earlier start is still there."""
        if self._process is not None:
            raise LocalServerError("The local Chroma server runs already.")
        self._port = start_on_some_port(self._port, self._start_on, LocalServerError)
        return self

    def stop(self) -> None:
        """Stop it, gracefully if it can, and remove a temporary folder."""
        self._end(graceful=True)
        if self._temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def kill(self) -> None:
        """End it at once (SIGKILL), keeping its folder."""
        self._end(graceful=False)

    def restart(self) -> None:
        """Stop it and start it again on the same folder and port."""
        self._end(graceful=True)
        self.start()

    def _start_on(self, port: int) -> None:
        command = [
            *(self._command or installed_command()),
            *("run", "--path", str(self.path), "--host", "127.0.0.1", "--port", str(port)),
        ]
        self.path.mkdir(parents=True, exist_ok=True)
        with (self._workspace / LOG_NAME).open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own command, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._workspace,  # some servers leave a log file where they stand
                # a Ctrl-C in the terminal is for the parent, which then stops us in order
                start_new_session=True,
                env=_environment() | {"ANONYMIZED_TELEMETRY": "False"} | self._env,
                pass_fds=self._held,
            )
        try:
            self._wait_until_ready(self._process, port)
        except BaseException:
            self.kill()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        pause = 0.02
        while time.monotonic() < deadline:
            if process.poll() is not None:
                if _someone_listens(port):
                    raise PortTaken
                raise self._failed(f"ended with exit code {process.returncode}")
            if _listens(process.pid, port) and _beats(port):
                return
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)
        raise self._failed(f"did not answer within {START_SECONDS:.0f} seconds")

    def _failed(self, how: str) -> LocalServerError:
        tail = "\n".join(self.log.splitlines()[-15:]) or "(empty)"
        return LocalServerError(
            f"The local Chroma server {how}.", hint=f"The end of its log:\n{tail}"
        )

    def _end(self, *, graceful: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if graceful:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a supervisor and its child
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def start_on_some_port(
    fixed: int | None, start_on: Callable[[int], None], error: type[ChromasyncError]
) -> int:
    """Start a server on a fixed port, or on a free one; returns the port.

    Args:
        fixed: the port to use, or None for any free port.
        start_on: starts the server on a port; raises PortTaken when the port is in use.
        error: the error to raise when no port is free.
    """
    for _ in range(1 if fixed else ATTEMPTS):
        port = fixed or free_port()
        try:
            start_on(port)
        except PortTaken:
            continue
        return port
    raise error(
        f"Port {port} of 127.0.0.1 is taken by another process.",
        hint="Stop that process or choose another port.",
    )


def free_port() -> int:
    """A loopback port that is free at this instant."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(pid: int, port: int) -> bool:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        connections = [c for one in family for c in one.net_connections(kind="tcp")]
    except psutil.NoSuchProcess:
        return False
    return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in connections)


def _environment() -> dict[str, str]:
    """The environment without variables that would configure the server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CHROMA_")}


def _someone_listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _beats(port: int) -> bool:
    # a proxy of the environment must not stand between us and loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False

"""The applications' way to the replica: a running Caddy with the file of `deploy/caddy`."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.programs import PROGRAMS
from tests.web.ports import free_port

CADDYFILE = Path(__file__).parents[2] / "deploy" / "caddy" / "Caddyfile"
SENTENCE = "This replica has not been promoted: only reads pass."
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request."""

    status: int
    body: bytes

    @property
    def refused(self) -> bool:
        """Whether the gate itself refused, in the form of Chroma's errors."""
        if self.status != 403:
            return False
        with suppress(ValueError):
            return str(json.loads(self.body)["message"]).startswith(SENTENCE)
        return False


class Gate:
    """A running Caddy, and the folder of its switch."""

    def __init__(self, port: int, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.marker = folder / "promoted"
        self.process = process

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """One connection, which sends paths as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            yield connection
        finally:
            connection.close()

    def send(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """One request on a connection of its own."""
        with self.connection() as connection:
            return exchange(connection, method, path, body, headers)


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """One request and its answer."""
    data = None if body is None else json.dumps(body).encode()
    content = {"Content-Type": "application/json"} | dict(headers or {})
    connection.request(method, path, body=data, headers=content)
    answer = connection.getresponse()
    return Reply(answer.status, answer.read())


def environment(folder: Path, **values: str) -> dict[str, str]:
    """The environment of a Caddy that keeps what it stores to a folder."""
    own = {name: str(folder / "caddy") for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return os.environ | own | values


def caddy(*arguments: str | Path, **values: Any) -> subprocess.CompletedProcess[str]:
    """What Caddy says to a command."""
    return subprocess.run(
        [PROGRAMS["caddy"].find(), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        **values,
    )


@contextmanager
def running_gate(
    replica_url: str,
    folder: Path,
    *,
    promoted_folder: Path | None = None,
    program: Sequence[str | Path] = (),
    **options: Any,
) -> Iterator[Gate]:
    """A gate in front of a replica, with an empty folder for its switch unless one is given."""
    marks = promoted_folder or folder / "marks"
    if promoted_folder is None:
        marks.mkdir()
    port = free_port()
    values = {"REPLICA_URL": replica_url, "GATE_PORT": str(port), "PROMOTED_FOLDER": str(marks)}
    with (folder / "caddy.log").open("wb") as log:
        process = subprocess.Popen(
            [*(program or [PROGRAMS["caddy"].find()]), "run", "--config", CADDYFILE],
            env=environment(folder, **values),
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            **options,
        )
    try:
        _wait_until_it_listens(process, port, folder / "caddy.log")
        yield Gate(port, marks, process)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)

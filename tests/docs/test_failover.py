"""The commands of docs/failover.md, each run on real servers; with the time that it took."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import judge
from tests.support.stage import client_of, close_client, fill, run_command

TEXT = (Path(__file__).parents[2] / "docs" / "failover.md").read_text(encoding="utf-8")
COMMANDS = re.findall(
    r"^ *(?:\$ )?(chromasync (?:promote|restore|sync) .*|chromasync promote)$", TEXT, re.MULTILINE
)
SWITCHOVER = "chromasync promote --wait-for-fence"
FAILOVER = "chromasync promote"
TURN = "chromasync sync --primary http://replica:8000 --replica http://primary:8000"
ANEW = "chromasync sync --primary http://replica:8000 --replica http://new:8000"
RESTORE = "chromasync restore --to http://new:8000"
GATE = "chromasync promote && touch /var/lib/chromasync-gate/promoted"
NAMES = ("docs", "mail", "wiki")
RECORDS = 300
"""Of each collection; the page has the times of 1,700, with the same commands."""


@dataclass
class Drill:
    """Servers by the names in the documentation, and the steps so far with their seconds."""

    servers: dict[str, ChromaServer]
    folder: Path
    steps: list[tuple[str, float]] = field(default_factory=list)

    def run(self, command: str) -> str:
        """Run a command of the documentation; it ends with 0."""
        assert command in COMMANDS
        for name, server in self.servers.items():
            command = command.replace(f"http://{name}:8000", server.url)
        settings = {
            "PRIMARY_URL": self.servers["primary"].url,
            "REPLICA_URL": self.servers["replica"].url,
            "SYNC_DATA_DIR": str(self.folder),
        }
        began = time.monotonic()
        done = run_command(*shlex.split(command)[1:], **settings)
        self.steps.append((command, time.monotonic() - began))
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def assert_identical(self, one: str, other: str) -> None:
        """The official client finds the same on two servers."""
        clients = [client_of(self.servers[name].url, "default_database") for name in (one, other)]
        try:
            found = judge(*clients)
            assert found.identical, (str(found), found.examples)
        finally:
            for client in clients:
                close_client(client)


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    """A primary with three collections, a replica that is identical, and a new, empty server."""
    with ExitStack() as stack:
        names = ("primary", "replica", "new")
        servers = {name: stack.enter_context(ChromaServer()) for name in names}
        client = client_of(servers["primary"].url, "default_database")
        stack.callback(close_client, client)
        for number, name in enumerate(NAMES):
            made = client.create_collection(name, embedding_function=None)
            fill(made, RECORDS, dimension=384, seed=number)
        drill = Drill(servers, tmp_path)
        first = run_command(
            "sync", PRIMARY_URL=servers["primary"].url, REPLICA_URL=servers["replica"].url,
            SYNC_DATA_DIR=str(tmp_path),
        )  # fmt: skip
        assert first.returncode == 0, first.stderr
        yield drill
        for command, seconds in drill.steps:
            print(f"{seconds:6.1f} s  {command}")


def test_every_command_is_one_of_the_drills() -> None:
    """The page names no command that no test runs; `--cancel` and the switch are tested apart."""
    apart = {GATE, "chromasync promote --cancel"}
    assert set(COMMANDS) - apart == {SWITCHOVER, FAILOVER, TURN, ANEW, RESTORE}


@pytest.mark.long
def test_a_switchover_as_it_is_written(drill: Drill) -> None:
    """Promote with a fence, write to the replica, turn round."""
    assert "nothing is lost" in drill.run(SWITCHOVER)
    replica = client_of(drill.servers["replica"].url, "default_database")
    fill(replica.get_collection("docs", embedding_function=None), 50, start=9000, dimension=384)
    close_client(replica)
    drill.run(TURN)
    drill.assert_identical("replica", "primary")


@pytest.mark.long
def test_a_failover_as_it_is_written(drill: Drill) -> None:
    """The primary is killed; promote, then copy the promoted replica to a new server."""
    drill.servers["primary"].kill()
    said = drill.run(FAILOVER)
    assert all(f"default_tenant/default_database/{name}: 20" in said for name in NAMES)
    drill.run(ANEW)
    drill.assert_identical("replica", "new")


@pytest.mark.long
def test_a_restore_as_it_is_written(drill: Drill) -> None:
    """The primary is killed; its place is taken by a copy of the replica."""
    drill.servers["primary"].kill()
    drill.run(RESTORE)
    drill.assert_identical("replica", "new")

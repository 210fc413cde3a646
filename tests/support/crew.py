"""Two workers as processes of their own, over PostgreSQL, for tests written for one process.

A stage with a crew plans its cycles in the test's own process and does none of the work there. So
a test of what a cycle may do runs a second time, unchanged, with a coordinator and workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.forked import Forked

COUNT = 2
ROLES = {
    "SYNC_DISTRIBUTED": "true",
    "SYNC_COORDINATOR": "true",
    "SYNC_COORDINATOR_WORKS": "false",
    "SYNC_LEASE_SECONDS": "6",
    "SYNC_LEAD_SECONDS": "4",
}
INHERITED = ("PATH", "HOME", "PYTHONPATH", "TMPDIR")


class Crew:
    """Workers for whatever the test's settings say at the moment.

    Args:
        make_database: gives the URL of an empty database, or of a copy of the one it is given;
            there is one for each SYNC_DATA_DIR of the test.
        folder: for the workers' logs.
    """

    def __init__(self, make_database: Callable[..., str], folder: Path) -> None:
        self._make_database = make_database
        self._folder = folder
        self._databases: dict[str, str] = {}
        self._working_for: tuple[str, ...] = ()
        self._members: list[Forked] = []

    def close(self) -> None:
        """End all workers at once."""
        for member in self._members:
            member.kill()
            member.wait()
        self._members.clear()

    def deployed(self, values: dict[str, str]) -> dict[str, str]:
        """The settings of a coordinator that does no work itself, over a database of its own."""
        folder = values["SYNC_DATA_DIR"]
        if folder not in self._databases:
            self._databases[folder] = self._make_database()
        return ROLES | {"DATABASE_URL": self._databases[folder]} | values

    def keep(self, folder: str) -> Callable[[], None]:
        """Copy the state store of this SYNC_DATA_DIR; what is given goes back to the copy."""
        self.close()
        copy = self._make_database(urlsplit(self._databases[folder]).path[1:])

        def restore() -> None:
            self._databases[folder] = copy

        return restore

    def man(self, values: dict[str, str]) -> None:
        """See to it that two workers run for these servers and this store, and for no others."""
        wanted = tuple(values[name] for name in ("PRIMARY_URL", "REPLICA_URL", "DATABASE_URL"))
        living = sum(member.poll() is None for member in self._members)
        if (wanted, COUNT) == (self._working_for, living):
            return
        self.close()
        self._working_for = wanted
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        env = kept | values | {"SYNC_COORDINATOR": "false", "SYNC_COORDINATOR_WORKS": "true"}
        for number in range(COUNT):
            self._members.append(Forked(["run"], env, self._folder / f"worker{number}.log"))

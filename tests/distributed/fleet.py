"""Several processes of the program that share one state store, as on several machines."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chromasync.model import Cycle, CycleStatus, MirrorStatus, WorkerBeat, WorkerStatus
from chromasync.store import SqlStore, open_store
from tests.chaos.processes import environment
from tests.support.forked import Forked
from tests.support.stage import Stage

PATIENCE = 200.0
"""Seconds after which a test that waits for something gives up."""

LOOK_SECONDS = 0.05
QUICK = {
    "SYNC_INTERVAL": "0.5",
    "SYNC_ASSUME_AWAY": "600",  # three such intervals are no outage on a slow machine
    "SYNC_CHUNK_SIZE": "25",
    "SYNC_LEASE_SECONDS": "6",
    "SYNC_LEAD_SECONDS": "4",
    "SYNC_LOG_FORMAT": "json",
}


class Member:
    """One process of a fleet; its log is in a file, and shown when a test waits in vain."""

    def __init__(
        self,
        name: str,
        env: dict[str, str],
        log: Path,
        prelude: str = "",
        command: str = "run",
    ) -> None:
        self.name = name
        self.log_file = log
        self.process = Forked([command], env, log, prelude)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """Wait for its end; the exit code."""
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        if self.running:
            self.process.kill()
        self.process.wait()


class Fleet:
    """Processes in the roles that their environment gives, on one stage.

    Args:
        stage: servers and database.
        database_url: the state store that all share.
        settings: for every process; QUICK ones unless given otherwise.
    """

    def __init__(self, stage: Stage, database_url: str, **settings: str) -> None:
        self.stage = stage
        self.database_url = database_url
        self.settings = QUICK | settings
        self.members: list[Member] = []
        self.store: SqlStore = open_store(database_url)
        stage.folder.mkdir(parents=True, exist_ok=True)

    def close(self) -> None:
        """Kill whoever is left."""
        for member in self.members:
            member.kill()
        self.store.close()

    # ---- members ----------------------------------------------------------------------------

    def start(
        self, name: str, *, prelude: str = "", command: str = "run", **settings: str
    ) -> Member:
        """One more process; `prelude` is Python that it runs before the program."""
        env = environment(self.stage, DATABASE_URL=self.database_url, **self.settings) | settings
        member = Member(name, env, self.stage.folder / f"{name}.log", prelude, command)
        self.members.append(member)
        return member

    def coordinator(self, name: str = "coordinator", **settings: Any) -> Member:
        """One more coordinator."""
        roles = {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "true"}
        return self.start(name, **(roles | settings))

    def worker(self, name: str = "worker", **settings: Any) -> Member:
        """One more worker."""
        roles = {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "false"}
        return self.start(name, **(roles | settings))

    def single(self, name: str = "single", **settings: Any) -> Member:
        """One process that does everything."""
        return self.start(name, SYNC_DISTRIBUTED="false", **settings)

    def dashboard(self, name: str = "dashboard", **settings: Any) -> Member:
        """The page in a process of its own."""
        return self.start(name, command="dashboard", **settings)

    # ---- what the store says ------------------------------------------------------------------

    def until(self, true: Callable[[], object], what: str) -> None:
        """Wait until something is true of the store; shows all logs when it never is."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            if time.monotonic() > deadline:
                raise AssertionError(f"in vain: {what}\n{self._logs()}")
            time.sleep(LOOK_SECONDS)

    def beats(self, *members: Member) -> list[WorkerBeat]:
        """Proofs of life of these processes."""
        pids = {member.process.pid for member in members}
        return [beat for beat in self.store.workers() if beat.pid in pids]

    def until_active(self, *members: Member) -> None:
        """Until each of them has shown that it is alive."""

        def active() -> bool:
            states = [beat.status for beat in self.beats(*members)]
            return states == [WorkerStatus.ACTIVE] * len(members)

        self.until(active, "every process is active")

    def until_identical(self) -> Cycle:
        """Until a cycle that began after now has found both sides identical; that cycle."""
        asked_at = self.store.now()

        def done() -> Cycle | None:
            return next(
                (
                    cycle
                    for cycle in self.store.cycles(20)
                    if cycle.started_at > asked_at and cycle.status is CycleStatus.COMPLETED
                ),
                None,
            )

        def identical() -> bool:
            states = {mirror.status for mirror in self.store.mirrors()}
            as_of = [mirror.identical_as_of for mirror in self.store.mirrors()]
            fresh = all(instant is not None and instant > asked_at for instant in as_of)
            return done() is not None and states == {MirrorStatus.IDENTICAL} and fresh

        self.until(identical, "a cycle that finds both sides identical")
        found = done()
        assert found is not None
        return found

    def assert_converges(self) -> None:
        """Both sides become identical, as the official client sees them, and no task is stuck."""
        self.until_identical()
        self.stage.assert_identical()

    def _logs(self) -> str:
        return "\n".join(
            f"--- {m.name} (pid {m.process.pid})\n{m.log[-6000:]}" for m in self.members
        )


def skewed(seconds: float) -> str:
    """A prelude that moves a process's own wall clock."""
    return (
        "import time, datetime\n"
        f"_time = time.time\ntime.time = lambda: _time() + {seconds}\n"
        f"time.time_ns = lambda: int((_time() + {seconds}) * 1e9)\n"
    )


__all__ = ["PATIENCE", "QUICK", "Fleet", "Member", "os", "skewed"]

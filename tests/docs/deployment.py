"""The phases of the guide as real processes: what its blocks say is started, asked and typed."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row

from chromasync.config import Role
from tests.deploy.environments import settings_in
from tests.distributed.fleet import Fleet
from tests.docs.pages import Block, Step, steps_of
from tests.docs.shell import Shell, shell
from tests.support.stage import fill

WORKERS = 2
"""The guide says to begin with so many."""

READER = "chromasync_reader"
AT_WORK = """
SELECT count(DISTINCT worker_id) FROM sync_tasks JOIN sync_workers USING (worker_id)
WHERE task_status = 'completed' AND worker_status = 'active'
"""


class Deployment:
    """What the guide deploys, on a stage with a PostgreSQL.

    Args:
        fleet: starts the processes.
        places: what stands for the addresses that the page invents.
        tools: PATH and the like for the shell.
    """

    def __init__(self, fleet: Fleet, places: Mapping[str, str], tools: Mapping[str, str]) -> None:
        self.fleet = fleet
        self.stage = fleet.stage
        self.roles: list[Role] = []
        self.answers: list[list[DictRow]] = []
        self._places = places
        self._tools = tools
        self._shared: dict[str, str] = {}
        self._role: dict[str, str] = {}

    def do(self, block: Block) -> None:
        """Do what a block says; raises KeyError for a language that is none of ours."""
        {"env": self._environment, "sql": self._ask, "console": self._type}[block.language](block)

    # ---- environments -----------------------------------------------------------------------

    def _environment(self, block: Block) -> None:
        values = dict(line.split("=", 1) for line in block.text.splitlines())
        values = {name: self._places.get(value, value) for name, value in values.items()}
        settings = settings_in(self._shared | values)
        if "SYNC_DISTRIBUTED" in values:
            self._role = values
            self._deploy(settings.role)
        else:
            self._shared = values

    def _deploy(self, role: Role) -> None:
        """A worker is started beside what runs; anything else takes its place."""
        before = len(self.stage.replica_writes())
        running = [member for member in self.fleet.members if member.running]
        if role is not Role.WORKER:
            for member in running:
                member.send(signal.SIGTERM)
            assert [member.ended() for member in running] == [0] * len(running)
            running = []
        for number in range(WORKERS if role is Role.WORKER else 1):
            name = f"{len(self.roles)}-{role.value}-{number}"
            running.append(self.fleet.start(name, **self._shared, **self._role))
        self.fleet.until_active(*running)
        self.fleet.assert_converges()
        if self.roles:  # nothing is copied again
            assert self.stage.replica_writes()[before:] == []
        self.roles.append(role)
        self._change(seed=len(self.roles))
        self.fleet.until(lambda: self._processes_at_work() == len(running), "all have worked")

    def _change(self, seed: int) -> None:
        """There is always something to copy by whoever runs now."""
        docs = self.stage.primary.get_collection("docs", embedding_function=None)
        fill(docs, 300, start=300 * seed, seed=seed)
        self.fleet.assert_converges()

    def _processes_at_work(self) -> int:
        """How many of the active processes have completed a task."""
        with psycopg.connect(self.fleet.database_url) as connection:
            ((count,),) = connection.execute(AT_WORK.encode())
            return int(count)

    # ---- queries ----------------------------------------------------------------------------

    def _ask(self, block: Block) -> None:
        with psycopg.connect(self.fleet.database_url, row_factory=dict_row) as connection:
            for statement in statements(block):
                found = connection.execute(statement.encode())
                if found.description:
                    self.answers.append(found.fetchall())

    # ---- commands ---------------------------------------------------------------------------

    def _type(self, block: Block) -> None:
        """Type each command until it says what the page shows: a cycle may have just begun."""
        values = self.stage.values() | self.fleet.settings | self._shared | self._role
        with shell(self.stage.folder, {**self._tools, **values}) as terminal:
            for step in steps_of(block):
                self._follow(terminal, step)

    def _follow(self, terminal: Shell, step: Step) -> None:
        failures: list[str] = []

        def as_shown() -> bool:
            try:
                terminal.follow(step)
            except AssertionError as error:
                failures.append(str(error))
                return False
            return True

        try:
            self.fleet.until(as_shown, step.command)
        except AssertionError as error:
            raise AssertionError(failures[-1]) from error


def statements(block: Block) -> Iterator[str]:
    """The statements of a block, one by one."""
    yield from (text.strip() for text in block.text.split(";") if text.strip())


def assert_reader_only_reads(database_url: str) -> None:
    """The role that the page makes sees the tables and can change none."""
    connection: psycopg.Connection[Any]
    with psycopg.connect(database_url) as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        connection.execute("SELECT count(*) FROM sync_tasks")
        try:
            connection.execute("DELETE FROM sync_tasks")
        except psycopg.errors.InsufficientPrivilege:
            return
    raise AssertionError(f"{READER} may delete")

"""A hosting platform in small: runs what a Blueprint describes, from its environments alone.

A deploy starts the new processes before it tells the old ones to end, as Render does with services
that have no disk. Nobody may end by himself: the platform would call that a failed deploy.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.deploy.blueprint import Addresses, Blueprint, instances
from tests.deploy.image import health_command, instructions
from tests.deploy.lifeline import lifeline

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile.sync"
GRACE_SECONDS = 30.0
"""What the Blueprint grants as maxShutdownDelaySeconds."""
START_SECONDS = 5.0
"""A process that has run for so long is taken to be up, whatever it does."""
PATIENCE_SECONDS = 180.0
LOOK_SECONDS = 0.1

Process = subprocess.Popen[bytes]


@dataclass
class Platform:
    """The processes that run now.

    Args:
        addresses: what stands for the servers and the database of a Blueprint.
        folder: where the processes run and log.
        stack: ends every process that was started.
    """

    addresses: Addresses
    folder: Path
    stack: ExitStack
    running: list[Process] = field(default_factory=list)

    def deploy(self, blueprint: Blueprint, working: Callable[[int], bool]) -> None:
        """Start what it describes; once that is up, end what ran before, in order.

        A process that waits for the lead of the one before it is up when it has not ended.

        Args:
            working: whether the process of this id has shown that it works.
        """
        old, self.running = self.running, list(self._start_all(blueprint))
        taken_for_up = time.monotonic() + START_SECONDS

        def all_up() -> bool:
            late = time.monotonic() > taken_for_up
            return late or all(working(process.pid) for process in self.running)

        self.wait_until("every new process is up", all_up)
        for process in old:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(GRACE_SECONDS) for process in old]
        assert codes == [0] * len(old), self._logs()

    def wait_until(self, what: str, holds: Callable[[], object]) -> None:
        """Wait until something holds, while every process goes on."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            ended = [p.returncode for p in self.running if p.poll() is not None]
            assert not ended, f"ended with {ended}\n{self._logs()}"
            assert time.monotonic() < deadline, f"in vain: {what}\n{self._logs()}"
            time.sleep(LOOK_SECONDS)

    def is_healthy(self, blueprint: Blueprint) -> bool:
        """Whether the image's health check is content in every service."""
        check = health_command(instructions(DOCKERFILE))
        tools = f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}"
        environments = (
            blueprint.environment(service["name"], self.addresses) for service in blueprint.programs
        )
        codes = [
            subprocess.run(
                check, cwd=self.folder, env={**given, "PATH": tools}, check=False
            ).returncode
            for given in environments
        ]
        return codes == [0] * len(codes)

    def _start_all(self, blueprint: Blueprint) -> Iterator[Process]:
        for service in reversed(blueprint.programs):  # workers first: they have to wait anyway
            environment = blueprint.environment(service["name"], self.addresses)
            for _ in range(instances(service)):
                process = self._start(service["name"], environment)
                self.stack.enter_context(lifeline(process))
                yield process

    def _start(self, name: str, environment: Mapping[str, str]) -> Process:
        (command,) = (i.words for i in instructions(DOCKERFILE) if i.name == "CMD")
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=self.folder,
                env={"PATH": os.defpath, "PYTHONPATH": str(ROOT / "src"), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _logs(self) -> str:
        logs = sorted(self.folder.glob("*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in logs)


@contextmanager
def platform(addresses: Addresses, folder: Path) -> Iterator[Platform]:
    """A platform whose processes are killed at the end, if they are still there."""
    with ExitStack() as stack:
        yield Platform(addresses, folder, stack)

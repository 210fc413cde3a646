"""The processes of the self-test: `chromasync run` in a role, watched, and always ended.

Each process holds the read end of a pipe and ends when the pipe closes, so none outlives a killed
self-test. Its log is in a file.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chromasync.config import Settings
from chromasync.errors import ChromasyncError, SettingsError, StoreUnavailable
from chromasync.lab.chroma_server import WATCHDOG
from chromasync.lab.selftest.environment import environment_of

DRAIN_SECONDS = 25.0
"""Longest time of a process for an orderly stop."""
LOG_LINES = 5
PROGRAM = (
    WATCHDOG
    + """
import runpy
runpy.run_module("chromasync", run_name="__main__", alter_sys=True)
"""
)
"""Python source of `python -m chromasync` that also ends with this process."""
COORDINATOR = {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "true"}
WORKER = {"SYNC_DISTRIBUTED": "true", "SYNC_COORDINATOR": "false"}
KINDS: dict[int, type[ChromasyncError]] = {2: SettingsError, 3: StoreUnavailable}
"""Errors for these exit codes of a process; other codes are a MemberEnded."""


class MemberEnded(ChromasyncError):
    """A process of the self-test ended by itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """One process and its log."""

    role: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def failure(self) -> ChromasyncError:
        """The reason of its end, from its own output."""
        lines = self.log.read_text(errors="replace").splitlines()
        said = next((line for line in reversed(lines) if line.startswith("Error: ")), "")
        words = said.removeprefix("Error: ") or "\n".join(lines[-LOG_LINES:]) or "(it said nothing)"
        kind = KINDS.get(self.process.returncode, MemberEnded)
        return kind(
            f"The {self.role} that the self-test started ended by itself, with exit code "
            f"{self.process.returncode}.",
            hint=f"It said: {words}",
        )


class Crew:
    """The processes of one self-test; a context manager that ends them.

    Args:
        settings: their common settings.
        folder: the folder of their files.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._ended = False
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, role: str, **variables: str) -> Member:
        """Start one more process, with these variables in its environment."""
        log = self._folder / f"{len(self.members)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 -- our own program, no shell
                [sys.executable, "-c", PROGRAM, "run"],
                env=environment_of(self._settings, **variables),
                cwd=self._folder,  # where there is no chromasync.toml
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=output,
                # a Ctrl-C in the terminal is for us, who then end it in order
                start_new_session=True,
            )
        member = Member(role, process, log)
        self.members.append(member)
        return member

    def check(self) -> None:
        """Raise when a process has ended by itself."""
        for member in self.members:
            if not self._ended and member.process.poll() is not None:
                raise member.failure()

    def end(self) -> None:
        """Stop all processes in order, at the same time; a second call does nothing."""
        self._ended = True
        running = [m.process for m in self.members if m.process.poll() is None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        try:
            _wait(running, deadline)
        finally:
            for member in self.members:
                _reap(member.process)


def worker_name(pid: int) -> str:
    """The name of a worker for people, with its process id."""
    return f"worker-{pid}"


def _wait(processes: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def _reap(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()

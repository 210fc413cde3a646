"""Processes of the program that start warm: copies of one that has imported everything already.

To start an interpreter and to import the program takes more than most of these tests do. A forked
process has its own pid, environment, files and signals, and is killed and frozen like any other.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "chromasync.cli.commands",
        "chromasync.app",
        # what the commands import when they run
        "chromasync.advice.keeper",
        "chromasync.doctor",
        "chromasync.failover.promote",
        "chromasync.role",
        "chromasync.store.postgres",
        "chromasync.verify",
        "chromasync.wanted",
        "chromasync.fence",
        "chromasync.alerts",
        "rich.console",
    ]
)


class Forked:
    """`chromasync ARGUMENTS` in a process of its own, with the interface of `subprocess.Popen`.

    Args:
        arguments: of the command line.
        env: the whole environment of the process.
        log: file that its output is added to; its folder is the working folder.
        prelude: Python that it runs before the program.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], log: Path, prelude: str = ""
    ) -> None:
        log.touch()
        self._process = _context.Process(
            target=_become, args=(tuple(arguments), dict(env), str(log), prelude), daemon=True
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it lives."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended."""
        self._process.join(timeout)
        code = self.poll()
        assert code is not None, f"process {self.pid} is still there after {timeout} s"
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def _become(arguments: tuple[str, ...], env: dict[str, str], log: str, prelude: str) -> None:
    """Turn this copy into a process as if it had been started with this environment."""
    os.setsid()
    os.chdir(Path(log).parent)
    with open(os.devnull, "rb") as nothing, open(log, "ab") as output:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    importlib.reload(importlib.import_module("chromasync.faultpoints"))  # it reads the environment
    sys.argv = ["chromasync", *arguments]
    threading.Thread(target=_leave_with_the_tests, daemon=True).start()
    exec(prelude, {})  # noqa: S102 (a text of the tests)
    from chromasync.cli import main

    main()


def _leave_with_the_tests() -> None:
    """End this process when that of the tests has ended, in whatever way."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    tests.join()
    os.kill(os.getpid(), signal.SIGKILL)

"""Programs of the system that some tests need: found, or installed where that is allowed.

A test says what it needs: `@pytest.mark.needs("chromium")`. Where the program is missing and cannot
be installed, such tests are left out, and the run ends with one line about it. `make test-all`,
which must leave nothing out, lets them fail instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
from filelock import FileLock

INSTALL_SECONDS = 600
STRICT = "CHROMASYNC_LEAVE_NOTHING_OUT"
"""A variable of `make test-all`: tests whose program is missing are not left out."""
LEFT_OUT = "chromasync_left_out"


@dataclass(frozen=True)
class Program:
    """A program of the system: its names, the Debian package that has it, and who needs it."""

    names: tuple[str, ...]
    package: str
    what: str

    @property
    def path(self) -> Path | None:
        """Where it is: the system's, or a package's of this environment; None if neither has it."""
        places = (None, str(Path(sys.executable).parent))
        found = (shutil.which(name, path=place) for place in places for name in self.names)
        return next((Path(path) for path in found if path), None)

    def find(self) -> Path:
        """Where it is; the test fails if it is missing."""
        path = self.path
        if path is None:
            pytest.fail(f"{self.names[0]} is missing: {self.advice}", pytrace=False)
        return path

    @property
    def advice(self) -> str:
        """How to get it."""
        return f"apt-get install {self.package}"

    @property
    def line(self) -> str:
        """The line at the end of a run that left its tests out."""
        return f"Left out: {self.what}, because {self.names[0]} is missing; {self.advice}"


PROGRAMS = {
    "caddy": Program(("caddy",), "caddy", "the tests of the way to the replica"),
    "chromium": Program(
        ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
        "chromium",
        "the tests of the page in a browser",
    ),
    "prometheus": Program(("prometheus",), "prometheus", "the tests with a real Prometheus"),
    "promtool": Program(("promtool",), "prometheus", "the tests of the alert rules"),
}


class LeaveOut:
    """A plugin that leaves out tests whose program is missing, and tells so once."""

    def __init__(self) -> None:
        self._lines: set[str] = set()

    @pytest.hookimpl(trylast=True)  # only what would run counts as left out
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Install what is missing, and deselect the tests of what stays missing."""
        missing = {name for name in _needed(items) if not _is_there(PROGRAMS[name])}
        if missing and not os.environ.get(STRICT):
            left_out = [item for item in items if missing & _needed([item])]
            items[:] = [item for item in items if item not in left_out]
            config.hook.pytest_deselected(items=left_out)
            self._lines |= {PROGRAMS[name].line for name in missing}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the process that prints, when this is one of several."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[LEFT_OUT] = sorted(self._lines)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Note what another process of this run has left out."""
        self._lines |= set(getattr(node, "workeroutput", {}).get(LEFT_OUT, ()))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """End with one line for each missing program."""
        for line in sorted(self._lines):
            terminalreporter.write_line(line)


def _needed(items: Sequence[pytest.Item]) -> set[str]:
    return {mark.args[0] for item in items for mark in item.iter_markers("needs")}


def _is_there(program: Program) -> bool:
    """Whether the program is there, after an attempt to install it."""
    if program.path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install(program)
    return program.path is not None


def _install(program: Program) -> None:
    """Install a package; several processes of a run do so one after another."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "--no-install-recommends", program.package]
    with FileLock(Path(gettempdir()) / "chromasync-tests-apt.lock"):
        for command in (["update"], install):
            if program.path is None:
                subprocess.run(
                    ["apt-get", *command],
                    env=environment,
                    capture_output=True,
                    check=False,
                    timeout=INSTALL_SECONDS,
                )

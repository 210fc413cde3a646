"""Programs of the system that some tests need: found, or installed where that is allowed.

Where a program is missing and cannot be installed, its tests are left out: `make test` ends with
one line about it, and `make test-all`, which must leave nothing out, fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import gettempdir

import pytest
from filelock import FileLock

INSTALL_SECONDS = 300
LEFT_OUT = "chromasync left out"
"""Begins the reason of each test that was left out for a missing program."""
STRICT = "CHROMASYNC_LEAVE_NOTHING_OUT"
"""A variable of `make test-all`: a missing program is then a failure."""


def find_program(names: Sequence[str], *, package: str, what: str) -> Path:
    """The first of these programs that the system has, after an attempt to install `package`.

    Args:
        package: the name of the Debian package that has it.
        what: what is left out without it.
    """
    path = _found(names)
    if path is None and _may_install():
        _install(package)
        path = _found(names)
    if path is not None:
        return path
    reason = f"{LEFT_OUT} {what}: install {names[0]} (apt-get install {package})"
    if os.environ.get(STRICT):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _found(names: Sequence[str]) -> Path | None:
    return next((Path(path) for name in names if (path := shutil.which(name))), None)


def _may_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _install(package: str) -> None:
    """Install a package; several test processes do so one after another."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    with FileLock(Path(gettempdir()) / "chromasync-tests-apt.lock"):
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                ["apt-get", *command],
                env=environment,
                capture_output=True,
                check=False,
                timeout=INSTALL_SECONDS,
            )

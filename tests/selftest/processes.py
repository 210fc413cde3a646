"""The self-test as a process of its own, in a clean environment and folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from chromasync.model import Side
from tests.support.stage import ROOT, Stage

PATIENCE = 150.0
"""Longer than the self-test waits by itself, so that it says what it waited for."""
COMMAND = ("-m", "chromasync", "selftest")
SCRIPT = (str(ROOT / "test_distributed_sync.py"),)
FAILED = "❌ DISTRIBUTED SYNC TEST FAILED"
GUIDE = (
    r"🧪 Testing Distributed Sync Workers",
    r"📋 Coordinator cycle: \d+ tasks created in \d+\.\ds",
    r"👷 Found \d+ workers: worker-\d+ \(active\)(, worker-\d+ \(active\))*",
    r"📊 Tasks: \d+ completed, 0 pending",
    r"✅ Sync verification passed!",
    r"🎉 DISTRIBUTED SYNC TEST PASSED!",
)
"""The lines that the guide promises, in their order."""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """No settings but these, and a place of its own for whatever is temporary."""
    ours = ("SYNC_", "PRIMARY_", "REPLICA_", "CHROMASYNC_", "DATABASE_URL")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours) and k != "PORT"}
    return inherited | {"TMPDIR": str(folder), "PYTHONUTF8": "1"} | settings


@contextmanager
def running(folder: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """`python ARGUMENTS` in `folder`; killed if it is still there."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(folder, **settings),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` in `folder` to its end."""
    with running(folder, *arguments, **settings) as process:
        out, err = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read what it says up to the line that contains `text`."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if text in line:
            return
    raise AssertionError(f"it never said {text!r}:\n{said}")


def configured(stage: Stage, **more: str) -> dict[str, str]:
    """The settings of a stage; unlike the engine, the self-test writes to the primary itself."""
    return stage.values(PRIMARY_URL=stage.servers.primary.url, **more)


def spoken(result: subprocess.CompletedProcess[str]) -> list[str]:
    """What it said, line by line, wherever it went."""
    return (result.stdout + result.stderr).splitlines()


def assert_guide(lines: list[str]) -> None:
    """All lines of the guide are there, in their order, the last one at the end."""
    rest = iter(lines)
    for pattern in GUIDE:
        assert any(re.fullmatch(pattern, line) for line in rest), (pattern, lines)
    assert re.fullmatch(GUIDE[-1], lines[-1])


def processes_of(folder: Path) -> list[psutil.Process]:
    """Running processes whose command line names `folder`, or which stand inside of it."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "cwd", "status"])
        if (
            str(folder) in " ".join(process.info["cmdline"] or ())
            or str(process.info["cwd"]).startswith(f"{folder}/")
        )
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def until_gone(folder: Path) -> None:
    """Wait until no process of `folder` runs any more."""
    deadline = time.monotonic() + PATIENCE
    while left := processes_of(folder):
        assert time.monotonic() < deadline, left
        psutil.wait_procs(left, timeout=0.1)


def assert_nothing_left(stage: Stage, folder: Path) -> None:
    """The self-test has left nothing: on no side, in no store, in no folder, no process."""
    for side, client in ((Side.PRIMARY, stage.primary), (Side.REPLICA, stage.replica)):
        names = [c.name for c in client.list_collections()]
        assert not [name for name in names if name.startswith("chromasync-")], (side, names)
    with stage.app() as app:
        names = [mirror.name for mirror in app.store.mirrors()]
        assert not [name for name in names if name.startswith("chromasync-")], names
        assert app.store.holds() == []
    assert processes_of(folder) == []
    assert [path.name for path in folder.iterdir() if path.name.startswith("chromasync-")] == []

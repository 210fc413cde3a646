"""The program as a process of its own, for tests that kill and interrupt it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

from chromasync.config import DATABASE_FILE
from tests.support.forked import Forked
from tests.support.stage import Stage

LONGEST_SECONDS = 180.0


def environment(stage: Stage, **extra: str) -> dict[str, str]:
    """The environment that makes a process work on this stage."""
    ours = ("SYNC_", "PRIMARY_", "REPLICA_", "CHROMASYNC_", "DATABASE_URL")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return inherited | stage.values() | extra


@contextmanager
def running(stage: Stage, *arguments: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """`chromasync ARGUMENTS` with these environment variables; killed if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chromasync", *arguments],
        env=environment(stage, **extra),
        cwd=stage.folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def run(stage: Stage, *arguments: str, **extra: str) -> tuple[int, str]:
    """Run `chromasync ARGUMENTS` in a warm process to its end; exit code, and what it said."""
    log = stage.folder.parent / f"{stage.folder.name}-said.log"
    process = Forked(arguments, environment(stage, **extra), log)
    try:
        code = process.wait(LONGEST_SECONDS)
    finally:
        process.kill()
    return code, log.read_text(errors="replace")


def live_tasks(stage: Stage) -> int:
    """Tasks that are neither completed nor failed, as any SQL tool sees them."""
    with closing(sqlite3.connect(stage.folder / DATABASE_FILE)) as database:
        statuses = "task_status IN ('pending', 'processing')"
        (count,) = database.execute(f"SELECT count(*) FROM sync_tasks WHERE {statuses}").fetchone()
        return int(count)

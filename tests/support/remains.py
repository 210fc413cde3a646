"""Processes that tests and fixtures leave behind: noticed when all fixtures have ended."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

SIGN = "TESTS_OF_CHROMASYNC"
"""A variable that children inherit, so that one whose parent has ended is known as well."""

LAST_SECONDS = 30.0
"""A process that was told to end may take so long on a slow machine."""

PYTHONS_OWN = ("multiprocessing.forkserver", "multiprocessing.resource_tracker")
"""Children of this process that end with it."""


@contextmanager
def none_remain() -> Iterator[None]:
    """Ends processes that were started in the block and are still there; then it raises."""
    me = psutil.Process()
    before = set(me.children(recursive=True))
    sign = os.environ[SIGN] = uuid.uuid4().hex
    yield
    started = _descendants(me) | {p for p in psutil.process_iter() if _bears(p, sign)}
    _, left = psutil.wait_procs(started - before - {me}, timeout=LAST_SECONDS)
    told = [_described(process) for process in left]
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    if told:
        raise AssertionError("\n".join(["processes that nobody has ended:", *told]))


def _descendants(me: psutil.Process) -> set[psutil.Process]:
    return {
        process
        for process in me.children(recursive=True)
        if not (_parent(process) == me.pid and _is_pythons_own(process))
    }


def _is_pythons_own(process: psutil.Process) -> bool:
    return any(name in _described(process) for name in PYTHONS_OWN)


def _bears(process: psutil.Process, sign: str) -> bool:
    with suppress(psutil.Error):
        return process.environ().get(SIGN) == sign and not _is_pythons_own(process)
    return False


def _parent(process: psutil.Process) -> int | None:
    with suppress(psutil.Error):
        return process.ppid()
    return None


def _described(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid}: {' '.join(process.cmdline())}"
    return f"{process.pid}: ended meanwhile"

"""A cycle that dies inside this process as a killed process would, and leaves nothing running.

From the instant of death, every thread of the dead role fails at its next named point and at its
next call to the store, so nothing is recorded that a killed process could not have recorded. What
a thread does until then, a killed process could have done too, a moment earlier.

The dead role leads under the name of a process that has really ended, so its successor finds the
lead free, as it would after a kill.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import psutil
import pytest

from chromasync import faultpoints, role
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport
from chromasync.steering import Watch
from chromasync.worker.recorder import Recorder
from tests.support.stage import Stage

Killed = SystemExit
"""The end of a dead role's threads: no `except Exception` stops it, and threads die silently."""


class Doom:
    """Death the `nth` time any thread reaches `point`."""

    def __init__(self, point: str, nth: int) -> None:
        self._point = point
        self._left = nth
        self._lock = threading.Lock()
        self.dead = threading.Event()

    def reach(self, point: str) -> None:
        """What `faultpoints` calls."""
        with self._lock:
            if point == self._point:
                self._left -= 1
            if self._left == 0:
                self.dead.set()
        self.check()

    def check(self) -> None:
        """Raise Killed when death has come."""
        if self.dead.is_set():
            raise Killed


class MortalStore:
    """A store whose every method raises Killed once its owner is dead."""

    def __init__(self, store: Any, doom: Doom) -> None:
        self._store = store
        self._doom = doom

    def led_by(self, term: Any) -> MortalStore:
        """The same, for a leader's view."""
        return MortalStore(self._store.led_by(term), self._doom)

    def urgent(self) -> MortalStore:
        """The same, for what cannot wait."""
        return MortalStore(self._store.urgent(), self._doom)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **options: Any) -> Any:
            self._doom.check()
            return method(*args, **options)

        return call


def sync_until(
    stage: Stage, point: str, nth: int, *, full: bool = False, **overrides: str
) -> CycleReport | None:
    """One cycle that dies at the `nth` reaching of `point`; its report when it never got there."""
    doom = Doom(point, nth)
    with stage.app(**overrides) as app:
        primary, replica = app.servers
        mortal: Any = MortalStore(app.store, doom)
        with _dead_name():
            single = role.Participant(primary, replica, mortal, app.settings)
        with faultpoints.injected(doom.reach):
            try:
                with swept(single):
                    report = single.run_cycle(Quiet(), full=full)
                    doom.check()
                    single.__exit__(None, None, None)
                    return report
            except Killed:
                return None


@contextmanager
def _silent_deaths() -> Iterator[None]:
    """Threads that are killed in the block die silently, as SystemExit does outside of pytest."""
    told = threading.excepthook

    def tell(args: threading.ExceptHookArgs) -> None:
        if args.exc_type is not Killed:
            told(args)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = told


@contextmanager
def swept(single: role.Participant) -> Iterator[None]:
    """Enter the role; afterwards none of its threads is left, and nobody is told."""
    with _silent_deaths():
        yield from _entered(single)


def _entered(single: role.Participant) -> Iterator[None]:
    single.__enter__()
    try:
        yield
    finally:
        pool, lead = single._pool, single._lead
        pool._state.stop()
        pool._gate.close()
        pool._abandoned.set()
        keepers = [pool._keeper._renewing, *([lead._renewing] if lead else [])]
        others: list[Recorder | Watch] = [single._recorder, single._watch]
        stops = [pool._heartbeat._stop, *(keeper._stop for keeper in keepers)]
        for ended in (*stops, *(other._stop for other in others)):
            ended.set()
        threads = [*pool._threads, pool._heartbeat.thread, *(k.thread for k in keepers)]
        threads += [other._thread for other in others]
        for thread in threads:
            if thread.ident is not None:
                thread.join()


@contextmanager
def _dead_name() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(role, "process_name", lambda: f"{_ended_process()}:{uuid.uuid4().hex[:8]}")
        yield


@cache
def _ended_process() -> str:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        created = psutil.Process(process.pid).create_time()
        process.communicate(b"\n")
    return f"{socket.gethostname()}:{process.pid}:{created}"

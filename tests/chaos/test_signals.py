"""SIGINT and SIGTERM: the process ends in order, and the next one goes on."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from chromasync.lab.proxy import Fault, Hang, Request
from chromasync.model import WorkerStatus
from tests.chaos.processes import LONGEST_SECONDS, live_tasks, running
from tests.support.stage import Stage

SMALL = {"SYNC_CHUNK_SIZE": "10"}


class FirstWrite:
    """A fault hook that holds the replica's first write of records until it is released."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()

    def __call__(self, request: Request) -> Fault | None:
        """Hold this request if it is the first of its kind."""
        if self.reached.is_set() or not request.path.endswith("/add"):
            return None
        self.reached.set()
        return Hang(self.release)


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "number", "code"),
    [
        ("sync", signal.SIGINT, 130),
        ("sync", signal.SIGTERM, 130),
        ("run", signal.SIGINT, 130),
        ("run", signal.SIGTERM, 0),
    ],
)
def test_a_signal_in_the_middle_of_a_cycle_ends_the_process_in_order(
    stage: Stage, command: str, number: signal.Signals, code: int
) -> None:
    """What is in hand is finished, the lead is given up, and a fresh process goes on at once."""
    stage.create(count=100)
    stage.servers.replica_proxy.fault = held = FirstWrite()
    with running(stage, command, **SMALL) as process:
        assert held.reached.wait(LONGEST_SECONDS)
        os.kill(process.pid, number)
        held.release.set()
        out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert process.returncode == code, out + err
    assert "Traceback" not in err

    stage.sync_and_judge(**SMALL)
    assert live_tasks(stage) == 0
    with stage.app() as app:
        assert {worker.status for worker in app.store.workers()} == {WorkerStatus.STOPPED}


@pytest.mark.long
@pytest.mark.parametrize("command", ["sync", "run"])
def test_a_second_signal_ends_it_although_a_request_hangs(stage: Stage, command: str) -> None:
    """A server that does not answer cannot keep the process from leaving."""
    stage.create(count=100)
    stage.servers.replica_proxy.fault = held = FirstWrite()
    with running(stage, command, **SMALL) as process:
        assert held.reached.wait(LONGEST_SECONDS)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(process.pid, number)
        process.communicate(timeout=20.0)
    assert not held.release.is_set()
    assert process.returncode == 130
    held.release.set()
    stage.sync_and_judge(**SMALL)

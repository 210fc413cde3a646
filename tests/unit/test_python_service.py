"""The service in a thread, over a program that runs as it is told to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

import chromasync
from chromasync.app import Application
from chromasync.config import Role
from chromasync.errors import SettingsError, StoreUnavailable
from tests.cli.fakes import FakeProgram
from tests.unit.configs import ONE, TWO

pytestmark = pytest.mark.usefixtures("two_servers_alone")
LONG = 60


class Running(FakeProgram):
    """A program whose service runs until it is stopped, or until something goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.failing = threading.Event()
        self.thread: threading.Thread | None = None

    def run(self, stop: threading.Event) -> int:
        self.thread = threading.current_thread()
        self.begun.set()
        if self.trouble is not None:
            assert self.failing.wait(LONG)
            raise self.trouble
        assert stop.wait(LONG)
        self.asked.append(("drained",))
        return 0


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Running:
    """The program behind the service."""
    running = Running()
    monkeypatch.setattr(Application, "open", running.open)
    return running


def test_a_service_of_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    """A folder is opened for one call, so the constructor says so, not a thread later."""
    with pytest.raises(SettingsError, match="needs a server"):
        chromasync.Service(tmp_path, TWO)


def test_it_runs_in_a_thread_of_its_own_until_the_block_ends(program: Running) -> None:
    """The end of the block drains it, and closes the program."""
    with chromasync.Service(ONE, TWO, interval=60) as service:
        assert program.begun.wait(LONG)
        assert service.is_running()
        assert program.thread is not threading.current_thread()
        states = [program.closed]
    assert not service.is_running()
    assert program.asked == [("drained",)]
    assert [*states, program.closed] == [False, True]
    assert program.settings is not None
    assert (program.settings.sync_interval, program.settings.sync_http_port) == (60, None)


def test_it_can_be_started_and_stopped_without_a_block(program: Running) -> None:
    """`join` with a time limit says that it runs, and `stop` ends it; it runs once."""
    service = chromasync.Service(ONE, TWO)
    assert not service.is_running()
    assert service.start() is service
    assert service.join(0.01) is False
    assert service.stop() is True
    assert service.join() is True
    with pytest.raises(RuntimeError, match="once"):
        service.start()


def test_asking_it_to_stop_need_not_wait(program: Running) -> None:
    """With a time limit, `stop` says whether it has ended yet."""
    service = chromasync.Service(ONE, TWO).start()
    service.stop(0)
    assert service.join(LONG) is True


def test_the_error_that_ends_it_is_raised_where_one_waits_for_it(program: Running) -> None:
    """`join`, `stop` and the end of the block raise the same error."""
    program.trouble = StoreUnavailable("The store is away.")
    program.failing.set()
    service = chromasync.Service(ONE, TWO).start()
    for wait in (service.join, service.stop):
        with pytest.raises(StoreUnavailable) as caught:
            wait()
        assert caught.value is program.trouble
    assert not service.is_running()
    with (
        pytest.raises(StoreUnavailable, match="away"),
        chromasync.Service(ONE, TWO) as second,
    ):
        second._thread.join()


def test_an_error_of_the_block_comes_first(program: Running) -> None:
    """The service ends all the same, and its own error does not hide that of the block."""
    program.trouble = StoreUnavailable("The store is away.")
    program.failing.set()
    service = chromasync.Service(ONE, TWO)
    with pytest.raises(KeyError, match="block"), service:
        raise KeyError("block")
    assert not service.is_running()


def test_its_status_may_be_asked_at_any_time(program: Running) -> None:
    """It is read from the store, over a connection of its own."""
    service = chromasync.Service(ONE, TWO)
    assert service.status() is program.shown_status
    assert not program.begun.is_set()


def test_wrong_settings_are_refused_before_anything_begins(program: Running) -> None:
    """The constructor raises, also where a worker has no store in common with a coordinator."""
    with pytest.raises(SettingsError, match="SYNC_INTERVAL"):
        chromasync.Service(ONE, TWO, interval=-1)
    with pytest.raises(SettingsError, match="Missing argument: replica"):
        chromasync.Service(ONE)
    with pytest.raises(SettingsError, match="DATABASE_URL is not set"):
        chromasync.Service(ONE, TWO, distributed=True)
    assert not program.begun.is_set()


@pytest.mark.parametrize(
    ("keywords", "role"),
    [
        ({}, Role.SINGLE),
        ({"distributed": True, "coordinator": True}, Role.COORDINATOR),
        ({"distributed": True}, Role.WORKER),
    ],
    ids=["single", "coordinator", "worker"],
)
def test_keywords_set_the_role(program: Running, keywords: dict[str, Any], role: Role) -> None:
    """They mean what the variables of a process mean."""
    with chromasync.Service(ONE, TWO, store="postgresql://db/sync", **keywords):
        assert program.begun.wait(LONG)
    assert program.settings is not None
    assert program.settings.role is role


def test_it_does_not_keep_the_interpreter_alive(program: Running) -> None:
    """A program may end without stopping it."""
    service = chromasync.Service(ONE, TWO).start()
    assert service._thread.daemon
    service.stop()

"""What `status` says when cycles fail, processes die, or nothing ever ran."""

from __future__ import annotations

from contextlib import closing

import pytest

from chromasync.app import NOBODY_WORKS
from chromasync.errors import AccessRefused
from chromasync.model import CycleStatus, WorkerStatus
from chromasync.quiet import Quiet
from chromasync.store import open_store
from chromasync.testing.proxy import Answer
from tests.store.samples import beat_of
from tests.support.stage import Stage

CLOSED = Answer(403, b'{"error":"AuthError","message":"refused on purpose"}')
PLANS_ONLY = {
    "SYNC_DISTRIBUTED": "true",
    "SYNC_COORDINATOR": "true",
    "SYNC_COORDINATOR_WORKS": "false",
}


def test_after_a_failed_cycle_the_status_has_its_reason(stage: Stage) -> None:
    """A primary that lets nobody in: not 0, whatever the collections were, until it does again."""
    stage.create(count=5)
    stage.sync()
    assert stage.status().exit_code == 0
    stage.servers.primary_proxy.fault = lambda _: CLOSED
    with pytest.raises(AccessRefused) as caught:
        stage.sync()
    status = stage.command("status")
    assert status.returncode in (1, 4)  # 4 where a collection itself counts as failed
    assert "Cycle 2 is failed after" in status.stdout
    assert caught.value.what in status.stdout
    stage.servers.primary_proxy.fault = None
    stage.sync()
    assert stage.status().exit_code == 0


def test_a_folder_without_a_state_is_not_identical(stage: Stage) -> None:
    """It ends with 1 and names the store that it looked at."""
    ended = stage.command("status")
    assert ended.returncode == 1
    assert f"No cycle has run yet on sqlite:///{stage.folder}" in ended.stdout
    assert list(stage.folder.iterdir()) == []


def test_processes_that_were_killed_are_dead_in_the_status(stage: Stage) -> None:
    """Nobody is left to mark them in the store, nor to finish the cycle that they began."""
    stage.create(count=5)
    stage.sync()
    with closing(open_store(stage.settings().store_url)) as store:
        store.beat(beat_of("killed"))
        assert store.open_cycle().status is CycleStatus.RUNNING
    assert "Worker killed is active" in stage.command("status").stdout
    with stage.state() as state:
        state.execute("UPDATE sync_workers SET last_heartbeat = last_heartbeat - 61")
    told = stage.command("status").stdout
    assert "Worker killed is dead" in told
    assert "is active" not in told
    assert "Cycle 2 was not finished" in told


# ---- nobody to do the work -------------------------------------------------------------------


class Notes(Quiet):
    """Keeps what people would be told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize(
    ("status", "noted"),
    [(None, True), (WorkerStatus.STOPPED, True), (WorkerStatus.ACTIVE, False)],
)
def test_a_cycle_that_nobody_works_on_does_not_wait_in_silence(
    stage: Stage, status: WorkerStatus | None, noted: bool
) -> None:
    """A process that only plans says at once that no worker is there to do what it plans."""
    with closing(open_store(stage.settings().store_url)) as store:
        if status is not None:
            store.beat(beat_of("w1", status=status))
    progress = Notes()
    with stage.app(**PLANS_ONLY) as app:
        assert app.sync(progress).exit_code == 0
    assert progress.notes == ([NOBODY_WORKS] if noted else [])
    with stage.app() as app:
        app.sync(progress)
    assert len(progress.notes) == noted

"""What `status` says when cycles fail, processes die, or nothing ever ran."""

from __future__ import annotations

from contextlib import closing

import pytest

from chromasync.app import NOBODY_WORKS
from chromasync.errors import AccessRefused
from chromasync.lab.proxy import Answer
from chromasync.model import CycleStatus, WorkerStatus
from chromasync.quiet import Quiet
from chromasync.store import open_store
from chromasync.wording.freshness import NEVER_REREAD
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
    with closing(open_store(stage.settings().store)) as store:
        store.beat(beat_of("killed"))
        assert store.open_cycle().status is CycleStatus.RUNNING
    assert "Worker killed is active" in stage.command("status").stdout
    with stage.state() as state:
        state.execute("UPDATE sync_workers SET last_heartbeat = last_heartbeat - 61")
    told = stage.command("status").stdout
    assert "Worker killed is dead" in told
    assert "is active" not in told
    assert "Cycle 2 was not finished" in told


# ---- how fresh it is --------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("days", "words"),
    [(7, "Out of date: the newest completed cycle began 7 d ago"), (-7, "A clock has jumped")],
)
def test_a_service_that_died_is_not_well_for_ever(stage: Stage, days: int, words: str) -> None:
    """A week after its last cycle the status is not 0; nor if that was next week, by a clock."""
    stage.create(count=5)
    stage.sync()
    assert stage.command("status", "-q").returncode == 0
    with stage.state() as state:
        moved = days * 86_400
        state.execute(
            f"UPDATE sync_cycles SET started_at = started_at - {moved}, "
            f"finished_at = finished_at - {moved}"
        )
    ended = stage.command("status")
    assert ended.returncode == 1
    assert words in ended.stdout.splitlines()[0]
    assert stage.command("status", "-q", SYNC_ALERT_LAG="2678400").returncode == (days < 0)
    stage.sync()
    assert stage.command("status", "-q").returncode == 0


@pytest.mark.long
def test_without_a_budget_nobody_is_told_that_changes_are_read(stage: Stage) -> None:
    """`sync` and `status` say that records are never read again; the instant is the last read's."""
    stage.overrides["SYNC_SCRUB_BUDGET"] = "0"
    stage.create(count=5)
    for _ in range(3):
        last_read_at = stage.sync().identical_as_of
    report = stage.sync()
    assert (report.counts.read, report.identical_as_of) == (0, last_read_at)
    told = stage.command("sync").stdout
    assert f"{NEVER_REREAD}\n" in told
    assert "0 records read" in told
    assert ", when the oldest record was last read: 5 records in 1 collection." in told
    assert f"{NEVER_REREAD}\n" in stage.command("status").stdout


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
    with closing(open_store(stage.settings().store)) as store:
        if status is not None:
            store.beat(beat_of("w1", status=status))
    progress = Notes()
    with stage.app(**PLANS_ONLY) as app:
        assert app.sync(progress).exit_code == 0
    assert progress.notes == ([NOBODY_WORKS] if noted else [])
    with stage.app() as app:
        app.sync(progress)
    assert len(progress.notes) == noted

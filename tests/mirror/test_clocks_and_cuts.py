"""Real servers: a clock that was ahead, and a replica restored while a copy was under way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from chromasync.cycle.clock import FUTURE
from chromasync.errors import ServerError
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Request, ResetBefore
from chromasync.reports import Outcome
from tests.support.stage import Stage, fill

pytestmark = pytest.mark.usefixtures("short_waits")

DATED = {
    "sync_chunks": ("read_at",),
    "sync_replica_chunks": ("checked_at",),
    "sync_primary_collections": ("walked_at",),
    "sync_mirrors": ("replica_walked_at", "identical_as_of"),
    "sync_cycles": ("started_at", "finished_at"),
}


def put_forward(stage: Stage) -> None:
    """Let the store hold what it would after cycles whose clock was a day ahead."""
    day = "86400.0" if stage.crew is None else "interval '1 day'"
    with stage.state() as state:
        for table, columns in DATED.items():
            changes = ", ".join(f"{column} = {column} + {day}" for column in columns)
            state.execute(f"UPDATE {table} SET {changes}")


@pytest.mark.long
@pytest.mark.crewed
@pytest.mark.parametrize("full", [False, True])
def test_a_clock_that_was_ahead_hides_no_change(stage: Stage, full: bool) -> None:
    """What was updated in place since is found at once, and dated by the clock of now."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    docs = stage.create(count=100)
    stage.sync()
    stage.sync()
    put_forward(stage)
    docs.update(ids=[f"r{n}" for n in range(30)], metadatas=[{"n": -1}] * 30)
    assert stage.status().exit_code == 1
    (planned,) = stage.plan().collections
    assert planned.update == 30
    report = stage.sync(full=full)
    assert (report.outcome, report.counts.updated) == (Outcome.IDENTICAL, 30)
    assert FUTURE in report.warnings
    stage.assert_identical()
    snapshot = stage.status()
    assert snapshot.lag_seconds is not None
    assert snapshot.lag_seconds >= 0
    assert snapshot.exit_code == 0
    assert FUTURE not in stage.assert_quiet().warnings


class Dying:
    """A replica that answers nothing any more after so many writes of new records."""

    def __init__(self, writes: int) -> None:
        self._left = writes

    def __call__(self, request: Request) -> ResetBefore | None:
        self._left -= request.path.endswith("/add")
        return ResetBefore() if self._left < 0 else None


@pytest.mark.long
@pytest.mark.crewed(in_ci=False)
def test_a_replica_restored_while_a_copy_was_under_way(fragile: Stage, tmp_path: Path) -> None:
    """Records updated in place since its backup are mended before anything is called identical."""
    stage = fragile
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    docs = stage.create(count=200)
    stage.sync()
    port = int(stage.servers.replica.url.rpartition(":")[2])
    stage.servers.replica.stop()
    shutil.copytree(tmp_path / "replica", tmp_path / "backup")
    with ChromaServer(tmp_path / "replica", port=port) as replica:
        docs.update(ids=[f"r{n}" for n in range(40)], metadatas=[{"n": -1}] * 40)
        assert stage.sync().outcome is Outcome.IDENTICAL
        fill(docs, 400, start=200)
        stage.servers.replica_proxy.fault = Dying(5)
        with pytest.raises(ServerError):
            stage.sync()
        stage.servers.replica_proxy.fault = None
        replica.stop()
    with ChromaServer(tmp_path / "backup", port=port):
        (planned,) = stage.plan().collections
        assert (planned.create, planned.update) == (400, 40)
        report = stage.sync()
        assert (report.outcome, report.counts.updated) == (Outcome.IDENTICAL, 40)
        again = Stage(stage.servers, stage.folder, stage.database)
        again.crew = stage.crew
        try:
            again.assert_identical()
            again.assert_quiet()
        finally:
            again.close()

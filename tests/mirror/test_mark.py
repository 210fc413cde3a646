"""The mark on the replica: what it tells of restored servers, restored states and other stores."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import pytest

from chromasync import faultpoints
from chromasync.app import Application
from chromasync.config import load_settings
from chromasync.errors import AnotherStore, GuardRefusal, ServerUnreachable, SettingsError
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Answer, RecordingProxy, Request
from chromasync.model import MARKS_DATABASE, Side
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome
from tests.compat_servers import command
from tests.support.crew import Crew
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage, fill, invoke_command
from tests.support.writes import is_of_mark, watched

COUNT = 60
SMALL = {"SYNC_CHUNK_SIZE": "10", "SYNC_HTTP_TIMEOUT": "2"}


@pytest.fixture
def own(servers: Servers, tmp_path: Path, crew: Crew | None) -> Iterator[Stage]:
    """A stage whose replica is a server of its own, with a folder that can be copied."""
    with ExitStack() as stack:
        replica = stack.enter_context(ChromaServer(tmp_path / "replica"))
        proxy = stack.enter_context(RecordingProxy(replica.url))
        mine = Servers(servers.primary, replica, servers.primary_proxy, proxy)
        stage = Stage(mine, tmp_path / "state")
        stage.crew = crew
        stage.overrides |= SMALL
        yield stage
        stage.close()


def backed_up(stage: Stage) -> Path:
    """A copy of the replica's folder."""
    folder = stage.folder.parent / "replica"
    copy = stage.folder.parent / "backup"
    stage.servers.replica.stop()
    shutil.copytree(folder, copy)
    stage.servers.replica.start()
    return copy


def restore(stage: Stage, copy: Path) -> None:
    """Start the replica with that copy."""
    folder = stage.folder.parent / "replica"
    stage.servers.replica.stop()
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    stage.servers.replica.start()


def switch(stage: Stage, flag: str, count: int = 20) -> None:
    """Change some records in place."""
    docs = stage.primary.get_collection("docs", embedding_function=None)
    docs.update(ids=[f"r{n}" for n in range(count)], metadatas=[{"flag": flag}] * count)


def assert_compared(stage: Stage, report: CycleReport, words: str, updated: int) -> None:
    """The cycle says why it compared everything, and both sides are identical then."""
    assert any(words in warning for warning in report.warnings), report.warnings
    assert report.outcome is Outcome.IDENTICAL, report
    assert report.counts.updated == updated
    stage.assert_identical()
    assert stage.assert_quiet().warnings == ()


# ---- a replica from an older copy ----------------------------------------------------------------


@pytest.mark.long
@pytest.mark.crewed
def test_a_replica_restored_after_a_clean_cycle(own: Stage) -> None:
    """Records that were changed in place since then are found though no count differs."""
    own.create(count=COUNT)
    own.sync()
    copy = backed_up(own)
    switch(own, "new")
    own.sync_and_judge()
    restore(own, copy)
    assert "older" in " ".join(own.plan().warnings)
    assert sum(c.update for c in own.plan().collections) == 20
    assert_compared(own, own.sync(), "an older copy", 20)


@pytest.mark.long
def test_a_replica_restored_while_a_copy_is_under_way(own: Stage) -> None:
    """The cycle in which it died had written its mark before anything else."""
    docs = own.create(count=COUNT)
    own.sync()
    copy = backed_up(own)
    switch(own, "new")
    own.sync_and_judge()
    fill(docs, 100, start=COUNT)
    with break_down(own), pytest.raises(ServerUnreachable):
        own.sync()
    restore(own, copy)
    assert_compared(own, own.sync(), "an older copy", 20)


def break_down(stage: Stage) -> AbstractContextManager[None]:
    """The replica's server dies after the first chunks were written."""
    left = [4]

    def hook(point: str) -> None:
        left[0] -= point == faultpoints.AFTER_COMPLETE
        if left[0] == 0:
            stage.servers.replica.kill()

    return faultpoints.injected(hook)


def test_a_copy_made_in_the_middle_of_a_cycle(own: Stage) -> None:
    """It carries another mark than the cycle left at its end."""
    own.create(count=COUNT)
    own.sync()
    switch(own, "new")
    kept: list[Path] = []

    def hook(point: str) -> None:
        if point == faultpoints.AFTER_READ and has_mark_of(own, 2) and not kept:
            kept.append(backed_up(own))

    with faultpoints.injected(hook):
        own.sync(SYNC_WORKERS="1")
    restore(own, kept[0])
    report = own.sync()
    assert any("in the middle of that cycle" in words for words in report.warnings)
    own.assert_identical()


def has_mark_of(stage: Stage, cycle: int) -> bool:
    with stage.state() as state:
        row = state.execute("SELECT cycle_id, written FROM sync_marks").fetchone()
    return bool(row == (cycle, 1))


@pytest.mark.crewed(in_ci=False)
def test_an_emptied_replica(own: Stage) -> None:
    """A mark that is missing is told, and everything is copied anew."""
    own.create(count=COUNT)
    own.sync()
    own.servers.replica.stop()
    shutil.rmtree(own.folder.parent / "replica")
    own.servers.replica.start()
    report = own.sync()
    assert any("does not carry the mark" in words for words in report.warnings)
    with Rest(own.servers.replica.url, own.database) as rest:
        assert len(rest.records("docs")) == COUNT


# ---- states --------------------------------------------------------------------------------------


@pytest.mark.crewed(in_ci=False)
def test_a_state_restored_from_an_older_backup(stage: Stage) -> None:
    """A flag that went on and off again since then does not stay on."""
    stage.create(count=COUNT)
    switch(stage, "off")
    stage.sync_and_judge()
    restore_state = stage.keep_state()
    switch(stage, "on")
    stage.sync_and_judge()
    restore_state()
    switch(stage, "off")
    assert_compared(stage, stage.sync(), "state store was restored", 20)


@pytest.mark.long
@pytest.mark.crewed
def test_two_stores_in_turns(stage: Stage, tmp_path: Path) -> None:
    """Each notices what the other did to the replica meanwhile."""
    other = {"SYNC_DATA_DIR": str(tmp_path / "other")}
    stage.create(count=COUNT)
    switch(stage, "off")
    stage.sync_and_judge()
    switch(stage, "on")
    stage.sync_and_judge(**other)
    switch(stage, "off")
    assert_compared(stage, stage.sync(), "Another chromasync store", 20)
    switch(stage, "on")
    report = stage.sync(**other)
    assert any("Another chromasync store" in words for words in report.warnings)
    stage.assert_identical()


@pytest.fixture
def service(stage: Stage, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A service with a store of its own that has written its mark."""
    from tests.chaos.processes import running

    stage.create(count=COUNT)
    settings = {"SYNC_DATA_DIR": str(tmp_path / "other"), "SYNC_INTERVAL": "3600"}
    with running(stage, "run", **settings) as process:
        place = tmp_path / "other" / "chromasync.db"
        until(lambda: place.exists() and completed_cycles(place) > 0)
        yield process


def until(true: Callable[[], bool]) -> None:
    import time

    deadline = time.monotonic() + 200
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def completed_cycles(place: Path) -> int:
    with closing(sqlite3.connect(place)) as state:
        try:
            asked = "SELECT count(*) FROM sync_cycles WHERE cycle_status = 'completed'"
            return int(state.execute(asked).fetchone()[0])
        except sqlite3.OperationalError:  # its tables are being made
            return 0


@pytest.mark.long
def test_another_store_that_is_alive_and_gone(stage: Stage, service: subprocess.Popen[str]) -> None:
    """It is refused while the other's process is there, and takes over when that was killed."""
    with watched(stage.servers.replica_proxy) as writes:
        done = stage.command("sync")
        assert (done.returncode, "SYNC_MARK=off" in done.stderr) == (5, True), done.stderr
        assert str(service.pid) in done.stderr
        with pytest.raises(AnotherStore):
            stage.plan()
        assert stage.command("doctor").returncode == 5
    assert writes.requests + writes.marks == []
    service.send_signal(signal.SIGKILL)
    service.wait()
    assert stage.sync().outcome is Outcome.IDENTICAL
    stage.assert_identical()
    assert stage.assert_quiet().warnings == ()


def test_a_store_whose_process_ended_in_order_is_gone_at_once(
    stage: Stage, service: subprocess.Popen[str]
) -> None:
    """It said so itself, so that a store on any host need not wait."""
    service.send_signal(signal.SIGTERM)
    service.wait()
    assert mark_of(stage)["released"] is True
    assert stage.sync().outcome is Outcome.IDENTICAL


def mark_of(stage: Stage, side: Side = Side.REPLICA) -> dict[str, object]:
    """The mark of the stage's database, by plain REST."""
    import orjson

    url = stage.servers.replica.url if side is Side.REPLICA else stage.servers.primary.url
    with Rest(url, MARKS_DATABASE) as rest:
        record = rest.records("marks")[f"default_tenant/{stage.database}"]
    found: dict[str, object] = orjson.loads(record.document or "")
    return found


@pytest.mark.long
def test_a_service_that_is_refused_waits(stage: Stage, service: subprocess.Popen[str]) -> None:
    """It does not end in a loop of restarts, and goes on when the other one is gone."""
    from tests.chaos.processes import running

    with running(stage, "run", SYNC_INTERVAL="1", SYNC_LOG_FORMAT="json") as late:
        assert late.stderr is not None
        line = next(line for line in late.stderr if '"outcome": "failed"' in line)
        assert '"event": "cycle closed"' in line
        assert "SYNC_MARK=off" in line
        service.send_signal(signal.SIGTERM)
        service.wait()
        line = next(line for line in late.stderr if '"outcome": "identical"' in line)
        assert '"event": "cycle closed"' in line
        late.send_signal(signal.SIGTERM)
        late.communicate(timeout=200)
        assert late.returncode == 0


# ---- requests ------------------------------------------------------------------------------------


def test_the_mark_is_written_first_and_last(stage: Stage) -> None:
    """Nothing is written before it, and a cycle that changes nothing writes nothing at all."""
    stage.create(count=COUNT)
    proxy = stage.servers.replica_proxy
    before = len(proxy.writes())
    stage.sync()
    sent = proxy.writes()[before:]
    upserts = [n for n, r in enumerate(sent) if is_of_mark(r) and r.path.endswith("/upsert")]
    others = [n for n, r in enumerate(sent) if not is_of_mark(r)]
    assert upserts[0] < others[0]
    assert upserts[-1] > others[-1]
    assert len(upserts) == 3, "first, at the end of the cycle, and that the process ended"
    stage.assert_quiet()


def test_no_mark_is_looked_at_where_none_is_wanted(stage: Stage) -> None:
    """SYNC_MARK=off reads and writes none, nor does a plan, a doctor or a worker."""
    stage.overrides["SYNC_MARK"] = "off"
    stage.create(count=COUNT)
    before = len(stage.servers.replica_proxy.requests)
    stage.sync_and_judge()
    stage.plan()
    with stage.app() as app:
        assert "mark" not in {check.name for check in app.doctor().checks}
    sent = stage.servers.replica_proxy.requests[before:]
    assert not [r.path for r in sent if MARKS_DATABASE in r.path]
    with stage.state() as state:
        assert state.execute("SELECT count(*) FROM sync_marks").fetchone() == (0,)


@pytest.mark.long
@pytest.mark.parametrize("status", [403, 422, 500])
def test_a_replica_that_takes_no_mark(own: Stage, status: int) -> None:
    """The records are copied all the same, with one warning that says what is not noticed."""

    def refuse(request: Request) -> Answer | None:
        if is_of_mark(request) and not request.is_read and MARKS_DATABASE in request.path:
            return Answer(status, b'{"error":"No","message":"quota of databases"}')
        return None

    own.servers.replica_proxy.fault = refuse
    own.create(count=COUNT)
    report = own.sync()
    assert report.outcome is Outcome.IDENTICAL
    (warning,) = report.warnings
    assert "stores no mark" in warning
    assert "restored from an older copy" in warning
    own.assert_identical()
    assert own.sync().warnings == ()
    own.servers.replica_proxy.fault = None
    fill(own.primary.get_collection("docs", embedding_function=None), 1, start=COUNT)
    assert own.sync().warnings == ()
    assert mark_of(own)["final"] is True


# ---- sides ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_replica_is_no_primary(own: Stage, tmp_path: Path) -> None:
    """Neither for the store that keeps it nor for a new one, unless marks are not looked at."""
    own.create(count=COUNT)
    own.sync()
    third = tmp_path / "third"
    with ChromaServer(third) as server:
        urls = {"PRIMARY_URL": own.servers.replica_proxy.url, "REPLICA_URL": server.url}
        with pytest.raises(GuardRefusal, match=r"swapped|replica of earlier cycles"):
            own.sync(**urls)
        urls["SYNC_DATA_DIR"] = str(tmp_path / "chain")
        with pytest.raises(GuardRefusal, match="is a replica"):
            own.sync(**urls)
        with pytest.raises(GuardRefusal, match="is a replica"):
            own.plan(**urls)
        done = invoke_command("doctor", **own.values(**urls))
        assert done.returncode == 4
        assert "is a replica" in done.stdout + done.stderr
        chained = own.sync(**urls, SYNC_MARK="off")
        assert chained.outcome is Outcome.IDENTICAL
        with Rest(server.url, own.database) as rest:
            assert len(rest.records("docs")) == COUNT


def test_the_marks_are_no_part_of_what_is_mirrored(
    primary_server: ChromaServer, replica_server: ChromaServer, tmp_path: Path
) -> None:
    """With all databases mirrored they are neither held, counted, planned nor verified."""
    values = {
        "PRIMARY_URL": primary_server.url,
        "REPLICA_URL": replica_server.url,
        "SYNC_DATA_DIR": str(tmp_path / "state"),
    }
    with Rest(primary_server.url, "default_database") as rest:
        rest.create("docs")
        rest.write("add", "docs", ids=["a"], embeddings=[[1.0]])
    with Rest(primary_server.url, MARKS_DATABASE) as rest:
        rest.create("marks")  # an empty one, as an operator may have copied it
    with Application.open(load_settings(flags=values)) as app:
        for _ in range(2):
            report = app.sync(Quiet())
            assert (report.outcome, report.holds) == (Outcome.IDENTICAL, ())
            assert [c.name for c in report.collections] == ["docs"]
        assert [c.name for c in app.plan(Quiet()).collections] == ["docs"]
        verified = app.verify(Quiet())
        assert ([c.name for c in verified.collections], verified.different) == (["docs"], 0)
        details = {check.name: check.detail for check in app.doctor().checks}
        assert details["collections"] == "1 on the primary, 1 on the replica"
        assert details["mark"] == "is the one that was left"
    with pytest.raises(SettingsError, match="holds the marks"):
        load_settings(flags=values | {"SYNC_DATABASES": f"default_database,{MARKS_DATABASE}"})


@pytest.mark.long
@pytest.mark.parametrize("version", ["1.0.0", "0.6.3"])
def test_an_older_server_carries_the_mark(servers: Servers, tmp_path: Path, version: str) -> None:
    """It is written, known again, and missed when it is gone."""
    with ExitStack() as stack:
        replica = stack.enter_context(ChromaServer(command=command(version)))
        proxy = stack.enter_context(RecordingProxy(replica.url))
        stage = Stage.__new__(Stage)
        stage.servers = Servers(servers.primary, replica, servers.primary_proxy, proxy)
        stage.folder, stage.database = tmp_path, f"old{version.replace('.', '')}"
        stage.overrides = {}
        left = stack.enter_context(Rest(servers.primary.url, stage.database))
        left.create("docs")
        left.write("add", "docs", ids=["a"], embeddings=[[1.0, 2.0]], documents=["x"])
        assert stage.sync().warnings == ()
        assert mark_of(stage)["final"] is True
        left.write("update", "docs", ids=["a"], documents=["y"])
        assert stage.sync().warnings == ()
        assert stage.assert_quiet().warnings == ()
        with Rest(replica.url, MARKS_DATABASE) as rest:
            rest.drop("marks")
        report = stage.sync()
        assert any("does not carry the mark" in words for words in report.warnings)
        assert stage.assert_quiet().warnings == ()

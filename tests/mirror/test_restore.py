"""The replica's content goes to a new server, which becomes the primary without another copy."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from chromasync.app import Application
from chromasync.config import load_settings
from chromasync.errors import (
    AnotherInstance,
    FolderError,
    GuardRefusal,
    NotChroma,
    Paused,
    ServerUnreachable,
    SettingsError,
)
from chromasync.failover.restore import state_path
from chromasync.failover_reports import RestoreReport
from chromasync.faultpoints import (
    AFTER_COLLECTION_CREATED,
    AFTER_OPEN,
    AFTER_WRITE,
    BEFORE_CLOSE,
    BETWEEN_LEDGERS,
)
from chromasync.lab.chroma_server import ChromaServer, free_port
from chromasync.lab.judge import Judgement, judge
from chromasync.lab.proxy import Answer, RecordingProxy, ResetBefore
from chromasync.model import MARKS_DATABASE, HoldKind
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome
from chromasync.store import open_store
from tests.support.stage import Stage, client_of, close_client, drop, fill, vectors
from tests.support.writes import action_of, watched

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

DATABASES = ("default_database", "people")


def make(client: ClientAPI, name: str, space: Any = "cosine", **more: Any) -> Any:
    """A collection without an embedding function."""
    more["configuration"] = {"hnsw": {"space": space}}
    return client.create_collection(name, embedding_function=None, **more)


@dataclass
class Scene:
    """A primary with two databases, its replica behind a proxy, and a new server."""

    folder: Path
    primary: ChromaServer
    replica: ChromaServer
    new: ChromaServer
    proxy: RecordingProxy
    stack: ExitStack

    def client(self, server: ChromaServer, database: str = "default_database") -> ClientAPI:
        client = client_of(server.url, database)
        self.stack.callback(close_client, client)
        return client

    def values(self, **overrides: str) -> dict[str, str]:
        values = {
            "PRIMARY_URL": self.primary.url,
            "REPLICA_URL": self.proxy.url,
            "SYNC_DATA_DIR": str(self.folder),
            "SYNC_CHUNK_SIZE": "20",
        }
        return values | overrides

    def sync(self, **overrides: str) -> CycleReport:
        with Application.open(load_settings(flags=self.values(**overrides))) as app:
            return app.sync(Quiet())

    def restore(self, to: str = "", *names: str, **overrides: str) -> RestoreReport:
        settings = load_settings(flags=self.values(**overrides), servers_required=False)
        with Application.open(settings) as app:
            return app.restore(Quiet(), to or self.new.url, names)

    def arrange(self) -> None:
        """Every kind of content in two databases, mirrored."""
        one, people = (self.client(self.primary, database) for database in DATABASES)
        for name, space in (("docs", "cosine"), ("wares", "l2"), ("dots", "ip")):
            fill(make(one, name, space), 70)
        make(one, "empty", metadata={"of": "nothing"})
        plain = make(people, "docs")
        plain.add(ids=[f"p{n}" for n in range(30)], embeddings=vectors(30, seed=9))
        plain.update(ids=["p1"], documents=[""], embeddings=vectors(1, seed=4))
        assert self.sync().outcome is Outcome.IDENTICAL

    def databases(self, server: ChromaServer) -> list[str]:
        """The databases of a server."""
        listed = httpx2.get(f"{server.url}/api/v2/tenants/default_tenant/databases").json()
        return [database["name"] for database in listed]

    def assert_same(self, left: ChromaServer, right: ChromaServer) -> None:
        """Two servers hold the same in both databases, as the official client sees them."""
        for database in DATABASES:
            judgement = judge(self.client(left, database), self.client(right, database))
            assert judgement.identical, (str(judgement), judgement.examples)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        primary, replica, new = (stack.enter_context(ChromaServer()) for _ in range(3))
        proxy = stack.enter_context(RecordingProxy(replica.url))
        scene = Scene(tmp_path, primary, replica, new, proxy, stack)
        scene.arrange()
        yield scene


@pytest.mark.long
def test_the_restored_server_becomes_the_primary_without_a_copy(
    scene: Scene, short_waits: None
) -> None:
    """The old primary dies; the new one is identical, and the old one is held when it is back."""
    scene.primary.kill()
    with pytest.raises(ServerUnreachable):
        scene.sync()
    with watched(scene.proxy) as writes:
        report = scene.restore()
    assert report.exit_code == 0, report
    assert writes.requests + writes.marks == []
    assert {(c.database, c.name): (c.records, c.queries) for c in report.collections} == {
        ("default_database", "docs"): (70, 20),
        ("default_database", "dots"): (70, 20),
        ("default_database", "empty"): (0, 0),
        ("default_database", "wares"): (70, 20),
        ("people", "docs"): (30, 20),
    }
    scene.assert_same(scene.replica, scene.new)
    assert MARKS_DATABASE not in scene.databases(scene.new)
    with watched(scene.proxy) as writes:
        first = scene.sync(PRIMARY_URL=scene.new.url)
    assert first.outcome is Outcome.IDENTICAL, first
    assert first.counts.applied == 0
    assert writes.requests + writes.marks == []
    scene.assert_same(scene.new, scene.replica)
    docs = scene.client(scene.new).get_collection("docs", embedding_function=None)
    fill(docs, 3, start=500)
    assert scene.sync(PRIMARY_URL=scene.new.url).counts.inserted == 3
    scene.primary.restart()
    with watched(scene.proxy) as writes:
        held = scene.sync()
    assert [hold.kind for hold in held.holds] == [HoldKind.OTHER_PRIMARY]
    assert held.exit_code == 6
    assert writes.requests + writes.marks == []
    with pytest.raises(GuardRefusal, match="is the primary, or was it"):
        scene.restore()


# ---- one database on the servers of the session ----------------------------------------------


@pytest.fixture
def new() -> Iterator[ChromaServer]:
    """A new, empty server."""
    with ChromaServer() as server:
        yield server


@pytest.fixture
def filled(stage: Stage) -> Stage:
    """A mirrored database with two collections."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    stage.create(count=90)
    stage.create("wares", space="l2", count=30)
    stage.sync()
    return stage


def restore(stage: Stage, to: str, *names: str, **overrides: str) -> RestoreReport:
    """A restore of the stage's replica."""
    with stage.app(**overrides) as app:
        return app.restore(Quiet(), to, names)


def on_new(stage: Stage, new: ChromaServer) -> Judgement:
    """How the replica and the new server compare, as the official client sees them."""
    client = client_of(new.url, stage.database)
    try:
        return judge(stage.replica, client)
    finally:
        close_client(client)


def change_new(stage: Stage, new: ChromaServer, change: Callable[[Any], object]) -> None:
    """Do something to the new server with the official client."""
    client = client_of(new.url, stage.database)
    try:
        change(client)
    finally:
        close_client(client)


def pause_of(stage: Stage) -> str | None:
    """The reason of the pause in force; None without one."""
    control = stage.status().control
    return control.pause_reason if stage.status().is_paused else None


@pytest.mark.parametrize(
    ("point", "nth"),
    [(AFTER_OPEN, 1), (AFTER_COLLECTION_CREATED, 1), (AFTER_WRITE, 3), (BEFORE_CLOSE, 1)],
)
@pytest.mark.long
def test_a_killed_restore_goes_on(filled: Stage, new: ChromaServer, point: str, nth: int) -> None:
    """What it copied stays, the service stays paused until the next run, and all is identical."""
    ended = filled.command("restore", "--to", new.url, CHROMASYNC_FAULTPOINT=f"{point}:{nth}")
    assert ended.returncode == -9, ended.stderr
    assert pause_of(filled) == f"restore to {new.url}"
    with pytest.raises(Paused):
        filled.sync()
    ended = filled.command("restore", "--to", new.url)
    assert ended.returncode == 0, ended.stderr
    assert on_new(filled, new).identical
    assert pause_of(filled) is None
    written = restore(filled, new.url).written
    assert written == 0
    assert filled.sync(PRIMARY_URL=new.url).outcome is Outcome.IDENTICAL


@pytest.mark.long
def test_a_first_cycle_that_is_killed_copies_nothing_later(
    filled: Stage, new: ChromaServer
) -> None:
    """Some collections follow the new server already, and the others follow it next."""
    assert restore(filled, new.url).exit_code == 0
    ended = filled.command(
        "sync", PRIMARY_URL=new.url, CHROMASYNC_FAULTPOINT=f"{BETWEEN_LEDGERS}:1"
    )
    assert ended.returncode == -9, ended.stderr
    with watched(filled.servers.replica_proxy) as writes:
        report = filled.sync(PRIMARY_URL=new.url)
    assert report.outcome is Outcome.IDENTICAL, report
    assert writes.requests == []


def test_a_server_with_a_collection_is_refused(filled: Stage, new: ChromaServer) -> None:
    """Nothing is written there, the service is not paused, and no state file is left."""
    change_new(filled, new, lambda client: make(client, "other"))
    with RecordingProxy(new.url) as proxy:
        ended = filled.command("restore", "--to", proxy.url)
        assert proxy.writes() == []
    assert ended.returncode == 4
    assert f"is not empty: it has default_tenant/{filled.database}/other." in ended.stderr
    assert "Nothing was written to it." in ended.stderr
    assert pause_of(filled) is None
    assert list(filled.folder.glob("restore-*")) == []


def test_what_others_put_on_the_new_server_is_refused_later(
    filled: Stage, new: ChromaServer
) -> None:
    """Its own copies are known by their ids; a new collection of one's name is none of them."""
    assert restore(filled, new.url).exit_code == 0

    def replace_wares(client: Any) -> None:
        drop(client, "wares")
        fill(make(client, "wares", "l2"), 1)

    change_new(filled, new, replace_wares)
    with pytest.raises(GuardRefusal, match=r"is not empty: it has .*/wares"):
        restore(filled, new.url)


@pytest.mark.long
def test_writes_of_others_to_a_copy_are_not_overwritten(filled: Stage, new: ChromaServer) -> None:
    """An application uses the new server already: a second restore holds, and says so."""
    assert restore(filled, new.url).exit_code == 0
    change_new(
        filled,
        new,
        lambda client: client.get_collection("docs", embedding_function=None).update(
            ids=["r1"], metadatas=[{"n": -1}]
        ),
    )
    report = restore(filled, new.url)
    assert report.exit_code == 6
    assert any("docs is held" in warning for warning in report.warnings)
    client = client_of(new.url, filled.database)
    changed = client.get_collection("docs", embedding_function=None).get(ids=["r1"])
    close_client(client)
    assert changed["metadatas"] is not None
    assert changed["metadatas"][0]["n"] == -1


def test_servers_that_can_be_no_target(filled: Stage, short_waits: None) -> None:
    """Each is refused with its own words, before anything is written or paused."""
    servers = filled.servers
    cases: list[tuple[str, type[Exception], str]] = [
        (servers.replica_proxy.url, GuardRefusal, "is the replica itself"),
        (servers.replica.url, GuardRefusal, "is the replica"),
        (servers.primary_proxy.url, GuardRefusal, "is PRIMARY_URL"),
        (servers.primary.url, GuardRefusal, "is the primary, or was it"),
        (f"http://127.0.0.1:{free_port()}", ServerUnreachable, "The new server at .* cannot be"),
        ("/no/such/folder", FolderError, "There is no folder /no/such"),
        ("chroma-data", SettingsError, "or a folder like ./chroma"),
        ("http://", SettingsError, "cannot be the URL of a server"),
    ]
    for url, kind, words in cases:
        with pytest.raises(kind, match=words):
            restore(filled, url)
    assert pause_of(filled) is None
    assert servers.primary_proxy.writes() == []


def test_a_web_site_is_no_target(filled: Stage, new: ChromaServer) -> None:
    """Something that answers, but not as Chroma."""
    with RecordingProxy(new.url) as proxy:
        proxy.fault = lambda _: Answer(200, b"<html>hello</html>")
        with pytest.raises(NotChroma, match="The new server at"):
            restore(filled, proxy.url)


def test_a_replica_that_is_away(filled: Stage, new: ChromaServer, short_waits: None) -> None:
    """The message names the replica."""
    with pytest.raises(ServerUnreachable, match=r"The replica at .* cannot be reached"):
        restore(filled, new.url, REPLICA_URL=f"http://127.0.0.1:{free_port()}")


def test_the_old_address_is_possible_without_primary_url(filled: Stage, new: ChromaServer) -> None:
    """A new server may get the address of the old primary."""
    ended = filled.command("restore", "--to", new.url, PRIMARY_URL=new.url)
    assert ended.returncode == 4
    ended = filled.command("restore", "--to", new.url, "--primary", "", PRIMARY_URL=new.url)
    assert ended.returncode == 0, ended.stderr
    with watched(filled.servers.replica_proxy) as writes:
        assert filled.sync(PRIMARY_URL=new.url).outcome is Outcome.IDENTICAL
    assert writes.requests == []


def test_collections_by_name(filled: Stage, new: ChromaServer) -> None:
    """The first run copies one, says what it left out, and the second copies the other."""
    with pytest.raises(SettingsError, match="has no collection 'dosc'"):
        restore(filled, new.url, "docs", "dosc")
    first = restore(filled, new.url, "docs")
    assert first.left_out == (f"default_tenant/{filled.database}/wares",)
    assert [c.name for c in first.collections] == ["docs"]
    second = restore(filled, new.url, "wares")
    assert (second.exit_code, second.left_out, second.written) == (0, (), 30)
    assert on_new(filled, new).identical
    planned = filled.plan(PRIMARY_URL=new.url).collections
    assert {(c.name, c.create, c.update, c.delete, c.held) for c in planned} == {
        ("docs", 0, 0, 0, False),
        ("wares", 0, 0, 0, False),
    }
    assert filled.sync(PRIMARY_URL=new.url).outcome is Outcome.IDENTICAL


def test_a_pause_of_someone_else_stays(filled: Stage, new: ChromaServer) -> None:
    """A restore runs in it, and does not end it."""
    with filled.app() as app:
        app.pause(reason="a new disk")
    assert restore(filled, new.url).exit_code == 0
    assert pause_of(filled) == "a new disk"


def test_a_failed_restore_ends_its_pause(
    filled: Stage, new: ChromaServer, short_waits: None
) -> None:
    """The service goes on following, and the restore continues later."""
    with RecordingProxy(new.url) as proxy:
        proxy.fault = lambda request: ResetBefore() if action_of(request) == "add" else None
        with pytest.raises(ServerUnreachable, match="The new server at"):
            restore(filled, proxy.url)
        assert pause_of(filled) is None
        proxy.fault = None
        assert restore(filled, proxy.url).exit_code == 0


@pytest.mark.long
def test_a_new_server_that_refuses_writes(filled: Stage, new: ChromaServer) -> None:
    """What is not identical is never called so, the cause is told, and no copy is recorded."""
    with RecordingProxy(new.url) as proxy:
        proxy.fault = lambda request: Answer(403) if action_of(request) == "add" else None
        ended = filled.command("restore", "--to", proxy.url)
        assert f"The new server at {proxy.url} refuses access." in ended.stdout
    assert ended.returncode == 4
    assert "is not identical to the replica" in ended.stdout
    with filled.app() as app:
        assert app.store.restored() == {}
    assert pause_of(filled) is None


def test_two_restores_to_one_server(filled: Stage, new: ChromaServer) -> None:
    """The second ends with exit code 5, and does not end the pause of the first."""
    state = open_store(state_path(filled.settings(), new.url))
    with closing(state), filled.app() as app:
        assert state.take_lead("other:1:1:1", 60) is not None
        app.pause(reason=f"restore to {new.url}")
        with pytest.raises(AnotherInstance):
            restore(filled, new.url, SYNC_LEAD_SECONDS="1")
    assert pause_of(filled) == f"restore to {new.url}"


def test_a_copy_that_the_old_primary_outdated_is_another_primary(
    filled: Stage, new: ChromaServer
) -> None:
    """The old primary came back, and the replica followed it: the copy is old, and is held."""
    assert restore(filled, new.url).exit_code == 0
    filled.primary.get_collection("docs", embedding_function=None).update(
        ids=["r1"], metadatas=[{"n": -1}]
    )
    filled.sync(full=True)
    with watched(filled.servers.replica_proxy) as writes:
        held = filled.sync(PRIMARY_URL=new.url)
    assert [hold.kind for hold in held.holds] == [HoldKind.OTHER_PRIMARY]
    assert writes.requests == []


def test_a_promoted_replica_can_be_copied(filled: Stage, new: ChromaServer) -> None:
    """Nothing is paused, and the report says that applications may have written meanwhile."""
    with filled.app() as app:
        url = filled.values()["REPLICA_URL"]
        app.store.begin_promotion("ann@here", url, planned=False, lease_seconds=120)
        app.store.finish_promotion(0, None)
    report = restore(filled, new.url)
    assert (report.exit_code, report.recorded) == (0, False)
    assert any("was promoted" in warning for warning in report.warnings)
    assert pause_of(filled) is None


def test_without_a_state_store_the_copy_is_made_all_the_same(
    filled: Stage, new: ChromaServer, tmp_path: Path
) -> None:
    """Only the replica is left; the report says that no service was paused."""
    report = restore(filled, new.url, SYNC_DATA_DIR=str(tmp_path / "elsewhere"))
    assert (report.exit_code, report.recorded) == (0, False)
    assert any("no service was paused" in warning for warning in report.warnings)
    assert on_new(filled, new).identical


class Watching(Quiet):
    """Notes how many writes a proxy had seen when each activity began."""

    def __init__(self, proxy: RecordingProxy) -> None:
        self._proxy = proxy
        self.seen: list[tuple[str, int]] = []

    def start(self, activity: str, total: int | None) -> None:
        self.seen.append((activity, len(self._proxy.writes())))


def eventually(true: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.long
def test_a_running_service_writes_nothing_meanwhile(filled: Stage, new: ChromaServer) -> None:
    """The primary changes all the time; the restore waits until nobody writes to the replica."""
    docs = filled.primary.get_collection("docs", embedding_function=None)
    proxy = filled.servers.replica_proxy
    stop, enough, progress = threading.Event(), threading.Event(), Watching(proxy)

    def write() -> None:
        for number in itertools.count(1000):
            fill(docs, 1, start=number)
            if enough.wait(0.02):
                return

    with filled.app(SYNC_INTERVAL="0.1") as app:
        threads = [threading.Thread(target=app.run, args=(stop,)), threading.Thread(target=write)]
        try:
            for thread in threads:
                thread.start()
            before = len(proxy.writes())
            eventually(lambda: len(proxy.writes()) > before + 5)
            with filled.app() as other:
                report = other.restore(progress, new.url)
            enough.set()
            assert report.exit_code == 0, report
            eventually(lambda: filled.on_replica().count() == docs.count())
        finally:
            enough.set()
            stop.set()
            for thread in threads:
                thread.join()
    (waiting, _), *copying = progress.seen
    assert waiting == "waiting for work in progress"
    assert len({writes for _, writes in copying}) == 1
    assert sum(c.records for c in report.collections) < docs.count() + 30

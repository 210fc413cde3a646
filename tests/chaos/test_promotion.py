"""Failovers and switchovers at random instants, beside a service that is killed and started again.

An application writes to the primary, and after the promotion to the replica. In the end every write
that it was acknowledged for since the promotion is there, on both sides; after a switchover also
every write before it.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chromasync import faultpoints
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from chromasync.reports import Outcome
from tests.chaos.profile import NIGHTLY
from tests.support.drills import contents, primary_dies, primary_returns
from tests.support.forked import Forked
from tests.support.stage import Servers, Stage, vectors

if TYPE_CHECKING:
    from chromadb import Collection

SEEDS = range(30 if NIGHTLY else 1)
BASE = 300
SETTLE_CYCLES = 6


@dataclass
class Application:
    """Writes to one collection at a time, and remembers what it was acknowledged for."""

    rng: random.Random
    target: Collection
    acknowledged: dict[str, str] = field(default_factory=dict)
    writes: int = 0
    trouble: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to write, from what the target holds now."""
        self.acknowledged = {i: row[0] for i, row in contents(self.target).items()}
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the write in progress; its outcome counts."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        assert self.trouble is None, self.trouble

    def wait_for(self, writes: int) -> None:
        """Wait until it has written so many times more."""
        goal = self.writes + writes
        while self.writes < goal:
            assert self.trouble is None, self.trouble
            time.sleep(0.01)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._write()
                self.writes += 1
        except BaseException as error:  # noqa: BLE001 -- it is raised where the test looks
            self.trouble = error

    def _write(self) -> None:
        known, word = sorted(self.acknowledged), f"w{self.writes}-{self.rng.random():.6f}"
        match self.rng.choice(("add", "update", "update", "delete")):
            case "update" if known:
                some = self.rng.sample(known, min(3, len(known)))
                rows = vectors(len(some), seed=self.rng.randrange(1 << 30))
                self.target.update(ids=some, embeddings=rows, documents=[word] * len(some))
                self.acknowledged |= dict.fromkeys(some, word)
            case "delete" if len(known) > BASE - 20:
                gone = self.rng.choice(known)
                self.target.delete(ids=[gone])
                del self.acknowledged[gone]
            case _:
                new = f"n{self.writes}"
                row = vectors(1, seed=self.rng.randrange(1 << 30))
                self.target.add(ids=[new], embeddings=row, documents=[word])
                self.acknowledged[new] = word


@contextmanager
def pair(folder: Path) -> Iterator[Stage]:
    """Two servers of the test's own; either may become the primary."""
    with ExitStack() as stack:
        one, two = stack.enter_context(ChromaServer()), stack.enter_context(ChromaServer())
        first = stack.enter_context(RecordingProxy(one.url))
        second = stack.enter_context(RecordingProxy(two.url))
        (folder / "state").mkdir()
        stage = Stage(Servers(one, two, first, second), folder / "state", "wares")
        stage.overrides = {
            "SYNC_CHUNK_SIZE": "40",
            "SYNC_LEAD_SECONDS": "2",
            "SYNC_LEASE_SECONDS": "5",
            "SYNC_INTERVAL": "1",
        }
        stack.callback(stage.close)
        yield stage


@contextmanager
def service(stage: Stage, **overrides: str) -> Iterator[Forked]:
    """`chromasync run`, killed at the end like a process on a machine that fails."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = Forked(["run"], kept | stage.values(**overrides), stage.folder / "service.log")
    try:
        yield process
    finally:
        process.kill()


def turned(stage: Stage) -> dict[str, str]:
    """The settings after a promotion."""
    servers = stage.servers
    return {"PRIMARY_URL": servers.replica_proxy.url, "REPLICA_URL": servers.primary_proxy.url}


def promote(stage: Stage, rng: random.Random, *options: str) -> None:
    """Promote the replica; the command may be killed at any of its points, and is repeated."""
    if rng.random() < 0.5:
        point = rng.choice(faultpoints.OF_PROMOTION)
        stage.command("promote", *options, CHROMASYNC_FAULTPOINT=point)
    done = stage.command("promote", *options)
    assert done.returncode == 0, done.stdout + done.stderr


def settle(stage: Stage, **overrides: str) -> None:
    """Someone decides for the promoted side, until both sides are equal."""
    stage.overrides |= overrides
    for _ in range(SETTLE_CYCLES):
        if stage.sync(full=True).outcome is Outcome.IDENTICAL:
            return
        with stage.app() as app:
            held = app.status()
            app.note_shown(held)
            if held.holds:
                app.approve([], everything=True)
    raise AssertionError(stage.status())


@pytest.mark.long
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("planned", [True, False], ids=["switchover", "failover"])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_acknowledged_write_is_lost(tmp_path: Path, seed: int, planned: bool) -> None:
    """Whatever is killed, comes back or turns round, and whenever."""
    rng = random.Random(f"{seed}/{planned}")
    with pair(tmp_path) as stage:
        docs = stage.create("docs")
        ids = [f"r{n}" for n in range(BASE)]
        docs.add(ids=ids, embeddings=vectors(BASE), documents=["first"] * BASE)
        stage.sync()
        application = Application(rng, docs)
        application.start()
        with ExitStack() as former:
            former.enter_context(service(stage))
            application.wait_for(rng.randrange(5, 60))
            former.close()
            former.enter_context(service(stage))
            application.wait_for(rng.randrange(5, 60))
            application.stop()
            before = dict(application.acknowledged)
            if not planned:
                primary_dies(stage)
            promote(stage, rng, *(["--wait-for-fence"] if planned else []))
            application.target = stage.on_replica("docs")
            held = {i: row[0] for i, row in contents(application.target).items()}
            assert not planned or held == before
            application.start()
            application.wait_for(rng.randrange(5, 40))
            primary_returns(stage)
            application.wait_for(rng.randrange(5, 40))
            former.close()
            former.enter_context(service(stage))
            application.wait_for(rng.randrange(5, 40))
            with service(stage, **turned(stage)):
                application.wait_for(rng.randrange(5, 60))
        application.stop()
        assert {i: row[0] for i, row in contents(application.target).items()} == (
            application.acknowledged
        )
        settle(stage, **turned(stage))
        stage.assert_identical()
        assert {i: row[0] for i, row in contents(application.target).items()} == (
            application.acknowledged
        )

"""A stage for engine tests: two real servers behind recording proxies, one database per test."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
import psycopg
import structlog
from click.testing import CliRunner

from chromasync.app import Application
from chromasync.cli.commands import program
from chromasync.config import Settings, load_settings
from chromasync.config.settings import DATABASE_FILE
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import judge
from chromasync.lab.proxy import RecordingProxy, Request
from chromasync.model import Hold
from chromasync.quiet import Quiet
from chromasync.reports import (
    CycleReport,
    Outcome,
    PlanReport,
    StatusSnapshot,
    VerifyReport,
)
from tests.support.crew import Crew
from tests.support.writes import is_of_mark

if TYPE_CHECKING:
    from chromadb import Collection
    from chromadb.api import ClientAPI

ROOT = Path(__file__).parents[2]
TENANT = "default_tenant"
_numbers = itertools.count()


def client_of(url: str, database: str, tenant: str = TENANT) -> ClientAPI:
    """The official client for one database of a loopback server, creating what is missing."""
    import chromadb
    from chromadb.config import Settings as ClientSettings

    make_place(url, "/tenants", tenant)
    make_place(url, f"/tenants/{tenant}/databases", database)
    address = urlsplit(url)
    return chromadb.HttpClient(
        host=address.hostname or "",
        port=address.port or 0,
        tenant=tenant,
        database=database,
        # to load certificates that plain HTTP does not need takes longer than the rest
        settings=ClientSettings(anonymized_telemetry=False, chroma_server_ssl_verify=False),
    )


def close_client(client: ClientAPI) -> None:
    """Close an official client and the connections that its own `close` leaves open."""
    inside: Any = client
    for api in (inside._server, inside._admin_client._server):
        api._session.close()
    inside.close()


def make_place(url: str, path: str, name: str) -> None:
    """Create a tenant or database unless it is there."""
    with httpx2.Client(base_url=f"{url}/api/v2", verify=False) as http:  # plain HTTP has none
        if http.get(f"{path}/{name}").status_code != 200:
            http.post(path, json={"name": name}).raise_for_status()


@dataclass
class Servers:
    """The two servers of a test session and the proxies in front of them."""

    primary: ChromaServer
    replica: ChromaServer
    primary_proxy: RecordingProxy
    replica_proxy: RecordingProxy


@contextmanager
def running_servers() -> Iterator[Servers]:
    """Two real servers; the proxy of the primary refuses everything but reads."""
    with (
        ChromaServer() as primary,
        ChromaServer() as replica,
        RecordingProxy(primary.url, refuse_writes=True) as primary_proxy,
        RecordingProxy(replica.url) as replica_proxy,
    ):
        yield Servers(primary, replica, primary_proxy, replica_proxy)


class Stage:
    """One database on both servers, a state folder, and the program between them.

    The engine speaks to the servers through the proxies; the test speaks to them directly, with
    the official client.

    Args:
        suffix: the replica's database has this after its name, by SYNC_TARGET.
    """

    crew: Crew | None = None

    def __init__(
        self, servers: Servers, folder: Path, database: str | None = None, *, suffix: str = ""
    ) -> None:
        self.servers = servers
        self.folder = folder
        self.database = database or f"stage{next(_numbers)}"
        self.primary = client_of(servers.primary.url, self.database)
        self.replica = client_of(servers.replica.url, self.database + suffix)
        self.overrides: dict[str, str] = {}
        if suffix:
            self.overrides["SYNC_TARGET"] = f"{{tenant}}/{{database}}{suffix}/{{name}}"

    def close(self) -> None:
        """Close both clients."""
        close_client(self.primary)
        close_client(self.replica)

    # ---- the program ------------------------------------------------------------------------

    def values(self, **overrides: str) -> dict[str, str]:
        """The program's settings as text: this database alone."""
        values = {
            "PRIMARY_URL": self.servers.primary_proxy.url,
            "REPLICA_URL": self.servers.replica_proxy.url,
            "SYNC_DATA_DIR": str(self.folder),
            "SYNC_DATABASES": self.database,
        }
        values |= self.overrides | overrides
        return values if self.crew is None else self.crew.deployed(values)

    def settings(self, **overrides: str) -> Settings:
        """The program's settings."""
        return load_settings(flags=self.values(**overrides))

    @contextmanager
    def app(self, **overrides: str) -> Iterator[Application]:
        """The program, opened."""
        with Application.open(self.settings(**overrides)) as app:
            yield app

    def sync(
        self, *, full: Any = False, adopt: Any = False, rebuild: Any = (), **overrides: str
    ) -> CycleReport:
        """One cycle."""
        self.man(**overrides)
        with self.app(**overrides) as app:
            return app.sync(Quiet(), full=full, adopt=adopt, rebuild=rebuild)

    def man(self, **overrides: str) -> None:
        """Where there is a crew, see to it that it works."""
        if self.crew is not None:
            self.crew.man(self.values(**overrides))

    def plan(self, *, rebuild: Any = (), **overrides: str) -> PlanReport:
        """What a cycle would do."""
        with self.app(**overrides) as app:
            return app.plan(Quiet(), rebuild=rebuild)

    def verify(self, *, repair: bool = False, percent: float = 100.0) -> VerifyReport:
        """Both sides compared by the program itself."""
        with self.app() as app:
            return app.verify(Quiet(), sample_percent=percent, repair=repair)

    def status(self) -> StatusSnapshot:
        """What the store knows."""
        with self.app() as app:
            return app.status()

    def approve(self, *names: str) -> list[Hold]:
        """Look at the status, and approve what is held there: in these collections, or in all."""
        with self.app() as app:
            app.note_shown(app.status())
            return app.approve(names, everything=not names)

    def command(self, *arguments: str, **overrides: str) -> subprocess.CompletedProcess[str]:
        """The command line with this stage's settings; in its own process if it may be killed."""
        settings = self.values(**overrides)
        if "sync" in arguments:
            self.man(**overrides)
        run = run_command if "CHROMASYNC_FAULTPOINT" in settings else invoke_command
        return run(*arguments, **settings)

    @contextmanager
    def state(self) -> Iterator[Any]:
        """The state store, opened behind the program's back; changes are kept."""
        if self.crew is not None:
            with psycopg.connect(self.values()["DATABASE_URL"]) as database:
                yield database
            return
        with closing(sqlite3.connect(self.folder / DATABASE_FILE)) as connection, connection:
            yield connection

    def keep_state(self) -> Callable[[], None]:
        """Back the state store up; what is given restores that backup."""
        if self.crew is not None:
            return self.crew.keep(self.values()["SYNC_DATA_DIR"])
        backup = self.folder.parent / f"{self.folder.name}-backup"
        shutil.copytree(self.folder, backup)

        def restore() -> None:
            shutil.rmtree(self.folder)
            shutil.copytree(backup, self.folder)

        return restore

    # ---- the judge --------------------------------------------------------------------------

    def assert_identical(self) -> None:
        """Both sides are equal, as the official client sees them."""
        judgement = judge(self.primary, self.replica)
        assert judgement.identical, (str(judgement), judgement.examples)

    def assert_quiet(self, **overrides: str) -> CycleReport:
        """Another cycle finds nothing to do and sends no write."""
        proxy = self.servers.replica_proxy
        before = len(proxy.writes())
        report = self.sync(full=False, **overrides)
        assert report.outcome is Outcome.IDENTICAL, report
        assert report.counts.applied == 0, report.counts
        assert len(proxy.writes()) == before, proxy.writes()[before:]
        return report

    def sync_and_judge(self, **overrides: str) -> CycleReport:
        """One cycle makes both sides identical, and the next has nothing to do."""
        report = self.sync(full=False, **overrides)
        self.assert_identical()
        self.assert_quiet(**overrides)
        return report

    def replica_writes(self) -> list[Request]:
        """Writes that the replica has got so far, but for its mark."""
        return [r for r in self.servers.replica_proxy.writes() if not is_of_mark(r)]

    def ledger_ids(self, name: str = "docs") -> list[list[str]]:
        """The ids that the ledger holds of a collection, chunk by chunk."""
        with self.app() as app:
            (mirror,) = (m for m in app.store.mirrors() if m.name == name)
            heads = app.store.chunk_heads(mirror.collection_id)
            chunks = [app.store.load_chunk(head.id) for head in heads]
        return [chunk.ids for chunk in chunks if chunk is not None]

    # ---- material ---------------------------------------------------------------------------

    def create(
        self, name: str = "docs", *, space: str = "cosine", count: int = 0, **more: Any
    ) -> Collection:
        """A collection on the primary, with `count` made-up records."""
        configuration: Any = {"hnsw": {"space": space, **more.pop("hnsw", {})}}
        collection = self.primary.create_collection(
            name,
            embedding_function=None,
            configuration=configuration,
            **more,
        )
        if count:
            fill(collection, count)
        return collection

    def on_replica(self, name: str = "docs") -> Collection:
        """The replica's collection of this name."""
        return self.replica.get_collection(name, embedding_function=None)


def invoke_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`chromasync` in this process, which saves the start of an interpreter; the same otherwise."""
    runner = CliRunner()
    try:
        done = runner.invoke(program, arguments, env=settings, prog_name="chromasync")
    finally:
        structlog.reset_defaults()
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def run_command(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """`chromasync` in a process of its own, with these settings in its environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    python_path = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    return subprocess.run(
        [sys.executable, "-m", "chromasync", *arguments],
        env=kept | {"PYTHONPATH": python_path} | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def drop(client: ClientAPI, name: str) -> None:
    """Drop a collection, its records first.

    Without that Chroma (1.5.0 to 1.5.9 at least) gives the lists in their metadata to new records
    of other collections, which then differ from what a test wrote.
    """
    collection = client.get_collection(name, embedding_function=None)
    if ids := collection.get(include=[])["ids"]:
        collection.delete(ids=ids)
    client.delete_collection(name)


def vectors(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    """Made-up embeddings, float32 of shape (count, dimension)."""
    return np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)


def fill(
    collection: Collection, count: int, *, start: int = 0, dimension: int = 8, seed: int = 0
) -> None:
    """Add `count` made-up records named `r<number>`, with every kind of content."""
    rows = vectors(count, dimension, seed + start)
    for at in range(0, count, 1000):
        numbers = range(start + at, start + min(at + 1000, count))
        collection.add(
            ids=[f"r{n}" for n in numbers],
            embeddings=rows[at : at + len(numbers)],
            documents=[f"the text of record {n}" for n in numbers],
            metadatas=[
                {
                    "n": n,
                    "share": n / 7,
                    "even": n % 2 == 0,
                    "name": f"n{n}",
                    "tags": [f"t{n}", "x"],
                }
                for n in numbers
            ],
            uris=[f"file:///{n}" for n in numbers],
        )


def add_plain(collection: Collection, count: int) -> None:
    """Add records without metadata, for a collection that goes with its database.

    Lists in their metadata would stay behind on the server (see `drop`).
    """
    collection.add(ids=[f"r{n}" for n in range(count)], embeddings=vectors(count))

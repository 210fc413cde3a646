"""The three drills that a replicator must never fail, on real servers, however cycles are run.

Each arranges the event and hands back what may not change on the replica until someone decides.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy, Request, ResetBefore
from tests.support.stage import Servers, Stage, fill, vectors

if TYPE_CHECKING:
    from chromadb import Collection

Contents = dict[str, tuple[Any, ...]]
"""Document and metadata of each record, by id."""

Cycle = Callable[[], object]
"""Runs one whole cycle, or waits for one."""

RECORDS = 200
ADDED = [f"app{n}" for n in range(40)]
SINCE = [f"since{n}" for n in range(90)]


def contents(collection: Collection) -> Contents:
    """What the official client reads of a collection."""
    got = collection.get(include=["documents", "metadatas"])
    rows = zip(got["ids"], got["documents"] or [], got["metadatas"] or [], strict=True)
    return {i: (document, metadata) for i, document, metadata in rows}


def every(stage: Stage) -> dict[str, Contents]:
    """The same of all collections of the replica."""
    names = [c.name for c in stage.replica.list_collections()]
    return {n: contents(stage.replica.get_collection(n, embedding_function=None)) for n in names}


@contextmanager
def restorable(folder: Path) -> Iterator[Stage]:
    """A stage whose servers keep their data in folders of their own."""
    with ExitStack() as stack:
        primary = stack.enter_context(ChromaServer(folder / "primary"))
        replica = stack.enter_context(ChromaServer(folder / "replica"))
        first = stack.enter_context(RecordingProxy(primary.url, refuse_writes=True))
        second = stack.enter_context(RecordingProxy(replica.url))
        stage = Stage(Servers(primary, replica, first, second), folder / "state")
        stage.folder.mkdir()
        stack.callback(stage.close)
        yield stage
        assert first.writes() == []


def arrange(stage: Stage) -> None:
    """Three collections."""
    for name in ("docs", "mail", "wiki"):
        stage.create(name, count=RECORDS)


def primary_dies(stage: Stage) -> None:
    """Nobody reaches the primary any more."""

    def refuse(_: Request) -> ResetBefore:
        return ResetBefore()

    stage.servers.primary_proxy.fault = refuse


def primary_returns(stage: Stage) -> None:
    """It is there again, as it was."""
    stage.servers.primary_proxy.fault = None


def application_goes_on(stage: Stage) -> dict[str, Contents]:
    """The fail-over: the application writes to the replica; what may not be lost there."""
    docs = stage.on_replica("docs")
    docs.add(
        ids=ADDED, embeddings=vectors(len(ADDED), seed=5), documents=["written by the app"] * 40
    )
    docs.update(ids=["r3"], metadatas=[{"n": -3}])
    docs.delete(ids=["r7"])
    mine = stage.replica.create_collection("made-by-the-app", embedding_function=None)
    fill(mine, 5)
    return every(stage)


@contextmanager
def another_server(stage: Stage) -> Iterator[None]:
    """A staging server with the same names, and a few more records, answers as the primary."""
    proxy = stage.servers.primary_proxy
    before = proxy.upstream_url
    with ChromaServer() as other:
        staging = Stage(
            Servers(other, stage.servers.replica, proxy, proxy), stage.folder, stage.database
        )
        try:
            for name in ("docs", "mail", "wiki"):
                fill(staging.create(name), RECORDS + 7, seed=3)
            proxy.lead_to(other.url)
            yield
        finally:
            proxy.lead_to(before)
            staging.close()


@contextmanager
def older_copy(stage: Stage, folder: Path, cycle: Cycle) -> Iterator[None]:
    """90 records and an edit come; then the primary is restored from a backup of before.

    The application goes on with it: it adds 20 records.
    """
    port = int(stage.servers.primary.url.rpartition(":")[2])
    stage.servers.primary.stop()
    shutil.copytree(folder / "primary", folder / "backup")
    with ChromaServer(folder / "primary", port=port) as newer:
        with fresh(stage) as again:
            docs = again.primary.get_collection("docs", embedding_function=None)
            docs.add(ids=SINCE, embeddings=vectors(len(SINCE), seed=6), documents=["since"] * 90)
            docs.update(ids=["r1"], metadatas=[{"n": -1}])
            cycle()
            cycle()
            again.assert_identical()
        newer.stop()
    with ChromaServer(folder / "backup", port=port):
        with fresh(stage) as restored:
            docs = restored.primary.get_collection("docs", embedding_function=None)
            docs.add(ids=[f"later{n}" for n in range(20)], embeddings=vectors(20, seed=7))
        yield


@contextmanager
def fresh(stage: Stage) -> Iterator[Stage]:
    """The same stage with new clients, after a server was started again."""
    again = Stage(stage.servers, stage.folder, stage.database)
    again.crew = stage.crew
    try:
        yield again
    finally:
        again.close()

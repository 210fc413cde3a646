"""The demo's set-up: two real servers, their data, and our program between them.

Everything lives in one temporary folder and in child processes, and ends with the `with` block.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from chromasync.app import Application
from chromasync.config import Settings
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.demo.corpus import LANGUAGE, LIBRARY, MODULES, Corpus, Passage
from chromasync.lab.demo.embedding import TextEmbedding
from chromasync.lab.demo.show import Bar
from chromasync.lab.judge import collections_of
from chromasync.model import Floats
from chromasync.reports import CycleReport, VerifyReport

if TYPE_CHECKING:  # the official client takes a second to import
    from chromadb import Collection
    from chromadb.api import ClientAPI

BATCH = 500
SPACES: dict[str, Literal["cosine", "l2", "ip"]] = {
    LANGUAGE: "ip",
    LIBRARY: "cosine",
    MODULES: "l2",
}


@dataclass(frozen=True, slots=True)
class Servers:
    """Two running servers and the folder with all their data."""

    folder: Path
    primary_url: str
    replica_url: str
    pids: tuple[int, int]

    @property
    def state(self) -> Path:
        """The folder of our program's own state."""
        return self.folder / "state"

    @property
    def settings(self) -> Settings:
        """Our program's settings for these servers; the demo ignores the user's settings."""
        return Settings(
            primary_url=self.primary_url,
            replica_url=self.replica_url,
            sync_data_dir=self.state,
        )


@contextmanager
def two_servers() -> Iterator[Servers]:
    """Start a primary and a replica on free loopback ports; stop and remove them afterwards."""
    with (
        tempfile.TemporaryDirectory(
            prefix="chromasync-demo-", ignore_cleanup_errors=True
        ) as folder,
        ChromaServer(Path(folder, "primary")) as primary,
        ChromaServer(Path(folder, "replica")) as replica,
    ):
        yield Servers(Path(folder), primary.url, replica.url, (primary.pid, replica.pid))


@dataclass(frozen=True, slots=True)
class Stage:
    """The means of the acts: the official client on both sides, and our program."""

    console: Console
    primary: ClientAPI
    replica: ClientAPI
    app: Application
    corpus: Corpus
    embed: TextEmbedding

    def cycle(self) -> CycleReport:
        """Run one cycle of our program."""
        with Bar(self.console) as progress:
            return self.app.sync(progress)

    def verify(self) -> VerifyReport:
        """Let our program compare both sides record by record."""
        with Bar(self.console) as progress:
            return self.app.verify(progress)

    def on_primary(self, name: str) -> Collection:
        """A collection of the primary."""
        return collections_of(self.primary)[name]

    def on_replica(self, name: str) -> Collection:
        """A collection of the replica."""
        return collections_of(self.replica)[name]


@contextmanager
def program(servers: Servers) -> Iterator[Application]:
    """Our program, in this process, between the two servers."""
    with Application.open(servers.settings) as app:
        yield app


def fill(primary: ClientAPI, corpus: Corpus, embed: TextEmbedding, progress: Bar) -> float:
    """Create the collections on the primary and put the passages in; returns the seconds."""
    started = time.monotonic()
    progress.start("filling the primary", sum(map(len, corpus.values())))
    for name, passages in corpus.items():
        collection = primary.create_collection(
            name,
            metadata={"made_by": "chromasync demo", "passages": len(passages), "language": "en"},
            configuration={
                "hnsw": {"space": SPACES[name], "ef_construction": 150, "ef_search": 200}
            },
            embedding_function=None,
        )
        for start in range(0, len(passages), BATCH):
            batch = passages[start : start + BATCH]
            put(collection, batch, embed)
            progress.advance(len(batch))
    return time.monotonic() - started


def put(collection: Collection, passages: Sequence[Passage], embed: TextEmbedding) -> None:
    """Add passages to a collection; those without text in a request of their own."""
    for written in (True, False):
        batch = [passage for passage in passages if (passage.text is not None) is written]
        if batch:
            collection.add(
                ids=[passage.id for passage in batch],
                embeddings=embeddings_of(batch, embed),
                documents=[passage.text or "" for passage in batch] if written else None,
                metadatas=[dict(passage.metadata) for passage in batch],
                uris=[passage.uri or "" for passage in batch],
            )


def embeddings_of(passages: Sequence[Passage], embed: TextEmbedding) -> Floats:
    """One row per passage; a module without text is known by its name."""
    return embed([passage.text or passage.title for passage in passages])

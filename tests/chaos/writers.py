"""Threads that write to the primary as fast as it lets them, with the official client."""

from __future__ import annotations

import random
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tests.support.stage import Servers, client_of, close_client

if TYPE_CHECKING:
    from chromadb import Collection

BATCH = 4


class BusyWriter:
    """Adds, updates, deletes and re-adds records of one collection until it leaves its block.

    Records named `keep…` are never touched. `gone_for_good` are ids that were deleted and will not
    come back; the set only grows, so a copy of it is true of any later instant.

    Raises (on leaving the block):
        Whatever made the thread fail.
    """

    def __init__(self, servers: Servers, database: str, name: str, seed: int) -> None:
        self._servers = servers
        self._database = database
        self._name = name
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"writer-{name}")
        self._next = 1_000_000
        self.busy = threading.Event()
        self.steps = 0
        self.gone_for_good: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self.busy.wait(30.0), "the writer did not begin"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        client = client_of(self._servers.primary.url, self._database)
        try:
            collection = client.get_collection(self._name, embedding_function=None)
            alive = [i for i in collection.get(include=[])["ids"] if not i.startswith("keep")]
            while not self._stop.is_set():
                self._step(collection, alive)
                self.steps += 1
                self.busy.set()
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            self._error = error
        finally:
            close_client(client)

    def _step(self, collection: Collection, alive: list[str]) -> None:
        steps = [self._add, self._update, self._touch_metadata, self._delete, self._re_add]
        if len(alive) < 5 * BATCH:
            steps = [self._add]
        self._random.choice(steps)(collection, alive)

    def _add(self, collection: Collection, alive: list[str]) -> None:
        ids = [f"w{self._next + n}" for n in range(BATCH)]
        self._next += BATCH
        collection.add(ids=ids, **self._content(ids))
        alive += ids

    def _update(self, collection: Collection, alive: list[str]) -> None:
        ids = self._pick(alive)
        collection.update(ids=ids, **self._content(ids))

    def _touch_metadata(self, collection: Collection, alive: list[str]) -> None:
        ids = self._pick(alive)
        collection.update(ids=ids, metadatas=[{"touched": self.steps} for _ in ids])

    def _delete(self, collection: Collection, alive: list[str]) -> None:
        ids = self._pick(alive)
        collection.delete(ids=ids)
        for record_id in ids:
            alive.remove(record_id)
        self.gone_for_good.update(ids)

    def _re_add(self, collection: Collection, alive: list[str]) -> None:
        ids = self._pick(alive)
        collection.delete(ids=ids)
        collection.add(ids=ids, **self._content(ids))

    def _pick(self, alive: list[str]) -> list[str]:
        """Neighbours, early, late or anywhere: in front of the walk and behind it."""
        most = len(alive) - BATCH
        start = self._random.choice([0, most, self._random.randint(0, most)])
        return alive[start : start + BATCH]

    def _content(self, ids: list[str]) -> dict[str, Any]:
        return {
            "embeddings": self._numbers.standard_normal((len(ids), 8)).astype(np.float32),
            "documents": [f"{record_id} as of step {self.steps}" for record_id in ids],
            "metadatas": [{"step": self.steps, "half": self.steps / 2} for _ in ids],
        }

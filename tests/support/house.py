"""A whole engine between two servers in memory: a leader, its workers, and a real state store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from chromasync.config import Settings, load_settings
from chromasync.cycle.coordinator import Coordinator
from chromasync.lab.fake import Call, FakeServer
from chromasync.lease import Lead
from chromasync.marks import MarkKeeper
from chromasync.model import Collection, Side
from chromasync.ports import Progress, Writer
from chromasync.quiet import Quiet
from chromasync.reconcile.chunk import ChunkReconciler
from chromasync.steering import Steering
from chromasync.store import SqlStore
from chromasync.targeted import targeted_writer
from chromasync.worker.pool import WorkerPool
from tests.support.ledgers import joined, names, record

CHUNK = 10


class House:
    """A leader with its workers between two servers in memory."""

    def __init__(self, store: SqlStore, settings: Settings, threads: int) -> None:
        self.store = store
        self.settings = settings
        self.primary = FakeServer(Side.PRIMARY)
        self.replica = FakeServer(Side.REPLICA)
        self.home = self.primary.make()
        self.stop = threading.Event()
        self.steering = Steering()
        self.lead = Lead(store, "me", 60)
        self._threads = threads
        self.pool = self._new_pool()

    @property
    def seen(self) -> Writer:
        """The replica as the engine sees it: under the primary's names."""
        return targeted_writer(self.replica, self.settings)

    def _new_pool(self) -> WorkerPool:
        reconciler = ChunkReconciler(self.primary, self.seen)
        self.marks = MarkKeeper(self.seen)
        return WorkerPool(
            self.store,
            reconciler,
            name="me",
            threads=self._threads,
            lease_seconds=60,
            marks=self.marks,
            steering=self.steering,
        )

    def reconnect(self) -> None:
        """Let the workers speak to the servers as they are now, as after a restart."""
        self.pool.drain()
        self.pool = self._new_pool()
        self.pool.start()

    def fill(self, count: int, prefix: str = "r") -> None:
        """More records on the primary."""
        self.primary.put(self.home, joined(*[record(i) for i in names(count, prefix)]))

    def sync(self, progress: Progress | None = None, **options: Any) -> Any:
        """One cycle of a coordinator that is new, as each cycle's is."""
        parts = (self.primary, self.seen, self.store, self.settings)
        led = Coordinator(
            *parts,
            lead=self.lead,
            pool=self.pool,
            stop=self.stop,
            marks=self.marks,
            steering=self.steering,
        )
        return led.run_cycle(progress or Quiet(), **options)

    def copy(self) -> Collection:
        """The replica's collection."""
        (found,) = self.seen.list_collections("default_tenant", "default_database")
        return found

    def pause(self, seconds: float | None = None) -> None:
        """Pause everything, and let this process know at once."""
        self.store.pause("ann@here", "disk swap", seconds)
        self.steering.note(self.store.orders())

    def resume(self) -> None:
        """End the pause, and let this process know at once."""
        self.store.resume()
        self.steering.note(self.store.orders())

    def stops_at(self, server: FakeServer, name: str, number: int = 1) -> Callable[[], int]:
        """Ask to stop when a server is asked this for the n-th time; how often it was asked."""
        asked = [0]

        def hook(call: Call) -> None:
            asked[0] += call.name == name
            if asked[0] == number:
                self.stop.set()

        server.on_request(hook)
        return lambda: asked[0]


@contextmanager
def house_of(store: SqlStore, threads: int = 1, **flags: str) -> Iterator[House]:
    given = {"PRIMARY_URL": "http://p:1", "REPLICA_URL": "http://r:2", "SYNC_CHUNK_SIZE": CHUNK}
    house = House(store, load_settings(flags=given | flags), threads)
    house.pool.start()
    try:
        yield house
    finally:
        house.pool.drain()

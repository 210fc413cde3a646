"""Random worlds: several collections between two servers in memory, and what may befall them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from chromasync.errors import ChromasyncError, ServerUnreachable
from chromasync.lab.fake import MODERN, Call, FakeServer
from chromasync.model import Collection, Metadata, Records, Side, Space
from chromasync.plan.listing import Place, place_of
from chromasync.store import open_store
from tests.support.house import House, house_of
from tests.support.ledgers import joined, record

PLACES = [("default_tenant", "default_database"), ("default_tenant", "hr"), ("other", "hr")]
NAMES = ["a", "b", "c", "d", "skip-e"]
FLAGS = {
    "SYNC_TENANTS": "default_tenant,other",
    "SYNC_EXCLUDE": "skip-*",
    "SYNC_CHUNK_SIZE": "5",
    "SYNC_MAX_DELETE": "6",
}


class World:
    """A house whose collections live; each event is a method that takes chance by the hand."""

    def __init__(self, folder: Path, seed: int, flags: dict[str, str]) -> None:
        self.chance = random.Random(seed)
        self.log: list[str] = []
        self._folder = folder
        self._flags = FLAGS | flags
        self._stack = ExitStack()
        self._stores = 0
        self._numbers = iter(range(1_000_000))
        self.primary, self.replica = FakeServer(Side.PRIMARY), FakeServer(Side.REPLICA)
        for tenant, database in PLACES:
            self.primary.ensure(tenant, database)
        self.house = self._enter()

    def _enter(self) -> House:
        self._stores += 1
        store = open_store(self._folder / f"state-{self._stores}.db")
        self._stack.callback(store.close)
        house = self._stack.enter_context(house_of(store, 1, **self._flags))
        house.primary, house.replica = self.primary, self.replica
        house.reconnect()
        return house

    def close(self) -> None:
        """End its threads, and close its stores."""
        self._stack.close()

    # ---- what is there ----------------------------------------------------------------------

    def listed(self, server: FakeServer) -> list[Collection]:
        """A server's collections under the primary's names, but for the marks."""
        seen = self.house.seen if server is self.replica else server
        every = [c for place in PLACES for c in seen.list_collections(*place)]
        return sorted(every, key=place_of)

    def taken(self, server: FakeServer) -> set[Place]:
        """Names that a server has."""
        return {place_of(collection) for collection in self.listed(server)}

    def refused_in(self, place: Place) -> int:
        """How many records of a primary collection the replica refuses."""
        found = [c for c in self.listed(self.primary) if place_of(c) == place]
        ids = {i for collection in found for i in self.primary.contents(collection).ids}
        return len(ids & self.replica.broken.refused)

    def one(self, server: FakeServer) -> Collection | None:
        """Any collection of a server."""
        listed = self.listed(server)
        return self.chance.choice(listed) if listed else None

    def some_ids(self, server: FakeServer, collection: Collection) -> list[str]:
        ids = server.contents(collection).ids
        most = self.chance.choice([3, 3, 9, len(ids)])
        return self.chance.sample(ids, min(len(ids), most))

    def records(self, ids: list[str]) -> Records:
        """Records of these ids with any content."""
        chance = self.chance
        metadatas: list[Metadata] = [{}, {"n": chance.randrange(9)}, {"tags": ["x", "y"]}]
        return joined(
            *[
                record(
                    i,
                    chance.choice([None, "text", "more"]),
                    chance.choice(metadatas),
                    chance.choice([None, "file:///x"]),
                    [float(chance.randrange(-3, 4)), 1.0, 2.0],
                )
                for i in ids
            ]
        )

    def new_ids(self, most: int = 12) -> list[str]:
        return [f"r{next(self._numbers)}" for _ in range(self.chance.randrange(1, most))]

    # ---- the primary ------------------------------------------------------------------------

    def create(self) -> None:
        """A new collection, perhaps without records."""
        place, name = self.chance.choice(PLACES), self.chance.choice(NAMES)
        if (*place, name) not in self.taken(self.primary):
            made = self.primary.make(name, place=place, space=self.chance.choice(list(Space)))
            if self.chance.random() < 0.8:
                self.primary.put(made, self.records(self.new_ids()))

    def add(self) -> None:
        """Records that come."""
        if collection := self.one(self.primary):
            self.primary.put(collection, self.records(self.new_ids()))

    def delete(self) -> None:
        """Records that go, perhaps all of them."""
        if collection := self.one(self.primary):
            self.primary.remove(collection, self.some_ids(self.primary, collection))

    def update(self) -> None:
        """Records that change in place."""
        if collection := self.one(self.primary):
            ids = self.some_ids(self.primary, collection)
            if ids:
                self.primary.put(collection, self.records(ids))

    def readd(self) -> None:
        """Records that go and come back at the end."""
        if collection := self.one(self.primary):
            ids = self.some_ids(self.primary, collection)
            if ids:
                self.primary.remove(collection, ids)
                self.primary.put(collection, self.records(ids))

    def drop(self) -> None:
        """A collection that goes."""
        if collection := self.one(self.primary):
            self.primary.unmake(collection)

    def recreate(self) -> None:
        """A collection that is made again under its name, with the same records or others."""
        if collection := self.one(self.primary):
            before = self.primary.contents(collection)
            self.primary.unmake(collection)
            space = self.chance.choice([*Space])
            made = self.primary.make(
                collection.name, place=(collection.tenant, collection.database), space=space
            )
            if self.chance.random() < 0.5:
                self.primary.put(made, before)
            else:
                self.primary.put(made, self.records(self.new_ids()))

    def rename(self) -> None:
        """A collection that gets another name."""
        if collection := self.one(self.primary):
            name = self.chance.choice(NAMES)
            place = (collection.tenant, collection.database, name)
            if place not in self.taken(self.primary):
                self.primary.change(collection, name=name)

    def redefine(self) -> None:
        """A collection whose metadata changes."""
        if collection := self.one(self.primary):
            self.primary.change(collection, metadata={"v": self.chance.randrange(3)})

    def outage(self) -> None:
        """A cycle that cannot reach the primary."""

        def away(_: Call) -> None:
            raise ServerUnreachable("The primary is away.", side=Side.PRIMARY)

        self.primary.on_request(away)
        with suppress(ServerUnreachable):
            self.house.sync()
        self.primary.on_request(None)

    # ---- the replica ------------------------------------------------------------------------

    def drift(self) -> None:
        """Records that others delete, add or change there."""
        if collection := self.one(self.replica):
            ids = self.some_ids(self.replica, collection)[:3]
            kind = self.chance.randrange(3)
            if kind == 0:
                self.replica.remove(collection, ids)
            elif kind == 1:
                self.replica.put(collection, self.records(self.new_ids(3)))
            elif ids:
                self.replica.put(collection, self.records(ids))

    def foreign(self) -> None:
        """A collection that others make there."""
        place, name = self.chance.choice(PLACES), self.chance.choice(NAMES)
        if (*place, name) not in self.taken(self.replica):
            tenant, database, there = self.house.settings.sync_target.place_of(*place, name)
            made = self.replica.make(there, place=(tenant, database))
            self.replica.put(made, self.records(self.new_ids()))

    def vanish(self) -> None:
        """A collection that others drop there."""
        if collection := self.one(self.replica):
            self.replica.unmake(collection)

    def downgrade(self) -> None:
        """A server that cannot hold lists, from the next write on."""
        self.replica.become(replace(MODERN, arrays=False))

    def upgrade(self) -> None:
        """A server that can."""
        self.replica.become(MODERN)

    def refuse(self) -> None:
        """Records that it refuses from now on."""
        if collection := self.one(self.primary):
            ids = self.some_ids(self.primary, collection)[:2]
            self.replica.broken.refused.update(ids)

    # ---- the store, and people ----------------------------------------------------------------

    def lose_ledger(self) -> None:
        """The chunks of one collection, forgotten."""
        mirrors = self.house.store.mirrors()
        if mirrors:
            self.house.store.forget_chunks(self.chance.choice(mirrors).collection_id)

    def lose_store(self) -> None:
        """A state store that is lost."""
        self.house.pool.drain()
        self.house = self._enter()

    def approve(self) -> None:
        """Everything that is held, approved as it was shown."""
        for hold in self.house.store.holds():
            self.house.store.approve(hold)

    def cut(self) -> None:
        """A cycle that is stopped in its midst."""
        name = self.chance.choice(["add", "list_ids", "delete", "read"])
        self.house.stops_at(self.chance.choice([self.primary, self.replica]), name)
        with suppress(ChromasyncError):
            self.house.sync()
        self.primary.on_request(None)
        self.replica.on_request(None)
        self.house.stop.clear()
        self.house.reconnect()

    def befall(self, event: str) -> None:
        """Let one event happen."""
        self.log.append(event)
        act: Callable[[], None] = getattr(self, event)
        act()


TARGETS: list[dict[str, str]] = [
    {},
    {"SYNC_TARGET": "cloud/{tenant}.{database}/{name}"},
    {"SYNC_TARGET": "{tenant}/{database}/{name}-copy"},
    {
        "SYNC_TARGET": "cloud/copies/{tenant}.{database}.{name}",
        "SYNC_DATABASES": "default_database,hr",
    },
]
"""Where collections go: to their own places, or to others where none of them meet."""

EVENTS = [
    *("create", "add", "delete", "update", "readd", "drop", "recreate", "rename", "redefine"),
    *("outage", "drift", "foreign", "vanish", "downgrade", "upgrade", "refuse"),
    *("lose_ledger", "lose_store", "approve", "approve", "approve", "cut"),
]
"""Most of what can happen to two servers and a store; people approve more often than that."""


@contextmanager
def world_of(folder: Path, seed: int, flags: dict[str, str]) -> Iterator[World]:
    """A world that ends with its threads and stores."""
    world = World(folder, seed, flags)
    try:
        yield world
    finally:
        world.close()

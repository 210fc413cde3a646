"""Engines between two servers in memory whose replica is led to by SYNC_TARGET."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from chromasync.dryrun import DryRun
from chromasync.lab.fake import FakeServer
from chromasync.model import (
    MARKS_DATABASE,
    Change,
    Collection,
    Records,
    Scalar,
)
from chromasync.plan.listing import Place, place_of
from chromasync.quiet import Quiet
from chromasync.reports import PlanReport, VerifyReport
from chromasync.store import SqlStore
from chromasync.verify import Verifier
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record

TENANT, DATABASE = "default_tenant", "default_database"
HR = (TENANT, "hr")
COPIES = "cloud/{database}-copies/{tenant}.{name}"
BESIDE = "{tenant}/{database}/{name}-copy"


class StrictServer(FakeServer):
    """A server that knows its collections in their own tenants and databases only.

    As on a real one, requests for records name a collection by its id.
    """

    def _check_place(self, collection: Collection) -> None:
        assert place_of(self._collection(collection))[:2] == place_of(collection)[:2]

    def count(self, collection: Collection) -> int:
        self._check_place(collection)
        return super().count(collection)

    def list_ids(self, collection: Collection, *, offset: int, limit: int) -> list[str]:
        self._check_place(collection)
        return super().list_ids(collection, offset=offset, limit=limit)

    def read(self, collection: Collection, ids: Sequence[str], **more: Any) -> Records:
        self._check_place(collection)
        return super().read(collection, ids, **more)

    def add(self, collection: Collection, records: Records) -> None:
        self._check_place(collection)
        super().add(collection, records)

    def upsert(self, collection: Collection, records: Records) -> None:
        self._check_place(collection)
        super().upsert(collection, records)

    def update(self, collection: Collection, changes: Sequence[Change]) -> None:
        self._check_place(collection)
        super().update(collection, changes)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        self._check_place(collection)
        super().delete(collection, ids)

    def drop_collection(self, collection: Collection) -> None:
        assert place_of(self._collection(collection)) == place_of(collection)
        super().drop_collection(collection)

    def modify_collection(
        self,
        collection: Collection,
        *,
        name: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self._check_place(collection)
        super().modify_collection(
            collection, name=name, metadata=metadata, configuration=configuration
        )


@contextmanager
def led_to(store: SqlStore, target: str, **flags: str) -> Iterator[House]:
    """An engine whose replica is led to by a template; the primary has two collections."""
    with house_of(store, 1, SYNC_TARGET=target, **flags) as house:
        house.replica = StrictServer()
        house.reconnect()
        fill(house, house.home, 25)
        fill(house, house.primary.make("people", place=HR), 5)
        yield house


def fill(house: House, collection: Collection, count: int) -> None:
    house.primary.put(collection, joined(*map(record, names(count))))


def plan(house: House) -> PlanReport:
    return DryRun(house.primary, house.seen, house.store, house.settings).plan(Quiet())


def verify(house: House) -> VerifyReport:
    return Verifier(house.primary, house.seen, house.settings).verify(Quiet())


def counts(server: FakeServer) -> dict[Place, int]:
    """Everything on a server but the marks, with the number of records."""
    return {
        place_of(c): len(server.contents(c))
        for c in server._shared.collections.values()
        if c.database != MARKS_DATABASE
    }


def restarted(house: House, target: str, **flags: str) -> House:
    """The same servers and store under another template."""
    house.settings = house.settings.model_copy(
        update={"sync_target": type(house.settings.sync_target).parse(target), **flags}
    )
    house.reconnect()
    return house


@contextmanager
def one_server(store: SqlStore, target: str, **flags: str) -> Iterator[House]:
    """An engine whose two sides are one server."""
    flags = {
        "SYNC_TARGET": target,
        "PRIMARY_URL": "http://p:1",
        "REPLICA_URL": "http://p:1",
    } | flags
    with house_of(store, 1, **flags) as house:
        house.replica._shared = house.primary._shared
        house.reconnect()
        fill(house, house.home, 25)
        yield house

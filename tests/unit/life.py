"""Life events on servers in memory: what their tests do and look at."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chromasync.dryrun import DryRun
from chromasync.errors import ServerUnreachable
from chromasync.lab.fake import Call, FakeServer
from chromasync.model import Collection, HoldKind, Records, Side
from chromasync.quiet import Quiet
from tests.support.house import House
from tests.support.ledgers import record


def replica_ids(house: House, name: str = "things") -> set[str]:
    """The ids that the replica has under a name."""
    found = [c for c in collections(house.replica) if c.name == name]
    return set(house.replica.contents(found[0]).ids) if found else set()


def collections(server: FakeServer) -> list[Collection]:
    """All collections of a server."""
    return server.list_collections("default_tenant", "default_database")


def named(server: FakeServer, name: str) -> Collection:
    """A collection by its name."""
    (found,) = [c for c in collections(server) if c.name == name]
    return found


def primary_dies(house: House) -> None:
    """One cycle that cannot reach the primary."""

    def away(call: Call) -> None:
        raise ServerUnreachable("The primary is away.", side=Side.PRIMARY)

    house.primary.on_request(away)
    with pytest.raises(ServerUnreachable):
        house.sync()
    house.primary.on_request(None)


def kinds(house: House) -> list[HoldKind]:
    """What is held, by kind."""
    return sorted(hold.kind for hold in house.store.holds())


def approve(house: House) -> None:
    """Approve everything that is held."""
    for hold in house.store.holds():
        assert house.store.approve(hold)


def plan(house: House) -> dict[str, bool]:
    """Which collections `plan` would hold, by name."""
    report = DryRun(house.primary, house.replica, house.store, house.settings).plan(Quiet())
    return {c.name: c.held for c in report.collections}


def record_of(record_id: str, document: str) -> Records:
    """A record with a document of its own."""
    return replace(record(record_id), documents=[document])

"""Replica collections get their names, whoever has them; interrupted anywhere, it goes on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import pytest

from chromasync import faultpoints
from chromasync.cycle.names import aside_name, assign_names, rename
from chromasync.errors import ChromasyncError, LeaseLost, RequestRefused
from chromasync.lab.fake import Call, FakeServer
from chromasync.model import Collection, Side
from chromasync.plan.listing import Listing
from chromasync.plan.pairing import MAX_NAME

TENANT, DATABASE = "default_tenant", "default_database"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


def listed(server: FakeServer) -> Listing:
    found = server.list_collections(TENANT, DATABASE)
    return Listing([(TENANT, DATABASE)], {c.id: c for c in found})


def names(server: FakeServer) -> dict[str, str]:
    return {c.id: c.name for c in server.list_collections(TENANT, DATABASE)}


def anyone(newcomer: Collection, occupant: Collection) -> bool:
    return True


def unwanted_elsewhere(wanted: dict[str, str]) -> Callable[[Collection, Collection], bool]:
    """Names are taken only from those that shall have another."""
    return lambda _, occupant: wanted.get(occupant.id, occupant.name) != occupant.name


def fail(replica: Collection, error: ChromasyncError) -> None:
    """For renames that nobody refuses."""
    raise error


def test_a_free_name_is_taken(server: FakeServer) -> None:
    """A rename onto a free name is one request, and the listing follows."""
    one = server.make("old")
    listing = listed(server)
    assert assign_names(server, listing, {one.id: "new"}, anyone, fail) == []
    assert names(server) == {one.id: "new"}
    assert listing.collections[one.id].name == "new"
    assert [call.name for call in server.calls].count("modify_collection") == 1


def test_a_right_name_costs_nothing(server: FakeServer) -> None:
    """Nothing is sent for a collection that has its name."""
    one = server.make("docs")
    assert assign_names(server, listed(server), {one.id: "docs"}, anyone, fail) == []
    assert "modify_collection" not in [call.name for call in server.calls]


def test_an_occupant_is_moved_aside(server: FakeServer) -> None:
    """Who has the name and may lose it is renamed first, under a name that says what it is."""
    old, new = server.make("docs"), server.make("docs.building")
    ousted = assign_names(server, listed(server), {new.id: "docs"}, anyone, fail)
    assert [c.id for c in ousted] == [old.id]
    assert names(server) == {old.id: aside_name(old), new.id: "docs"}
    assert aside_name(old).startswith("docs.chromasync-old-")


def test_an_occupant_that_may_not_be_moved_stays(server: FakeServer) -> None:
    """Without leave both keep their names, and nothing is sent."""
    old, new = server.make("docs"), server.make("other")
    asked: list[tuple[str, str]] = []

    def refuse(newcomer: Collection, occupant: Collection) -> bool:
        asked.append((newcomer.id, occupant.id))
        return False

    assert assign_names(server, listed(server), {new.id: "docs"}, refuse, fail) == []
    assert names(server) == {old.id: "docs", new.id: "other"}
    assert asked == [(new.id, old.id)]


def test_the_same_name_elsewhere_is_free(server: FakeServer) -> None:
    """A collection of another database does not occupy a name."""
    server.ensure_database(TENANT, "elsewhere")
    listing = listed(server)
    one = server.make("old")
    other = Collection("x", "new", TENANT, "elsewhere")
    listing.collections |= {one.id: one, other.id: other}
    assert assign_names(server, listing, {one.id: "new"}, lambda *_: False, fail) == []
    assert names(server) == {one.id: "new"}


@pytest.mark.parametrize("order", list(permutations("abc")))
def test_names_can_go_round(server: FakeServer, order: tuple[str, ...]) -> None:
    """Three collections that exchange their names all end with the right one, in any order."""
    made = {name: server.make(name) for name in order}
    turn = {"a": "b", "b": "c", "c": "a"}
    wanted = {made[name].id: turn[name] for name in order}
    assign_names(server, listed(server), wanted, unwanted_elsewhere(wanted), fail)
    assert names(server) == wanted


def test_an_interrupted_exchange_is_finished_later(server: FakeServer) -> None:
    """Stopped between the two renames, the next attempt ends with the same names."""
    one, two = server.make("a"), server.make("b")
    wanted = {one.id: "b", two.id: "a"}

    def stop(point: str) -> None:
        raise LeaseLost(point)

    with pytest.raises(LeaseLost, match="between-renames"), faultpoints.injected(stop):
        assign_names(server, listed(server), wanted, unwanted_elsewhere(wanted), fail)
    assert sorted(names(server).values()) == sorted(["a", aside_name(two)])
    assign_names(server, listed(server), wanted, unwanted_elsewhere(wanted), fail)
    assert names(server) == wanted


def test_a_refused_rename_leaves_both_as_they_were(server: FakeServer) -> None:
    """Whoever had the name gets it back; the refusal is told, and the next one is renamed."""
    old, new, third = server.make("docs"), server.make("docs.building"), server.make("third")
    told: list[tuple[str, str]] = []
    renames = iter([False, True, False, False])

    def refuse(call: Call) -> None:
        if call.name == "modify_collection" and next(renames):
            raise RequestRefused("No such name here.", side=Side.REPLICA, status=400)

    server.on_request(refuse)
    wanted = {new.id: "docs", third.id: "fourth"}
    ousted = assign_names(
        server, listed(server), wanted, anyone, lambda c, error: told.append((c.id, error.what))
    )
    assert ousted == []
    assert told == [(new.id, "No such name here.")]
    assert names(server) == {old.id: "docs", new.id: "docs.building", third.id: "fourth"}


@pytest.mark.parametrize("length", [3, 400, MAX_NAME])
def test_aside_names_fit(length: int) -> None:
    """A name aside is never too long, differs per collection, and is stable when done twice."""
    one = Collection("1111-2222-3333-4444", "n" * length, TENANT, DATABASE)
    other = Collection("5555-6666-7777-8888", "n" * length, TENANT, DATABASE)
    assert len(aside_name(one)) <= MAX_NAME
    assert aside_name(one) != aside_name(other)
    again = Collection(one.id, aside_name(one), TENANT, DATABASE)
    assert aside_name(again) == aside_name(one)


def test_a_rename_is_seen_in_both_places(server: FakeServer) -> None:
    """The server and the listing agree, and the renamed collection is given back."""
    one = server.make("a")
    listing = listed(server)
    renamed = rename(server, listing, one, "b")
    assert (renamed.id, renamed.name) == (one.id, "b")
    assert listing.collections[one.id] == renamed
    assert names(server) == {one.id: "b"}

"""What both servers are asked for, and what a database that is missing means."""

from __future__ import annotations

import pytest

from chromasync.config import Scope
from chromasync.errors import NotFound
from chromasync.lab.fake import FakeServer
from chromasync.model import Mirror, Side
from chromasync.plan.listing import Listing, Missing, list_primary, list_replica
from tests.support.ledgers import mirror_of

PLACES = [("t", "sales"), ("t", "hr"), ("u", "hr")]


def scope(*tenants: str, databases: tuple[str, ...] | None = None) -> Scope:
    return Scope(tenants or ("t",), databases, include=(), exclude=())


def server(side: Side, *without: tuple[str, str]) -> FakeServer:
    """One collection in each place but some."""
    made = FakeServer(side, tenant="t", database="sales")
    for place in PLACES:
        made.make("docs", place=place)
    for place in without:
        made.lose_database(*place)
    return made


def places(listing: Listing) -> list[tuple[str, str]]:
    found = [(c.tenant, c.database) for c in listing.collections.values()]
    assert sorted(found) == sorted(listing.databases)
    return sorted(found)


def mirror(tenant: str, database: str) -> Mirror:
    return mirror_of("id", tenant, database, "docs")


def test_a_named_database_that_is_missing_fails_alone() -> None:
    """The others are listed, and its mirrors are known to be untold of."""
    listing = list_primary(server(Side.PRIMARY, ("t", "hr")), scope(databases=("sales", "hr")))
    assert places(listing) == [("t", "sales")]
    assert listing.missing == [Missing("t", "hr")]
    assert listing.tells_of(mirror("t", "sales"))
    assert not listing.tells_of(mirror("t", "hr"))
    reason = listing.why_untold(mirror("t", "hr"))
    assert str(reason) == (
        "The primary has no database 'hr' in tenant 't'. Its collections on the replica were left "
        "as they are. Restore it, or remove it from SYNC_DATABASES."
    )


@pytest.mark.parametrize("databases", [None, ("sales", "hr")])
def test_a_tenant_that_is_missing_fails_alone(databases: tuple[str, ...] | None) -> None:
    """Whatever its databases were; the replica's are not listed either, so none is surplus."""
    chosen = scope("t", "u", databases=databases)
    listing = list_primary(server(Side.PRIMARY, ("u", "hr")), chosen)
    assert places(listing) == [("t", "hr"), ("t", "sales")]
    assert listing.missing == [Missing("u", None)]
    assert not listing.tells_of(mirror("u", "anything"))
    assert "SYNC_TENANTS" in str(listing.why_untold(mirror("u", "hr")))
    assert places(list_replica(server(Side.REPLICA), chosen, listing)) == places(listing)


def test_a_database_that_nobody_names_is_not_missing() -> None:
    """Where all of a tenant are mirrored, one that is gone has vanished with its collections."""
    listing = list_primary(server(Side.PRIMARY, ("t", "hr")), scope())
    assert listing.missing == []
    assert listing.tells_of(mirror("t", "hr"))
    replica = list_replica(server(Side.REPLICA), scope(), listing)
    assert places(replica) == [("t", "hr"), ("t", "sales")]


@pytest.mark.parametrize(
    ("tenants", "databases", "words"),
    [
        (("t",), ("nope",), "no database 'nope' in tenant 't'"),
        (("nope",), None, "no databases in tenant 'nope'"),
        (
            ("t", "nope"),
            ("no",),
            "no database 'no' in tenant 't'. The primary has no databases in tenant",
        ),
    ],
)
def test_where_all_that_is_named_is_missing_nothing_is_listed(
    tenants: tuple[str, ...], databases: tuple[str, ...] | None, words: str
) -> None:
    """Then it is no single database that is gone: the settings are wrong, or the server is."""
    with pytest.raises(NotFound, match=words) as caught:
        list_primary(server(Side.PRIMARY), scope(*tenants, databases=databases))
    assert "Check SYNC_TENANTS and SYNC_DATABASES." in str(caught.value)

"""Which server is which: by the ids it lists."""

from __future__ import annotations

import pytest

from chromasync.errors import GuardRefusal
from chromasync.model import Collection, Mirror, Side
from chromasync.plan.identity import judge_primary, outdated_copies, refuse_wrong_sides
from chromasync.plan.listing import Listing
from tests.support.ledgers import mirror_of


def mirrored(*names: str) -> list[Mirror]:
    """Collections whose primary ids are their names in capitals."""
    return [mirror_of(n.upper(), "t", "d", n, replica_id=f"r-{n}", replica_count=10) for n in names]


def listing(**ids: str) -> Listing:
    """A primary that lists collections of these names under these ids."""
    return Listing([("t", "d")], {i: Collection(i, name, "t", "d") for name, i in ids.items()})


URL = "http://p:1"


@pytest.mark.parametrize(
    ("ids", "held"),
    [
        ({"a": "A", "b": "B", "c": "C"}, False),
        ({"a": "A", "b": "B", "c": "new"}, False),
        ({"a": "A", "b": "x", "c": "y"}, False),
        ({"a": "x", "b": "y", "c": "z"}, True),
        ({"a": "x"}, True),
        ({"a": "x", "other": "y"}, True),
        ({"other": "y"}, False),
        ({}, False),
    ],
)
def test_names_without_their_ids_are_another_server(ids: dict[str, str], held: bool) -> None:
    """One that was re-created while others stayed is not; what only vanished is not, either."""
    found = judge_primary(listing(**ids), mirrored("a", "b", "c"), URL, URL, {})
    assert (found is not None) is held


def test_hardly_any_of_many_is_another_server() -> None:
    """Nine of ten names with new ids."""
    names = [f"c{n}" for n in range(10)]
    ids = {n: f"new-{n}" for n in names} | {"c0": "C0"}
    assert judge_primary(listing(**ids), mirrored(*names), URL, URL, {}) is not None


def test_at_another_address_one_new_id_is_enough() -> None:
    """An address alone may change, and a collection may be re-created; both at once is odd."""
    ids = {"a": "A", "b": "B", "c": "new"}
    assert judge_primary(listing(**ids), mirrored("a", "b", "c"), URL, "http://q:1", {}) is not None
    same = {"a": "A", "b": "B", "c": "C"}
    assert judge_primary(listing(**same), mirrored("a", "b", "c"), URL, "http://q:1", {}) is None
    assert judge_primary(listing(**ids), mirrored("a", "b", "c"), None, "http://q:1", {}) is None


def test_what_is_accepted_stays_named_while_it_is_carried_out() -> None:
    """Collections that were taken over already do not change the set; a third server does."""
    whole = judge_primary(listing(a="x", b="y", c="z"), mirrored("a", "b", "c"), URL, URL, {})
    moved = [mirror_of("x", "t", "d", "a", replica_id="r-a"), *mirrored("b", "c")]
    rest = judge_primary(listing(a="x", b="y", c="z"), moved, URL, "http://q:1", {})
    third = judge_primary(listing(a="x", b="y", c="w"), mirrored("a", "b", "c"), URL, URL, {})
    assert whole is not None
    assert rest is not None
    assert third is not None
    assert whole.set_digest == rest.set_digest != third.set_digest


def test_a_restored_collection_counts_as_one_that_kept_its_id() -> None:
    """A copy of each mirror's replica, at whatever address; one that is no copy is enough."""
    mirrors, copies = mirrored("a", "b"), {"x": "r-a", "y": "r-b"}
    for url in (URL, "http://q:1"):
        assert judge_primary(listing(a="x", b="y"), mirrors, URL, url, copies) is None
    assert judge_primary(listing(a="x", b="z"), mirrors, URL, "http://q:1", copies) is not None
    other = {"x": "r-a", "y": "r-of-another-mirror"}
    assert judge_primary(listing(a="x", b="y"), mirrors, URL, "http://q:1", other) is not None
    assert judge_primary(listing(renamed="x", b="y"), mirrors, URL, URL, copies) is None


def test_a_copy_is_outdated_when_its_source_follows_another_collection() -> None:
    """The old primary came back, or a later copy became the primary."""
    copies = {"x": "r-a", "later": "r-a", "y": "r-b", "z": "r-gone"}
    assert outdated_copies(listing(a="A"), mirrored("a", "b"), copies) == {"x", "later"}
    assert outdated_copies(listing(a="x", b="y"), mirrored("a", "b"), copies) == set()
    followed = [mirror_of("x", "t", "d", "a", replica_id="r-a"), *mirrored("b")]
    assert outdated_copies(listing(a="x"), followed, copies) == {"later"}


def test_a_server_keeps_its_side() -> None:
    """A former replica is no primary, and a former primary is never written to."""
    met = {"p": Side.PRIMARY, "r": Side.REPLICA}
    refuse_wrong_sides(["p", "new"], ["r", "other"], met, URL)
    with pytest.raises(GuardRefusal, match="is the replica of earlier cycles"):
        refuse_wrong_sides(["p", "r"], [], met, URL)
    with pytest.raises(GuardRefusal, match="was the primary of earlier cycles"):
        refuse_wrong_sides([], ["p"], met, URL)

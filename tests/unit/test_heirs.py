"""New collections of the primary that take over what those of their name left on the replica."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import MappingProxyType

import pytest

from chromasync.model import Collection, Mirror, MirrorStatus, Space
from chromasync.plan.heirs import with_heirs
from chromasync.plan.listing import Listing
from chromasync.plan.pairing import Match, Pairing, Pairings, pair_collections
from tests.support.ledgers import mirror_of

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)


def collection(identity: str, name: str = "docs", database: str = "d") -> Collection:
    return Collection(identity, name, "t", database)


def mirror(identity: str, replica: str | None, name: str = "docs", database: str = "d") -> Mirror:
    return mirror_of(identity, "t", database, name, replica_id=replica)


def listing(*collections: Collection) -> Listing:
    return Listing([("t", "d")], {c.id: c for c in collections})


def choose(
    primary: Iterable[Collection],
    replica: Iterable[Collection],
    mirrors: Iterable[Mirror],
    *,
    like: Callable[[Pairing, Mirror, Collection], bool] = lambda *_: True,
    why: Callable[[Collection, Collection], str] = lambda *_: "",
    wants: Callable[[str], bool] = lambda _: True,
    restored: Mapping[str, str] = MappingProxyType({}),
) -> Pairings:
    left, right, known = listing(*primary), listing(*replica), list(mirrors)
    pairings = pair_collections(left, right, known, wants, why)
    return with_heirs(
        pairings, left, right, known, why_incompatible=why, is_like=like, restored=restored
    )


def only(pairings: Pairings) -> Pairing:
    (one,) = pairings.pairings
    return one


def never(*_: object) -> bool:
    raise AssertionError("nothing had to be asked")


def test_a_collection_with_mostly_the_same_records_is_the_heir() -> None:
    """It keeps the replica collection of the one that had its name, which is not gone any more."""
    old = replace(
        mirror("old", "r").with_primary(space=Space.IP),
        status=MirrorStatus.IDENTICAL,
        identical_as_of=NOON,
        replica_walked_at=NOON,
        adopting=True,
    )
    found = choose([collection("new")], [collection("r")], [old])
    one = only(found)
    assert (one.match, one.former, one.ledger_id) == (Match.KEEP, old, "old")
    assert (one.replica, one.create_name, one.lost) == (collection("r"), "", "")
    new = mirror("new", "r").with_primary(space=Space.IP)
    assert one.mirror == replace(new, status=MirrorStatus.NEW, adopting=True)
    assert (found.vanished, found.surplus) == ([], [])


def test_one_with_other_records_is_built_beside() -> None:
    """The old one stays until the new one is complete, as ever."""
    found = choose(
        [collection("new")], [collection("r")], [mirror("old", "r")], like=lambda *_: False
    )
    assert (only(found).match, only(found).former) == (Match.CREATE, None)
    assert found.vanished == [mirror("old", "r")]


def test_another_dimension_or_distance_is_never_compared_in_place() -> None:
    """Not even a sample is asked for."""
    found = choose(
        [collection("new")],
        [collection("r")],
        [mirror("old", "r")],
        like=never,
        why=lambda *_: "The distance differs.",
    )
    assert only(found).match is Match.CREATE


@pytest.mark.parametrize(
    ("primary", "old"),
    [
        pytest.param(
            [collection("old", "other"), collection("new")], mirror("old", "r"), id="renamed"
        ),
        pytest.param([collection("new")], mirror("old", "r", "other"), id="another name"),
        pytest.param([collection("new")], mirror("old", "r", database="e"), id="another database"),
        pytest.param([collection("new")], mirror("old", "gone"), id="no replica"),
        pytest.param([collection("new")], mirror("old", None), id="never had a replica"),
    ],
)
def test_only_one_that_is_gone_and_had_the_name_leaves_something(
    primary: list[Collection], old: Mirror
) -> None:
    """A collection that lives on under another name is nobody's to take over."""
    found = choose(primary, [collection("r")], [old], like=never)
    assert all(pairing.former is None for pairing in found.pairings)


def test_a_known_collection_is_no_heir() -> None:
    """One whose copy was begun beside the old one goes on with it."""
    known = [mirror("old", "r"), mirror("new", "half")]
    half = collection("half", "docs.chromasync-new")
    found = choose([collection("new")], [collection("r"), half], known, like=never)
    assert (only(found).match, only(found).replica) == (Match.KEEP, half)
    assert found.vanished == [mirror("old", "r")]


def test_of_several_that_had_the_name_the_first_alike_is_taken() -> None:
    """The others stay gone."""
    known = [mirror("a", "ra"), mirror("b", "rb")]
    right = [collection("ra", "docs"), collection("rb", "docs.chromasync-b")]
    found = choose(
        [collection("new")], right, known, like=lambda _, old, __: old.replica_id == "rb"
    )
    assert only(found).former == known[1]
    assert found.vanished == [known[0]]


def test_all_collections_of_a_rebuilt_primary_are_heirs() -> None:
    """Each takes over that of its own name."""
    names = ("one", "two", "three")
    known = [mirror(f"old-{n}", f"r-{n}", n) for n in names]
    left = [collection(f"new-{n}", n) for n in names]
    found = choose(left, [collection(f"r-{n}", n) for n in names], known)
    assert {(p.primary.name, p.ledger_id, p.mirror.replica_id) for p in found.pairings} == {
        (n, f"old-{n}", f"r-{n}") for n in names
    }
    assert found.vanished == []


def test_a_take_over_that_was_interrupted_is_finished() -> None:
    """With both mirrors there, the ledger still moves, and nothing is asked again."""
    known = [mirror("old", "r"), mirror("new", "r")]
    found = choose([collection("new")], [collection("r")], known, like=never)
    assert (only(found).match, only(found).former) == (Match.KEEP, known[0])
    assert found.vanished == []


def test_the_replica_of_an_heir_that_is_left_out_by_now_is_not_dropped() -> None:
    """Interrupted, and then renamed to what SYNC_EXCLUDE names: it is nobody's that is gone."""
    known = [mirror("old", "r"), mirror("new", "r")]
    left = [collection("new", "docs-old")]
    found = choose(left, [collection("r")], known, like=never, wants=lambda name: name == "docs")
    assert (found.pairings, found.vanished) == ([], [])
    assert [m.collection_id for m in found.excluded] == ["new"]


def test_a_restored_collection_is_the_heir_of_the_one_it_was_copied_from() -> None:
    """Nothing is read, and a new name does not matter, nor does another collection's old one."""
    known = [mirror("wares", "rw", "papers"), mirror("old", "r")]
    right = [collection("rw", "papers"), collection("r")]
    found = choose([collection("new", "papers")], right, known, like=never, restored={"new": "r"})
    assert (only(found).match, only(found).former) == (Match.KEEP, known[1])
    assert (only(found).mirror.name, only(found).mirror.replica_id) == ("papers", "r")
    assert found.vanished == [known[0]]


def test_a_copy_of_a_collection_that_is_gone_is_no_heir() -> None:
    """It is compared like any other, and one that differs in its definition is built anew."""
    known = [mirror("old", "r")]
    found = choose([collection("new")], [collection("r")], known, restored={"new": "gone"})
    assert only(found).former == known[0]
    found = choose(
        [collection("new")],
        [collection("r")],
        known,
        why=lambda *_: "Its distance differs.",
        restored={"new": "r"},
    )
    assert only(found).match is Match.CREATE

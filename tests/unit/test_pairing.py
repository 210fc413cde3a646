"""Which replica collection belongs to which primary collection."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from chromasync.model import Collection, Mirror, MirrorStatus
from chromasync.plan.listing import Listing
from chromasync.plan.pairing import (
    BUILDING_MARK,
    MAX_NAME,
    OLD_MAX_NAME,
    Match,
    Pairing,
    Pairings,
    building_name,
    final_name,
    pair_collections,
)
from tests.support.ledgers import mirror_of

ID = "0123456789ab-cdef-0123-4567-89abcdef0123"


def collection(identity: str, name: str = "docs", database: str = "d") -> Collection:
    return Collection(identity, name, "t", database)


def mirror(identity: str, replica: str | None, name: str = "docs", missing: int = 0) -> Mirror:
    return mirror_of(identity, "t", "d", name, replica_id=replica, missing_cycles=missing)


def listing(*collections: Collection) -> Listing:
    return Listing([("t", "d")], {c.id: c for c in collections})


def everything(name: str) -> bool:
    return True


def compatible(primary: Collection, replica: Collection) -> str:
    return ""


def unlike(*replicas: str) -> Callable[[Collection, Collection], str]:
    """Replica collections of these ids can never become equal."""
    return lambda primary, replica: "The distance differs." if replica.id in replicas else ""


def pair(
    primary: Iterable[Collection],
    replica: Iterable[Collection],
    mirrors: Iterable[Mirror] = (),
    *,
    wants: Callable[[str], bool] = everything,
    why: Callable[[Collection, Collection], str] = compatible,
) -> Pairings:
    return pair_collections(listing(*primary), listing(*replica), mirrors, wants, why)


def only(pairings: Pairings) -> Pairing:
    (one,) = pairings.pairings
    return one


def test_an_unknown_collection_is_created() -> None:
    """Without a counterpart it is made under its own name, with a new mirror."""
    one = only(pair([collection("p")], []))
    assert (one.match, one.create_name, one.replica, one.lost) == (Match.CREATE, "docs", None, "")
    assert one.mirror == mirror_of("p", "t", "d", "docs")


def test_a_known_collection_keeps_its_replica() -> None:
    """The stored mapping decides, not the name: a rename is a rename."""
    known = replace(mirror("p", "r", "old", missing=1), status=MirrorStatus.IDENTICAL)
    found = pair([collection("p", "new")], [collection("r", "old")], [known])
    one = only(found)
    assert (one.match, one.lost) == (Match.KEEP, "")
    assert one.replica == collection("r", "old")
    assert (one.mirror.name, one.mirror.replica_id, one.mirror.primary.missing_cycles) == (
        "new",
        "r",
        0,
    )
    assert one.mirror.status is MirrorStatus.IDENTICAL
    assert (found.vanished, found.surplus) == ([], [])


def test_a_replica_that_nobody_owns_is_adopted() -> None:
    """A collection of the same place and definition is compared, not copied beside."""
    one = only(pair([collection("p")], [collection("r")]))
    assert (one.match, one.replica, one.lost) == (Match.ADOPT, collection("r"), "")
    assert one.mirror.replica_id is None


def test_one_left_half_built_is_adopted() -> None:
    """What a crash left under the building name is found again."""
    primary = collection(ID)
    half = collection("r", building_name(primary))
    other = collection("x", "docs")
    one = only(pair([primary], [half, other], [mirror("old", "x")]))
    assert (one.match, one.replica) == (Match.ADOPT, half)


def test_the_real_name_is_adopted_before_the_building_name() -> None:
    """With both there, the one of the real name is taken and the other is surplus."""
    primary = collection(ID)
    half, whole = collection("h", building_name(primary)), collection("r")
    found = pair([primary], [half, whole])
    assert only(found).replica == whole
    assert found.surplus == [half]


def test_a_re_created_collection_is_built_beside_the_old_one() -> None:
    """The name is still the old mirror's, which has vanished; the new one is built aside."""
    primary = collection(ID)
    found = pair([primary], [collection("r")], [mirror("old", "r")])
    one = only(found)
    assert (one.match, one.create_name) == (Match.CREATE, building_name(primary))
    assert found.vanished == [mirror("old", "r")]
    assert found.surplus == []


def test_a_name_taken_by_one_that_cannot_become_equal() -> None:
    """An incompatible stranger keeps its name for now and is surplus; ours is built beside."""
    primary = collection(ID)
    found = pair([primary], [collection("r")], why=unlike("r"))
    assert only(found).create_name == building_name(primary)
    assert found.surplus == [collection("r")]


def test_a_replica_that_is_gone_is_made_anew() -> None:
    """The reason is told, and the old id is forgotten."""
    one = only(pair([collection("p")], [], [mirror("p", "r")]))
    assert (one.match, one.create_name, one.mirror.replica_id) == (Match.CREATE, "docs", None)
    assert "no longer exists" in one.lost


def test_a_replica_that_is_gone_may_have_a_successor() -> None:
    """A replica restored under another id is adopted, with the loss told."""
    one = only(pair([collection("p")], [collection("new")], [mirror("p", "r")]))
    assert (one.match, one.replica) == (Match.ADOPT, collection("new"))
    assert one.lost


def test_a_replica_that_cannot_become_equal_any_more_is_rebuilt() -> None:
    """Its own replica keeps the name until the new one is complete."""
    primary = collection(ID)
    one = only(pair([primary], [collection("r")], [mirror(ID, "r")], why=unlike("r")))
    assert (one.match, one.create_name) == (Match.CREATE, building_name(primary))
    assert one.lost == "The distance differs."
    assert one.mirror.replica_id is None
    assert one.superseded == collection("r")


def test_only_wanted_names_count() -> None:
    """What is not to be mirrored is neither paired, nor vanished, nor surplus."""
    found = pair(
        [collection("p1", "keep"), collection("p2", "skip")],
        [
            collection("r", "skip"),
            collection("s", f"skip{BUILDING_MARK}x"),
            collection("k", "keepx"),
        ],
        [mirror("gone", "q", "skip"), mirror("lost", "z", "keep-old")],
        wants=lambda name: name.startswith("keep"),
    )
    assert [p.primary.name for p in found.pairings] == ["keep"]
    assert [m.collection_id for m in found.vanished] == ["lost"]
    assert [c.id for c in found.surplus] == ["k"]


def test_a_mirror_that_was_renamed_to_an_excluded_name_lets_go_of_its_own() -> None:
    """It is told with its new name; without a replica, or with that name there, it stays."""
    found = pair(
        [collection("p1", "docs"), collection("p2", "skip-2"), collection("p3", "skip-3")],
        [collection("r2", "docs"), collection("r3", "skip-3")],
        [mirror("p2", "r2"), mirror("p3", "r3", "docs"), mirror("p4", "r4", "skip")],
        wants=lambda name: not name.startswith("skip"),
    )
    assert [(m.collection_id, m.name) for m in found.excluded] == [("p2", "skip-2")]
    assert [(p.primary.id, p.match) for p in found.pairings] == [("p1", Match.CREATE)]
    assert found.vanished == []


def test_an_adopted_collection_is_adopted_once() -> None:
    """Two primary collections never share a replica; places with the same name are apart."""
    first, second = collection("p1", "a"), collection("p2", "a", database="other")
    found = pair([first, second], [collection("r", "a")])
    by_id = {p.primary.id: p.match for p in found.pairings}
    assert by_id == {"p1": Match.ADOPT, "p2": Match.CREATE}
    assert found.surplus == []


@pytest.mark.parametrize("length", [3, 400, MAX_NAME])
def test_building_names_fit_and_lead_back(length: int) -> None:
    """A building name is never too long, and tells the final name where that was not cut."""
    primary = collection(ID, "n" * length)
    name = building_name(primary)
    assert len(name) <= MAX_NAME
    assert primary.name.startswith(final_name(collection("r", name)))
    assert name != building_name(collection("ffffffff-0000-0000-0000-000000000000", "n" * length))
    if length < MAX_NAME - 30:
        assert final_name(collection("r", name)) == primary.name
    assert final_name(primary) == primary.name


@pytest.mark.parametrize("length", [3, 40, OLD_MAX_NAME])
def test_a_name_that_old_servers_take_stays_one(length: int) -> None:
    """What an old server could hold is built under a name that it takes, too."""
    name = building_name(collection(ID, ("a." * OLD_MAX_NAME)[: length - 1] + "z"))
    assert len(name) <= OLD_MAX_NAME
    assert ".." not in name

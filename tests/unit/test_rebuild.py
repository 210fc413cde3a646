"""Which collections may be built anew, and beside what."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chromasync.errors import SettingsError
from chromasync.model import Collection, Hold, HoldKind
from chromasync.plan.listing import Listing
from chromasync.plan.pairing import Match, Pairing, Pairings, building_name, rebuilt
from tests.support.ledgers import mirror_of


def collection(identity: str, name: str, database: str = "d") -> Collection:
    return Collection(identity, name, "t", database)


def kept(name: str, database: str = "d", replica_name: str = "") -> Pairing:
    """A collection that both sides have."""
    key = f"{name}-{database}"
    mirror = mirror_of(key, "t", database, name, replica_id=f"r-{key}", unanswering="it is silent")
    theirs = collection(f"r-{key}", replica_name or name, database)
    return Pairing(Match.KEEP, collection(key, name, database), mirror, theirs)


def build(
    *names: str,
    known: list[Pairing],
    holds: tuple[Hold, ...] = (),
    lacks_some: Callable[[Pairing], bool] = lambda _: False,
) -> list[Pairing]:
    theirs = [pairing.replica for pairing in known if pairing.replica is not None]
    listing = Listing([("t", "d")], {c.id: c for c in theirs})
    return rebuilt(Pairings(known, [], []), names, listing, holds, lacks_some).pairings


@pytest.mark.parametrize("name", ["docs", "t/d/docs"])
def test_a_named_collection_is_built_beside_the_old_one(name: str) -> None:
    """It takes another name until it is complete, and the others stay as they are."""
    docs, mail = kept("docs"), kept("mail")
    one, other = build(name, known=[docs, mail])
    assert other == mail
    assert (one.match, one.create_name) == (Match.CREATE, building_name(docs.primary))
    assert (one.mirror.replica_id, one.mirror.unanswering) == (None, None)
    assert (one.replica, one.superseded) == (None, docs.replica)


def test_a_name_that_is_taken_gives_way_to_a_numbered_one() -> None:
    """An earlier build may have left its own."""
    docs = kept("docs")
    left = kept("left", replica_name=building_name(docs.primary))
    one, _ = build("docs", known=[docs, left])
    assert one.create_name not in {"docs", building_name(docs.primary)}
    assert "-2" in one.create_name


@pytest.mark.parametrize(
    ("name", "known", "words"),
    [
        ("dosc", [kept("docs")], "There is no collection 'dosc'"),
        ("docs", [kept("docs"), kept("docs", "e")], "Several collections are called 'docs': t/d"),
        (
            "docs",
            [kept("docs", replica_name=building_name(kept("docs").primary))],
            "docs is being built anew already",
        ),
    ],
)
def test_a_name_that_does_not_fit_builds_nothing(
    name: str, known: list[Pairing], words: str
) -> None:
    """The error says what was meant by it, and what to do."""
    with pytest.raises(SettingsError, match=words) as caught:
        build(name, known=known)
    assert caught.value.untouched == "Nothing was written."
    assert caught.value.hint


def test_nothing_is_built_while_a_copy_would_lose_something() -> None:
    """What is held, and what the primary lacks by now, would not be in a new copy."""
    docs = kept("docs")
    hold = Hold(docs.mirror.collection_id, "docs", HoldKind.DELETES, 3, "many")
    with pytest.raises(SettingsError, match="docs has a hold"):
        build("docs", known=[docs], holds=(hold,))
    with pytest.raises(SettingsError, match="The primary lacks records of docs"):
        build("docs", known=[docs], lacks_some=lambda _: True)

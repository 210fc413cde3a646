"""Holds and their approvals, each of which is for exactly one set."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from chromasync.model import Hold, HoldKind
from chromasync.store import SqlStore
from chromasync.store.holds import APPROVAL_SECONDS
from chromasync.store.schema import Later, holds
from tests.store.samples import COLLECTION, OTHER, arrange

HOLD = Hold(
    COLLECTION,
    "books",
    HoldKind.DELETES,
    10,
    "many",
    tenant="t",
    database="d",
    set_digest="3f9a",
    unconfirmed=True,
    seen_cycles=1,
)


def the_hold(store: SqlStore) -> Hold:
    """The only hold that there is."""
    (hold,) = store.holds()
    return hold


def approved(store: SqlStore, hold: Hold = HOLD) -> Hold:
    """A hold that was stored and approved."""
    store.save_hold(hold)
    assert store.approve(hold)
    return the_hold(store)


def age(store: SqlStore, seconds: float) -> None:
    """Let the approvals have been given so long ago."""
    arrange(store, update(holds).values(approved_at=Later(-seconds)))


def test_a_hold_comes_back_as_it_was_saved(store: SqlStore) -> None:
    """What is held, where and how long is stored; nobody was shown it or approved it yet."""
    store.save_hold(replace(HOLD, shown_count=7, approved_count=7, approved_digest="x"))
    hold = the_hold(store)
    assert hold.held_at is not None
    assert hold == replace(HOLD, held_at=hold.held_at)
    assert hold.full_name == "t/d/books"


def test_a_hold_is_brought_up_to_date_and_keeps_its_age(store: SqlStore) -> None:
    """Every cycle says anew what is held; since when, and what was shown, it does not know."""
    store.save_hold(HOLD)
    first = the_hold(store)
    store.note_shown([HOLD])
    newer = replace(
        HOLD, collection_name="novels", count=11, reason="more", set_digest="77", unconfirmed=False
    )
    newer = replace(newer, seen_cycles=2, tenant="u", database="e")
    store.save_hold(newer)
    assert the_hold(store) == replace(newer, held_at=first.held_at, shown_count=10)


def test_an_approval_names_what_it_is_for(store: SqlStore) -> None:
    """How much, which set and when are stored with it."""
    hold = approved(store)
    assert (hold.approved_count, hold.approved_digest) == (10, "3f9a")
    assert hold.approved_at is not None
    assert hold.approved_at <= store.now()


def test_an_approval_stays_while_the_set_is_the_same(store: SqlStore) -> None:
    """The same records under another name or for another reason are what was approved."""
    before = approved(store)
    store.save_hold(replace(HOLD, collection_name="novels", reason="still many"))
    after = the_hold(store)
    assert (after.approved_count, after.approved_digest) == (10, "3f9a")
    assert after.approved_at == before.approved_at


@pytest.mark.parametrize("count", [9, 10, 11])
def test_an_approval_ends_when_the_set_changes(store: SqlStore, count: int) -> None:
    """Fewer or as many records of another set are not what was approved, either."""
    approved(store)
    changed = replace(HOLD, count=count, set_digest="beef")
    store.save_hold(changed)
    hold = the_hold(store)
    assert (hold.approved_count, hold.approved_digest, hold.approved_at) == (None, None, None)
    store.save_hold(HOLD)
    assert the_hold(store).approved_count is None


@pytest.mark.parametrize("seconds", [APPROVAL_SECONDS + 1, -60], ids=["old", "ahead"])
@pytest.mark.parametrize("by", ["saving", "ending"])
def test_an_approval_ends_after_a_day(store: SqlStore, seconds: float, by: str) -> None:
    """One that is older, or was given while the clock was ahead, lets nothing through."""
    approved(store)
    age(store, seconds)
    if by == "saving":
        store.save_hold(HOLD)
    else:
        store.end_approvals(set())
    hold = the_hold(store)
    assert (hold.approved_count, hold.approved_digest, hold.approved_at) == (None, None, None)


@pytest.mark.parametrize("seconds", [APPROVAL_SECONDS - 60, 0, -0.2], ids=["day", "now", "slack"])
def test_an_approval_lasts_for_a_day(store: SqlStore, seconds: float) -> None:
    """A clock that was set by a fraction of a second does not end it, either."""
    approved(store)
    age(store, seconds)
    store.save_hold(HOLD)
    store.end_approvals(set())
    assert the_hold(store).approved_count == 10


def test_an_approval_ends_with_its_collections_place_in_the_settings(store: SqlStore) -> None:
    """What is left out for a while must be approved anew; other approvals stay."""
    for collection in (COLLECTION, OTHER):
        hold = replace(HOLD, collection_id=collection)
        store.save_hold(hold)
        assert store.approve(hold)
    store.end_approvals({COLLECTION, "unknown"})
    found = {hold.collection_id: hold.approved_count for hold in store.holds()}
    assert found == {COLLECTION: None, OTHER: 10}


def test_approving_another_set_approves_nothing(store: SqlStore) -> None:
    """An approval is for one set, of one kind, of one collection, that is held now."""
    store.save_hold(HOLD)
    assert not store.approve(replace(HOLD, set_digest="beef"))
    assert not store.approve(replace(HOLD, kind=HoldKind.DROP))
    assert not store.approve(replace(HOLD, collection_id=OTHER))
    store.clear_hold(COLLECTION, HoldKind.DELETES)
    assert not store.approve(HOLD)
    store.save_hold(replace(HOLD, set_digest="beef"))
    assert the_hold(store).approved_count is None


def test_a_hold_that_comes_back_is_a_new_one(store: SqlStore) -> None:
    """Clearing a hold takes its approval and what was shown with it."""
    approved(store)
    store.note_shown([HOLD])
    store.clear_hold(COLLECTION, HoldKind.DELETES)
    store.save_hold(HOLD)
    hold = the_hold(store)
    assert (hold.approved_count, hold.shown_count) == (None, None)


def test_what_was_shown_is_remembered_as_far_as_it_is_so(store: SqlStore) -> None:
    """A page that is out of date by now does not say that its reader knows the present."""
    store.save_hold(HOLD)
    store.note_shown([replace(HOLD, set_digest="old"), replace(HOLD, kind=HoldKind.DROP)])
    assert the_hold(store).shown_count is None
    store.note_shown([replace(HOLD, count=99)])
    assert the_hold(store).shown_count == 10


def test_holds_of_one_collection_are_apart_by_kind(store: SqlStore) -> None:
    """Each kind is held, approved and cleared on its own."""
    for kind in HoldKind:
        store.save_hold(replace(HOLD, kind=kind))
    store.clear_hold(COLLECTION, HoldKind.DROP)
    store.clear_hold(OTHER, HoldKind.DELETES)
    assert store.approve(replace(HOLD, kind=HoldKind.REPLACE))
    found = {hold.kind: hold.approved_count for hold in store.holds()}
    others = dict.fromkeys(set(HoldKind) - {HoldKind.DROP, HoldKind.REPLACE})
    assert found == others | {HoldKind.REPLACE: 10}

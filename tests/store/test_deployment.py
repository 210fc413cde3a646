"""What a store knows of itself and of the two servers, across restarts."""

from __future__ import annotations

import uuid
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from sqlalchemy import delete, update

from chromasync.model import Deployment, Kept, KnownDistance, MarkRow, Removal, Side, Space
from chromasync.store import SqlStore, open_store
from chromasync.store import deployment as deployment_part
from chromasync.store.deployment import DAY_SECONDS
from chromasync.store.schema import Later
from chromasync.store.schema_servers import deployment, kept, removals
from tests.store.conftest import Opener, Places
from tests.store.samples import COLLECTION, OTHER, arrange, planned

MOMENT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)
KEPT = Kept("replica", "t", "d", "books~kept")


# ---- the store and the primary ------------------------------------------------------------------


def test_a_store_is_made_with_an_id_that_stays(opener: Opener) -> None:
    """Every process that opens the store finds the same id, and nothing known of the primary."""
    first = opener().deployment()
    assert uuid.UUID(first.store_id).version == 4
    assert first == Deployment(first.store_id)
    assert opener().deployment() == first


def test_each_store_has_an_id_of_its_own(places: Places) -> None:
    """Two stores are told apart by it."""
    ids = set()
    for _ in range(2):
        store = open_store(places())
        ids.add(store.deployment().store_id)
        store.close()
    assert len(ids) == 2


def test_what_is_known_of_the_primary_is_replaced(opener: Opener) -> None:
    """All but the store's own id is what was saved last."""
    store = opener()
    own = store.deployment().store_id
    known = Deployment("another", "http://primary:8000", MOMENT, MOMENT, 7, MOMENT)
    store.save_deployment(known)
    assert opener().deployment() == replace(known, store_id=own)
    store.save_deployment(Deployment("another"))
    assert store.deployment() == Deployment(own)


def test_an_absence_counts_from_its_beginning(store: SqlStore) -> None:
    """Who notices it first says since when; workers may, under no term at all."""
    store.note_away()
    since = store.deployment().away_since
    assert since is not None
    arrange(store, update(deployment).values(away_since=MOMENT))
    store.note_away()
    assert store.deployment().away_since == MOMENT


# ---- collection ids -----------------------------------------------------------------------------


def test_the_side_that_listed_a_collection_first_counts(store: SqlStore) -> None:
    """A former replica that is taken for the primary is known by it for ever."""
    store.remember_ids(1, {COLLECTION: Side.REPLICA})
    store.remember_ids(2, {COLLECTION: Side.PRIMARY, OTHER: Side.PRIMARY})
    known = {COLLECTION: Side.REPLICA, OTHER: Side.PRIMARY}
    assert store.sides_of([COLLECTION, OTHER, "unknown"]) == known
    assert store.sides_of([OTHER, OTHER]) == {OTHER: Side.PRIMARY}
    assert store.sides_of([]) == {}
    store.remember_ids(3, {})
    assert store.sides_of(known) == known


def test_many_collections_are_asked_for_at_once(store: SqlStore) -> None:
    """More than fit one statement."""
    met = {f"id-{n}": Side.PRIMARY for n in range(1200)}
    store.remember_ids(1, met)
    assert store.sides_of(met) == met


def test_the_ids_that_were_met_first_are_forgotten_first(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound the oldest go, and what was met in this cycle stays."""
    monkeypatch.setattr(deployment_part, "KNOWN_IDS", 3)
    store.remember_ids(2, {"b": Side.REPLICA})
    store.remember_ids(1, {"a": Side.PRIMARY})
    store.remember_ids(3, {"d": Side.PRIMARY})
    assert set(store.sides_of("abcdef")) == {"a", "b", "d"}
    store.remember_ids(4, {"e": Side.PRIMARY, "f": Side.REPLICA, "b": Side.PRIMARY})
    assert set(store.sides_of("abcdef")) == {"d", "e", "f"}


# ---- the budget of a day ------------------------------------------------------------------------


def test_what_went_within_a_day_counts(store: SqlStore) -> None:
    """Records and whole collections are counted as often as they go; older notes are dropped."""
    records, whole = Removal(COLLECTION, 7, whole=False), Removal(OTHER, 5_000_000_000, whole=True)
    store.note_removal(1, records)
    arrange(store, update(removals).values(removed_at=Later(-DAY_SECONDS - 1)))
    assert store.removals_of_day() == []
    store.note_removal(2, records)
    arrange(store, update(removals).values(removed_at=Later(60 - DAY_SECONDS)))
    store.note_removal(2, records)
    store.note_removal(2, whole)
    assert sorted(store.removals_of_day(), key=lambda r: r.count) == [records, records, whole]


def test_what_went_while_the_clock_was_ahead_counts_for_a_day(store: SqlStore) -> None:
    """It is no way around the budget; and from the next cycle on it does not count for years."""
    store.note_removal(1, Removal(COLLECTION, 7, whole=False))
    arrange(store, update(removals).values(removed_at=Later(400 * DAY_SECONDS)))
    store.note_removal(2, Removal(OTHER, 1, whole=False))
    assert {r.count for r in store.removals_of_day()} == {1, 7}
    store.open_cycle()
    arrange(store, delete(removals).where(removals.c.removed_at <= Later(0)))
    assert store.removals_of_day() == []


def test_removals_are_noted_while_a_cycle_runs(store: SqlStore) -> None:
    """As the engine does it: under a term, within a cycle, one after the other."""
    term = store.take_lead("me", 60)
    assert term is not None
    leading = store.led_by(term)
    cycle = planned(leading, 1)
    for count in (1, 1, 2):
        leading.note_removal(cycle.id, Removal(COLLECTION, count, whole=False))
    assert [r.count for r in store.removals_of_day()] == [1, 1, 2]


# ---- distances ----------------------------------------------------------------------------------


def test_a_distance_is_what_was_learned_last(store: SqlStore) -> None:
    """By the collection's id, whichever side it is on; a promise is told from an answer."""
    promised = KnownDistance(COLLECTION, Space.COSINE, b"")
    store.save_distances([promised, KnownDistance(OTHER, Space.L2, b"w")])
    assert {one.collection_id: one for one in store.distances()}[COLLECTION].is_promise
    learned = KnownDistance(COLLECTION, Space.IP, b"words\0")
    store.save_distances([learned])
    store.save_distances([])
    assert learned in store.distances()
    assert len(store.distances()) == 2
    store.forget_distances({OTHER})
    assert [one.collection_id for one in store.distances()] == [OTHER]


# ---- kept collections ---------------------------------------------------------------------------


def test_a_kept_collection_is_remembered_until_it_is_forgotten(store: SqlStore) -> None:
    """It comes back as it was saved, with the instant of the first time."""
    store.save_kept(KEPT)
    (found,) = store.kept()
    assert found.kept_at is not None
    assert found == replace(KEPT, kept_at=found.kept_at)
    store.save_kept(replace(KEPT, name="later"))
    assert store.kept() == [found]
    store.forget_kept("unknown")
    store.forget_kept(KEPT.replica_id)
    assert store.kept() == []


def test_kept_collections_are_overdue_after_their_time(store: SqlStore) -> None:
    """The oldest first, and none that was kept for less."""
    for number, age in enumerate((100, 300, 200)):
        store.save_kept(replace(KEPT, replica_id=f"r{number}"))
        one = update(kept).where(kept.c.replica_id == f"r{number}")
        arrange(store, one.values(kept_at=Later(-age)))
    assert [one.replica_id for one in store.kept()] == ["r1", "r2", "r0"]
    assert [one.replica_id for one in store.overdue_kept(150)] == ["r1", "r2"]
    assert store.overdue_kept(400) == []


def test_what_was_kept_while_the_clock_was_ahead_is_kept_from_now_on(store: SqlStore) -> None:
    """It goes after its time, and not years later."""
    store.save_kept(KEPT)
    arrange(store, update(kept).values(kept_at=Later(400 * DAY_SECONDS)))
    store.open_cycle()
    (found,) = store.kept()
    assert found.kept_at is not None
    assert found.kept_at <= store.now()


# ---- marks --------------------------------------------------------------------------------------


def test_a_mark_comes_back_as_it_was_saved(store: SqlStore) -> None:
    """One for each place, whatever letters it has; saving again replaces it."""
    odd = "ten\0ant/däta\ud800base"
    first = MarkRow(odd, 5_000_000_000, "nonce", True, "other", MOMENT, "former", "the mark")
    assert all(getattr(first, f.name) for f in fields(MarkRow))
    store.save_mark(first)
    store.save_mark(MarkRow("t/d"))
    assert store.marks() == {odd: first, "t/d": MarkRow("t/d")}
    store.save_mark(MarkRow(odd, 6, "newer"))
    assert store.marks()[odd] == MarkRow(odd, 6, "newer")


def test_only_the_mark_that_was_prepared_last_counts_as_written(store: SqlStore) -> None:
    """A worker that is late says nothing of the mark that was prepared since."""
    store.save_mark(MarkRow("t/d", 1, "first"))
    store.save_mark(MarkRow("t/e", 1, "first"))
    store.save_mark(MarkRow("t/d", 2, "second"))
    store.note_mark_written("t/d", "first")
    assert not store.marks()["t/d"].written
    store.note_mark_written("t/d", "second")
    assert store.marks()["t/d"].written
    assert not store.marks()["t/e"].written

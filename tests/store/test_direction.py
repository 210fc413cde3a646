"""The direction: nobody leads while a replica is promoted, and a turn loses nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from chromasync.errors import LeaseLost, ReplicaPromoted
from chromasync.ledger.digest import whole_digests
from chromasync.model import (
    UNKNOWN_DIGEST,
    CycleStatus,
    Deployment,
    Digests,
    DirectionState,
    Hold,
    HoldKind,
    Side,
)
from chromasync.store import SqlStore
from tests.store.samples import (
    COLLECTION,
    OTHER,
    chunk_of,
    claim_one,
    planned,
    result_for,
)
from tests.support.ledgers import mirror_of, with_digests

WHO, URL = "ann@here", "http://replica:8000"
COPY = "the-replica-s-own-id"


def promoted(store: SqlStore, *, planned: bool = False) -> None:
    store.begin_promotion(WHO, URL, planned=planned)
    store.finish_promotion(None)


def test_a_new_store_follows(store: SqlStore) -> None:
    """Nothing was promoted, and nothing was turned."""
    direction = store.direction()
    assert direction.is_following
    assert (direction.turns, direction.since_at, direction.writers_until) == (0, None, None)


def test_nobody_leads_from_the_beginning_of_a_promotion_on(store: SqlStore) -> None:
    """Neither a new process nor the one that led; a renewal fails, too."""
    term = store.take_lead("led", 60)
    assert term is not None
    begun = store.begin_promotion(WHO, URL, planned=True)
    assert (begun.state, begun.by, begun.url) == (DirectionState.PROMOTING, WHO, URL)
    for holder in ("led", "another"):
        with pytest.raises(ReplicaPromoted, match="ann@here is promoting"):
            store.take_lead(holder, 60)
    with pytest.raises(LeaseLost):
        store.led_by(term).open_cycle()
    assert store.leader() is None
    store.give_up_lead(term)
    done = store.finish_promotion(None)
    assert done.state is DirectionState.PROMOTED
    with pytest.raises(ReplicaPromoted, match="was promoted by ann@here"):
        store.take_lead("another", 60)


def test_it_waits_for_the_lead_and_for_every_lease(store: SqlStore) -> None:
    """`writers_until` is the end of the last right to write that somebody may still use."""
    store.take_lead("elsewhere:1:1:led", 30)
    planned(store, 2)
    claim_one(store, lease_seconds=300)
    before = store.now()
    begun = store.begin_promotion(WHO, URL, planned=False)
    assert begun.writers_until is not None
    assert timedelta(seconds=295) < begun.writers_until - before < timedelta(seconds=305)
    again = store.begin_promotion("bob@there", URL, planned=True)
    assert again.writers_until == begun.writers_until
    assert (again.by, again.planned) == ("bob@there", True)


def test_without_a_writer_there_is_nothing_to_wait_for(store: SqlStore) -> None:
    """A store that nobody uses promotes at once."""
    assert store.begin_promotion(WHO, URL, planned=False).writers_until is None


def test_tasks_and_the_cycle_end(store: SqlStore) -> None:
    """Nothing is left to claim, and what a worker completes now is refused."""
    cycle = planned(store, 2)
    held = claim_one(store)
    result = result_for(store, held)
    store.begin_promotion(WHO, URL, planned=False)
    assert store.claim_task("w", 60, 5) is None
    assert not store.complete_task(held, result)
    (ended,) = store.cycles(1)
    assert (ended.id, ended.status) == (cycle.id, CycleStatus.ABANDONED)


def test_a_promotion_that_was_begun_can_be_cancelled(store: SqlStore) -> None:
    """Then the replica follows again, and somebody may lead."""
    assert not store.cancel_promotion()
    store.begin_promotion(WHO, URL, planned=True)
    assert store.cancel_promotion()
    assert store.direction().is_following
    assert store.take_lead("me", 60) is not None


def test_a_finished_promotion_stays(store: SqlStore) -> None:
    """It can be neither cancelled nor begun again."""
    store.begin_promotion(WHO, URL, planned=True)
    as_of = store.now()
    done = store.finish_promotion(as_of)
    assert done.identical_as_of == as_of
    assert not store.cancel_promotion()
    with pytest.raises(ReplicaPromoted):
        store.begin_promotion(WHO, URL, planned=False)
    assert store.finish_promotion(None) == done


def test_nothing_is_finished_that_was_not_begun(store: SqlStore) -> None:
    """A store that follows goes on following."""
    assert store.finish_promotion(None).is_following


# ---- turning -----------------------------------------------------------------------------------


def turnable(store: SqlStore) -> tuple[int, Digests]:
    """A mirror with one chunk, and its digests of whole records on the former primary."""
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n", replica_id=COPY, count=2))
    store.save_mirror(mirror_of(OTHER, "t", "d", "m"))
    chunk = with_digests(
        chunk_of(["a", "b", "c"], mark=7),
        embedding=Digests.of([b"e" * 16, b"f" * 16, UNKNOWN_DIGEST]),
        payload=Digests.of([b"p" * 16, b"q" * 16, UNKNOWN_DIGEST]),
    )
    (chunk_id,) = store.save_chunks([chunk])
    store.save_chunks([chunk_of(["z"], collection=OTHER)])
    return chunk_id, whole_digests(chunk.applied.embedding, chunk.applied.payload)


def test_a_turn_exchanges_both_sides(store: SqlStore) -> None:
    """The ledger stays, and knows how the former primary returned each record."""
    chunk_id, whole = turnable(store)
    store.save_hold(Hold(COLLECTION, "n", HoldKind.DROP, 1, "r"))
    store.save_deployment(Deployment("", "http://old"))
    cycle = store.open_cycle()
    store.remember_ids(cycle.id, {COLLECTION: Side.PRIMARY, COPY: Side.REPLICA})
    promoted(store)
    assert store.turn(0, {COLLECTION}, whole_digests)
    (mirror,) = store.mirrors()
    assert (mirror.collection_id, mirror.replica_id, mirror.name) == (COPY, COLLECTION, "n")
    assert mirror.identical_as_of is None
    chunk = store.load_chunk(chunk_id)
    assert chunk is not None
    assert (chunk.head.collection_id, chunk.ids) == (COPY, ["a", "b", "c"])
    assert chunk.applied.replica == whole
    assert chunk.applied.replica.row(2) == UNKNOWN_DIGEST
    assert chunk.head.read_at is None
    assert (chunk.head.replica.suspect, chunk.head.replica.in_hand) == (True, False)
    assert store.chunk_heads(COLLECTION) == store.chunk_heads(OTHER) == []
    assert store.sides_of([COLLECTION, COPY]) == {COLLECTION: Side.REPLICA, COPY: Side.PRIMARY}
    assert store.holds() == []
    assert store.deployment().primary_url is None
    assert store.deployment().away_since is not None
    direction = store.direction()
    assert (direction.state, direction.turns) == (DirectionState.FOLLOWING, 1)
    assert store.take_lead("me", 60) is not None


def test_a_turn_happens_once(store: SqlStore) -> None:
    """Two processes with the new settings may begin at the same time."""
    turnable(store)
    promoted(store)
    assert store.turn(0, {COLLECTION}, whole_digests)
    before = store.mirrors()
    assert not store.turn(0, {COLLECTION}, whole_digests)
    assert store.mirrors() == before


@pytest.mark.parametrize("begun", [True, False])
def test_only_a_promoted_store_turns(store: SqlStore, begun: bool) -> None:
    """A store that follows, or is being promoted, keeps its direction."""
    turnable(store)
    if begun:
        store.begin_promotion(WHO, URL, planned=True)
    before = store.mirrors()
    assert not store.turn(0, {COLLECTION}, whole_digests)
    assert store.mirrors() == before


def test_a_collection_that_is_not_kept_is_forgotten(store: SqlStore) -> None:
    """Its ledger goes, so that both sides are compared anew."""
    turnable(store)
    promoted(store)
    assert store.turn(0, set(), whole_digests)
    assert store.mirrors() == []
    assert store.chunk_heads(COPY) == []


def test_restored_collections_are_remembered_until_a_turn(store: SqlStore) -> None:
    """The last source of each copy counts."""
    store.note_restored({"new": COPY, "other": "x"})
    store.note_restored({"new": "y"})
    assert store.restored() == {"new": "y", "other": "x"}
    store.forget_restored(["other", "unknown"])
    assert store.restored() == {"new": "y"}
    promoted(store)
    assert store.turn(0, set(), whole_digests)
    assert store.restored() == {}

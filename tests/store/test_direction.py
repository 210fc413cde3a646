"""The direction: nobody leads while a replica is promoted, and a turn loses nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from chromasync.errors import DamagedChunk, LeaseLost, ReplicaPromoted
from chromasync.ledger.digest import whole_digests
from chromasync.model import (
    UNKNOWN_DIGEST,
    AppliedDigests,
    CycleStatus,
    Deployment,
    Digests,
    Direction,
    DirectionState,
    Hold,
    HoldKind,
    Side,
)
from chromasync.store import SqlStore
from chromasync.store.schema import Later, Now, leases, quarantine
from chromasync.store.schema_ledger import chunk_ids, replica_chunks
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    chunk_of,
    claim_one,
    planned,
    result_for,
)
from tests.support.ledgers import mirror_of, with_digests

WHO, URL = "ann@here", "http://replica:8000"
COPY = "the-replica-s-own-id"


def begin(store: SqlStore, who: str = WHO, *, planned: bool) -> Direction:
    return store.begin_promotion(who, URL, planned=planned, lease_seconds=120)


def promoted(store: SqlStore, *, planned: bool = False) -> None:
    begin(store, planned=planned)
    store.finish_promotion(0, None)


def test_a_new_store_follows(store: SqlStore) -> None:
    """Nothing was promoted, and nothing was turned."""
    direction = store.direction()
    assert direction.is_following
    assert (direction.turns, direction.since_at, direction.writers_until) == (0, None, None)


def test_nobody_leads_from_the_beginning_of_a_promotion_on(store: SqlStore) -> None:
    """Neither a new process nor the one that led; a renewal fails, too."""
    term = store.take_lead("led", 60)
    assert term is not None
    begun = begin(store, planned=True)
    assert (begun.state, begun.by, begun.url) == (DirectionState.PROMOTING, WHO, URL)
    for holder in ("led", "another"):
        with pytest.raises(ReplicaPromoted, match="ann@here is promoting"):
            store.take_lead(holder, 60)
    with pytest.raises(LeaseLost):
        store.led_by(term).open_cycle()
    assert store.leader() is None
    store.give_up_lead(term)
    done = store.finish_promotion(0, None)
    assert done.state is DirectionState.PROMOTED
    with pytest.raises(ReplicaPromoted, match="was promoted by ann@here"):
        store.take_lead("another", 60)


def test_it_waits_for_the_lead_and_for_every_lease(store: SqlStore) -> None:
    """`writers_until` is the end of the last right to write that somebody may still use."""
    store.take_lead("elsewhere:1:1:led", 30)
    planned(store, 2)
    claim_one(store, lease_seconds=300)
    before = store.now()
    begun = begin(store, planned=False)
    assert begun.writers_until is not None
    assert timedelta(seconds=295) < begun.writers_until - before < timedelta(seconds=305)
    again = begin(store, "bob@there", planned=True)
    assert again.writers_until == begun.writers_until
    assert (again.by, again.planned) == ("bob@there", True)


def test_without_a_writer_there_is_nothing_to_wait_for(store: SqlStore) -> None:
    """A store that nobody uses promotes at once."""
    assert begin(store, planned=False).writers_until is None


def test_tasks_and_the_cycle_end(store: SqlStore) -> None:
    """Nothing is left to claim, and what a worker completes now is refused."""
    cycle = planned(store, 2)
    held = claim_one(store)
    result = result_for(store, held)
    begin(store, planned=False)
    assert store.claim_task("w", 60, 5) is None
    assert not store.complete_task(held, result)
    (ended,) = store.cycles(1)
    assert (ended.id, ended.status) == (cycle.id, CycleStatus.ABANDONED)


def test_a_promotion_that_was_begun_can_be_cancelled(store: SqlStore) -> None:
    """Then the replica follows again, and somebody may lead."""
    assert not store.cancel_promotion()
    begin(store, planned=True)
    assert store.cancel_promotion()
    assert store.direction().is_following
    assert store.direction().turns == 1
    assert store.take_lead("me", 60) is not None


def test_a_cancelled_promotion_finishes_no_later_one(store: SqlStore) -> None:
    """Whoever began the later one may still have to wait for processes that write."""
    first = begin(store, planned=True)
    assert store.cancel_promotion(first.turns)
    later = begin(store, planned=True)
    assert store.finish_promotion(first.turns, None).state is DirectionState.PROMOTING
    assert not store.cancel_promotion(first.turns)
    assert store.finish_promotion(later.turns, None).state is DirectionState.PROMOTED


def test_a_clock_that_went_back_keeps_nobody_waiting(store: SqlStore) -> None:
    """Rights to write that seem to end far away end at most one whole lease from now."""
    store.take_lead("elsewhere:1:1:led", 30)
    (chunk_id,) = store.save_chunks([chunk_of(["a"])])
    arrange(store, update(leases).values(expires_at=Later(90_000)))
    away = update(replica_chunks).values(suspect=True, distrusted_at=Later(90_000))
    arrange(store, away.where(replica_chunks.c.chunk_id == chunk_id))
    before = store.now()
    begun = begin(store, planned=False)
    assert begun.writers_until is not None
    assert begun.writers_until - before < timedelta(seconds=121)


def test_a_finished_promotion_stays(store: SqlStore) -> None:
    """It can be neither cancelled nor begun again."""
    begin(store, planned=True)
    as_of = store.now()
    done = store.finish_promotion(0, as_of)
    assert done.identical_as_of == as_of
    assert not store.cancel_promotion()
    with pytest.raises(ReplicaPromoted):
        begin(store, planned=False)
    assert store.finish_promotion(0, None) == done


def test_nothing_is_finished_that_was_not_begun(store: SqlStore) -> None:
    """A store that follows goes on following."""
    assert store.finish_promotion(0, None).is_following


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


@pytest.mark.parametrize("how", ["quarantined", "reduced", "damaged"])
def test_what_the_replica_never_took_whole_is_not_trusted(store: SqlStore, how: str) -> None:
    """The former primary may have the only copy, so its records count as nobody's."""
    chunk_id, _ = turnable(store)
    match how:
        case "quarantined":
            aside = quarantine.insert().values(
                collection_id=COLLECTION, record_id="b", reason="no", absent=False, since_at=Now()
            )
            arrange(store, aside)
        case "reduced":
            arrange(store, update(replica_chunks).values(reduced_count=1))
        case _:
            aside = quarantine.insert().values(
                collection_id=COLLECTION, record_id="x", reason="no", absent=True, since_at=Now()
            )
            arrange(store, aside)
            arrange(store, update(chunk_ids).values(ids=b"damaged"))
    promoted(store)
    assert store.turn(0, {COLLECTION}, whole_digests)
    assert store.quarantined() == []
    if how == "damaged":
        with pytest.raises(DamagedChunk):
            store.load_chunk(chunk_id)
        return
    chunk = store.load_chunk(chunk_id)
    assert chunk is not None
    unknown = Digests.unknown(3)
    assert chunk.applied == AppliedDigests(unknown, unknown, unknown)


def test_a_turn_happens_once(store: SqlStore) -> None:
    """Two processes with the new settings may begin at the same time."""
    turnable(store)
    promoted(store)
    moved = [m.with_primary(database="there", name="other") for m in store.mirrors()]
    assert store.turn(0, {COLLECTION}, whole_digests, moved)
    before = store.mirrors()
    assert [(m.collection_id, m.database, m.name) for m in before] == [(COPY, "there", "other")]
    assert not store.turn(0, {COLLECTION}, whole_digests, moved)
    assert store.mirrors() == before


@pytest.mark.parametrize("begun", [True, False])
def test_only_a_promoted_store_turns(store: SqlStore, begun: bool) -> None:
    """A store that follows, or is being promoted, keeps its direction."""
    turnable(store)
    if begun:
        begin(store, planned=True)
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

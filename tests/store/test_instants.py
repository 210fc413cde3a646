"""Clocks that jump: what cannot be true is forgotten, and waits end by themselves soon."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from chromasync.errors import LeaseLost
from chromasync.model import CycleStatus, Mirror, Removal, Suspicion, Term, WorkerStatus
from chromasync.plan.clock import Clock, is_ahead
from chromasync.store import SqlStore
from chromasync.store.schema import Later, cycles, quarantine, tasks, workers
from chromasync.store.schema_ledger import replica_chunks
from chromasync.store.schema_servers import deployment, removals
from tests.store.samples import (
    COLLECTION,
    arrange,
    beat_of,
    chunk_of,
    claim,
    claim_one,
    end_backoffs,
    loaded,
    look,
    planned,
    result_for,
    task_for,
    trusted,
)
from tests.support.ledgers import head_with, mirror_of

DAY = 86_400.0
LEASE = 60.0


def mirror(**instants: Any) -> Mirror:
    return mirror_of(COLLECTION, "t", "d", "books", **instants)


def from_now(store: SqlStore, seconds: float) -> datetime:
    return store.now() + timedelta(seconds=seconds)


def seconds_left(store: SqlStore, instant: Any) -> float:
    return float((instant - store.now()).total_seconds())


def distrusted_for(store: SqlStore) -> float:
    """For how many seconds from now somebody may still write to the one chunk."""
    ((instant,),) = look(store, select(replica_chunks.c.distrusted_at))
    return seconds_left(store, instant)


def ran(store: SqlStore) -> None:
    store.close_cycle(store.open_cycle().id, CycleStatus.COMPLETED, 0)


# ---- what is known ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_cycle_finds_what_the_pure_clock_says(store: SqlStore, seed: int) -> None:
    """Whoever may not write sees of chunks and mirrors just what the store keeps for a cycle."""
    dice = random.Random(seed)
    now = store.now()

    def some() -> datetime | None:
        return dice.choice([None, now + timedelta(seconds=dice.choice([-5000, -50, 50, 5000]))])

    row = mirror(walked_at=some(), replica_walked_at=some(), identical_as_of=some())
    store.save_mirror(row)
    made = [chunk_of([f"{n}"]) for n in range(12)]
    made = [
        replace(c, head=head_with(c.head, read_at=some(), checked_at=some(), read_cycle=cycle))
        for c, cycle in zip(made, [None, 3] * 6, strict=True)
    ]
    store.save_chunks(made)
    before = store.chunk_heads(COLLECTION)
    jumped = seed % 2 == 0
    clock = Clock(now, jumped=jumped)
    if jumped:
        store.forget_instants()
    store.open_cycle()
    assert store.chunk_heads(COLLECTION) == [clock.head(head) for head in before]
    assert store.mirror(COLLECTION) == clock.mirror(row)


SOURCES = ["chunks", "mirror", "cycle", "deployment"]


@pytest.mark.long
@pytest.mark.parametrize("source", SOURCES)
def test_any_instant_that_is_still_to_come_tells_of_the_jump(store: SqlStore, source: str) -> None:
    """Of a chunk, a walk, the last cycle or the last clean one; once the next is open, no more."""
    assert store.newest_instant() is None
    store.save_mirror(mirror(walked_at=from_now(store, -9)))
    store.save_chunks([chunk_of(["a"])])
    ran(store)
    assert not is_ahead(store.newest_instant(), store.now())
    ahead = {
        "chunks": update(replica_chunks).values(checked_at=Later(DAY)),
        "cycle": update(cycles).values(finished_at=Later(DAY)),
        "deployment": update(deployment).values(clean_at=Later(DAY)),
    }
    if source == "mirror":
        store.save_mirror(mirror(replica_walked_at=from_now(store, DAY)))
    else:
        arrange(store, ahead[source])
    assert is_ahead(store.newest_instant(), store.now())
    store.forget_instants()
    store.open_cycle()
    assert not is_ahead(store.newest_instant(), store.now())


def test_an_older_cycle_in_the_future_tells_nothing_any_more(store: SqlStore) -> None:
    """What it says was heeded by the cycle after it."""
    ran(store)
    arrange(store, update(cycles).values(started_at=Later(DAY), finished_at=Later(DAY)))
    ran(store)
    assert not is_ahead(store.newest_instant(), store.now())


def test_the_deployment_is_not_known_to_be_well_in_the_future(store: SqlStore) -> None:
    """When the primary was seen last is unknown; since when it was away is now at the latest."""
    ahead = {n: Later(DAY) for n in ("primary_seen_at", "away_since", "clean_at")}
    arrange(store, update(deployment).values(ahead))
    store.open_cycle()
    known = store.deployment()
    assert (known.primary_seen_at, known.clean_at) == (None, None)
    assert known.away_since is not None
    assert known.away_since <= store.now()


def test_what_was_removed_in_the_future_counts_for_a_day_from_now(store: SqlStore) -> None:
    """And not for a day from the instant that was never."""
    store.note_removal(1, Removal(COLLECTION, 5, whole=False))
    arrange(store, update(removals).values(removed_at=Later(10 * DAY)))
    store.open_cycle()
    ((removed_at,),) = look(store, select(removals.c.removed_at))
    assert removed_at <= store.now()
    assert store.removals_of_day() == [Removal(COLLECTION, 5, whole=False)]


def test_only_the_leader_forgets(store: SqlStore) -> None:
    """A leader that was succeeded makes nobody read everything again."""
    with pytest.raises(LeaseLost):
        store.led_by(Term("former", 9)).forget_instants()


# ---- what waits ---------------------------------------------------------------------------------


def called_back(store: SqlStore) -> None:
    """A task is claimed while the clock is a day ahead, and called back when it is right again."""
    store.save_mirror(mirror())
    planned(store, 1)
    claim_one(store, lease_seconds=LEASE)
    arrange(store, update(tasks).values(lease_expires_at=Later(DAY)))
    assert store.cancel_tasks("a new leader") == 1


def test_a_lease_from_the_future_is_waited_for_no_longer_than_it_is_long(store: SqlStore) -> None:
    """Its holder can write until then at most, whatever the clock was when it began."""
    called_back(store)
    assert 0 < distrusted_for(store) <= LEASE


def test_a_lease_that_is_right_is_waited_for_to_its_end(store: SqlStore) -> None:
    """It is not made longer either."""
    planned(store, 1)
    claim_one(store, lease_seconds=LEASE)
    arrange(store, update(tasks).values(lease_expires_at=Later(5)))
    store.cancel_tasks("a new leader")
    assert 0 < distrusted_for(store) <= 5


def test_a_suspicion_from_the_future_ends_a_lease_after_the_next_cycle_opened(
    store: SqlStore,
) -> None:
    """Cycles after that do not put its end off, and one that is right stays."""
    store.save_chunks([chunk_of(["a"])])
    store.distrust(COLLECTION)
    arrange(store, update(replica_chunks).values(distrusted_at=Later(DAY)))
    store.open_cycle(LEASE)
    cut = look(store, select(replica_chunks.c.distrusted_at))
    assert 0 < distrusted_for(store) <= LEASE
    arrange(store, update(replica_chunks).values(distrusted_at=Later(20)))
    store.open_cycle(LEASE)
    assert distrusted_for(store) <= 20
    assert cut


def test_a_chunk_is_trusted_again_after_the_lease(store: SqlStore) -> None:
    """A comparison that began after the suspicion's end is believed, one before it is not."""
    called_back(store)
    for seconds, suspect in ((30, True), (-1, False)):
        arrange(store, update(replica_chunks).values(distrusted_at=Later(seconds)))
        cycle = store.open_cycle(LEASE)
        (head,) = store.chunk_heads(COLLECTION)
        store.add_tasks(cycle.id, [task_for(head.id)])
        end_backoffs(store)
        task = claim_one(store)
        assert store.complete_task(task, trusted(result_for(store, task)))
        assert loaded(store, head.id).head.replica.suspect is suspect


def test_what_waits_is_told_with_its_end(store: SqlStore) -> None:
    """How many chunks are suspect, and until when they may be written to, where that is to come."""
    assert store.suspicions() == {}
    store.save_chunks([chunk_of(["a"]), chunk_of(["b"]), chunk_of(["c"])])
    first, second, _ = (head.id for head in store.chunk_heads(COLLECTION))
    store.distrust(COLLECTION, [first, second])
    assert store.suspicions() == {COLLECTION: Suspicion(2, None)}
    one = update(replica_chunks).where(replica_chunks.c.chunk_id == first)
    arrange(store, one.values(distrusted_at=Later(30)))
    told = store.suspicions()[COLLECTION]
    assert told.chunks == 2
    assert told.until_at is not None
    assert 0 < seconds_left(store, told.until_at) <= 30


def test_a_task_is_not_kept_from_workers_by_a_clock_that_went_back(store: SqlStore) -> None:
    """No wait is longer than the longest backoff; one that seems to be can be had at once."""
    planned(store, 3)
    by_id = sorted(row[0] for row in look(store, select(tasks.c.id)))
    for task_id, seconds in zip(by_id, (DAY, 200, -1), strict=True):
        arrange(
            store, update(tasks).where(tasks.c.id == task_id).values(available_at=Later(seconds))
        )
    assert [task.id for task in claim(store, 3)] == [by_id[0], by_id[2]]


# ---- workers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "alive"), [(DAY, False), (90, False), (-90, False), (5, True)])
def test_a_proof_of_life_from_the_future_proves_nothing(
    store: SqlStore, seconds: float, alive: bool
) -> None:
    """Nobody is shown as active for it, though no other process is there to say so."""
    store.beat(beat_of("w"))
    arrange(store, update(workers).values(last_heartbeat=Later(seconds)))
    (worker,) = store.workers()
    assert (worker.status is WorkerStatus.ACTIVE) is alive
    assert store.active_workers() == alive


def test_rescue_cuts_proofs_of_life_from_the_future(store: SqlStore) -> None:
    """A worker that lives is not taken for dead by it; one that does not is, a minute later."""
    store.beat(beat_of("w"))
    arrange(store, update(workers).values(last_heartbeat=Later(DAY)))
    store.rescue_tasks()
    (worker,) = store.workers()
    assert worker.status is WorkerStatus.ACTIVE
    assert worker.last_heartbeat_at is not None
    assert worker.last_heartbeat_at <= store.now()
    arrange(store, update(workers).values(last_heartbeat=Later(-61)))
    store.rescue_tasks()
    assert look(store, select(workers.c.worker_status)) == [(WorkerStatus.DEAD,)]


def test_instants_of_the_database_can_be_saved_and_compared(store: SqlStore) -> None:
    """The database's now is an aware UTC datetime that survives a round trip unchanged."""
    now = store.now()
    assert now.tzinfo is UTC
    assert abs(now - datetime.now(UTC)) < timedelta(minutes=10)
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n", walked_at=now))
    assert store.mirrors()[0].primary.walked_at == now
    assert store.now() >= now


def test_later_counts_in_seconds(store: SqlStore) -> None:
    """A minute from now is sixty seconds ahead."""
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n"))
    arrange(store, update(quarantine).values(since_at=Later(60)))
    planned(store, 1)
    before = store.now()
    task = claim_one(store, lease_seconds=60)
    assert before <= task.claimed_at <= store.now()

"""Expired leases: who is rescued and charged, and which chunks are suspect until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest
from sqlalchemy import select, update

from chromasync.ledger.plan import without_ids
from chromasync.model import (
    MAX_RETRIES,
    Task,
    TaskCounts,
)
from chromasync.store import SqlStore
from chromasync.store.schema import Later, tasks
from chromasync.store.schema_ledger import replica_chunks
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    chunk_of,
    claim,
    claim_one,
    end_backoffs,
    expire,
    loaded,
    look,
    planned,
    result_for,
    row_of,
    stored,
    task_for,
    trusted,
)


def test_only_expired_leases_are_rescued(store: SqlStore) -> None:
    """A live lease is left alone; rescued chunks are suspect, others are not."""
    planned(store, 3)
    late, live = claim(store, 2)
    expire(store, late)
    assert store.rescue_tasks() == 1
    assert store.renew_tasks([late, live], 60) == {live.id}
    assert loaded(store, late.chunk_id).head.replica.suspect
    assert not loaded(store, live.chunk_id).head.replica.suspect
    assert store.rescue_tasks() == 0


def test_an_expired_task_is_charged_to_its_chunk_not_its_worker(store: SqlStore) -> None:
    """A claimed task was being worked on; free at once, having waited, it says who had it."""
    planned(store, 2)
    first, second = claim(store, 2)
    expire(store, first)
    assert store.rescue_tasks() == 1
    assert row_of(store, first, "retry_count", "error_message", "claim_number") == (
        1,
        "the lease expired while held by w",
        None,
    )
    assert row_of(store, second, "retry_count", "error_message") == (0, None)
    again = claim_one(store)
    assert again.id == first.id
    expire(store, again)
    assert store.rescue_tasks() == 1
    assert claim(store, 1) == [], "the second time it waits"
    end_backoffs(store)
    assert claim_one(store).id == first.id


def test_a_task_that_keeps_killing_workers_fails(store: SqlStore) -> None:
    """It is tried MAX_RETRIES + 1 times, then it is failed with a reason."""
    cycle = planned(store, 1)
    for attempt in range(MAX_RETRIES + 1):
        task = claim_one(store, f"w{attempt}")
        expire(store, task)
        assert store.rescue_tasks() == 1
        end_backoffs(store)
    assert store.task_counts(cycle.id) == TaskCounts(failed=1)
    reason = f"the lease expired while held by w{MAX_RETRIES}"
    assert store.failed_tasks(cycle.id) == {COLLECTION: reason}


def test_a_lease_that_reaches_too_far_ahead_is_expired(store: SqlStore) -> None:
    """When the database's clock stepped back, a dead worker's lease would else last for ages."""
    planned(store, 2)
    far, near = claim(store, 2)
    arrange(
        store,
        update(tasks).where(tasks.c.id == far.id).values(lease_expires_at=Later(3600)),
    )
    assert store.rescue_tasks() == 1
    assert store.renew_tasks([far, near], 60) == {near.id}


def distrusted_at(store: SqlStore, task: Task) -> datetime | None:
    ((instant,),) = look(
        store,
        select(replica_chunks.c.distrusted_at).where(replica_chunks.c.chunk_id == task.chunk_id),
    )
    assert instant is None or isinstance(instant, datetime)
    return instant


def complete_trusted(store: SqlStore, task: Task) -> bool:
    """Complete a task that compared all records; returns whether the chunk is still suspect."""
    assert store.complete_task(task, trusted(result_for(store, task)))
    return loaded(store, task.chunk_id).head.replica.suspect


def test_a_chunk_distrusted_before_its_task_was_claimed_is_cleared(store: SqlStore) -> None:
    """Whoever compared every record after the last foreign write knows what is there."""
    planned(store, 1)
    store.distrust(COLLECTION)
    arrange(store, update(replica_chunks).values(distrusted_at=Later(-1)))
    task = claim_one(store)
    assert not complete_trusted(store, task)
    assert distrusted_at(store, task) is None


def test_a_chunk_distrusted_while_it_is_reconciled_stays_suspect(store: SqlStore) -> None:
    """What was seen may have been overwritten since; the next cycle compares again."""
    cycle = planned(store, 1)
    task = claim_one(store)
    store.distrust(COLLECTION, [task.chunk_id])
    assert complete_trusted(store, task)
    assert distrusted_at(store, task) is not None
    store.add_tasks(cycle.id, [task_for(task.chunk_id)])
    arrange(store, update(replica_chunks).values(distrusted_at=Later(-1)))
    assert not complete_trusted(store, claim_one(store))


def test_only_a_cut_off_worker_leaves_a_chunk_in_hand(store: SqlStore) -> None:
    """Doubt that came up during a reconcile stays, but makes nothing ours that others wrote."""
    planned(store, 2)
    doubted, cut_off = claim(store, 2)
    store.distrust(COLLECTION, [doubted.chunk_id])
    store.distrust(COLLECTION, [cut_off.chunk_id], in_hand=True)
    assert complete_trusted(store, doubted)
    assert complete_trusted(store, cut_off)
    assert [head.replica.in_hand for head in store.chunk_heads(COLLECTION)] == [False, True]


def test_a_result_settles_that_a_chunk_was_in_hand(store: SqlStore) -> None:
    """A reconcile that began after the cut has seen what that worker left."""
    planned(store, 1)
    (head,) = store.chunk_heads(COLLECTION)
    store.distrust(COLLECTION, [head.id], in_hand=True)
    arrange(store, update(replica_chunks).values(distrusted_at=Later(-1)))
    task = claim_one(store)
    result = trusted(result_for(store, task))
    chunk = replace(result.chunk, head=result.chunk.head.with_replica(in_hand=False))
    assert store.complete_task(task, replace(result, chunk=chunk))
    assert not loaded(store, task.chunk_id).head.replica.in_hand


def test_a_result_that_is_suspect_itself_keeps_the_mark(store: SqlStore) -> None:
    """A reconcile that did not compare everything does not settle an old distrust."""
    planned(store, 1)
    store.distrust(COLLECTION)
    arrange(store, update(replica_chunks).values(distrusted_at=Later(-1)))
    task = claim_one(store)
    assert store.complete_task(task, result_for(store, task))
    assert loaded(store, task.chunk_id).head.replica.suspect
    assert distrusted_at(store, task) is not None


def test_a_rescued_chunk_is_distrusted_until_now(store: SqlStore) -> None:
    """Its former holder's lease is over, so the next attempt may trust what it sees."""
    planned(store, 1)
    task = claim_one(store)
    expire(store, task)
    before = store.now()
    store.rescue_tasks()
    since = distrusted_at(store, task)
    assert since is not None
    assert before <= since <= store.now()


def test_a_cancelled_holder_is_distrusted_until_its_lease_ends(store: SqlStore) -> None:
    """It may go on writing until then: an attempt that begins before does not clear the mark."""
    cycle = planned(store, 2)
    held = claim_one(store, lease_seconds=500)
    (expires_at,) = row_of(store, held, "lease_expires_at")
    store.cancel_tasks("a new leader")
    assert distrusted_at(store, held) == expires_at
    store.distrust(COLLECTION)
    assert distrusted_at(store, held) == expires_at, "an earlier instant never replaces a later one"
    store.add_tasks(cycle.id, [task_for(held.chunk_id)])
    assert complete_trusted(store, claim_one(store))


def test_a_lease_that_ended_unnoticed_is_distrusted_until_it_is_cancelled(store: SqlStore) -> None:
    """Nobody can say that the holder stopped exactly when its lease did."""
    planned(store, 1)
    held = claim_one(store)
    expire(store, held)
    before = store.now()
    store.cancel_tasks("a new leader")
    since = distrusted_at(store, held)
    assert since is not None
    assert since >= before


def called_back(store: SqlStore) -> Task:
    """The task of a chunk a, b, c that was called back from a worker that may write for a while."""
    planned(store, 1)
    held = claim_one(store, lease_seconds=500)
    store.cancel_tasks("a new leader")
    return held


@pytest.mark.parametrize("leaves", [["0-a"], ["0-a", "0-b", "0-c"]], ids=["one", "all"])
@pytest.mark.parametrize("known", [True, False], ids=["chunk as it was", "new chunk"])
def test_a_record_that_changes_chunk_takes_the_doubt_along(
    store: SqlStore, leaves: list[str], known: bool
) -> None:
    """Whoever may still write it makes its new chunk suspect too, until his lease has ended."""
    (other,) = stored(store, chunk_of(["x"]))
    held = called_back(store)
    until = distrusted_at(store, held)
    source = without_ids(loaded(store, held.chunk_id), set(leaves))
    target = chunk_of(["x", *leaves], chunk_id=other.head.id) if known else chunk_of(leaves)
    target_id = next(iter(store.save_chunks([target, source])), other.head.id)
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [task_for(target_id)])
    task = claim_one(store)
    assert distrusted_at(store, task) == until
    assert complete_trusted(store, task)


def test_a_record_that_comes_back_later_is_doubted_as_well(store: SqlStore) -> None:
    """It was gone from the ledger in between: the new chunk does not know where it comes from."""
    held = called_back(store)
    store.save_chunks([without_ids(loaded(store, held.chunk_id), {"0-a"})])
    (again,) = stored(store, chunk_of(["0-a"]))
    (elsewhere,) = stored(store, chunk_of(["y"], collection=OTHER))
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [task_for(again.head.id), task_for(elsewhere.head.id, OTHER)])
    doubted, sure = claim(store, 2)
    assert complete_trusted(store, doubted)
    assert not complete_trusted(store, sure)


def test_a_chunk_is_not_doubted_for_what_is_over(store: SqlStore) -> None:
    """Nobody writes any more: what is stored then is as sure as if nothing had been."""
    held = called_back(store)
    arrange(store, update(replica_chunks).values(distrusted_at=Later(-1)))
    (fresh,) = stored(store, chunk_of(["x"]))
    assert not fresh.head.replica.suspect
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [task_for(fresh.head.id)])
    assert distrusted_at(store, claim_one(store)) is None
    assert loaded(store, held.chunk_id).head.replica.suspect


def test_a_distrust_between_loading_and_saving_goes_along(store: SqlStore) -> None:
    """The planner took the record from a chunk that it thought was sure."""
    (source,) = stored(store, chunk_of(["a", "b"]))
    store.distrust(COLLECTION, [source.head.id])
    arrange(store, update(replica_chunks).values(distrusted_at=Later(-1)))
    (new,) = store.save_chunks([chunk_of(["a"]), without_ids(source, {"a"})])
    assert loaded(store, new).head.replica.suspect

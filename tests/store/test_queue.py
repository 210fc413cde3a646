"""Tasks: adding, claiming, completing, failing, releasing, renewing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from chromasync.model import (
    ChunkResult,
    CycleStatus,
    DeletionKind,
    NewTask,
    OpCounts,
    TaskCounts,
    WorkerStatus,
)
from chromasync.store import SqlStore, claim_floor, retry_charges
from chromasync.store.schema import Later, tasks, workers
from tests.store.conftest import Opener
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    beat_of,
    chunk_of,
    claim,
    claim_one,
    digests,
    end_backoffs,
    expire,
    loaded,
    look,
    plan_into,
    planned,
    result_for,
    row_of,
    stored,
    task_for,
)
from tests.support.ledgers import with_digests


def test_a_claimed_task_says_all_that_its_worker_needs(store: SqlStore) -> None:
    """Chunk, collection, whether to look at the replica, and the fence of this attempt."""
    cycle = store.open_cycle()
    (chunk_id,) = store.save_chunks([chunk_of(["a"])])
    new = NewTask(COLLECTION, "books", chunk_id, 5, 6, check_replica=True)
    assert store.add_tasks(cycle.id, [new]) == 1
    before = store.now()
    task = claim_one(store)
    (fence,) = row_of(store, task, "fence")
    expected = (COLLECTION, "books", chunk_id, True, 0, fence)
    assert expected == (
        task.collection_id,
        task.collection_name,
        task.chunk_id,
        task.check_replica,
        task.retry_count,
        task.fence,
    )
    assert before <= task.claimed_at <= store.now()


def test_a_chunk_has_at_most_one_live_task(store: SqlStore) -> None:
    """Planning the same chunk twice adds nothing until its task is finished."""
    cycle = planned(store, 2)
    chunk_ids = [head.id for head in store.chunk_heads(COLLECTION)]
    again = [task_for(chunk_id) for chunk_id in chunk_ids]
    assert store.add_tasks(cycle.id, again) == 0
    task = claim_one(store)
    assert store.add_tasks(cycle.id, again) == 0
    store.complete_task(task, result_for(store, task))
    assert store.add_tasks(cycle.id, again) == 1
    assert store.add_tasks(cycle.id, []) == 0


def test_tasks_are_claimed_oldest_first_and_once(opener: Opener) -> None:
    """Two workers never get the same task, and none is skipped."""
    one, two = opener(), opener()
    planned(one, 7)
    claimed = claim(one, 3, "one") + claim(two, 10, "two")
    assert [task.id for task in claimed] == sorted({task.id for task in claimed})
    assert len(claimed) == 7
    assert claim(one, 3, "one") == []


def test_a_task_that_another_process_gave_back_is_found(opener: Opener) -> None:
    """Claims begin behind the last one, but look at everything before they find nothing."""
    one, two = opener(), opener()
    cycle = planned(one, 4)
    (given_back,) = claim(two, 1, "two")
    assert len(claim(one, 2, "one")) == 2
    two.release_tasks([given_back])
    assert [task.id for task in claim(one, 9, "one")][-1] == given_back.id
    plan_into(two, cycle, 1, collection=OTHER)
    assert claim_one(one).collection_id == OTHER
    two.cancel_tasks("no")
    assert claim(one, 1) == []


def test_idle_claims_begin_where_new_tasks_would_be() -> None:
    """What was looked at in vain is not looked at again for a while, unless a task returns."""
    where = claim_floor.ClaimFloor()
    assert list(where.tries()) == [0]
    where.found(7)
    assert list(where.tries()) == [7, 0]
    where.found_nothing(9)
    assert list(where.tries()) == [9]
    where.look_again(3600)
    assert list(where.tries()) == [9]
    where.look_again()
    assert list(where.tries()) == [0]
    assert list(where.tries()) == [9]


def test_a_completion_records_task_chunk_and_deletion_together(store: SqlStore) -> None:
    """After it, the ledger knows the new digests and the queue knows who did it, when and what."""
    cycle = planned(store, 1)
    task = claim_one(store, "worker-1")
    counts = OpCounts(10, 2, 3, 4, 5, 6, 7)
    result = result_for(store, task, mark=8, gone=["0-b"], counts=counts)
    head = replace(result.chunk.head, read_at=task.claimed_at, read_seconds=0.5, recheck=True)
    result = replace(result, chunk=replace(result.chunk, head=head))
    assert store.complete_task(task, result)
    chunk = loaded(store, task.chunk_id)
    assert chunk.applied.payload == chunk.applied.embedding == digests(3, 8)
    assert chunk.head == head.with_replica(gone_count=1)
    (deletion,) = store.deletions(COLLECTION)
    assert (deletion.kind, deletion.ids) == (DeletionKind.GONE, ["0-b"])
    assert store.cycle_counts(cycle.id) == {COLLECTION: counts}
    assert store.task_counts(cycle.id) == TaskCounts(completed=1)
    assert row_of(store, task, "worker_id", "error_message") == ("worker-1", None)


def test_the_next_completion_replaces_the_chunks_deletion(store: SqlStore) -> None:
    """What is gone is what the latest read of the primary says, no more and no less."""
    cycle = planned(store, 1)
    (head,) = store.chunk_heads(COLLECTION)
    for gone in (["0-a", "0-b"], ["0-b"], []):
        task = claim_one(store)
        store.complete_task(task, result_for(store, task, gone=gone))
        assert [deletion.ids for deletion in store.deletions(COLLECTION)] == [gone] * bool(gone)
        assert loaded(store, head.id).head.replica.gone_count == len(gone)
        store.add_tasks(cycle.id, [task_for(head.id)])


def test_a_completion_records_what_others_wrote(store: SqlStore) -> None:
    """Foreign records are named beside the gone ones, until the next result of their chunk."""
    cycle = planned(store, 1)
    task = claim_one(store)
    result = replace(result_for(store, task, gone=["0-b"]), foreign=["0-a", "0-c"])
    assert store.complete_task(task, result)
    found = [(d.kind, d.chunk_id, d.ids) for d in store.deletions(COLLECTION)]
    assert found == [
        (DeletionKind.GONE, task.chunk_id, ["0-b"]),
        (DeletionKind.FOREIGN, task.chunk_id, ["0-a", "0-c"]),
    ]
    assert loaded(store, task.chunk_id).head.replica.gone_count == 1
    store.add_tasks(cycle.id, [task_for(task.chunk_id)])
    assert store.complete_task(claim_one(store), result_for(store, task))
    assert store.deletions(COLLECTION) == []


def test_a_completion_records_what_the_replica_returned(store: SqlStore) -> None:
    """Digests of the replica's side are stored, also where nothing else in the chunk changed."""
    cycle = planned(store, 1)
    for mark in (7, 8):
        task = claim_one(store)
        result = result_for(store, task, mark=1)
        chunk = with_digests(result.chunk, replica=digests(3, mark))
        assert store.complete_task(task, replace(result, chunk=chunk))
        assert loaded(store, task.chunk_id).applied.replica == digests(3, mark)
        store.add_tasks(cycle.id, [task_for(task.chunk_id)])


def test_a_task_says_that_it_holds_what_is_foreign(store: SqlStore) -> None:
    """The plan's word, and the number of its cycle, reach the worker."""
    cycle = store.open_cycle()
    chunk_ids = store.save_chunks([chunk_of(["a"]), chunk_of(["b"])])
    new = [replace(task_for(i), hold_foreign=i == chunk_ids[1]) for i in chunk_ids]
    store.add_tasks(cycle.id, new)
    tasks = claim(store, 2)
    assert [task.hold_foreign for task in tasks] == [False, True]
    assert {task.cycle_id for task in tasks} == {cycle.id}


def test_a_completion_may_change_the_chunks_ids(store: SqlStore) -> None:
    """Ids and digests that the result carries are what the ledger holds afterwards."""
    planned(store, 1)
    task = claim_one(store)
    smaller = chunk_of(["0-c", "0-a"], chunk_id=task.chunk_id, mark=3)
    assert store.complete_task(task, ChunkResult(smaller, [], [], OpCounts()))
    assert store.load_chunk(task.chunk_id) == smaller


def test_a_completion_that_leaves_no_records_removes_the_chunk(store: SqlStore) -> None:
    """An empty chunk is not kept."""
    planned(store, 1)
    task = claim_one(store)
    empty = chunk_of([], chunk_id=task.chunk_id)
    assert store.complete_task(task, ChunkResult(empty, [], [], OpCounts()))
    assert store.chunk_heads(COLLECTION) == []


def test_a_repeated_completion_is_accepted_and_writes_nothing(store: SqlStore) -> None:
    """When the answer to a commit was lost, the repeat must not undo what happened since."""
    planned(store, 1)
    task = claim_one(store)
    result = result_for(store, task, mark=1, gone=["0-a"])
    assert store.complete_task(task, result)
    later = with_digests(result.chunk, embedding=digests(3, 9))
    store.save_chunks([later])
    store.finish_deletion(store.deletions(COLLECTION)[0], ["0-a"])
    before = store.load_chunk(task.chunk_id)
    assert store.complete_task(task, result)
    assert store.load_chunk(task.chunk_id) == before
    assert store.deletions(COLLECTION) == []


def test_a_result_for_another_chunk_is_refused(store: SqlStore) -> None:
    """A mix-up in the caller cannot corrupt the ledger."""
    planned(store, 2)
    one, two = claim(store, 2)
    with pytest.raises(ValueError, match="another chunk"):
        store.complete_task(one, result_for(store, two))


def test_a_task_is_completed_even_if_its_chunk_was_removed(store: SqlStore) -> None:
    """The queue goes on; nothing is recorded about a chunk the ledger does not have."""
    cycle = planned(store, 1)
    task = claim_one(store)
    result = result_for(store, task, gone=["0-a"])
    store.save_chunks([chunk_of([], chunk_id=task.chunk_id)])
    assert store.complete_task(task, result)
    assert store.task_counts(cycle.id) == TaskCounts(completed=1)
    assert store.deletions(COLLECTION) == []
    assert store.chunk_heads(COLLECTION) == []


def test_whoever_lost_a_task_writes_nothing(store: SqlStore) -> None:
    """A late completion, failure, release or renewal by the former holder changes no row."""
    cycle = planned(store, 1)
    former = claim_one(store, "frozen")
    late = result_for(store, former, mark=66, gone=["0-a"])
    expire(store, former)
    assert store.rescue_tasks() == 1

    def nothing_happens() -> None:
        before = look(store, select(tasks)), store.load_chunk(former.chunk_id)
        assert not store.complete_task(former, late)
        assert not store.fail_task(former, "late")
        store.release_tasks([former])
        assert store.renew_tasks([former], 60) == set()
        assert before == (look(store, select(tasks)), store.load_chunk(former.chunk_id))
        assert store.deletions(COLLECTION) == []

    nothing_happens()
    end_backoffs(store)
    owner = claim_one(store, "owner")
    assert owner.fence > former.fence
    nothing_happens()
    assert store.complete_task(owner, result_for(store, owner))
    nothing_happens()
    assert store.task_counts(cycle.id) == TaskCounts(completed=1)


def test_an_overdue_task_can_be_completed_until_someone_rescues_it(store: SqlStore) -> None:
    """The fence decides, not the clock: work that nobody took over is not thrown away."""
    planned(store, 1)
    task = claim_one(store)
    expire(store, task)
    assert store.renew_tasks([task], 60) == {task.id}
    expire(store, task)
    assert store.complete_task(task, result_for(store, task))


def test_failures_wait_longer_each_time_and_end(store: SqlStore) -> None:
    """1, 2, 4 … seconds between attempts; after more than MAX_RETRIES the task has failed."""
    cycle = planned(store, 1)
    for retry, backoff in enumerate([1, 2, 4, 8, 16]):
        task = claim_one(store)
        assert task.retry_count == retry
        before = store.now()
        assert store.fail_task(task, f"error {retry}")
        available_at, error = row_of(store, task, "available_at", "error_message")
        waits = available_at - before  # type: ignore[operator]
        assert timedelta(seconds=backoff) <= waits < timedelta(seconds=backoff + 0.9)
        assert error == f"error {retry}"
        assert claim(store, 1) == []
        end_backoffs(store)
    task = claim_one(store)
    assert store.fail_task(task, "last")
    assert store.task_counts(cycle.id) == TaskCounts(failed=1)
    assert store.failed_tasks(cycle.id) == {COLLECTION: "last"}
    end_backoffs(store)
    assert claim(store, 1) == []


def test_no_failure_waits_longer_than_five_minutes(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait is capped however often a task failed."""
    planned(store, 1)
    arrange(store, update(tasks).values(retry_count=2000))
    task = claim_one(store)
    before = store.now()
    monkeypatch.setattr(retry_charges, "MAX_RETRIES", 9999)
    store.fail_task(task, "again")
    (available_at,) = row_of(store, task, "available_at")
    assert available_at - before < timedelta(seconds=301)  # type: ignore[operator]


def test_a_failure_is_reported_once(store: SqlStore) -> None:
    """A repeat of a failure must not charge a second retry, nor can a completed task fail."""
    planned(store, 2)
    failed, done = claim(store, 2)
    assert store.fail_task(failed, "x")
    assert store.fail_task(failed, "x")
    assert row_of(store, failed, "retry_count") == (1,)
    store.complete_task(done, result_for(store, done))
    assert not store.fail_task(done, "x")
    assert row_of(store, done, "task_status", "retry_count") == ("completed", 0)


def test_completing_a_retried_task_clears_its_error(store: SqlStore) -> None:
    """A completed task shows no error of an earlier attempt."""
    planned(store, 1)
    store.fail_task(claim_one(store), "temporary")
    end_backoffs(store)
    task = claim_one(store)
    assert store.complete_task(task, result_for(store, task))
    assert row_of(store, task, "error_message", "retry_count") == (None, 1)


def test_released_tasks_are_free_at_once_and_not_charged(store: SqlStore) -> None:
    """A worker that stops gives back what it has not begun."""
    planned(store, 2)
    held = claim(store, 2)
    store.release_tasks(held)
    again = claim(store, 2, "other")
    assert [task.id for task in again] == [task.id for task in held]
    assert [task.retry_count for task in again] == [0, 0]
    store.complete_task(again[0], result_for(store, again[0]))
    store.release_tasks(again)
    assert row_of(store, again[0], "task_status") == ("completed",)


def test_renewing_tells_which_tasks_are_still_held(store: SqlStore) -> None:
    """Completed and rescued tasks are no longer held; the others get a new lease."""
    planned(store, 3)
    kept, done, lost = claim(store, 3, "w", 5)
    store.complete_task(done, result_for(store, done))
    expire(store, lost)
    store.rescue_tasks()
    before = store.now()
    assert store.renew_tasks([kept, done, lost], 500) == {kept.id}
    (expires_at,) = row_of(store, kept, "lease_expires_at")
    assert expires_at >= before + timedelta(seconds=499)  # type: ignore[operator]
    assert store.renew_tasks([], 500) == set()


def test_a_claim_whose_answer_was_lost_is_repeated_by_its_number(store: SqlStore) -> None:
    """The same number gives the same attempt again, with a lease that counts from now."""
    planned(store, 2)
    first = store.claim_task("w", 60, 7)
    assert first is not None
    before = store.now()
    assert store.claim_task("w", 500, 7) == first
    (expires_at,) = row_of(store, first, "lease_expires_at")
    assert expires_at >= before + timedelta(seconds=499)  # type: ignore[operator]
    other = store.claim_task("w", 60, 8)
    assert other is not None
    assert other.id > first.id
    assert store.claim_task("w", 60, 7) == first


@pytest.mark.parametrize("end", ["complete", "fail", "release", "rescue", "cancel"])
def test_a_claim_that_no_longer_holds_is_not_repeated(store: SqlStore, end: str) -> None:
    """When its task was finished or taken away meanwhile, the number claims another."""
    cycle = planned(store, 1)
    task = store.claim_task("w", 60, 7)
    assert task is not None
    if end == "complete":
        store.complete_task(task, result_for(store, task))
    elif end == "fail":
        store.fail_task(task, "x")
    elif end == "release":
        store.release_tasks([task])
        assert claim_one(store, "other").id == task.id
    elif end == "rescue":
        expire(store, task)
        store.rescue_tasks()
        assert claim_one(store, "other").id == task.id
    else:
        store.cancel_tasks("x")
    plan_into(store, cycle, 1, collection=OTHER)
    again = store.claim_task("w", 60, 7)
    assert again is not None
    assert again.collection_id == OTHER


def test_a_number_of_another_worker_is_not_our_claim(store: SqlStore) -> None:
    """Two workers that draw the same number do not share a task."""
    planned(store, 2)
    one, two = store.claim_task("one", 60, 7), store.claim_task("two", 60, 7)
    assert one is not None
    assert two is not None
    assert one.id != two.id


def test_cancelling_fails_every_live_task(store: SqlStore) -> None:
    """Pending and held tasks fail with the reason; finished ones and their chunks stay."""
    cycle = planned(store, 3)
    done, held = claim(store, 2)
    store.complete_task(done, result_for(store, done))
    result = result_for(store, held)
    assert store.cancel_tasks("stopped") == 2
    assert store.task_counts(cycle.id) == TaskCounts(completed=1, failed=2)
    assert store.failed_tasks(cycle.id) == {COLLECTION: "stopped"}
    assert not store.complete_task(held, result)
    suspects = {head.id for head in store.chunk_heads(COLLECTION) if head.replica.suspect}
    assert suspects == {held.chunk_id}
    assert store.cancel_tasks("again") == 0


def test_failed_tasks_give_each_collections_first_error(store: SqlStore) -> None:
    """One error per collection, the one that came first, and only of the cycle asked for."""
    cycle = planned(store, 2)
    plan_into(store, cycle, 1, collection=OTHER)
    first, second, other = claim(store, 3)
    for task, error in ((second, "came first"), (first, "came second"), (other, "other")):
        store.fail_task(task, error, final=True)
    earlier = update(tasks).where(tasks.c.id == second.id).values(completed_at=Later(-1))
    arrange(store, earlier)
    assert store.failed_tasks(cycle.id) == {COLLECTION: "came first", OTHER: "other"}
    store.close_cycle(cycle.id, CycleStatus.FAILED, 0)
    assert store.failed_tasks(store.open_cycle().id) == {}


def test_long_errors_are_cut(store: SqlStore) -> None:
    """A server's page of HTML does not fill the table."""
    cycle = planned(store, 1)
    store.fail_task(claim_one(store), "x" * 100_000, final=True)
    assert store.failed_tasks(cycle.id) == {COLLECTION: "x" * 4000}


def test_a_beat_is_the_databases_time_and_replaces_the_one_before(store: SqlStore) -> None:
    """One row per worker, the latest first, at the database's own time."""
    before = store.now()
    store.beat(beat_of("one", at=5, memory_mb=1))
    store.beat(beat_of("two"))
    store.beat(replace(beat_of("one", at=6, memory_mb=2), last_heartbeat_at=None))
    arrange(
        store,
        update(workers).where(workers.c.worker_id == "two").values(last_heartbeat=Later(-5)),
    )
    one, two = store.workers()
    assert (one.worker_id, one.current_task_id, one.memory_mb) == ("one", 6, 2.0)
    assert one.last_heartbeat_at is not None
    assert before <= one.last_heartbeat_at <= store.now()
    assert two.worker_id == "two"


def test_silent_workers_are_shown_as_dead_until_they_beat_again(store: SqlStore) -> None:
    """The table of workers shows no killed worker as active for ever; stopped ones stay stopped."""
    store.beat(beat_of("silent"))
    store.beat(beat_of("stopped", status=WorkerStatus.STOPPED))
    arrange(store, update(workers).values(last_heartbeat=Later(-61)))
    store.beat(beat_of("alive"))
    store.rescue_tasks()
    states = dict(look(store, select(workers.c.worker_id, workers.c.worker_status)))
    assert states == {
        "silent": WorkerStatus.DEAD,
        "stopped": WorkerStatus.STOPPED,
        "alive": WorkerStatus.ACTIVE,
    }
    store.beat(beat_of("silent"))
    assert store.workers()[0].status is WorkerStatus.ACTIVE


def test_counts_of_a_cycle_without_tasks_are_zero(store: SqlStore) -> None:
    """Nothing planned is nothing, not an error."""
    cycle = store.open_cycle()
    assert store.task_counts(cycle.id) == TaskCounts()
    assert store.cycle_counts(cycle.id) == {}
    assert stored(store) == []

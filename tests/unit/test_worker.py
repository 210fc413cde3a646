"""What becomes of a task in a worker's hands: done, failed, handed back, or lost."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import update

from chromasync import faultpoints
from chromasync import lease as leasing
from chromasync.errors import (
    DamagedChunk,
    LeaseLost,
    RequestRefused,
    ServerUnreachable,
)
from chromasync.model import (
    ChunkResult,
    CycleStatus,
    OpCounts,
    Quarantined,
    Task,
)
from chromasync.ports import Permit
from chromasync.store import SqlStore
from chromasync.store.schema import tasks
from chromasync.store.schema_ledger import chunk_ids
from chromasync.worker import pool as working
from tests.store.samples import COLLECTION, arrange, claim_one, expire, loaded, planned
from tests.unit.pools import (
    MIRROR,
    PATIENCE,
    Reconciler,
    is_done,
    pool_of,
    states,
    trouble_of,
    until,
)

pytestmark = pytest.mark.usefixtures("impatient")


def test_all_tasks_are_done_oldest_first(store: SqlStore) -> None:
    """One thread takes the tasks in order, and each completed chunk is in the ledger."""
    cycle = planned(store, 4)
    reconciler = Reconciler()
    with pool_of(store, reconciler) as pool:
        until(pool, is_done(store, cycle.id))
        assert pool.trouble is None
        assert pool.alive
    assert pool._keeper._held == {}
    counts = store.task_counts(cycle.id)
    assert (counts.completed, counts.total) == (4, 4)
    assert reconciler.seen == sorted(reconciler.seen)
    assert all(head.read_at is not None for head in store.chunk_heads(COLLECTION))


def test_several_threads_share_the_tasks(store: SqlStore) -> None:
    """Two threads work at the same time, and no task is done twice."""
    cycle = planned(store, 6)
    together = threading.Barrier(2)
    reconciler = Reconciler(lambda task, permit: (together.wait(PATIENCE), None)[1])
    with pool_of(store, reconciler, threads=2) as pool:
        until(pool, is_done(store, cycle.id))
    assert sorted(reconciler.seen) == sorted(states(store))
    assert len(reconciler.seen) == 6


def test_idle_workers_wake_up_for_new_tasks(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool that found nothing works on as soon as it is told that there may be something."""
    monkeypatch.setattr(working, "IDLE_SECONDS", PATIENCE)
    idle = threading.Event()
    claim = store.claim_task

    def claim_task(worker_id: str, lease_seconds: float, number: int) -> Task | None:
        found = claim(worker_id, lease_seconds, number)
        if found is None:
            idle.set()
        return found

    monkeypatch.setattr(store, "claim_task", claim_task)
    reconciler = Reconciler()
    with pool_of(store, reconciler) as pool:
        assert idle.wait(PATIENCE)
        cycle = planned(store, 1)
        while reconciler.began.empty():
            pool.wake()
        until(pool, is_done(store, cycle.id))


def test_an_unreachable_server_hands_the_task_back(store: SqlStore) -> None:
    """The task is pending again unharmed, its chunk suspect, and the pool backs off until woken."""
    cycle = planned(store, 2)
    error = ServerUnreachable("down", side="replica")
    broken = [True]

    def act(task: Task, permit: Permit) -> None:
        if broken[0]:
            raise error

    reconciler = Reconciler(act)
    with pool_of(store, reconciler) as pool:
        until(pool, lambda: trouble_of(pool) is not None)
        assert trouble_of(pool) is error
        assert len(reconciler.seen) == 1
        assert states(store)[reconciler.seen[0]] == ("pending", 0, None)
        assert [h.replica.suspect for h in store.chunk_heads(COLLECTION)] == [True, False]
        broken[0] = False
        pool.wake()
        until(pool, is_done(store, cycle.id))
        assert trouble_of(pool) is None
    assert store.task_counts(cycle.id).completed == 2


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize("error", [
    ServerUnreachable("down", side="primary"),
    RequestRefused("It is not wanted.", side="replica"),
    KeyError("surprise"),
    LeaseLost("over"),
])  # fmt: skip
def test_only_an_attempt_that_came_to_a_write_had_the_chunk_in_hand(
    store: SqlStore, writes: bool, error: Exception
) -> None:
    """What stands on the replica after an attempt that only read cannot be ours."""
    planned(store, 1)

    def act(task: Task, permit: Permit) -> None:
        raise error

    reconciler = Reconciler(act, writes=writes)
    with pool_of(store, reconciler) as pool:
        until(pool, lambda: store.chunk_heads(COLLECTION)[0].replica.suspect)
        (head,) = store.chunk_heads(COLLECTION)
    assert head.replica.in_hand is writes


def test_an_error_for_good_fails_the_task_at_once(store: SqlStore) -> None:
    """What a repetition cannot mend is recorded with its words, and the others are done."""
    cycle = planned(store, 2)
    first = min(states(store))

    def act(task: Task, permit: Permit) -> None:
        if task.id == first:
            raise RequestRefused("It is not wanted.", side="replica")

    with pool_of(store, Reconciler(act)) as pool:
        until(pool, is_done(store, cycle.id))
        assert pool.trouble is None
    status, retries, error = states(store)[first]
    assert (status, retries) == ("failed", 1)
    assert error is not None
    assert "It is not wanted." in error
    assert store.task_counts(cycle.id).completed == 1
    assert store.chunk_heads(COLLECTION)[0].replica.suspect


def test_the_unforeseen_is_retried_later(store: SqlStore) -> None:
    """A defect costs the task one retry, with its kind and words; the thread lives on."""
    cycle = planned(store, 2)
    first = min(states(store))

    def act(task: Task, permit: Permit) -> None:
        if task.id == first:
            raise KeyError("surprise")

    with pool_of(store, Reconciler(act)) as pool:
        until(pool, lambda: store.task_counts(cycle.id).completed == 1)
        assert pool.alive
        assert pool.trouble is None
    assert states(store)[first] == ("pending", 1, "unexpected KeyError: 'surprise'")
    assert store.chunk_heads(COLLECTION)[0].replica.suspect


def test_a_lost_lease_leaves_the_task_to_its_new_owner(store: SqlStore) -> None:
    """Whoever was rescued from writes nothing more and does not touch the task."""
    cycle = planned(store, 1)
    others: list[Task] = []

    def act(task: Task, permit: Permit) -> None:
        expire(store, task)
        assert store.rescue_tasks() == 1
        arrange(store, update(tasks).values(available_at=tasks.c.created_at))
        others.append(claim_one(store, "other"))
        raise LeaseLost("over")

    with pool_of(store, Reconciler(act)) as pool:
        until(pool, lambda: bool(others))
    assert states(store)[others[0].id][0] == "processing"
    assert store.task_counts(cycle.id).processing == 1
    assert store.renew_tasks(others, 60) == {others[0].id}


def test_a_lost_lease_that_nobody_took_is_handed_back(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a freeze the permit refuses, the chunk is suspect, and the task is done anew."""
    cycle = planned(store, 1)
    now = [1_000.0]
    for module in (leasing, working):
        monkeypatch.setattr(module, "monotonic", lambda: now[0])
    freezes = [True]

    def act(task: Task, permit: Permit) -> None:
        permit()
        if freezes.pop() if freezes else False:
            now[0] += 3_600
            permit()
            pytest.fail("a lease cannot outlive an hour of silence")

    reconciler = Reconciler(act)
    with pool_of(store, reconciler) as pool:
        until(pool, is_done(store, cycle.id))
    assert len(reconciler.seen) == 2
    assert store.task_counts(cycle.id).completed == 1
    (head,) = store.chunk_heads(COLLECTION)
    assert not head.replica.suspect


def test_a_completion_that_comes_too_late_changes_nothing(store: SqlStore) -> None:
    """The store refuses it, and the pool goes on."""
    planned(store, 1)

    def act(task: Task, permit: Permit) -> None:
        expire(store, task)
        assert store.rescue_tasks() == 1

    reconciler = Reconciler(act)
    with pool_of(store, reconciler) as pool:
        until(pool, lambda: bool(reconciler.seen))
    assert states(store)[reconciler.seen[0]][0] == "pending"
    (head,) = store.chunk_heads(COLLECTION)
    assert (head.read_at, head.replica.suspect) == (None, True)


def test_a_damaged_chunk_forgets_its_collection(store: SqlStore) -> None:
    """The task fails with the reason, and the ledger of this collection is built anew."""
    planned(store, 2)
    (first, _) = sorted(states(store))
    arrange(store, update(chunk_ids).values(ids=b"rubbish"))
    reconciler = Reconciler()
    with pool_of(store, reconciler) as pool:
        until(pool, lambda: not store.chunk_heads(COLLECTION))
    assert reconciler.seen == []
    assert states(store)[first][0] == "failed"
    with pytest.raises(DamagedChunk):
        raise DamagedChunk("x", collection_id=COLLECTION, chunk_id=1)


@pytest.mark.parametrize("missing", ["chunk", "pair"])
def test_a_task_without_its_chunk_or_collections_fails(store: SqlStore, missing: str) -> None:
    """When the mirror was forgotten meanwhile there is nothing to do, and it says so."""
    cycle = planned(store, 1)
    if missing == "chunk":
        arrange(store, update(tasks).values(chunk_id=999))
    reconciler = Reconciler()
    options = {"mirror": replace(MIRROR, replica_id=None)} if missing == "pair" else {}
    with pool_of(store, reconciler, **options) as pool:
        until(pool, is_done(store, cycle.id))
    ((status, _, error),) = states(store).values()
    assert (status, error) == ("failed", "its chunk is no longer in the ledger")
    assert reconciler.seen == []


def test_the_quarantine_is_shown_to_the_reconciler(store: SqlStore) -> None:
    """Records of this collection that were set aside come along by id."""
    cycle = planned(store, 1)
    task = claim_one(store)
    aside = [Quarantined(COLLECTION, "0-a", "why", True)]
    chunk = loaded(store, task.chunk_id)
    assert store.complete_task(task, ChunkResult(chunk, [], aside, OpCounts()))
    store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
    cycle = planned(store, 1)
    reconciler = Reconciler()
    with pool_of(store, reconciler) as pool:
        until(pool, is_done(store, cycle.id))
    (seen,) = reconciler.set_aside
    assert [(name, q.reason) for name, q in seen.items()] == [("0-a", "why")]


def test_a_task_that_was_tried_before_runs_alone(store: SqlStore) -> None:
    """It may be the one that kills its process, and takes no other task with it."""
    cycle = planned(store, 5)
    arrange(store, update(tasks).where(tasks.c.id == min(states(store))).values(retry_count=1))
    at_work: list[int] = []
    together: list[tuple[int, int]] = []

    def act(task: Task, permit: Permit) -> None:
        at_work.append(task.id)
        for _ in range(20):  # let the other threads try
            store.task_counts(cycle.id)
            together.append((task.retry_count, len(at_work)))
        at_work.remove(task.id)

    with pool_of(store, Reconciler(act), threads=3) as pool:
        until(pool, is_done(store, cycle.id))
    assert {count for retries, count in together if retries} == {1}


def test_a_task_that_must_wait_is_not_held(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that may run alone only is given back while others are at work, and claimed no more."""
    cycle = planned(store, 3)
    waiting = sorted(states(store))[1]
    arrange(store, update(tasks).where(tasks.c.id == waiting).values(retry_count=1))
    begun, go_on = threading.Event(), threading.Event()
    at_work: list[int] = []
    together: dict[int, int] = {}
    claimed: list[int] = []
    claim = store.claim_task

    def claim_task(worker_id: str, lease_seconds: float, number: int) -> Task | None:
        task = claim(worker_id, lease_seconds, number)
        if task is not None and task.id == waiting:
            claimed.append(task.id)
            assert begun.wait(PATIENCE)
        return task

    def act(task: Task, permit: Permit) -> None:
        at_work.append(task.id)
        together[task.id] = len(at_work)
        begun.set()
        assert go_on.wait(PATIENCE)
        at_work.remove(task.id)

    monkeypatch.setattr(store, "claim_task", claim_task)
    reconciler = Reconciler(act)
    with pool_of(store, reconciler, threads=2) as pool:
        until(pool, lambda: bool(claimed) and states(store)[waiting][0] == "pending")
        for _ in range(20):
            pool.wake()
            store.task_counts(cycle.id)
        assert states(store)[waiting] == ("pending", 1, None)
        assert (claimed, waiting in together) == ([waiting], False)
        go_on.set()
        until(pool, is_done(store, cycle.id))
    assert together[waiting] == 1
    assert store.task_counts(cycle.id).completed == 3
    assert [retries for _, retries, _ in states(store).values()] == [0, 1, 0]


def test_a_task_claimed_when_a_lone_one_has_begun_is_given_back(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be innocent: were it held, it would be charged when the lone one kills the process."""
    cycle = planned(store, 2)
    lone, other = sorted(states(store))
    arrange(store, update(tasks).where(tasks.c.id == lone).values(retry_count=1))
    claim = store.claim_task
    both = threading.Barrier(2)
    go_on, given_back = threading.Event(), threading.Event()
    first = [True, True]

    def claim_task(worker_id: str, lease_seconds: float, number: int) -> Task | None:
        if first and first.pop():
            both.wait(PATIENCE)  # both threads ask before either may have passed the gate
        task = claim(worker_id, lease_seconds, number)
        if task is not None and task.id == other and not go_on.is_set():
            began.get(timeout=PATIENCE)
        return task

    def released(handed: list[Task]) -> None:
        release(handed)
        given_back.set()

    release = store.release_tasks
    monkeypatch.setattr(store, "claim_task", claim_task)
    monkeypatch.setattr(store, "release_tasks", released)
    reconciler = Reconciler(lambda task, permit: (go_on.wait(PATIENCE), None)[1])
    began = reconciler.began
    with pool_of(store, reconciler, threads=2) as pool:
        assert given_back.wait(PATIENCE)
        assert states(store)[other] == ("pending", 0, None)
        assert reconciler.seen == [lone]
        go_on.set()
        until(pool, is_done(store, cycle.id))
    assert reconciler.seen == [lone, other]


def test_tests_can_reach_into_a_task(store: SqlStore) -> None:
    """The named points after a claim and after a completion are passed, in this order."""
    cycle = planned(store, 1)
    points: list[str] = []
    with faultpoints.injected(points.append), pool_of(store, Reconciler()) as pool:
        until(pool, is_done(store, cycle.id))
    named = [point for point in points if point != faultpoints.AFTER_COMMIT]
    assert named == [faultpoints.AFTER_CLAIM, faultpoints.AFTER_COMPLETE]

"""Worker threads over a real store, with a reconciler that does what the test says."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from sqlalchemy import select, update

from chromasync import faultpoints
from chromasync import lease as leasing
from chromasync.errors import (
    DamagedChunk,
    LeaseLost,
    RequestRefused,
    ServerUnreachable,
    StoreUnavailable,
)
from chromasync.model import (
    Chunk,
    ChunkResult,
    Collection,
    CycleStatus,
    Mirror,
    OpCounts,
    Quarantined,
    Space,
    Task,
    WorkerStatus,
)
from chromasync.ports import Permit
from chromasync.reconcile.chunk import ChunkReconciler, Pair
from chromasync.store import SqlStore
from chromasync.store.schema import chunk_contents, tasks
from chromasync.worker import attempt as attempting
from chromasync.worker import heartbeat as beating
from chromasync.worker import pool as working
from chromasync.worker.heartbeat import process_name
from chromasync.worker.pool import WorkerPool
from tests.store.samples import COLLECTION, arrange, claim_one, expire, loaded, look, planned

PATIENCE = 30.0
Act = Callable[[Task, Permit], None]

MIRROR = Mirror(COLLECTION, "t", "d", "books", "replica-id", space=Space.L2, dimension=3)
PAIR = Pair(
    Collection(COLLECTION, "books", "t", "d", dimension=3),
    Collection("replica-id", "books", "t", "d", dimension=3),
    Space.L2,
)


@dataclass
class Reconciler:
    """Does `act` for each task and then reports the chunk as read."""

    act: Act = lambda task, permit: None
    seen: list[int] = field(default_factory=list)
    set_aside: list[Mapping[str, Quarantined]] = field(default_factory=list)
    began: queue.SimpleQueue[Task] = field(default_factory=queue.SimpleQueue)

    def reconcile(
        self,
        pair: Pair,
        chunk: Chunk,
        task: Task,
        permit: Permit,
        set_aside: Mapping[str, Quarantined],
    ) -> ChunkResult:
        assert pair == PAIR
        self.seen.append(task.id)
        self.set_aside.append(set_aside)
        self.began.put(task)
        self.act(task, permit)
        head = replace(chunk.head, read_at=task.claimed_at, suspect=False)
        return ChunkResult(replace(chunk, head=head), [], [], OpCounts(read=len(chunk.ids)))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Idle threads look again soon, so that nothing here waits for long."""
    monkeypatch.setattr(working, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(attempting, "INSIST_SECONDS", 0.02)


@contextmanager
def pool_of(store: SqlStore, reconciler: Reconciler, **options: Any) -> Iterator[WorkerPool]:
    """A pool, stopped at the end."""
    given: dict[str, Any] = {"name": "me", "threads": 1, "lease_seconds": 60.0} | options
    store.save_mirror(given.pop("mirror", MIRROR))
    pool = WorkerPool(store, cast("ChunkReconciler", reconciler), **given)
    pool.start()
    try:
        yield pool
    finally:
        pool.drain()


def until(pool: WorkerPool, true: Callable[[], bool]) -> None:
    """Wait for the pool's progress until something is true."""
    while not true():
        assert pool.progressed.wait(PATIENCE), "no progress"
        pool.progressed.clear()


def trouble_of(pool: WorkerPool) -> Exception | None:
    return pool.trouble


def states(store: SqlStore) -> dict[int, tuple[str, int, str | None]]:
    """Status, retries and error of each task."""
    rows = look(
        store, select(tasks.c.id, tasks.c.task_status, tasks.c.retry_count, tasks.c.error_message)
    )
    return {row[0]: (str(row[1]), row[2], row[3]) for row in rows}


def is_done(store: SqlStore, cycle_id: int) -> Callable[[], bool]:
    return lambda: store.task_counts(cycle_id).live == 0


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
    """The task is pending again unharmed, its chunk suspect, and the pool pauses until woken."""
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
        assert [h.suspect for h in store.chunk_heads(COLLECTION)] == [True, False]
        broken[0] = False
        pool.wake()
        until(pool, is_done(store, cycle.id))
        assert trouble_of(pool) is None
    assert store.task_counts(cycle.id).completed == 2


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
    assert store.chunk_heads(COLLECTION)[0].suspect


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
    assert store.chunk_heads(COLLECTION)[0].suspect


def test_a_lost_lease_leaves_the_task_to_its_new_owner(store: SqlStore) -> None:
    """Whoever was rescued from writes nothing more and does not touch the task."""
    cycle = planned(store, 1)
    others: list[Task] = []

    def act(task: Task, permit: Permit) -> None:
        expire(store, task)
        assert store.rescue_tasks(max_retries=5) == 1
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
    assert not head.suspect


def test_a_completion_that_comes_too_late_changes_nothing(store: SqlStore) -> None:
    """The store refuses it, and the pool goes on."""
    planned(store, 1)

    def act(task: Task, permit: Permit) -> None:
        expire(store, task)
        assert store.rescue_tasks(max_retries=5) == 1

    reconciler = Reconciler(act)
    with pool_of(store, reconciler) as pool:
        until(pool, lambda: bool(reconciler.seen))
    assert states(store)[reconciler.seen[0]][0] == "pending"
    (head,) = store.chunk_heads(COLLECTION)
    assert (head.read_at, head.suspect) == (None, True)


def test_a_damaged_chunk_forgets_its_collection(store: SqlStore) -> None:
    """The task fails with the reason, and the ledger of this collection is built anew."""
    planned(store, 2)
    (first, _) = sorted(states(store))
    arrange(store, update(chunk_contents).values(ids=b"rubbish"))
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


def test_a_store_that_is_away_pauses_the_pool(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When tasks cannot be claimed the thread lives on, says why, and goes on when woken."""
    cycle = planned(store, 1)
    claim = store.claim_task
    away = [True]
    numbers = []

    def claim_task(worker_id: str, lease_seconds: float, number: int) -> Task | None:
        numbers.append(number)
        if away[0]:
            raise StoreUnavailable("locked")
        return claim(worker_id, lease_seconds, number)

    monkeypatch.setattr(store, "claim_task", claim_task)
    with pool_of(store, Reconciler()) as pool:
        until(pool, lambda: pool.trouble is not None)
        away[0] = False
        assert pool.alive
        pool.wake()
        until(pool, is_done(store, cycle.id))
    assert len(set(numbers[:2])) == 1, "the answer alone may have been lost"
    assert numbers[2] != numbers[1]


def test_stopping_drains(store: SqlStore) -> None:
    """The task at hand is finished, no other is begun, and the process is shown as stopped."""
    cycle = planned(store, 3)
    go_on = threading.Event()
    reconciler = Reconciler(lambda task, permit: (go_on.wait(PATIENCE), None)[1])
    with pool_of(store, reconciler) as pool:
        reconciler.began.get(timeout=PATIENCE)
        stopping = threading.Thread(target=pool.drain)
        stopping.start()
        while not pool._stopping:
            stopping.join(0.001)
        go_on.set()
        stopping.join(PATIENCE)
        assert not stopping.is_alive()
        assert not pool.alive
        pool.drain()
    counts = store.task_counts(cycle.id)
    assert (counts.completed, counts.pending) == (1, 2)
    (beat,) = store.workers()
    assert (beat.worker_id, beat.status, beat.current_task_id) == (
        "me",
        WorkerStatus.STOPPED,
        None,
    )


def test_a_worker_at_work_shows_its_task(store: SqlStore) -> None:
    """Its proof of life names the task, and memory and CPU of this very process."""
    planned(store, 1)
    go_on = threading.Event()
    reconciler = Reconciler(lambda task, permit: (go_on.wait(PATIENCE), None)[1])
    with pool_of(store, reconciler) as pool:
        try:
            task = reconciler.began.get(timeout=PATIENCE)
            pool._heartbeat.beat(WorkerStatus.ACTIVE)
            (beat,) = store.workers()
            assert (beat.status, beat.current_task_id) == (WorkerStatus.ACTIVE, task.id)
            assert (beat.pid, beat.memory_mb > 10) == (os.getpid(), True)
        finally:
            go_on.set()


def test_the_proof_of_life_comes_by_itself(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written again and again while a task goes on, also after it failed once."""
    monkeypatch.setattr(beating, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(beating, "RESCUE_SECONDS", 0.005)
    beat = store.beat
    beaten: queue.SimpleQueue[int] = queue.SimpleQueue()
    count = [0]

    def counted(worker: Any) -> None:
        count[0] += 1
        beaten.put(count[0])
        if count[0] == 3:
            raise StoreUnavailable("locked")
        beat(worker)

    monkeypatch.setattr(store, "beat", counted)
    with pool_of(store, Reconciler()):
        while beaten.get(timeout=PATIENCE) < 6:
            pass
    assert store.workers()[0].status is WorkerStatus.STOPPED


def test_with_memory_nearly_used_one_task_at_a_time(store: SqlStore) -> None:
    """A process above its limit still works, but on no second task beside the first."""
    cycle = planned(store, 4)
    at_work, most = [0], [0]
    lock = threading.Lock()

    def act(task: Task, permit: Permit) -> None:
        with lock:
            at_work[0] += 1
            most[0] = max(most[0], at_work[0])
        for _ in range(20):  # let the other threads try
            store.task_counts(cycle.id)
        with lock:
            at_work[0] -= 1

    with pool_of(store, Reconciler(act), threads=3, memory_mb=1) as pool:
        until(pool, is_done(store, cycle.id))
    assert most[0] == 1


def test_with_memory_to_spare_tasks_run_side_by_side(store: SqlStore) -> None:
    """Below its limit a process works with all its threads."""
    cycle = planned(store, 2)
    together = threading.Barrier(2)
    reconciler = Reconciler(lambda task, permit: (together.wait(PATIENCE), None)[1])
    with pool_of(store, reconciler, threads=2, memory_mb=1_000_000) as pool:
        until(pool, is_done(store, cycle.id))


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


def test_two_pools_of_the_same_name_do_no_harm(store: SqlStore) -> None:
    """Every task is done once: rights hang on the fence, never on a worker's name."""
    cycle = planned(store, 12)
    one, other = Reconciler(), Reconciler()
    with pool_of(store, one) as first, pool_of(store, other) as second:
        assert first.name == second.name
        deadline = time.monotonic() + PATIENCE
        while store.task_counts(cycle.id).live:
            assert time.monotonic() < deadline
            first.progressed.wait(0.02)
    assert sorted(one.seen + other.seen) == sorted(states(store))
    assert store.task_counts(cycle.id).completed == 12


def test_what_hangs_is_handed_back_when_the_pool_stops(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that cannot be reached any more keeps nothing: free again, uncharged, suspect."""
    for name in ("DRAIN_SECONDS", "PUT_DOWN_SECONDS"):
        monkeypatch.setattr(working, name, 0.05)
    planned(store, 2)
    answer = threading.Event()
    reconciler = Reconciler(lambda task, permit: (answer.wait(PATIENCE), None)[1])
    with pool_of(store, reconciler) as pool:
        reconciler.began.get(timeout=PATIENCE)
        pool.drain()
        (first, second) = states(store).values()
        assert first == second == ("pending", 0, None)
        assert store.chunk_heads(COLLECTION)[0].suspect
        answer.set()
        pool._threads[0].join(PATIENCE)
    assert store.task_counts(store.cycles(1)[0].id).completed == 0, "its completion was refused"


def test_tasks_at_hand_can_be_recalled(store: SqlStore) -> None:
    """They are put down before their next write, and none is claimed until the block ends."""
    cycle = planned(store, 2)
    go_on = threading.Event()

    def act(task: Task, permit: Permit) -> None:
        assert go_on.wait(PATIENCE)
        permit()

    reconciler = Reconciler(act)
    with pool_of(store, reconciler) as pool:
        reconciler.began.get(timeout=PATIENCE)
        threading.Timer(0.1, go_on.set).start()
        with pool.recalled():
            assert list(states(store).values()) == [("pending", 0, None)] * 2
            assert store.cancel_tasks("ended early") == 2
        assert store.task_counts(cycle.id).failed == 2
        again = planned(store, 1)
        until(pool, is_done(store, again.id))
    assert store.task_counts(again.id).completed == 1


def test_what_was_done_is_recorded_when_the_store_is_back(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that is away at the end of a task costs it nothing: no retry, no second reading."""
    cycle = planned(store, 1)
    complete = store.complete_task
    failures = [StoreUnavailable("gone"), StoreUnavailable("gone")]

    def complete_task(task: Task, result: ChunkResult) -> bool:
        if failures:
            raise failures.pop()
        return complete(task, result)

    monkeypatch.setattr(store, "complete_task", complete_task)
    reconciler = Reconciler()
    with pool_of(store, reconciler) as pool:
        until(pool, is_done(store, cycle.id))
    assert len(reconciler.seen) == 1
    assert list(states(store).values()) == [("completed", 0, None)]


def test_tests_can_reach_into_a_task(store: SqlStore) -> None:
    """The named points after a claim and after a completion are passed, in this order."""
    cycle = planned(store, 1)
    points: list[str] = []
    with faultpoints.injected(points.append), pool_of(store, Reconciler()) as pool:
        until(pool, is_done(store, cycle.id))
    named = [point for point in points if point != faultpoints.AFTER_COMMIT]
    assert named == [faultpoints.AFTER_CLAIM, faultpoints.AFTER_COMPLETE]


def test_every_process_has_a_name_of_its_own() -> None:
    """Host, process, start and chance: two names never agree."""
    one, other = process_name(), process_name()
    assert one != other
    assert one.split(":")[-4:-1] == other.split(":")[-4:-1]
    assert one.split(":")[-3] == str(os.getpid())

"""A worker's pool as a whole: draining, proof of life, memory, and a store that is away."""

from __future__ import annotations

import os
import queue
import threading
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from chromasync.errors import (
    StoreUnavailable,
)
from chromasync.events import Event
from chromasync.lease import Lease
from chromasync.model import (
    ChunkResult,
    Task,
    WorkerBeat,
    WorkerStatus,
)
from chromasync.ports import Permit
from chromasync.store import SqlStore
from chromasync.worker import heartbeat as beating
from chromasync.worker import pool as working
from chromasync.worker import state as pool_state
from chromasync.worker.heartbeat import process_name
from tests.store.samples import COLLECTION, planned
from tests.unit.pools import (
    PATIENCE,
    Reconciler,
    is_done,
    pool_of,
    states,
    until,
)

pytestmark = pytest.mark.usefixtures("impatient")


def test_a_pool_backs_off_from_a_store_that_is_away(
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
        while not pool._state.stopping:
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
            pool._heartbeat.beat()
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


def test_a_draining_worker_is_shown_as_draining(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by the proofs of life that come by themselves while it finishes its task."""
    monkeypatch.setattr(beating, "BEAT_SECONDS", 0.005)
    monkeypatch.setattr(beating, "RESCUE_SECONDS", 0.005)
    planned(store, 1)
    go_on = threading.Event()
    beat = store.beat
    shown: queue.SimpleQueue[WorkerStatus] = queue.SimpleQueue()

    def noted(worker: WorkerBeat) -> None:
        beat(worker)
        shown.put(worker.status)

    monkeypatch.setattr(store, "beat", noted)
    reconciler = Reconciler(lambda task, permit: (go_on.wait(PATIENCE), None)[1])
    with pool_of(store, reconciler) as pool:
        reconciler.began.get(timeout=PATIENCE)
        stopping = threading.Thread(target=pool.drain)
        stopping.start()
        while shown.get(timeout=PATIENCE) is not WorkerStatus.DRAINING:
            pass
        later = [shown.get(timeout=PATIENCE) for _ in range(5)]
        go_on.set()
        stopping.join(PATIENCE)
    # a proof of life may have been under way when it began to drain, but no more than that one
    assert later[1:] == [WorkerStatus.DRAINING] * 4


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
        assert store.chunk_heads(COLLECTION)[0].replica.suspect
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


def test_a_claim_under_way_is_recalled_too(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that comes only after the leases were taken away is put down like the others."""
    planned(store, 1)
    claim = store.claim_task
    asking, answer = threading.Event(), threading.Event()

    def claim_task(worker_id: str, lease_seconds: float, number: int) -> Task | None:
        asking.set()
        assert answer.wait(PATIENCE)
        return claim(worker_id, lease_seconds, number)

    def act(task: Task, permit: Permit) -> None:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            permit()
            time.sleep(0.01)

    monkeypatch.setattr(store, "claim_task", claim_task)
    reconciler = Reconciler(act)
    with pool_of(store, reconciler) as pool:
        assert asking.wait(PATIENCE)
        held = pool._keeper.held

        def late() -> list[Lease]:
            found = held()
            answer.set()
            return found

        monkeypatch.setattr(pool._keeper, "held", late)
        with pool.recalled():
            reconciler.began.get(timeout=PATIENCE)
            assert list(states(store).values()) == [("pending", 0, None)]
            assert store.cancel_tasks("ended early") == 1


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


def test_every_process_has_a_name_of_its_own() -> None:
    """Host, process, start and chance: two names never agree."""
    one, other = process_name(), process_name()
    assert one != other
    assert one.split(":")[-4:-1] == other.split(":")[-4:-1]
    assert one.split(":")[-3] == str(os.getpid())


def test_what_failed_beside_the_work_has_its_own_name(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rescue that fails is none of the proofs of life, and each tells its own recovery, once."""
    beats = beating.Heartbeat(store, "me", lambda: None, lambda: None)

    def away(**_: object) -> int:
        raise StoreUnavailable("It is away.")

    with capture_logs() as lines:
        with monkeypatch.context() as patched:
            patched.setattr(store, "rescue_tasks", away)
            for _ in range(5):
                beats._try(beats._rescue, beats._rescues)
                beats._try(beats.beat, beats._beats)
        beats._try(beats._rescue, beats._rescues)
        beats._try(beats._rescue, beats._rescues)
    assert [line["event"] for line in lines] == [Event.NO_RESCUE, Event.RECOVERED]
    assert (lines[1]["what"], lines[1]["after"]) == ("rescue of tasks", 5)


def test_a_pause_and_its_end_are_told_once(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that cannot claim say so in one line, and in one more that they can again."""
    monkeypatch.setattr(pool_state, "BACKOFF_SECONDS", 0.01)
    cycle = planned(store, 1)
    claim = store.claim_task
    asked = []

    def claim_task(worker_id: str, lease_seconds: float, number: int) -> Task | None:
        asked.append(number)
        if len(asked) <= 4:
            raise StoreUnavailable("locked")
        return claim(worker_id, lease_seconds, number)

    monkeypatch.setattr(store, "claim_task", claim_task)
    with capture_logs() as lines, pool_of(store, Reconciler(), threads=2) as pool:
        until(pool, is_done(store, cycle.id))
    assert [line["event"] for line in lines] == [Event.BACKING_OFF, Event.RECOVERED]
    assert (lines[1]["what"], lines[1]["after"]) == ("the state store", 4)

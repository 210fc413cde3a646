"""Cycles, their sums and metrics, pruning, and the published tables."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from chromasync.errors import StoreUnusable
from chromasync.model import CycleStatus, OpCounts, TaskCounts, WorkerStatus
from chromasync.store import SqlStore, history
from chromasync.store.schema import (
    Later,
    cycles,
    tasks,
    workers,
)
from chromasync.store.schema_history import metrics, recommendations
from chromasync.store.schema_ledger import collections
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    beat_of,
    claim,
    claim_one,
    look,
    plan_into,
    planned,
    result_for,
    task_for,
    trusted,
)
from tests.support.ledgers import mirror_of

PUBLISHED = {
    tasks: "id collection_id collection_name chunk_start_offset chunk_end_offset task_status "
    "worker_id started_at completed_at retry_count error_message created_at",
    workers: "worker_id worker_status last_heartbeat current_task_id memory_usage_mb cpu_percent",
    collections: "collection_id collection_name primary_document_count replica_document_count "
    "last_successful_sync last_sync_attempt sync_status sync_duration_seconds "
    "consecutive_errors last_error_message",
}


def work(store: SqlStore, counts: OpCounts, worker: str = "w") -> None:
    """Do one waiting task."""
    task = claim_one(store, worker)
    assert store.complete_task(task, result_for(store, task, counts=counts))


def test_a_cycle_is_closed_with_the_sums_of_its_tasks(store: SqlStore) -> None:
    """Counts of every task and the deletes at the end; by collection while it runs."""
    cycle = planned(store, 2)
    plan_into(store, cycle, 1, collection=OTHER)
    assert cycle.status is CycleStatus.RUNNING
    for n in (1, 2, 4):
        work(store, OpCounts(*[n] * 7))
    by_collection = store.cycle_counts(cycle.id)
    assert by_collection == {COLLECTION: OpCounts(*[3] * 7), OTHER: OpCounts(*[4] * 7)}
    closed = store.close_cycle(cycle.id, CycleStatus.COMPLETED, 10)
    assert closed.counts == OpCounts(7, 7, 7, 7, 17, 7, 7)
    assert (closed.id, closed.started_at) == (cycle.id, cycle.started_at)
    assert closed.status is CycleStatus.COMPLETED
    assert closed.finished_at is not None
    assert closed.finished_at >= closed.started_at
    assert store.cycles(5) == [closed]


def test_a_cycle_is_closed_once(store: SqlStore) -> None:
    """A repeat changes neither the cycle nor the metrics."""
    cycle = store.open_cycle()
    closed = store.close_cycle(cycle.id, CycleStatus.FAILED, 3, "it broke")
    assert store.close_cycle(cycle.id, CycleStatus.COMPLETED, 9) == closed
    assert (closed.status, closed.error) == (CycleStatus.FAILED, "it broke")
    assert look(store, select(func.count()).select_from(metrics)) == [(1,)]


def test_an_unknown_cycle_cannot_be_closed(store: SqlStore) -> None:
    """A mistaken number is an error, not a new row."""
    with pytest.raises(StoreUnusable, match="no cycle 7"):
        store.close_cycle(7, CycleStatus.COMPLETED, 0)


def test_a_running_cycle_is_abandoned_by_the_next(store: SqlStore) -> None:
    """A cycle whose process died is marked when another begins; only one ever runs."""
    first, second = store.open_cycle(), store.open_cycle()
    latest, before = store.cycles(5)
    assert (latest.id, latest.status) == (second.id, CycleStatus.RUNNING)
    assert (before.id, before.status) == (first.id, CycleStatus.ABANDONED)
    assert before.finished_at is not None
    assert store.close_cycle(first.id, CycleStatus.COMPLETED, 0) == before


def test_the_tasks_of_an_abandoned_cycle_fail_with_it(store: SqlStore) -> None:
    """None is left to be claimed or completed, and what somebody is at is suspect."""
    planned(store, 3)
    done, held = claim(store, 2)
    assert store.complete_task(done, result_for(store, done))
    second = store.open_cycle()
    assert claim(store, 3) == []
    assert not store.complete_task(held, result_for(store, held, mark=9))
    found = look(store, select(tasks.c.task_status, tasks.c.error_message).order_by(tasks.c.id))
    assert found == [("completed", None)] + [("failed", history.ENDED_BEFORE)] * 2
    suspect = {head.id for head in store.chunk_heads(COLLECTION) if head.replica.suspect}
    assert suspect == {held.chunk_id}
    again = [task_for(head.id) for head in store.chunk_heads(COLLECTION)]
    assert store.add_tasks(second.id, again) == 3


def test_a_chunk_that_may_still_be_written_to_stays_suspect(store: SqlStore) -> None:
    """Whoever works for an abandoned cycle may go on until its lease ends."""
    planned(store, 1)
    held = claim_one(store, lease_seconds=60)
    second = store.open_cycle()
    store.add_tasks(second.id, [task_for(held.chunk_id)])
    task = claim_one(store)
    assert store.complete_task(task, trusted(result_for(store, task)))
    assert store.chunk_heads(COLLECTION)[0].replica.suspect


def test_cycles_come_newest_first_up_to_a_limit(store: SqlStore) -> None:
    """The latest are what people ask for."""
    opened = [store.open_cycle().id for _ in range(4)]
    assert [cycle.id for cycle in store.cycles(3)] == opened[:0:-1]


def test_each_closed_cycle_leaves_a_row_of_metrics(store: SqlStore) -> None:
    """Records, tasks, workers and load at its end, for the advisor and for people."""
    store.save_mirror(mirror_of(COLLECTION, "t", "d", "n", count=30))
    store.save_mirror(mirror_of(OTHER, "t", "d", "n2", count=12))
    store.beat(beat_of("a", memory_mb=100, cpu_percent=20))
    store.beat(beat_of("b", memory_mb=300, cpu_percent=40))
    store.beat(beat_of("c", status=WorkerStatus.STOPPED, memory_mb=900, cpu_percent=90))
    cycle = planned(store, 2)
    work(store, OpCounts(read=50, inserted=5, updated=2))
    store.fail_task(claim_one(store), "no", final=True)
    arrange(store, update(cycles).values(started_at=Later(-10)))
    store.close_cycle(cycle.id, CycleStatus.FAILED, 3)
    (row,) = look(store, select(metrics))
    found: dict[str, Any] = dict(zip(metrics.c.keys(), row, strict=True))
    assert 10 <= found["duration_seconds"] < 11
    assert 4.5 < found["records_per_second"] <= 5
    assert (found["records_read"], found["records_written"]) == (50, 10)
    assert (found["tasks_completed"], found["tasks_failed"]) == (1, 1)
    assert (found["active_workers"], found["memory_usage_mb"], found["cpu_percent"]) == (2, 300, 30)
    assert (found["cycle_id"], found["primary_document_count"]) == (cycle.id, 42)


def age(store: SqlStore, *task_ids: int, seconds: float) -> None:
    arrange(
        store,
        update(tasks).where(tasks.c.id.in_(task_ids)).values(completed_at=Later(-seconds)),
    )


def task_ids(store: SqlStore) -> list[int]:
    return [row[0] for row in look(store, select(tasks.c.id).order_by(tasks.c.id))]


def test_old_tasks_are_pruned_in_batches(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished tasks older than the limit go, younger and unfinished ones stay."""
    monkeypatch.setattr(history, "PRUNE_BATCH", 2)
    cycle = planned(store, 7)
    for _ in range(6):
        work(store, OpCounts())
    store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
    ids = task_ids(store)
    age(store, *ids[:5], seconds=100)
    assert store.prune_history(keep_seconds=50, keep_tasks=100) == 5
    assert task_ids(store) == ids[5:]


def test_only_the_newest_tasks_are_kept(store: SqlStore) -> None:
    """However young, no more than so many finished tasks stay; waiting ones do not count."""
    cycle = planned(store, 6)
    for _ in range(5):
        work(store, OpCounts())
    store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
    ids = task_ids(store)
    assert store.prune_history(keep_seconds=3600, keep_tasks=2) == 3
    assert task_ids(store) == ids[3:]
    assert store.prune_history(keep_seconds=3600, keep_tasks=2) == 0


def test_tasks_of_the_running_cycle_are_never_pruned(store: SqlStore) -> None:
    """Its sums are still to be made."""
    cycle = planned(store, 2)
    work(store, OpCounts(read=5))
    age(store, *task_ids(store)[:1], seconds=1000)
    assert store.prune_history(keep_seconds=0, keep_tasks=0) == 0
    assert store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0).counts.read == 5


def test_old_cycles_metrics_and_workers_are_pruned(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By age, but the newest cycles and metrics stay; live workers stay whatever their age."""
    monkeypatch.setattr(history, "KEPT_CYCLES", 2)
    monkeypatch.setattr(history, "KEPT_METRICS", 3)
    for _ in range(5):
        store.close_cycle(store.open_cycle().id, CycleStatus.COMPLETED, 0)
    running = store.open_cycle()
    for status in WorkerStatus:
        store.beat(beat_of(status.value, status=status))
    assert store.prune_history(keep_seconds=60, keep_tasks=10) == 0
    arrange(store, update(cycles).values(started_at=Later(-99)))
    arrange(
        store,
        update(cycles).where(cycles.c.finished_at.is_not(None)).values(finished_at=Later(-90)),
    )
    arrange(store, update(metrics).values(recorded_at=Later(-90)))
    arrange(store, update(workers).values(last_heartbeat=Later(-90)))
    assert store.prune_history(keep_seconds=60, keep_tasks=10) == 4 + 2 + 2
    assert [cycle.id for cycle in store.cycles(9)] == [running.id, running.id - 1]
    assert look(store, select(func.count()).select_from(metrics)) == [(3,)]
    assert {worker.worker_id for worker in store.workers()} == {"active", "draining"}


def test_the_published_columns_are_there(store: SqlStore) -> None:
    """Dashboards and scripts name these columns."""
    for table, names in PUBLISHED.items():
        listed = names.split()
        assert table.c.keys()[: len(listed)] == listed
        store_has = look(store, text(f"SELECT {', '.join(listed)} FROM {table.name}"))
        assert store_has == []
    assert look(store, select(metrics)) == look(store, select(recommendations)) == []


def seconds_of(value: Any) -> float:
    """A difference of instants in seconds, as a number or an interval."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def test_the_guides_queries_give_right_answers(store: SqlStore) -> None:
    """Tasks by worker, active workers, and the average time of a chunk, word for word."""
    cycle = planned(store, 3)
    plan_into(store, cycle, 1, collection=OTHER)
    for worker in ("one", "one", "two", "gone"):
        work(store, OpCounts(), worker)
    chunk = store.chunk_heads(COLLECTION)[0].id
    store.add_tasks(cycle.id, [task_for(chunk)])
    claim_one(store, "one")
    for seconds, task_id in zip((1, 2, 6, 9), task_ids(store), strict=False):
        arrange(
            store,
            update(tasks)
            .where(tasks.c.id == task_id)
            .values(started_at=Later(-100), completed_at=Later(-100 + seconds)),
        )
    arrange(store, update(tasks).where(tasks.c.collection_id == OTHER).values(collection_name="b"))
    by_worker = look(
        store,
        text(
            "SELECT worker_id, COUNT(*) as tasks_completed FROM sync_tasks"
            " WHERE task_status = 'completed' GROUP BY worker_id"
        ),
    )
    assert sorted(by_worker) == [("gone", 1), ("one", 2), ("two", 1)]
    times = look(
        store,
        text(
            "SELECT collection_name, COUNT(*) as total_chunks,"
            " AVG(completed_at - started_at) as avg_chunk_time FROM sync_tasks"
            " WHERE task_status = 'completed' GROUP BY collection_name"
        ),
    )
    is_interval = store.backend.engine.dialect.name == "postgresql"
    assert all(isinstance(avg, timedelta) == is_interval for *_, avg in times)
    found = sorted((name, count, round(seconds_of(avg), 2)) for name, count, avg in times)
    assert found == [("b", 1, 9.0), ("books", 3, 3.0)]


def test_the_guides_query_of_workers_shows_the_active_ones(store: SqlStore) -> None:
    """Latest heartbeat first, with memory and CPU; stopped workers are left out."""
    for worker, seconds in (("old", 5), ("new", 1)):
        store.beat(beat_of(worker, memory_mb=seconds))
        arrange(
            store,
            update(workers)
            .where(workers.c.worker_id == worker)
            .values(last_heartbeat=Later(-seconds)),
        )
    store.beat(beat_of("off", status=WorkerStatus.STOPPED))
    rows = look(
        store,
        text(
            "SELECT worker_id, memory_usage_mb, cpu_percent, last_heartbeat FROM sync_workers"
            " WHERE worker_status = 'active' ORDER BY last_heartbeat DESC"
        ),
    )
    assert [row[:3] for row in rows] == [("new", 1.0, 50.0), ("old", 5.0, 50.0)]


def test_a_finished_task_keeps_its_worker_after_the_worker_is_pruned(store: SqlStore) -> None:
    """Who did what stays true after any number of worker exits."""
    cycle = planned(store, 1)
    store.beat(beat_of("w"))
    work(store, OpCounts(), "w")
    store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
    store.beat(beat_of("w", status=WorkerStatus.STOPPED))
    arrange(store, update(workers).values(last_heartbeat=Later(-90)))
    assert store.prune_history(keep_seconds=60, keep_tasks=10) == 1
    assert look(store, select(tasks.c.worker_id)) == [("w",)]
    assert store.task_counts(cycle.id) == TaskCounts(completed=1)

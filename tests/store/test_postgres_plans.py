"""PostgreSQL with a long history: query plans, held snapshots, retention."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Executable, event, func, select, text

from chromasync.model import CycleStatus
from chromasync.store import (
    SqlStore,
    chunkrows,
    claim_floor,
    history,
    open_store,
    queue,
    retry_charges,
)
from chromasync.store.schema import COUNT_COLUMNS, metadata, tasks
from tests.store.samples import (
    COLLECTION,
    arrange,
    claim,
    expire,
    look,
    plan_into,
    planned,
    result_for,
    task_for,
)
from tests.support.postgres import Databases

FINISHED_TASKS = 200_000
FEW_BUFFERS = 60
"""A descent of a few indexes; a scan of the history would touch thousands."""

_HISTORY = text("""
INSERT INTO sync_tasks (collection_id, collection_name, chunk_start_offset, chunk_end_offset,
    task_status, worker_id, started_at, completed_at, retry_count, created_at, cycle_id, chunk_id,
    check_replica, fence, available_at, read_count, inserted_count, updated_count, replaced_count,
    deleted_count, drifted_count, quarantined_count)
SELECT 'c', 'n', 0, 1000, 'completed', 'w' || n % 20, moment, moment, 0, moment, :cycle, n, false,
    1, moment, 1000, 0, 0, 0, 0, 0, 0
FROM (SELECT n, clock_timestamp() - make_interval(secs => :age - n * 0.0001) AS moment
    FROM generate_series(1, :count) n) AS made
""")


def add_history(store: SqlStore, cycle: int, count: int, *, age: float) -> None:
    """Finished tasks of a cycle, the oldest of that age, ten thousand a second."""
    statement = _HISTORY.bindparams(cycle=cycle, count=count, age=age)
    with store._writing(long=True) as tx:
        tx.execute(statement)


@pytest.fixture(scope="module")
def long_history(databases: Databases) -> Iterator[SqlStore]:
    """Many finished tasks, and a few hundred that are live."""
    url = databases.take()
    store = open_store(url)
    before = store.open_cycle()
    add_history(store, before.id, FINISHED_TASKS, age=1000)
    store.close_cycle(before.id, CycleStatus.COMPLETED, 0)
    planned(store, 300)
    yield store
    store.close()
    databases.give_back(url)


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes_of(below)


def explained(tx: Connection, statement: Executable, **values: object) -> dict[str, Any]:
    """Run a statement and return the plan that it took."""
    compiled = statement.compile(tx.engine)  # type: ignore[attr-defined]
    ready = compiled.construct_expanded_state(values)
    rows = tx.exec_driver_sql(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {ready.statement}", ready.parameters
    )
    (document,) = rows.scalars()
    found = document if isinstance(document, list) else json.loads(document)
    plan: dict[str, Any] = found[0]["Plan"]
    return plan


def check_plan(plan: dict[str, Any], *indexes: str, perhaps: str = "") -> None:
    """Nothing is read but by these indexes, and little of them.

    Without statistics, a planner may narrow down by another index of live tasks, too: `perhaps`.
    """
    nodes = list(nodes_of(plan))
    assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], plan
    assert {node["Index Name"] for node in nodes if "Index Name" in node} - {perhaps} == {*indexes}
    touched = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    assert touched <= FEW_BUFFERS, plan


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
def test_a_claim_reads_the_small_indexes_only(long_history: SqlStore, analyzed: bool) -> None:
    """However long the history, and before PostgreSQL knows anything about the tables."""
    set_statistics(long_history, analyzed=analyzed)
    asked = {"worker": "w", "seconds": 60.0, "step": 1}
    floor = 0
    for number in (1, 2):
        with long_history._writing() as tx:
            plan = explained(tx, queue._CLAIM, claim=number, floor=floor, **asked)
        check_plan(plan, "sync_tasks_claim", "sync_tasks_ready", "sync_tasks_pkey")
        assert plan["Actual Rows"] == 1
        ((floor,),) = look(
            long_history, select(func.max(tasks.c.id)).where(tasks.c.claim_number == number)
        )
        arrange(long_history, tasks.update().where(tasks.c.id == floor).values(claim_number=None))


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
def test_a_completion_goes_by_keys(long_history: SqlStore, analyzed: bool) -> None:
    """The task by its key and fence, its chunk by key, its deletion by the chunk's index."""
    set_statistics(long_history, analyzed=analyzed)
    (task,) = claim(long_history, 1)
    counts = {f"b_{name}": 0 for name in COUNT_COLUMNS.values()}
    with long_history._writing() as tx:
        by_id = {"task_id": task.id}
        check_plan(explained(tx, queue._HELD, fence=task.fence, **by_id), "sync_tasks_pkey")
        check_plan(
            explained(tx, queue._COMPLETE, b_fence=task.fence, **by_id, **counts), "sync_tasks_pkey"
        )
        stored = explained(tx, chunkrows._STORED, chunk_id=task.chunk_id)
        assert stored["Shared Hit Blocks"] <= FEW_BUFFERS


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
def test_a_rescue_reads_the_leases_only(long_history: SqlStore, analyzed: bool) -> None:
    """Looking for expired leases is cheap enough to be done by everyone, all the time."""
    set_statistics(long_history, analyzed=analyzed)
    expire(long_history, *claim(long_history, 2))
    with long_history._writing() as tx:
        plan = explained(tx, queue._OVERDUE)
    check_plan(plan, "sync_tasks_lease", perhaps="sync_tasks_live_chunk")
    assert plan["Actual Rows"] >= 2
    assert long_history.rescue_tasks() >= 2


def set_statistics(store: SqlStore, *, analyzed: bool) -> None:
    """Let PostgreSQL know all about the tasks, or nothing."""
    if analyzed:
        arrange(store, text("ANALYZE"))
    else:
        arrange(store, text("DELETE FROM pg_statistic WHERE starelid = 'sync_tasks'::regclass"))
        arrange(
            store, text("UPDATE pg_class SET reltuples = -1 WHERE oid = 'sync_tasks'::regclass")
        )


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
def test_planning_looks_at_no_former_task(long_history: SqlStore, analyzed: bool) -> None:
    """What a chunk is charged with is asked for in every step of planning."""
    set_statistics(long_history, analyzed=analyzed)
    with long_history._writing() as tx:
        plan = explained(tx, retry_charges._CHARGED, oldest=-8)
    relations = {node["Relation Name"] for node in nodes_of(plan) if "Relation Name" in node}
    assert relations == {"sync_retry_charges"}, plan
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= FEW_BUFFERS, plan


# ---- a snapshot that someone holds ------------------------------------------------------------

CYCLES = 5
TASKS = 150


@pytest.fixture
def unvacuumed(pg_store: SqlStore) -> SqlStore:
    """A store whose tables autovacuum leaves alone: its blocks would be counted, too."""
    for table in (table for table in metadata.sorted_tables if not table.is_view):
        arrange(pg_store, text(f"ALTER TABLE {table.name} SET (autovacuum_enabled = off)"))
    return pg_store


def blocks(store: SqlStore) -> int:
    """Blocks that the database has looked at so far."""
    look(store, text("SELECT pg_stat_force_next_flush()"))
    ((touched,),) = look(
        store,
        text(
            "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
        ),
    )
    return int(touched)


@pytest.mark.long
def test_a_held_snapshot_does_not_slow_the_queue_down(
    unvacuumed: SqlStore, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An analyst's open transaction keeps all dead rows; a task costs as much as before.

    The cost is counted in blocks rather than seconds, which would be those of a noisy machine; for
    the same reason the look at everything, every few seconds, is left out.
    """
    monkeypatch.setattr(claim_floor, "WHOLE_SECONDS", 3600.0)
    cycle = unvacuumed.open_cycle()
    chunk_ids = plan_into(unvacuumed, cycle, TASKS)
    while claimed := claim(unvacuumed, 20):
        for task in claimed:
            unvacuumed.complete_task(task, result_for(unvacuumed, task))
    costs = []
    with closing(psycopg.connect(database)) as analyst:
        analyst.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        analyst.execute("SELECT count(*) FROM sync_tasks")
        for _ in range(CYCLES):
            unvacuumed.add_tasks(cycle.id, [task_for(chunk_id) for chunk_id in chunk_ids])
            before = blocks(unvacuumed)
            done = 0
            while claimed := claim(unvacuumed, 20):
                for task in claimed:
                    assert unvacuumed.complete_task(task, result_for(unvacuumed, task))
                    done += 1
                assert unvacuumed.rescue_tasks() == 0
            assert done == TASKS
            costs.append((blocks(unvacuumed) - before) / TASKS)
    assert costs[-1] <= 1.7 * costs[0], costs


def test_an_idle_worker_does_not_step_over_the_dead(unvacuumed: SqlStore, database: str) -> None:
    """Asking for work that is not there costs next to nothing, whatever lies behind."""
    cycle = planned(unvacuumed, 0)
    with closing(psycopg.connect(database)) as analyst:
        analyst.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        analyst.execute("SELECT count(*) FROM sync_tasks")
        plan_into(unvacuumed, cycle, 1000)
        unvacuumed.cancel_tasks("no")
        assert claim(unvacuumed, 1) == []
        before = blocks(unvacuumed)
        for _ in range(20):
            assert claim(unvacuumed, 1) == []
        assert (blocks(unvacuumed) - before) / 20 < FEW_BUFFERS


# ---- retention --------------------------------------------------------------------------------

CYCLE_TASKS = 50_000


@pytest.mark.long
def test_the_tables_stay_bounded_at_fifty_thousand_tasks_a_cycle(pg_store: SqlStore) -> None:
    """Whatever is beyond age or number goes, in small transactions, and its room is used again."""
    deleted: list[int] = []

    def note(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM sync_tasks"):
            deleted.append(cursor.rowcount)

    event.listen(pg_store.backend.engine, "after_cursor_execute", note)
    sizes = []
    for n in range(5):
        cycle = pg_store.open_cycle()
        add_history(pg_store, cycle.id, CYCLE_TASKS, age=100 - 10 * n if n else 7200)
        pg_store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
        pg_store.prune_history(keep_seconds=3600, keep_tasks=2 * CYCLE_TASKS)
        ((left, size),) = look(
            pg_store,
            text("SELECT count(*), pg_total_relation_size('sync_tasks') FROM sync_tasks"),
        )
        assert left <= 2 * CYCLE_TASKS
        vacuum(pg_store)
        sizes.append(size)
    assert sum(deleted) == 3 * CYCLE_TASKS
    assert max(deleted) <= history.PRUNE_BATCH
    assert sizes[4] <= 1.1 * sizes[3]
    assert pg_store.cycle_counts(cycle.id)["c"].read == CYCLE_TASKS * 1000


def vacuum(store: SqlStore) -> None:
    """What autovacuum does within a minute."""
    with closing(store.backend.engine.raw_connection()) as connection:
        connection.cursor().execute("VACUUM sync_tasks")


def test_the_storage_options_are_set(pg_store: SqlStore) -> None:
    """Room for updates in place, and a vacuum that keeps up with the queue."""
    options = dict(
        look(
            pg_store,
            text("SELECT relname::text, reloptions FROM pg_class WHERE reloptions IS NOT NULL"),
        )
    )
    assert "fillfactor=80" in options["sync_chunks"]
    assert "fillfactor=80" in options["sync_replica_chunks"]
    assert "fillfactor=50" in options["sync_workers"]
    assert {"fillfactor=80", "autovacuum_vacuum_scale_factor=0.02"} <= set(options["sync_tasks"])
    assert len(pg_store.chunk_heads(COLLECTION)) == 0

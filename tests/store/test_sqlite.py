"""SQLite in use: connections, query plans, what is read and written, leaders of this host."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import select, text

from chromasync.model import Term
from chromasync.store import SqlStore, instants, open_store, queue, retry_charges, snapshot
from chromasync.store.schema_ledger import replica_chunks
from tests.store import children
from tests.store.samples import (
    COLLECTION,
    arrange,
    chunk_of,
    claim,
    claim_one,
    expire,
    filled,
    loaded,
    look,
    planned,
    result_for,
    task_for,
)

# ---- how it is used ---------------------------------------------------------------------------


def test_the_connections_are_set_up_for_many_users(file_store: SqlStore) -> None:
    """A write-ahead log, patience, and no more fsyncs than consistency needs."""
    wanted = {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30_000}
    for pragma, value in wanted.items():
        assert look(file_store, text(f"PRAGMA {pragma}")) == [(value,)]


def test_a_closed_store_is_one_file(path: Path) -> None:
    """Backing it up is copying it: no log is left behind."""
    filled(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_store_survives_being_copied(path: Path, tmp_path: Path) -> None:
    """A copy of a closed store is a store."""
    filled(path)
    shutil.copy(path, tmp_path / "copy.db")
    copy = open_store(tmp_path / "copy.db")
    assert len(copy.chunk_heads(COLLECTION)) == 55
    copy.close()


def plan_of(store: SqlStore, statement: Any, **values: object) -> str:
    """How SQLite would run a statement."""
    engine = store._backend.engine
    ready = statement.compile(engine).construct_expanded_state(values)
    ordered = tuple(ready.parameters[name] for name in ready.positiontup or ())
    with closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute(f"EXPLAIN QUERY PLAN {ready.statement}", ordered)
        return " / ".join(row[3] for row in cursor.fetchall())


def test_claims_and_rescues_do_not_read_finished_tasks(file_store: SqlStore) -> None:
    """However long the history, a claim reads the small index of what is ready."""
    planned(file_store, 300)
    for task in claim(file_store, 290):
        file_store.complete_task(task, result_for(file_store, task))
    for analyzed in (False, True):
        if analyzed:
            arrange(file_store, text("ANALYZE"))
        asked = {"worker": "w", "claim": 1, "floor": 0, "seconds": 1, "step": 1}
        claim_plan = plan_of(file_store, queue._CLAIM, **asked)
        assert "USING INDEX sync_tasks_ready (id>?)" in claim_plan
        assert "USING INDEX sync_tasks_claim (claim_number=?)" in claim_plan
        assert "SCAN" not in claim_plan
        assert "sync_tasks_lease" in plan_of(file_store, queue._OVERDUE)
        assert "sync_tasks" not in plan_of(file_store, retry_charges._CHARGED, oldest=1)
        assert "PRIMARY KEY" in plan_of(file_store, queue._HELD, task_id=1, fence=1)


def test_suspect_chunks_are_found_without_a_look_at_the_others(file_store: SqlStore) -> None:
    """Each status counts them, among tens of thousands of chunks."""
    for statement in (instants._SUSPECT, snapshot._CHUNKS):
        plan = plan_of(file_store, statement)
        assert "USING INDEX sync_replica_chunks_suspect" in plan
        assert "SEARCH sync_replica_chunks" not in plan


def test_heads_are_read_without_their_contents(file_store: SqlStore) -> None:
    """The walk needs ten thousand heads at once: they are few pages, however big the contents."""
    ids = [f"{n}-{os.urandom(20).hex()}" for n in range(1000)]
    file_store.save_chunks([chunk_of(ids) for _ in range(100)])
    pages = dict(
        look(
            file_store,
            text("SELECT name, count(*) FROM dbstat GROUP BY name"),
        )
    )
    contents = pages["sync_chunk_ids"] + pages["sync_applied_digests"]
    assert (pages["sync_chunks"] + pages["sync_replica_chunks"]) * 100 < contents


def test_an_unchanged_completion_writes_little(file_store: SqlStore, path: Path) -> None:
    """Re-reading an unchanged chunk must not copy its contents through the log again."""
    (chunk_id,) = file_store.save_chunks([chunk_of([f"{n:040}" for n in range(1000)])])
    cycle = file_store.open_cycle()
    log = path.with_name("state.db-wal")

    def logged(mark: int) -> int:
        file_store.add_tasks(cycle.id, [task_for(chunk_id)])
        task = claim_one(file_store)
        result = result_for(file_store, task, mark=mark)
        arrange(file_store, text("SELECT 1"))
        look(file_store, text("PRAGMA wal_checkpoint(TRUNCATE)"))
        assert file_store.complete_task(task, result)
        return log.stat().st_size

    assert logged(0) * 2 < logged(1)


# ---- leaders of this host ---------------------------------------------------------------------


def holder(pid: int, created: float, host: str | None = None) -> str:
    return f"{host or socket.gethostname()}:{pid}:{created}:uuid"


def test_a_dead_leader_of_this_host_is_succeeded_at_once(file_store: SqlStore) -> None:
    """After kill -9 nobody waits for the lease to end."""
    store = file_store
    created = psutil.Process().create_time()
    sleeper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    try:
        alive = holder(sleeper.pid, psutil.Process(sleeper.pid).create_time())
        assert store.take_lead(alive, 3600) == Term(alive, 1)
        me = holder(os.getpid(), created)
        assert store.take_lead(me, 60) is None
    finally:
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert store.take_lead(me, 60) == Term(me, 2), "a zombie is dead all the same"
        sleeper.communicate()


@pytest.mark.parametrize(
    "other",
    [
        holder(os.getpid(), psutil.Process().create_time()),
        holder(1 << 22, 1.0, host="another-host"),
        "nonsense",
        f"{socket.gethostname()}:x:y:z",
    ],
    ids=["alive", "elsewhere", "unknown form", "unreadable"],
)
def test_a_leader_that_may_live_is_waited_for(file_store: SqlStore, other: str) -> None:
    """Only proof of death shortens a lease."""
    file_store.take_lead(other, 3600)
    assert file_store.take_lead("me", 60) is None


def test_a_dead_worker_of_this_host_is_distrusted_until_now(file_store: SqlStore) -> None:
    """Whoever cannot write any more needs no waiting: the next attempt clears the mark."""
    planned(file_store, 2)
    reused_pid = holder(os.getpid(), psutil.Process().create_time() - 100)
    dead = claim_one(file_store, reused_pid, 3600)
    alive = claim_one(file_store, holder(os.getpid(), psutil.Process().create_time()), 3600)
    file_store.cancel_tasks("the process that planned it ended")
    known = replica_chunks.c
    until = dict(look(file_store, select(known.chunk_id, known.distrusted_at)))
    now = file_store.now()
    assert until[dead.chunk_id] <= now < until[alive.chunk_id]


def test_a_reused_pid_is_not_the_leader(file_store: SqlStore) -> None:
    """A process of the same number that began at another time is someone else."""
    file_store.take_lead(holder(os.getpid(), psutil.Process().create_time() - 100), 3600)
    assert file_store.take_lead("me", 60) == Term("me", 2)


def test_a_leader_that_died_in_another_process_is_succeeded(path: Path) -> None:
    """The same across real processes, without anyone cleaning up."""
    open_store(path).close()
    code = (
        "import os, socket, sys, psutil; from tests.store.children import lead_and_die;"
        "lead_and_die(sys.argv[1],"
        " f'{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time()}:u')"
    )
    root = Path(children.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=root, timeout=60)
    store = open_store(path)
    assert store.take_lead("me", 60) == Term("me", 2)
    store.close()


_DIE = """
import os, signal, sys
from sqlalchemy import select, text
from chromasync.store import open_store
with open_store(sys.argv[1])._writing() as tx:
    tx.execute(text("DELETE FROM sync_tasks"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_a_usable_store(file_store: SqlStore, path: Path) -> None:
    """A process that dies inside a transaction takes its lock and its half-done work with it."""
    planned(file_store, 2)
    killed = subprocess.run([sys.executable, "-c", _DIE, str(path)], check=False, timeout=60)
    assert killed.returncode == -9
    tasks = claim(file_store, 5)
    assert len(tasks) == 2
    expire(file_store, *tasks)
    assert file_store.rescue_tasks() == 2
    assert loaded(file_store, tasks[0].chunk_id).head.replica.suspect

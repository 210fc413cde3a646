"""Several processes and threads on one store."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
from sqlalchemy import func, select, text

from chromasync.model import TaskCounts
from chromasync.store import SqlStore, open_store
from chromasync.store.migrations import STEPS
from chromasync.store.schema import schema_versions
from tests.store import children
from tests.store.conftest import Opener, Places
from tests.store.samples import COLLECTION, claim, digests, loaded, look, planned, result_for

RACERS = 8
WORKERS = 4
TASKS = {"sqlite": 2000, "postgresql": 800}


@pytest.fixture(scope="module")
def racers() -> Iterator[ProcessPoolExecutor]:
    with children.children(RACERS) as pool:
        yield pool


@pytest.mark.long
def test_racing_starters_all_find_a_whole_schema(
    racers: ProcessPoolExecutor, places: Places
) -> None:
    """Eight processes that open a store that is not there yet all succeed, time after time."""
    for _ in range(4):
        fresh = places()
        jobs = [racers.submit(children.open_and_close, fresh) for _ in range(RACERS)]
        assert len({job.result() for job in jobs}) == RACERS
        store = open_store(fresh)
        versions = look(store, select(schema_versions.c.version))
        store.close()
        assert versions == [(n,) for n in range(1, len(STEPS) + 1)]


@pytest.mark.long
def test_processes_share_the_tasks_without_getting_in_each_others_way(
    store: SqlStore, place: str
) -> None:
    """A lot of tasks, four processes: each task is done once and no lock is ever in the way."""
    most = TASKS[store.backend.engine.dialect.name]
    cycle = planned(store, most)
    with children.children(WORKERS) as pool:
        jobs = [pool.submit(children.work_off, place, 8) for _ in range(WORKERS)]
        done = [task_id for job in jobs for task_id in job.result()]
    assert len(done) == len(set(done)) == most
    assert store.task_counts(cycle.id) == TaskCounts(completed=most)
    heads = store.chunk_heads(COLLECTION)
    assert {head.replica.gone_count for head in heads} == {1}
    assert loaded(store, heads[-1].id).applied.payload == digests(3, 7)
    assert len(store.deletions(COLLECTION)) == most


def test_threads_share_one_store(store: SqlStore) -> None:
    """Eight threads claim, renew, read and complete at once; each task is done once."""
    cycle = planned(store, 200)

    def work(name: str) -> list[int]:
        done = []
        while claimed := claim(store, 3, name):
            assert store.renew_tasks(claimed, 60) == {task.id for task in claimed}
            for task in claimed:
                assert store.complete_task(task, result_for(store, task))
                done.append(task.id)
        return done

    with ThreadPoolExecutor(8) as pool:
        done = [task_id for ids in pool.map(work, "abcdefgh") for task_id in ids]
    assert len(done) == len(set(done)) == 200
    assert store.cycle_counts(cycle.id)[COLLECTION].read == 600


def test_only_one_of_many_becomes_the_leader(opener: Opener) -> None:
    """Sixteen at once ask for the lead: exactly one gets it."""
    stores = [opener() for _ in range(4)]

    def ask(n: int) -> bool:
        return stores[n % 4].take_lead(f"holder-{n}", 60) is not None

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(ask, range(16))) == 1


def test_a_reader_sees_a_whole_completion_or_none_of_it(store: SqlStore, opener: Opener) -> None:
    """Counts of completed tasks and of deletions move together in every single view."""
    reader = opener()  # asking without a pause, it would leave the writer of one store no turn
    planned(store, 100)
    claimed = claim(store, 100)
    results = [result_for(store, task, gone=["0-a"]) for task in claimed]
    both = "SELECT (SELECT count(*) FROM sync_tasks WHERE task_status = 'completed'), "
    both += "(SELECT count(*) FROM sync_deletions)"

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(
            lambda: [store.complete_task(*pair) for pair in zip(claimed, results, strict=True)]
        )
        while not writing.done():
            ((completed, deletions),) = look(reader, text(both))
            assert completed == deletions
        assert all(writing.result())
    assert look(store, select(func.count()).select_from(schema_versions)) == [(len(STEPS),)]

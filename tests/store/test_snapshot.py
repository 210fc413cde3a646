"""What is shown of the store is one view of it, made by the database, whatever others commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event, update

from chromasync.model import (
    Chunk,
    CycleStatus,
    Hold,
    HoldKind,
    OpCounts,
    Quarantined,
    StoreSnapshot,
    Suspicion,
    TaskCounts,
    WorkerStatus,
)
from chromasync.store import SqlStore
from chromasync.store.schema import Later, cycles, workers
from chromasync.trials import new_trial
from tests.store.conftest import Opener
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    beat_of,
    chunk_of,
    claim_one,
    planned,
    result_for,
)
from tests.support.ledgers import mirror_of

TRIAL = new_trial()
MIRROR = mirror_of(COLLECTION, "t", "d", "books")
DONE, FAILED = CycleStatus.COMPLETED, CycleStatus.FAILED


def timed_chunk(name: str, seconds: float, collection: str = COLLECTION) -> Chunk:
    chunk = chunk_of([name], collection=collection)
    return replace(chunk, head=replace(chunk.head, read_seconds=seconds))


def ran(store: SqlStore, status: CycleStatus) -> None:
    store.close_cycle(store.open_cycle().id, status, 0)


def filled(store: SqlStore) -> None:
    """Something of everything that is shown."""
    store.save_mirrors([MIRROR, mirror_of(OTHER, "t", "d", "films")])
    store.save_hold(Hold(COLLECTION, "books", HoldKind.DELETES, 5, "why"))
    store.save_chunks([timed_chunk("x", 1.5), timed_chunk("y", 2.0)])
    store.save_chunks([timed_chunk("z", 0.25, OTHER)])
    store.distrust(OTHER)
    store.keep_trial(TRIAL, "me", 60)
    store.beat(beat_of("w1"))
    ran(store, DONE)
    planned(store, 2)
    task = claim_one(store, "w1")
    aside = [Quarantined(COLLECTION, "0-a", "bad", absent=True)]
    done = result_for(store, task, quarantined=aside, counts=OpCounts(read=3, updated=2))
    assert store.complete_task(task, done)


@contextmanager
def noted(store: SqlStore, act: Callable[[str], None] | None = None) -> Iterator[list[str]]:
    """The statements that the store executes, each acted upon when it is done."""
    said: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)
        if act is not None:
            act(statement)

    event.listen(store.backend.engine, "after_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(store.backend.engine, "after_cursor_execute", note)


def is_begin(statement: str) -> bool:
    return statement.startswith("BEGIN")


def test_it_is_what_the_methods_of_the_store_say(store: SqlStore) -> None:
    """Each part is the same as when it is asked for alone."""
    filled(store)
    seen = store.snapshot(2)
    newest, _ = store.cycles(2)
    assert list(seen.mirrors) == store.mirrors()
    assert list(seen.holds) == store.holds()
    assert list(seen.quarantined) == store.quarantined()
    assert list(seen.workers) == store.workers()
    assert list(seen.cycles) == store.cycles(2)
    assert seen.suspicions == store.suspicions() == {OTHER: Suspicion(1, None)}
    assert seen.live_trials == store.live_trials() == {TRIAL}
    assert seen.counts == store.cycle_counts(newest.id)
    assert seen.counts == {COLLECTION: OpCounts(read=3, updated=2)}
    assert seen.tasks == store.task_counts(newest.id) == TaskCounts(pending=1, completed=1)
    assert seen.active_workers == store.active_workers() == 1
    assert seen.taken_at <= store.now()


def test_an_empty_store_shows_nothing(store: SqlStore) -> None:
    """There is no cycle to count, and no sum of nothing."""
    seen = store.snapshot(10)
    assert (seen.mirrors, seen.cycles, seen.workers) == ((), (), ())
    assert (seen.counts, seen.tasks, seen.read_seconds) == ({}, TaskCounts(), {})
    assert seen.clean_at is None


def test_reading_times_are_summed_by_collection(store: SqlStore) -> None:
    """That of all chunks, read or not, so that nobody has to load them."""
    filled(store)
    sums = store.snapshot(1).read_seconds
    for collection in (COLLECTION, OTHER):
        heads = store.chunk_heads(collection)
        assert sums[collection] == pytest.approx(sum(head.read_seconds for head in heads))
    assert sums[OTHER] == 0.25


def test_the_cycle_that_is_counted_can_be_named(store: SqlStore) -> None:
    """A cycle that somebody opened meanwhile does not put its counts in the place of another's."""
    filled(store)
    (mine,) = store.cycles(1)
    store.close_cycle(mine.id, DONE, 0)
    store.open_cycle()
    assert store.snapshot(1).tasks == TaskCounts()
    assert store.snapshot(0, counted=mine.id).tasks == store.task_counts(mine.id)
    assert store.snapshot(0, counted=mine.id).counts == store.cycle_counts(mine.id)
    assert store.snapshot(0).tasks == TaskCounts()


def test_the_newest_completed_cycle_is_known_behind_any_number_of_others(store: SqlStore) -> None:
    """Its age counts, not how many cycles failed after it, nor how many are listed."""
    for status in (DONE, DONE, FAILED, FAILED):
        ran(store, status)
    assert store.snapshot(1).clean_at == store.cycles(3)[-1].started_at
    arrange(store, update(cycles).values(cycle_status=FAILED))
    assert store.snapshot(1).clean_at is None


@pytest.mark.parametrize("seconds", [-300, 300])
def test_its_silent_workers_are_dead(store: SqlStore, seconds: float) -> None:
    """Those whose proof of life is long ago, or still to come; and they do not count."""
    store.beat(beat_of("silent"))
    store.beat(beat_of("stopped", status=WorkerStatus.STOPPED))
    arrange(store, update(workers).values(last_heartbeat=Later(seconds)))
    store.beat(beat_of("alive"))
    seen = store.snapshot(1)
    assert {worker.worker_id: worker.status for worker in seen.workers} == {
        "silent": WorkerStatus.DEAD,
        "stopped": WorkerStatus.STOPPED,
        "alive": WorkerStatus.ACTIVE,
    }
    assert seen.active_workers == store.active_workers() == 1


def test_it_is_one_transaction_however_much_is_mirrored(store: SqlStore) -> None:
    """The same few statements for one collection and for many, and none that lists chunks."""
    filled(store)
    with noted(store) as few:
        store.snapshot(1)
    for n in range(30):
        store.save_mirror(mirror_of(f"c{n}", "t", "d", f"n{n}"))
        store.save_chunks([timed_chunk(f"{n}-{i}", 0.1, f"c{n}") for i in range(5)])
    with noted(store) as many:
        seen = store.snapshot(1)
    assert len(seen.mirrors) == 32
    assert many == few
    assert [is_begin(statement) for statement in many] == [True] + [False] * (len(many) - 1)
    of_chunks = [statement for statement in many if "sync_chunks" in statement]
    assert len(of_chunks) == 2
    assert all("GROUP BY" in statement for statement in of_chunks)


def others_write(other: SqlStore) -> None:
    """Change all that is shown, in many transactions."""
    other.save_mirror(MIRROR.with_primary(name="renamed"))
    other.forget_mirror(OTHER)
    other.clear_hold(COLLECTION, HoldKind.DELETES)
    other.distrust(COLLECTION)
    other.forget_trial(TRIAL)
    (running,) = other.cycles(1)
    task = claim_one(other, "w2")
    assert other.complete_task(task, result_for(other, task))
    other.close_cycle(running.id, DONE, 0)
    planned(other, 3)
    other.beat(beat_of("w2"))


def shown(seen: StoreSnapshot) -> StoreSnapshot:
    """All but the instant."""
    return replace(seen, taken_at=seen.cycles[0].started_at)


def test_what_others_commit_meanwhile_is_not_seen_in_parts(opener: Opener) -> None:
    """After whichever statement it comes: a view that has begun shows nothing of it."""
    store, other = opener(), opener()
    filled(store)
    with noted(store) as statements:
        store.snapshot(2)
    for place in range(len(statements)):
        before = store.snapshot(2)
        count = -1

        def write_once(_: str, place: int = place) -> None:
            nonlocal count
            count += 1
            if count == place:
                others_write(other)

        with noted(store, write_once):
            seen = store.snapshot(2)
        assert count >= place
        after = store.snapshot(2)
        assert shown(after) != shown(before)
        # what is committed between BEGIN and the first statement is seen, all of it
        assert shown(seen) == shown(before if place else after), statements[place]
        restore(store)


def restore(store: SqlStore) -> None:
    """Bring back what `others_write` took away."""
    store.forget_mirror(COLLECTION)
    store.forget_mirror(OTHER)
    filled(store)


def test_no_instant_of_it_is_later_than_the_one_at_which_it_was_taken(opener: Opener) -> None:
    """Though others give some when the transaction has begun, and after each of its statements."""
    store, other = opener(), opener()
    with noted(store, lambda _: other.beat(beat_of())):
        seen = store.snapshot(1)
    (worker,) = seen.workers
    assert worker.last_heartbeat_at is not None
    assert worker.last_heartbeat_at <= seen.taken_at

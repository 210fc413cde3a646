"""A chunk that kills the process that plans is charged for it, and gives up like any other."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from chromasync.ledger.plan import without_ids
from chromasync.model import MAX_RETRIES, Cycle, CycleStatus, TaskCounts, WorkerStatus
from chromasync.store import SqlStore, retry_charges
from chromasync.store.schema import Later, leases, tasks
from chromasync.store.schema import workers as beats
from chromasync.store.schema_retry_charges import retry_charges as charges_table
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    beat_of,
    claim,
    claim_one,
    end_backoffs,
    expire,
    loaded,
    look,
    plan_into,
    planned,
    result_for,
    row_of,
    task_for,
)

ENDED = "the process that planned it ended"


def begin(store: SqlStore, name: str) -> SqlStore:
    """A process begins to lead, after the one before has not renewed its lead; its view."""
    arrange(store, update(leases).values(expires_at=Later(-1)))
    term = store.take_lead(name, 60)
    assert term is not None
    store.beat(beat_of(name))
    view = store.led_by(term)
    view.cancel_tasks(ENDED)
    return view


def plan_again(store: SqlStore, *chunk_ids: int) -> Cycle:
    """A new cycle that plans these chunks; the one before was left running."""
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [task_for(chunk_id) for chunk_id in chunk_ids])
    return cycle


def newest(store: SqlStore, chunk_id: int) -> tuple[object, ...]:
    """Status, charges and error of a chunk's newest task."""
    columns = (tasks.c.task_status, tasks.c.retry_count, tasks.c.error_message)
    return look(store, select(*columns).where(tasks.c.chunk_id == chunk_id).order_by(tasks.c.id))[
        -1
    ]


def charged(store: SqlStore) -> dict[int, int]:
    """Retries that are kept for the next task of each chunk."""
    return dict(look(store, select(charges_table.c.chunk_id, charges_table.c.retry_count)))


def held_by_a_dead_leader(store: SqlStore) -> tuple[SqlStore, int]:
    """The view of the leader after it, and the chunk that is charged with one retry."""
    first = begin(store, "one")
    planned(first, 1)
    held = claim_one(store, "one")
    return begin(store, "two"), held.chunk_id


def test_what_a_dead_leader_held_is_charged(store: SqlStore) -> None:
    """Its chunk waits and runs alone; what waited for its turn begins as if nothing had been."""
    first = begin(store, "one")
    planned(first, 2)
    held = claim_one(store, "one")
    second = begin(store, "two")
    reason = "the process ended while held by one"
    assert newest(store, held.chunk_id) == ("failed", 1, reason)
    other = next(h.id for h in store.chunk_heads(COLLECTION) if h.id != held.chunk_id)
    plan_again(second, held.chunk_id, other)
    assert newest(store, other) == ("pending", 0, None)
    assert claim_one(store).chunk_id == other
    assert claim(store, 1) == [], "it waits"
    end_backoffs(store)
    again = claim_one(store)
    assert (again.chunk_id, again.retry_count) == (held.chunk_id, 1)


def test_what_living_workers_hold_is_not_charged(store: SqlStore) -> None:
    """A change of the leader says nothing about chunks in the hands of other processes."""
    first = begin(store, "one")
    planned(first, 1)
    store.beat(beat_of("alive"))
    held = claim_one(store, "alive")
    second = begin(store, "two")
    assert newest(store, held.chunk_id) == ("failed", 0, ENDED)
    plan_again(second, held.chunk_id)
    assert claim_one(store).retry_count == 0


def test_what_is_handed_back_is_not_charged(store: SqlStore) -> None:
    """A process that is asked to end has no chunk to blame."""
    first = begin(store, "one")
    planned(first, 1)
    task = claim_one(store, "one")
    store.release_tasks([task])
    store.beat(beat_of("one", status=WorkerStatus.STOPPED))
    second = begin(store, "two")
    plan_again(second, task.chunk_id)
    assert claim_one(store).retry_count == 0


def test_a_silent_worker_is_charged_by_whoever_leads(store: SqlStore) -> None:
    """It was shown as dead before its lease ended; its task is called back all the same."""
    planned(store, 1)
    store.beat(beat_of("silent"))
    held = claim_one(store, "silent", 600)
    arrange(store, update(beats).values(last_heartbeat=Later(-61)))
    assert store.rescue_tasks() == 0
    store.cancel_tasks("a server is away")
    assert newest(store, held.chunk_id)[1] == 1


def test_a_chunk_that_kills_every_leader_fails(store: SqlStore) -> None:
    """After MAX_RETRIES more tries it fails when it is planned: the cycle can close, with why."""
    view = begin(store, "leader 0")
    (poison, good) = plan_into(view, view.open_cycle(), 2)
    for n in range(MAX_RETRIES + 1):
        end_backoffs(store)
        task = claim_one(store, f"leader {n}")
        assert (task.chunk_id, task.retry_count) == (poison, n)
        view = begin(store, f"leader {n + 1}")
        cycle = plan_again(view, poison, good)
    assert store.task_counts(cycle.id) == TaskCounts(pending=1, failed=1)
    reason = f"the process ended while held by leader {MAX_RETRIES}"
    assert store.failed_tasks(cycle.id) == {COLLECTION: reason}
    assert view.add_tasks(cycle.id, [task_for(poison)]) == 0, "it was given up in this cycle"
    assert claim_one(store).chunk_id == good
    view.close_cycle(cycle.id, CycleStatus.FAILED, 0)
    plan_again(view, poison)
    assert newest(store, poison) == ("pending", 0, None)


def test_two_such_chunks_do_not_excuse_each_other(store: SqlStore) -> None:
    """What one is charged with counts on while the other kills, until both fail in one cycle."""
    view = begin(store, "leader 0")
    chunk_ids = plan_into(view, view.open_cycle(), 2)
    killed = []
    for n in range(2 * MAX_RETRIES + 2):
        end_backoffs(store)
        killed.append(claim_one(store, f"leader {n}").chunk_id)
        view = begin(store, f"leader {n + 1}")
        cycle = plan_again(view, *chunk_ids)
    assert sorted(killed) == sorted(chunk_ids * (MAX_RETRIES + 1))
    assert store.task_counts(cycle.id) == TaskCounts(failed=2)
    view.close_cycle(cycle.id, CycleStatus.FAILED, 0)
    assert store.task_counts(plan_again(view, *chunk_ids).id) == TaskCounts(pending=2)


def test_a_cycle_that_ends_before_it_plans_forgets_nothing(store: SqlStore) -> None:
    """The servers may be away for a while after such a death."""
    first = begin(store, "one")
    planned(first, 1)
    held = claim_one(store, "one")
    second = begin(store, "two")
    for _ in range(3):
        second.close_cycle(second.open_cycle().id, CycleStatus.FAILED, 0, "a server is away")
    plan_again(second, held.chunk_id)
    assert newest(store, held.chunk_id)[:2] == ("pending", 1)


def test_a_chunk_that_went_through_is_charged_with_nothing(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is one that was rescued and failed for good: the next cycle begins afresh."""
    first = begin(store, "one")
    planned(first, 2)
    held, hopeless = claim(store, 2, "one")
    second = begin(store, "two")
    plan_again(second, held.chunk_id, hopeless.chunk_id)
    end_backoffs(store)
    task, other = claim(store, 2, "two")
    assert store.complete_task(task, result_for(store, task))
    expire(store, other)
    with monkeypatch.context() as stricter:
        stricter.setattr(retry_charges, "MAX_RETRIES", 1)
        assert store.rescue_tasks() == 1
    cycle = plan_again(second, held.chunk_id, hopeless.chunk_id)
    assert store.task_counts(cycle.id) == TaskCounts(pending=2)
    assert [task.retry_count for task in claim(store, 2)] == [0, 0]


@pytest.mark.parametrize("end", ["succeeds", "fails for good", "is emptied", "is forgotten"])
def test_charges_are_kept_no_longer_than_their_chunk_has_them(store: SqlStore, end: str) -> None:
    """Whatever ends them leaves no row behind."""
    view, chunk_id = held_by_a_dead_leader(store)
    assert charged(store) == {chunk_id: 1}
    plan_again(view, chunk_id)
    end_backoffs(store)
    task = claim_one(store, "two")
    assert charged(store) == {chunk_id: 1}, "the next leader may die over it, too"
    if end == "succeeds":
        assert store.complete_task(task, result_for(store, task))
    elif end == "fails for good":
        assert store.fail_task(task, "no", final=True)
    elif end == "is emptied":
        chunk = loaded(store, chunk_id)
        store.save_chunks([without_ids(chunk, set(chunk.ids))])
    else:
        store.forget_chunks(COLLECTION)
    assert charged(store) == {}


def test_a_chunk_that_is_not_planned_for_long_is_charged_with_nothing(store: SqlStore) -> None:
    """Its charges end after CHARGED_CYCLES cycles, whether those are closed or not."""
    view, chunk_id = held_by_a_dead_leader(store)
    for _ in range(retry_charges.CHARGED_CYCLES - 1):
        view.open_cycle()
    view.close_cycle(view.open_cycle().id, CycleStatus.COMPLETED, 0)
    assert charged(store) == {chunk_id: 1}
    view.open_cycle()
    plan_again(view, chunk_id)
    assert newest(store, chunk_id)[:2] == ("pending", 0)
    view.close_cycle(view.cycles(1)[0].id, CycleStatus.COMPLETED, 0)
    assert charged(store) == {}


def test_charges_go_along_when_a_ledger_moves(store: SqlStore) -> None:
    """The chunk is the same, and so is what it does to its workers."""
    view, chunk_id = held_by_a_dead_leader(store)
    plan_again(view, chunk_id)
    view.move_ledger(COLLECTION, OTHER)
    view.add_tasks(view.cycles(1)[0].id, [task_for(chunk_id, OTHER)])
    assert newest(store, chunk_id)[:2] == ("pending", 1)


def test_charges_are_those_of_one_chunk(store: SqlStore) -> None:
    """Chunks of other collections, planned in the same call or another, bear none of them."""
    first = begin(store, "one")
    cycle = planned(first, 1)
    (other,) = plan_into(first, cycle, 1, collection=OTHER)
    held = claim_one(store, "one")
    second = begin(store, "two")
    cycle = plan_again(second, other)
    assert newest(store, other)[:2] == ("pending", 0)
    second.add_tasks(cycle.id, [task_for(held.chunk_id)])
    assert newest(store, held.chunk_id)[:2] == ("pending", 1)


def test_a_leader_that_is_succeeded_is_shown_as_dead(store: SqlStore) -> None:
    """Unless it gave its lead up; and one that was only slow is alive again with its next beat."""
    begin(store, "one")
    begin(store, "two")
    states = {worker.worker_id: worker.status for worker in store.workers()}
    assert states == {"one": WorkerStatus.DEAD, "two": WorkerStatus.ACTIVE}
    store.beat(beat_of("one"))
    term = store.take_lead("two", 60)
    assert term is not None
    store.give_up_lead(term)
    assert store.take_lead("one", 60) is not None
    assert {worker.status for worker in store.workers()} == {WorkerStatus.ACTIVE}


@pytest.mark.parametrize("lost", [True, False], ids=["a claim was lost", "no claim was lost"])
def test_a_fence_is_not_given_twice(store: SqlStore, lost: bool) -> None:
    """A failover that loses a claim lets another make it again; the first one writes nothing."""
    planned(store, 1)
    first = claim_one(store, "first")
    result = result_for(store, first)
    if lost:
        arrange(
            store,
            update(tasks).values(
                task_status="pending", fence=0, lease_expires_at=None, claim_number=None
            ),
        )
    else:
        store.release_tasks([first])
    second = claim_one(store, "second")
    assert second.fence != first.fence
    assert not store.complete_task(first, result)
    assert store.renew_tasks([first], 60) == set()
    assert row_of(store, second, "worker_id", "task_status") == ("second", "processing")

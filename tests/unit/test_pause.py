"""A pause in the middle of work: it stops at the next step, and work goes on where it stopped."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import func, select

from chromasync.cycle import waiting
from chromasync.cycle.ahead import AT_ONCE
from chromasync.errors import Paused
from chromasync.lab.fake import Call
from chromasync.ledger import paging
from chromasync.model import CycleStatus, MirrorStatus, Task, TaskStatus
from chromasync.ports import Permit
from chromasync.reports import Outcome
from chromasync.steering import Steering
from chromasync.store import SqlStore
from chromasync.store.schema import tasks
from chromasync.store.schema_ledger import replica_chunks
from tests.store.samples import look, planned
from tests.support.house import CHUNK, House, house_of
from tests.unit.pools import PATIENCE, Reconciler, is_done, pool_of, states, until

pytestmark = pytest.mark.usefixtures("impatient")


def pauses_at(house: House, name: str, number: int = 1) -> list[str]:
    """Pause when the primary is asked this for the n-th time; what is asked of it from then on."""
    asked: list[str] = []
    count = [0]

    def hook(call: Call) -> None:
        if house.steering.is_paused:
            asked.append(call.name)
        count[0] += call.name == name
        if count[0] == number and not house.steering.is_paused:
            house.pause()

    house.primary.on_request(hook)
    return asked


def test_a_worker_puts_its_task_down_before_the_next_write(store: SqlStore) -> None:
    """The task is handed back without a retry, its chunk is compared later, and none is claimed."""
    cycle = planned(store, 3)
    steering = Steering()
    go_on = threading.Event()

    def act(task: Task, permit: Permit) -> None:
        go_on.wait(PATIENCE)
        permit()

    reconciler = Reconciler(act)
    with pool_of(store, reconciler, steering=steering) as pool:
        first = reconciler.began.get(timeout=PATIENCE)
        store.pause("ann@here", "")
        steering.note(store.orders())
        go_on.set()
        until(pool, lambda: states(store)[first.id][0] == "pending")
        assert pool.trouble is None
        assert {state[:2] for state in states(store).values()} == {("pending", 0)}
        suspect = select(replica_chunks.c.chunk_id).where(replica_chunks.c.suspect)
        assert look(store, suspect) == [(first.chunk_id,)]
        assert reconciler.seen == [first.id]
        store.resume()
        steering.note(store.orders())
        until(pool, is_done(store, cycle.id))
    assert {state[:2] for state in states(store).values()} == {("completed", 0)}


def test_a_claim_that_was_under_way_is_handed_back(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause that comes between the look and the claim begins no task."""
    cycle = planned(store, 1)
    steering = Steering()
    claim, paused = store.claim_task, threading.Event()

    def claim_task(*given: Any) -> Task | None:
        if not paused.is_set():
            store.pause("ann@here", "")
            steering.note(store.orders())
            paused.set()
        return claim(*given)

    monkeypatch.setattr(store, "claim_task", claim_task)
    reconciler = Reconciler()
    with pool_of(store, reconciler, steering=steering) as pool:
        assert paused.wait(PATIENCE)
        until(pool, lambda: store.task_counts(cycle.id).pending == 1)
        assert reconciler.seen == []
        store.resume()
        steering.note(store.orders())
        until(pool, is_done(store, cycle.id))


@pytest.mark.parametrize("step", ["list_ids", "read"])
def test_a_paused_cycle_ends_and_the_next_one_finishes_it(
    house: House, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """It fails nothing, leaves no task alive, and what was copied is not copied again."""
    monkeypatch.setattr(paging, "PAGE_IDS", 2 * CHUNK)
    monkeypatch.setattr(waiting, "WAIT_SECONDS", 0.01)
    house.fill(10 * CHUNK)
    asked = pauses_at(house, step, 2)
    with pytest.raises(Paused, match="disk swap"):
        house.sync()
    house.primary.on_request(None)
    assert len(asked) <= AT_ONCE, "requests that other threads had begun may end"
    (cycle,) = house.store.cycles(5)
    assert cycle.status is CycleStatus.ABANDONED
    alive = select(func.count()).where(
        tasks.c.task_status.in_([TaskStatus.PENDING, TaskStatus.PROCESSING])
    )
    assert look(house.store, alive) == [(0,)]
    assert look(house.store, select(func.sum(tasks.c.retry_count))) in ([(0,)], [(None,)])
    assert {m.last_error for m in house.store.mirrors()} <= {None}
    house.resume()
    copied = cycle.counts.inserted
    report = house.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert copied + report.counts.inserted <= 10 * CHUNK + 3 * 50
    assert len(house.replica.contents(replica_of(house))) == 10 * CHUNK


def test_a_paused_cycle_of_nothing_new_keeps_what_was_known(house: House) -> None:
    """Identical as of does not move, is not lost, and goes on from there."""
    house.fill(CHUNK)
    house.sync()
    before = {m.name: m.identical_as_of for m in house.store.mirrors()}
    house.pause()
    with pytest.raises(Paused):
        house.sync()
    after = {m.name: m.identical_as_of for m in house.store.mirrors()}
    assert after == before
    house.resume()
    assert house.sync().outcome is Outcome.IDENTICAL
    assert {m.status for m in house.store.mirrors()} == {MirrorStatus.IDENTICAL}


def test_a_cycle_serves_the_requests_before_it(store: SqlStore) -> None:
    """A request for everything is served by reading everything; a later one stays open."""
    with house_of(store, SYNC_SCRUB_BUDGET="0", SYNC_REPLICA_CHECK_INTERVAL="86400") as house:
        house.fill(3 * CHUNK)
        house.sync()
        house.sync()
        assert house.sync().counts.read == 0
        number = store.want_cycle("ann@here", full=True)
        asked: list[int] = []

        def ask_again(call: Call) -> None:
            if not asked:
                asked.append(store.want_cycle("bob@here"))

        house.primary.on_request(ask_again)
        report = house.sync()
        row = store.control()
    assert report.counts.read == 3 * CHUNK
    assert (row.begun_number, row.begun_cycle) == (number, report.cycle.id)
    assert row.has_request
    assert row.wanted_number == asked[0]
    assert not row.wanted_full


def replica_of(house: House) -> Any:
    """The replica's copy of the collection that the test filled."""
    listed = house.replica.list_collections("default_tenant", "default_database")
    return next(c for c in listed if c.name == house.home.name)

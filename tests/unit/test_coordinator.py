"""How a cycle ends that cannot go on: asked to stop, with a store that fails, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import pytest
from sqlalchemy import func, select, update

from chromasync.cycle import coordinator as coordinating
from chromasync.cycle import membership, waiting
from chromasync.cycle.removals import Removals
from chromasync.errors import DamagedChunk, ServerUnreachable, Stopped, StoreUnavailable
from chromasync.lab.fake import Call
from chromasync.ledger import paging
from chromasync.model import (
    ChunkResult,
    CycleStatus,
    HoldKind,
    NewTask,
    Side,
    Task,
    TaskStatus,
)
from chromasync.quiet import Quiet
from chromasync.reconcile.chunk import ChunkReconciler, pair_of
from chromasync.reports import Outcome
from chromasync.store import SqlStore
from chromasync.store.schema import Later, cycles, tasks
from tests.store.samples import arrange, claim, look
from tests.support.house import CHUNK, House, house_of
from tests.support.ledgers import names, record

pytestmark = pytest.mark.usefixtures("impatient", "small_pages")

PAGE = 20
FOUND = {"save_chunks": 0, "choose_scrubs": PAGE / CHUNK}
"""Tasks of the walk that are published before something happens there."""


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a walk and batches of deletes that a few records fill."""
    monkeypatch.setattr(paging, "PAGE_IDS", PAGE)
    monkeypatch.setattr(membership, "SURPLUS_BATCH", CHUNK)


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    with house_of(store) as house:
        yield house


def failing(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def tasks_by_status(store: SqlStore) -> dict[TaskStatus, int]:
    counted = select(tasks.c.task_status, func.count()).group_by(tasks.c.task_status)
    return dict(look(store, counted))


def other_worker(house: House) -> Callable[[], None]:
    """Another process that does what it can have when the walk begins; finishes when called."""
    done: list[tuple[Task, ChunkResult]] = []

    def work(call: Call) -> None:
        if call.name != "list_ids":
            return
        house.primary.on_request(None)
        for task in claim(house.store, 1, "other"):
            given = house.store.task_input(task)
            assert given.chunk is not None
            assert given.mirror is not None
            pair = pair_of(given.mirror)
            assert pair is not None
            reconciler = ChunkReconciler(house.primary, house.replica)
            done.append((task, reconciler.reconcile(pair, given.chunk, task, lambda: 60.0, {})))

    def finish() -> None:
        while done:
            house.store.complete_task(*done.pop())

    house.primary.on_request(work)
    return finish


# ---- asked to stop -------------------------------------------------------------------------------


def test_a_stop_is_noticed_between_two_pages(house: House) -> None:
    """The walk asks for no other page, and what it had published is done or handed back."""
    house.fill(10 * PAGE)
    pages = house.stops_at(house.primary, "list_ids", 2)
    with pytest.raises(Stopped):
        house.sync()
    assert pages() == 2
    assert not house.pool.alive
    (cycle,) = house.store.cycles(5)
    assert cycle.status is CycleStatus.ABANDONED
    ended = tasks_by_status(house.store)
    assert ended.keys() <= {TaskStatus.COMPLETED, TaskStatus.FAILED}
    assert sum(ended.values()) == PAGE / CHUNK, "nothing was published after the stop"
    assert look(house.store, select(func.max(tasks.c.retry_count))) == [(0,)]


def test_a_stop_is_noticed_in_the_walk_of_the_replica(house: House) -> None:
    """Its pages end like those of the primary."""
    house.fill(3 * PAGE)
    house.sync()
    pages = house.stops_at(house.replica, "list_ids")
    with pytest.raises(Stopped):
        house.sync(full=True)
    assert pages() == 1


@pytest.mark.parametrize("place", [(SqlStore, "save_chunks"), (coordinating, "choose_scrubs")])
def test_nothing_is_published_after_a_stop(
    house: House, monkeypatch: pytest.MonkeyPatch, place: tuple[Any, str]
) -> None:
    """Neither chunks that the walk has just found nor those whose turn it is to be read again."""
    house.fill(PAGE)
    house.sync()
    house.sync()  # what the first one wrote is read once more
    before = tasks_by_status(house.store)
    whole = getattr(*place)

    def stopping(*given: Any) -> Any:
        house.stop.set()
        return whole(*given)

    monkeypatch.setattr(*place, stopping)
    house.fill(PAGE, "new")
    with pytest.raises(Stopped):
        house.sync(full=True)
    after = tasks_by_status(house.store)
    assert sum(after.values()) - sum(before.values()) == FOUND[place[1]]


def test_a_stop_is_noticed_between_two_batches_of_deletes(store: SqlStore) -> None:
    """The batch at hand is deleted and recorded; the others wait for the next cycle."""
    with house_of(store, SYNC_MAX_DELETE="100%") as house:
        house.fill(5 * CHUNK)
        house.fill(CHUNK, "kept")
        house.sync()
        house.primary.remove(house.home, names(5 * CHUNK))
        deletes = house.stops_at(house.replica, "delete")
        with pytest.raises(Stopped):
            house.sync()
        house.replica.on_request(None)
        assert deletes() == 1
        assert len(house.replica.contents(house.copy())) == 5 * CHUNK
        assert len(store.deletions(house.home.id)) == 4
    (cycle, _) = store.cycles(5)
    assert (cycle.status, cycle.counts.deleted) == (CycleStatus.ABANDONED, CHUNK)


def test_a_stop_is_noticed_between_two_drops(house: House) -> None:
    """A drop that has begun is finished; what was approved stays approved for the next cycle."""
    for name in ("one", "two"):
        strange = house.replica.make(name)
        house.replica.put(strange, record())
    house.sync()
    for hold in house.store.holds():
        house.store.approve(hold)
    drops = house.stops_at(house.replica, "drop_collection")
    with pytest.raises(Stopped):
        house.sync()
    assert drops() == 1
    (left,) = house.store.holds()
    assert (left.kind, left.approved_count) == (HoldKind.SURPLUS_COLLECTION, 1)
    assert house.store.cycles(1)[0].counts.deleted == 1


def test_a_stop_after_the_last_delete_closes_the_cycle(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left to be done but to say so."""
    house.fill(CHUNK)
    monkeypatch.setattr(Removals, "run", lambda _: house.stop.set())
    assert house.sync().outcome is Outcome.IDENTICAL


# ---- a store that fails --------------------------------------------------------------------------


def test_a_task_that_could_not_be_called_back_ends_with_the_next_cycle(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it alive, it would be completed for the chunk as it was, and new ids be forgotten."""
    house.fill(CHUNK // 2)
    away = ServerUnreachable("down", side="primary")
    house.primary.on_request(lambda call: failing(away)() if call.name == "read" else None)
    with monkeypatch.context() as broken:
        broken.setattr(SqlStore, "cancel_tasks", failing(StoreUnavailable("gone")))
        with pytest.raises(ServerUnreachable):
            house.sync()
    assert tasks_by_status(house.store) == {TaskStatus.PENDING: 1}
    house.fill(CHUNK // 2, "new")
    finish = other_worker(house)
    add_tasks = SqlStore.add_tasks

    def add_and_finish(store: SqlStore, cycle_id: int, new: Sequence[NewTask]) -> int:
        added = add_tasks(store, cycle_id, new)
        finish()
        return added

    monkeypatch.setattr(SqlStore, "add_tasks", add_and_finish)
    assert house.sync().outcome is Outcome.IDENTICAL
    assert len(house.replica.contents(house.copy())) == CHUNK


def test_a_damaged_ledger_that_cannot_be_forgotten_ends_the_cycle(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cycle's own error is told, its tasks are called back, and the next one mends it."""
    house.fill(CHUNK)
    house.sync()
    damaged = DamagedChunk("x", collection_id=house.home.id, chunk_id=1)
    with monkeypatch.context() as broken:
        broken.setattr(coordinating, "note_absence", failing(damaged))
        broken.setattr(SqlStore, "forget_chunks", failing(StoreUnavailable("gone")))
        with pytest.raises(DamagedChunk):
            house.sync()
    assert house.sync().outcome is Outcome.IDENTICAL


def test_a_damaged_ledger_is_forgotten(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next cycle builds it anew by comparing."""
    house.fill(CHUNK)
    house.sync()
    damaged = DamagedChunk("x", collection_id=house.home.id, chunk_id=1)
    with monkeypatch.context() as broken:
        broken.setattr(coordinating, "note_absence", failing(damaged))
        with pytest.raises(DamagedChunk):
            house.sync()
    assert house.store.chunk_heads(house.home.id) == []
    assert house.store.cycles(1)[0].status is CycleStatus.FAILED
    assert house.sync().outcome is Outcome.IDENTICAL


# ---- history -------------------------------------------------------------------------------------


def test_history_that_cannot_be_pruned_spoils_no_cycle(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was completed is told as completed."""
    house.fill(CHUNK)
    monkeypatch.setattr(SqlStore, "prune_history", failing(StoreUnavailable("locked")))
    assert house.sync().outcome is Outcome.IDENTICAL
    assert house.store.cycles(1)[0].status is CycleStatus.COMPLETED


def test_cycles_that_end_early_prune_history_too(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A primary that is away for weeks lets the tables grow no more than one that is there."""
    house.fill(CHUNK)
    house.sync()
    arrange(house.store, update(cycles).values(finished_at=Later(-2 * coordinating.KEEP_SECONDS)))
    arrange(house.store, update(tasks).values(completed_at=Later(-2 * coordinating.KEEP_SECONDS)))
    away = ServerUnreachable("down", side="primary")
    house.primary.on_request(failing(away))
    with pytest.raises(ServerUnreachable):
        house.sync()
    assert tasks_by_status(house.store) == {}
    prune = failing(StoreUnavailable("locked"))
    monkeypatch.setattr(SqlStore, "prune_history", prune)
    with pytest.raises(ServerUnreachable):
        house.sync()
    assert house.store.cycles(1)[0].status is CycleStatus.FAILED


def test_a_cycle_that_cannot_list_is_counted_for_every_collection(house: House) -> None:
    """Each says why its copy stays as it is, and forgets that with the next cycle."""
    house.fill(5)
    assert house.sync().outcome is Outcome.IDENTICAL
    house.primary.on_request(refuse_listing)
    for failures in (1, 2):
        with pytest.raises(ServerUnreachable):
            house.sync()
        (mirror,) = house.store.mirrors()
        assert mirror.consecutive_errors == failures
        assert "away" in str(mirror.last_error)
    house.primary.on_request(None)
    house.sync()
    (mirror,) = house.store.mirrors()
    assert (mirror.consecutive_errors, mirror.last_error) == (0, None)


def refuse_listing(call: Call) -> None:
    if call.name == "list_databases":
        raise ServerUnreachable("The primary is away.", side=Side.PRIMARY)


class Noted(Quiet):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.told: Callable[[], None] = lambda: None

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.told()


def test_tasks_that_nobody_does_are_told(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker a cycle waits, and says what for."""
    monkeypatch.setattr(waiting, "STALL_SECONDS", 0.0)
    progress = Noted()
    with house_of(store, threads=0) as house:
        house.fill(5)
        monkeypatch.setattr(SqlStore, "active_workers", lambda _: 0)
        progress.told = house.stop.set
        with pytest.raises(Stopped):
            house.sync(progress=progress)
    assert progress.notes[0] == "No worker is active. Tasks that wait for one: 1."

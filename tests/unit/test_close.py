"""The end of a cycle: what each collection came to, and since when it is identical."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chromasync.config import Settings
from chromasync.cycle.close import close_mirrors, identical_since, report_cycle
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.errors import ServerFault
from chromasync.lab.fake import FakeServer
from chromasync.model import (
    Chunk,
    CycleStatus,
    Deletion,
    DeletionKind,
    Hold,
    HoldKind,
    Mirror,
    MirrorStatus,
    OpCounts,
    Quarantined,
    Side,
)
from chromasync.plan.membership import Membership
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome
from chromasync.store import SqlStore
from tests.store.samples import claim_one, result_for, task_for
from tests.support.ledgers import COLLECTION, chunk_of, joined, mirror_of, names, record

NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
EARLIER = NOON - timedelta(hours=1)
Ready = Callable[..., CollectionWork]


class Room:
    """A cycle at its end: a store, a replica in memory and one collection."""

    def __init__(self, store: SqlStore, settings: Settings) -> None:
        self.store = store
        self.primary, self.replica = FakeServer(Side.PRIMARY), FakeServer()
        self.home = self.replica.make("docs")
        self.cycle = CycleWork(
            store.open_cycle(), settings, self.primary, self.replica, store, Quiet()
        )
        row = mirror_of(
            COLLECTION, "t", "d", "docs", replica_id=self.home.id, walked_at=NOON,
            replica_walked_at=NOON,
        )  # fmt: skip
        primary = replace(self.home, id=COLLECTION)
        self.work = CollectionWork(row, primary, self.home, store.now())
        self.cycle.collections.append(self.work)

    def ledger(self, *chunks: Chunk) -> list[int]:
        return self.store.save_chunks(chunks)

    def on_replica(self, count: int) -> None:
        if count:
            self.replica.put(self.home, joined(*[record(i) for i in names(count)]))

    def settle(self) -> Mirror:
        self.cycle.collections = [self.work]
        self.cycle.waiting = self.store.waiting_deletions()
        close_mirrors(self.cycle)
        (stored,) = self.store.mirrors()
        assert stored == self.work.mirror
        return stored

    def gone(self, chunk_id: int, ids: list[str]) -> Deletion:
        """Let a task of this chunk have found these ids gone."""
        self.store.add_tasks(self.cycle.cycle.id, [task_for(chunk_id, COLLECTION)])
        task = claim_one(self.store)
        assert self.store.complete_task(task, result_for(self.store, task, gone=ids))
        (deletion,) = [d for d in self.store.deletions(COLLECTION) if d.chunk_id == chunk_id]
        return deletion

    def report(self, **mirror: Any) -> CycleReport:
        self.store.save_mirror(replace(self.work.mirror, **mirror))
        closed = self.store.close_cycle(self.cycle.cycle.id, CycleStatus.COMPLETED, 0)
        return report_cycle(self.cycle, closed, self.store.snapshot(0, counted=closed.id))


@pytest.fixture
def room(store: SqlStore, settings: Settings) -> Room:
    return Room(store, settings)


def read(ids: list[str], at: datetime | None = NOON, **head: Any) -> Chunk:
    """A chunk that was read."""
    return chunk_of(ids, read_at=at, **head)


@pytest.mark.parametrize(
    ("walked", "reads", "expected"),
    [
        (NOON, [], NOON),
        (None, [], None),
        (NOON, [EARLIER, NOON], EARLIER),
        (EARLIER, [NOON], EARLIER),
        (NOON, [EARLIER, None], None),
        (None, [EARLIER], None),
    ],
)
def test_identical_since_the_oldest_read(
    walked: datetime | None, reads: list[datetime | None], expected: datetime | None
) -> None:
    """The walk and every chunk's read count; one that never was, or is to come, is unknown."""
    row = mirror_of("c", "t", "d", "n", walked_at=walked)
    heads = [read(["a"], at).head for at in reads]
    assert identical_since(row, heads, NOON) == expected
    ahead = NOON in {walked, *reads}
    assert identical_since(row, heads, EARLIER) == (None if ahead else expected)


def test_a_clean_collection_is_identical(room: Room) -> None:
    """Counts agree, everything was read, nothing is odd: identical since the oldest read."""
    room.ledger(read(["r0", "r1"]), read(["r2"], EARLIER))
    room.on_replica(3)
    row = room.settle()
    assert (row.status, row.identical_as_of) == (MirrorStatus.IDENTICAL, EARLIER)
    assert (row.replica_count, row.consecutive_errors, row.last_error) == (3, 0, None)
    assert row.last_successful_sync_at is not None
    assert row.duration_seconds >= 0
    assert room.work.notes == []


@pytest.mark.parametrize("counts", [OpCounts(read=3), OpCounts(read=3, updated=1)])
def test_the_last_change_is_that_of_a_cycle_that_wrote(room: Room, counts: OpCounts) -> None:
    """A cycle that only read leaves it as it was; one that wrote or deleted sets a new instant."""
    (chunk_id,) = room.ledger(read(["r0", "r1", "r2"]))
    room.on_replica(3)
    room.work.update(last_changed_at=EARLIER)
    room.store.add_tasks(room.cycle.cycle.id, [task_for(chunk_id, COLLECTION)])
    task = claim_one(room.store)
    assert room.store.complete_task(task, result_for(room.store, task, counts=counts))
    changed_at = room.settle().last_changed_at
    assert changed_at is not None
    assert (changed_at == EARLIER) == (not counts.applied)
    room.work.deleted = 1
    assert room.settle().last_changed_at != EARLIER


@pytest.mark.parametrize("count", [1, 3])
def test_counts_that_differ_make_the_next_cycle_look(room: Room, count: int) -> None:
    """One record too many or too few: not identical, and the replica's ids will be walked."""
    room.ledger(read(["r0", "r1"]))
    room.on_replica(count)
    row = room.settle()
    assert (row.status, row.replica_walked_at) == (MirrorStatus.SYNCING, None)
    assert row.identical_as_of is None
    assert f"has {count} records where 2 were expected" in room.work.notes[0]


def test_records_that_could_not_be_written_are_not_expected(room: Room) -> None:
    """A quarantined record that is absent is expected to be; one that is there counts."""
    (chunk_id,) = room.ledger(read(["r0", "r1"]))
    room.store.add_tasks(room.cycle.cycle.id, [task_for(chunk_id, COLLECTION)])
    task = claim_one(room.store)
    aside = [Quarantined(COLLECTION, "r1", "why", True), Quarantined(COLLECTION, "r0", "x", False)]
    assert room.store.complete_task(task, result_for(room.store, task, quarantined=aside))
    room.on_replica(1)
    assert room.settle().status is MirrorStatus.LIMITED


def test_surplus_that_waits_is_expected_to_be_there(room: Room) -> None:
    """Surplus records that were not deleted yet count on top; adoption is not over then."""
    room.ledger(read(["r0"]))
    room.store.replace_surplus(COLLECTION, [["r1", "r2"]])
    room.on_replica(3)
    room.work.update(adopting=True)
    row = room.settle()
    assert (row.status, row.adopting) == (MirrorStatus.IDENTICAL, True)
    room.store.finish_deletion(room.store.deletions(COLLECTION)[0], [])
    room.replica.remove(room.home, ["r1", "r2"])
    assert not room.settle().adopting


@pytest.mark.parametrize("spoil", ["counts", "walk"])
def test_adoption_goes_on_until_it_is_sure(room: Room, spoil: str) -> None:
    """While counts differ or the replica was not walked, the collection is still adopted."""
    room.ledger(read(["r0"]))
    room.on_replica(2 if spoil == "counts" else 1)
    room.work.update(adopting=True)
    if spoil == "walk":
        room.work.update(replica_walked_at=None)
    assert room.settle().adopting


@pytest.mark.parametrize(
    "spoilt", [read(["r1"], None), read(["r1"], suspect=True)], ids=["unread", "suspect"]
)
def test_a_chunk_that_is_not_settled_keeps_it_syncing(room: Room, spoilt: Chunk) -> None:
    """A chunk that was never read, or is not trusted, leaves the collection unfinished."""
    room.ledger(read(["r0"]), spoilt)
    room.on_replica(2)
    assert room.settle().status is MirrorStatus.SYNCING


def test_what_a_server_cannot_carry_limits_it(room: Room) -> None:
    """Reduced records are counted; they, or a limited definition, are limited, not identical."""
    room.ledger(read(["r0"], reduced_count=1), read(["r1"], reduced_count=2))
    room.on_replica(2)
    row = room.settle()
    assert (row.status, row.reduced_count) == (MirrorStatus.LIMITED, 3)
    assert row.identical_as_of is None


def test_a_definition_that_cannot_be_carried_limits_it(room: Room) -> None:
    """One sentence about the definition is enough to be limited."""
    room.work.not_carried = ("The schema cannot be stored.",)
    assert room.settle().status is MirrorStatus.LIMITED


def test_an_error_is_kept_and_counted(room: Room) -> None:
    """An error outweighs everything; the instant of before stays; a clean cycle clears it."""
    room.work.update(identical_as_of=EARLIER, consecutive_errors=2)
    room.work.error = ServerFault("It broke.", side="primary")
    room.work.held = 5
    row = room.settle()
    assert (row.status, row.consecutive_errors, row.last_error) == (
        MirrorStatus.ERROR,
        3,
        str(room.work.error),
    )
    assert (row.identical_as_of, row.last_successful_sync_at) == (EARLIER, None)
    room.work.error, room.work.held = None, 0
    row = room.settle()
    assert (row.status, row.consecutive_errors, row.last_error) == (MirrorStatus.IDENTICAL, 0, None)
    assert row.identical_as_of == NOON


def test_held_records_make_it_held(room: Room) -> None:
    """Counts that agree do not help while a guard holds something."""
    room.work.held = 1
    assert room.settle().status is MirrorStatus.HELD


def hinted(room: Room, hints: dict[int, set[str]]) -> bool:
    """Whether the collection counts as ordered after these hints."""
    room.work.membership = Membership(hints=hints)
    return room.settle().primary.ordered


def test_an_unseen_id_that_lives_means_another_order(room: Room) -> None:
    """An id that the walk missed and that is neither gone nor waiting ends the merging walk."""
    (one, two) = room.ledger(read(["r0", "r1"]), read(["r2"]))
    assert hinted(room, {})
    assert not hinted(room, {two: {"r2"}, one: {"elsewhere"}})
    assert not hinted(room, {})


def test_an_unseen_id_that_is_gone_means_nothing(room: Room) -> None:
    """Ids that left their chunk, or wait for their deletion, do not spoil the order."""
    (one, two) = room.ledger(read(["r0", "r1"]), read(["r2", "r3"]))
    deletion = room.gone(one, ["r0"])
    assert deletion.kind is DeletionKind.GONE
    assert hinted(room, {one: {"r0"}, two: {"left"}, 999: {"r2"}})
    assert not hinted(room, {one: {"r0"}, two: {"r3"}})


def test_a_set_walk_s_word_stays(room: Room) -> None:
    """A collection that was walked as a set is not called ordered by its close."""
    room.work.update_primary(ordered=False)
    assert not room.settle().primary.ordered


@pytest.mark.parametrize(
    ("states", "held", "outcome", "code"),
    [
        ([], None, Outcome.IDENTICAL, 0),
        ([MirrorStatus.IDENTICAL], None, Outcome.IDENTICAL, 0),
        ([MirrorStatus.IDENTICAL, MirrorStatus.LIMITED], None, Outcome.LIMITED, 4),
        ([MirrorStatus.SYNCING], None, Outcome.LIMITED, 4),
        ([MirrorStatus.IDENTICAL], HoldKind.DELETES, Outcome.HELD, 4),
        ([MirrorStatus.HELD], HoldKind.ADOPTION, Outcome.HELD, 6),
        ([MirrorStatus.ERROR, MirrorStatus.IDENTICAL], HoldKind.DELETES, Outcome.FAILED, 4),
        ([MirrorStatus.ERROR, MirrorStatus.HELD], HoldKind.ADOPTION, Outcome.FAILED, 6),
    ],
)
def test_a_cycle_s_outcome_is_its_worst_collection_s(
    room: Room, states: list[MirrorStatus], held: HoldKind | None, outcome: Outcome, code: int
) -> None:
    """Failed before held before limited before identical, with the exit code that goes with it."""
    room.cycle.collections.clear()
    for n, state in enumerate(states):
        room.store.save_mirror(mirror_of(f"c{n}", "t", "d", f"n{n}", status=state))
    if held:
        room.store.save_hold(Hold("c0", "n0", held, 5, "why"))
    closed = room.store.close_cycle(room.cycle.cycle.id, CycleStatus.COMPLETED, 0)
    report = report_cycle(room.cycle, closed, room.store.snapshot(1))
    assert (report.outcome, report.exit_code) == (outcome, code)


def test_a_cycle_s_report_adds_up(room: Room) -> None:
    """Counts of tasks and deletes, notes of each collection, and the oldest instant."""
    (chunk_id,) = room.ledger(read(["r0"]))
    room.store.add_tasks(room.cycle.cycle.id, [task_for(chunk_id, COLLECTION)])
    task = claim_one(room.store)
    done = result_for(room.store, task, counts=OpCounts(read=5, inserted=2))
    assert room.store.complete_task(task, done)
    room.work.deleted, room.cycle.deleted = 3, 4
    room.work.notes, room.work.not_carried = ["A note."], ("No schema.",)
    room.cycle.warnings.append("Odd.")
    report = room.report(identical_as_of=EARLIER, status=MirrorStatus.IDENTICAL)
    (collection,) = report.collections
    assert collection.counts == OpCounts(read=5, inserted=2, deleted=3)
    assert collection.message == "A note. No schema."
    assert report.counts == OpCounts(read=5, inserted=2, deleted=4)
    assert (report.identical_as_of, report.warnings) == (EARLIER, ("Odd.",))
    assert report.duration_seconds >= 0


def test_a_report_before_the_end_counts_until_now(room: Room) -> None:
    """A cycle without an end has lasted until now."""
    report = report_cycle(room.cycle, room.cycle.cycle, room.store.snapshot(1))
    assert report.duration_seconds >= 0
    assert report.identical_as_of is None


@pytest.mark.parametrize(("looked", "settled"), [(True, 1), (False, None)])
def test_what_nobody_looked_at_is_not_settled(
    room: Room, looked: bool, settled: int | None
) -> None:
    """An error before the replica's count was looked at leaves the doubt, and the count of then."""
    room.ledger(read(["r0", "r1"]))
    room.on_replica(2)
    room.work.update(replica_count=7)
    room.work.counted, room.work.error = looked, ServerFault("It broke.", side="primary")
    row = room.settle()
    assert (row.settled_cycle, row.replica_count) == (settled, 2 if looked else 7)
    room.work.error = None
    assert room.settle().settled_cycle == room.cycle.cycle.id


def test_a_clock_that_jumped_leaves_nothing_identical(room: Room) -> None:
    """Since when it is, nobody can say; an instant that is still to come says as little."""
    room.ledger(read(["r0"]))
    room.on_replica(1)
    room.cycle.jumped = True
    assert (room.settle().status, room.settle().identical_as_of) == (MirrorStatus.SYNCING, None)
    room.cycle.jumped = False
    room.work.update_primary(walked_at=room.store.now() + timedelta(days=1))
    assert room.settle().status is MirrorStatus.SYNCING
    room.work.update_primary(walked_at=NOON)
    assert room.settle().status is MirrorStatus.IDENTICAL

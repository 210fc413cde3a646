"""Mirrors, chunks, deletions and quarantine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Table, delete, update

from chromasync.errors import DamagedChunk, StoreUnusable
from chromasync.ledger.digest import ids_digest
from chromasync.model import (
    ChunkResult,
    DeletionKind,
    Digests,
    Hold,
    HoldKind,
    Mirror,
    MirrorStatus,
    OpCounts,
    Quarantined,
    Space,
    TaskInput,
)
from chromasync.store import SqlStore
from chromasync.store.schema import deletions, quarantine
from chromasync.store.schema_ledger import applied_digests, chunk_ids
from tests.store.samples import (
    COLLECTION,
    OTHER,
    arrange,
    chunk_of,
    claim_one,
    digests,
    loaded,
    plan_into,
    planned,
    result_for,
    stored,
    task_for,
)
from tests.support.ledgers import head_with, mirror_of, with_digests

MOMENT = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)


def a_mirror(name: str = "books", **other: object) -> Mirror:
    return mirror_of(COLLECTION, "t", "d", name, **other)


def test_a_mirror_comes_back_as_it_was_saved(store: SqlStore) -> None:
    """Every field of a mirror survives, instants to the microsecond."""
    mirror = a_mirror(
        replica_id=OTHER,
        status=MirrorStatus.LIMITED,
        ordered=False,
        missing_cycles=1,
        count=5_000_000_000,
        replica_count=7,
        walked_at=MOMENT,
        replica_walked_at=MOMENT + timedelta(microseconds=1),
        identical_as_of=MOMENT + timedelta(seconds=2),
        last_successful_sync_at=MOMENT + timedelta(seconds=3),
        last_attempt_at=MOMENT + timedelta(seconds=4),
        duration_seconds=1.25,
        consecutive_errors=3,
        last_error="nö\nway",
        reduced_count=9,
        adopting=True,
        space=Space.COSINE,
        dimension=768,
        first_cycle=5_000_000_001,
        definition_digest=b"\0d",
        settled_cycle=5_000_000_002,
        probed_cycle=8,
        unanswering="it is dead",
        last_changed_at=MOMENT + timedelta(seconds=5),
    )
    for one, other in ((mirror, a_mirror()), (mirror.primary, a_mirror().primary)):
        same = {f.name for f in fields(one) if getattr(one, f.name) == getattr(other, f.name)}
        assert same <= {"collection_id", "tenant", "database", "name"}
    store.save_mirror(mirror)
    assert store.mirrors() == [mirror]
    assert store.mirror(COLLECTION) == mirror
    assert store.mirror(OTHER) is None


def test_a_brief_is_what_a_worker_must_know(store: SqlStore) -> None:
    """Chunk, mirror and quarantine of a task's collection; None where something was forgotten."""
    planned(store, 1)
    mirror = mirror_of(COLLECTION, "t", "d", "books", replica_id="replica")
    store.save_mirror(mirror)
    task = claim_one(store)
    aside = [Quarantined(COLLECTION, "0-a", "why", True)]
    chunk = loaded(store, task.chunk_id)
    assert store.task_input(task) == TaskInput(chunk, mirror, [])
    store.complete_task(task, ChunkResult(chunk, [], aside, OpCounts()))
    given = store.task_input(task)
    assert (given.chunk, given.mirror) == (store.load_chunk(task.chunk_id), mirror)
    assert [q.record_id for q in given.quarantined] == ["0-a"]
    store.forget_mirror(COLLECTION)
    assert store.task_input(task) == TaskInput(None, None, [])


def test_tasks_are_counted_by_who_did_them(store: SqlStore) -> None:
    """Completed tasks of the collections asked for, and of no others."""
    planned(store, 3)
    for worker in ("one", "two", "one"):
        task = claim_one(store, worker)
        store.complete_task(task, result_for(store, task))
    assert store.tasks_by_worker([COLLECTION, "unknown"]) == {"one": 2, "two": 1}
    assert store.tasks_by_worker([OTHER]) == store.tasks_by_worker([]) == {}


def test_an_instant_of_another_time_zone_comes_back_in_utc(store: SqlStore) -> None:
    """What is stored is the instant, not the wall clock of whoever stored it."""
    far = MOMENT.astimezone(datetime.strptime("+0930", "%z").tzinfo)
    store.save_mirror(a_mirror(walked_at=far))
    (mirror,) = store.mirrors()
    assert mirror.primary.walked_at == MOMENT
    assert mirror.primary.walked_at.tzinfo is UTC


def test_a_naive_instant_is_refused(store: SqlStore) -> None:
    """An instant without a time zone would be read as another one elsewhere."""
    with pytest.raises(StoreUnusable, match="time zone"):
        store.save_mirror(a_mirror(walked_at=MOMENT.replace(tzinfo=None)))


def test_saving_a_mirror_again_replaces_it(store: SqlStore) -> None:
    """There is one mirror per collection id."""
    store.save_mirror(a_mirror(name="old", count=1))
    store.save_mirror(a_mirror(name="new"))
    assert store.mirrors() == [a_mirror(name="new")]


def test_mirrors_come_in_the_order_people_read(store: SqlStore) -> None:
    """Tenant, database, name: the same order every time."""
    wanted = [("a", "x", "2"), ("a", "y", "1"), ("b", "x", "1")]
    for n, (tenant, database, name) in enumerate(reversed(wanted)):
        store.save_mirror(mirror_of(str(n), tenant, database, name))
    assert [(m.tenant, m.database, m.name) for m in store.mirrors()] == wanted


def test_an_error_with_bytes_that_are_no_text_is_kept_readable(store: SqlStore) -> None:
    """NUL and lone surrogates, which databases refuse, do not keep an error from being shown."""
    store.save_mirror(a_mirror(last_error="a\0b\ud800c" + "x" * 10_000))
    (mirror,) = store.mirrors()
    assert mirror.last_error is not None
    assert mirror.last_error.startswith("a\ufffdb?c")
    assert len(mirror.last_error) == 4000


def test_a_chunk_comes_back_as_it_was_saved(store: SqlStore) -> None:
    """Ids of any alphabet, digests and every field of the head survive."""
    ids = ["plain", "zeile\numbruch", "日本語", "🎉", "", "nul\0"]
    chunk = chunk_of(ids, mark=7)
    head = head_with(
        chunk.head,
        start_offset=3_000_000_000,
        read_at=MOMENT,
        checked_at=MOMENT + timedelta(seconds=1),
        read_seconds=0.5,
        suspect=True,
        recheck=True,
        gone_count=2,
        reduced_count=3,
        read_cycle=5_000_000_000,
        checked_cycle=5_000_000_001,
        added_cycle=5_000_000_002,
        in_hand=True,
        recheck_ids=("zeile\numbruch", "nul\0"),
        looked_cycle=5_000_000_003,
    )
    chunk = with_digests(chunk, payload=digests(6, 9), replica=digests(6, 11))
    chunk = replace(chunk, head=head)
    (chunk_id,) = store.save_chunks([chunk])
    expected = replace(chunk, head=replace(head, id=chunk_id))
    assert store.load_chunk(chunk_id) == expected
    assert store.chunk_heads(COLLECTION) == [expected.head]


def test_chunks_keep_the_order_in_which_they_were_added(store: SqlStore) -> None:
    """Ids rise, heads come by id, and each collection sees its own."""
    first = store.save_chunks([chunk_of(["a"]), chunk_of(["b"]), chunk_of(["c"])])
    store.save_chunks([chunk_of(["x"], collection=OTHER)])
    last = store.save_chunks([chunk_of(["d"])])
    assert first + last == sorted(first + last)
    assert [head.id for head in store.chunk_heads(COLLECTION)] == first + last
    assert len(store.chunk_heads(OTHER)) == 1


def test_saving_chunks_adds_replaces_and_removes_in_one_go(store: SqlStore) -> None:
    """Id 0 is new, no records means gone, anything else is replaced whole."""
    one, two = stored(store, chunk_of(["a", "b"]), chunk_of(["c"]))
    changed = chunk_of(["a"], chunk_id=one.head.id, mark=5)
    emptied = chunk_of([], chunk_id=two.head.id)
    (three,) = store.save_chunks([changed, emptied, chunk_of(["d"])])
    assert store.load_chunk(one.head.id) == changed
    assert store.load_chunk(two.head.id) is None
    assert [head.id for head in store.chunk_heads(COLLECTION)] == [one.head.id, three]


def test_a_chunk_id_is_never_given_twice(store: SqlStore) -> None:
    """An old task or deletion must not find a new chunk under its chunk id."""
    (old,) = store.save_chunks([chunk_of(["a"])])
    store.forget_chunks(COLLECTION)
    (new,) = store.save_chunks([chunk_of(["a"])])
    assert new > old


def test_a_forgotten_chunk_stays_forgotten_when_it_is_saved(store: SqlStore) -> None:
    """Saving what was loaded before a forget brings nothing back."""
    (chunk,) = stored(store, chunk_of(["a"]))
    store.forget_chunks(COLLECTION)
    assert store.save_chunks([chunk]) == []
    assert store.chunk_heads(COLLECTION) == []


def test_planning_raises_suspicion_but_never_clears_it(store: SqlStore) -> None:
    """A leader that loaded a chunk before someone distrusted it must not undo that."""
    one, two = stored(store, chunk_of(["a"]), chunk_of(["b"]))
    store.distrust(COLLECTION, [one.head.id])
    store.save_chunks([one, replace(two, head=two.head.with_replica(suspect=True))])
    assert [head.replica.suspect for head in store.chunk_heads(COLLECTION)] == [True, True]


def test_saving_chunks_is_all_or_nothing(store: SqlStore) -> None:
    """One chunk that cannot be stored keeps the others of the same call out."""
    bad = chunk_of(["b"])
    bad = replace(bad, head=replace(bad.head, read_at=MOMENT.replace(tzinfo=None)))
    with pytest.raises(StoreUnusable):
        store.save_chunks([chunk_of(["a"]), bad])
    assert store.chunk_heads(COLLECTION) == []


def test_distrust_marks_some_or_all_chunks(store: SqlStore) -> None:
    """Naming chunks marks these; naming none marks the whole collection and no other."""
    ids = store.save_chunks([chunk_of([str(n)]) for n in range(1200)])
    (elsewhere,) = store.save_chunks([chunk_of(["x"], collection=OTHER)])
    store.distrust(COLLECTION, ids[:1100])
    assert [h.replica.suspect for h in store.chunk_heads(COLLECTION)] == [True] * 1100 + [
        False
    ] * 100
    store.distrust(COLLECTION)
    assert all(head.replica.suspect for head in store.chunk_heads(COLLECTION))
    assert not loaded(store, elsewhere).head.replica.suspect


def test_a_collection_may_be_in_hand_as_a_whole(store: SqlStore) -> None:
    """Distrust tells whether it was one of our workers that was cut off."""
    one, two = store.save_chunks([chunk_of(["a"]), chunk_of(["b"])])
    store.distrust(COLLECTION)
    assert [h.replica.in_hand for h in store.chunk_heads(COLLECTION)] == [False, False]
    store.distrust(COLLECTION, [two], in_hand=True)
    store.distrust(COLLECTION, [two])
    assert [h.replica.in_hand for h in store.chunk_heads(COLLECTION)] == [False, True]
    store.distrust(COLLECTION, in_hand=True)
    assert loaded(store, one).head.replica.in_hand


@pytest.mark.parametrize("digest", [None, b"", digests(1)])
def test_digests_of_the_replica_that_do_not_fit_are_unknown(
    store: SqlStore, digest: bytes | None
) -> None:
    """A program that knows nothing of them may have changed the ids; that damages nothing."""
    chunk = with_digests(chunk_of(["a", "b"], mark=3), replica=digests(2, 4))
    (chunk_id,) = store.save_chunks([chunk])
    one = update(applied_digests).where(applied_digests.c.chunk_id == chunk_id)
    arrange(store, one.values(replica_digests=digest))
    found = loaded(store, chunk_id)
    assert found.applied.replica == digests(2)
    assert found.applied.payload == digests(2, 3)


@pytest.mark.parametrize(
    "damage",
    [
        {"ids": b"no zlib"},
        {"ids": b""},
        {"embedding_digests": b"short"},
        {"payload_digests": digests(3)},
    ],
)
def test_a_damaged_chunk_names_its_collection(store: SqlStore, damage: dict[str, bytes]) -> None:
    """The engine learns which ledger to build anew, and other chunks stay readable."""
    bad, good = store.save_chunks([chunk_of(["a", "b"]), chunk_of(["c"])])
    table = chunk_ids if "ids" in damage else applied_digests
    arrange(store, update(table).where(table.c.chunk_id == bad).values(**damage))
    with pytest.raises(DamagedChunk) as caught:
        store.load_chunk(bad)
    assert (caught.value.collection_id, caught.value.chunk_id) == (COLLECTION, bad)
    assert loaded(store, good).ids == ["c"]


@pytest.mark.parametrize("table", [chunk_ids, applied_digests])
def test_a_chunk_without_content_is_damaged(store: SqlStore, table: Table) -> None:
    """A head alone is not a chunk, nor one that lacks its ids or its digests."""
    (bad,) = store.save_chunks([chunk_of(["a"])])
    arrange(store, delete(table))
    with pytest.raises(DamagedChunk):
        store.load_chunk(bad)


def test_damaged_deletions_can_be_forgotten(store: SqlStore) -> None:
    """A deletion whose ids cannot be read leads to the same way out as a damaged chunk."""
    store.replace_surplus(COLLECTION, [["a"]])
    arrange(store, update(deletions).values(ids=b"?"))
    with pytest.raises(DamagedChunk) as caught:
        store.deletions(COLLECTION)
    store.forget_chunks(caught.value.collection_id)
    assert store.deletions(COLLECTION) == []


def test_surplus_is_replaced_as_a_whole(store: SqlStore) -> None:
    """A new walk of the replica's ids replaces what the one before found."""
    store.replace_surplus(OTHER, [["z"]])
    store.replace_surplus(COLLECTION, [["a", "b"], ["c"]])
    store.replace_surplus(COLLECTION, [["d"]])
    (deletion,) = store.deletions(COLLECTION)
    assert (deletion.kind, deletion.chunk_id, deletion.ids) == (DeletionKind.SURPLUS, None, ["d"])
    store.replace_surplus(COLLECTION, [])
    assert store.deletions(COLLECTION) == []
    assert len(store.deletions(OTHER)) == 1


def gone_in_a_chunk(store: SqlStore, ids: list[str], gone: list[str]) -> int:
    """A chunk whose task found `gone`, every record of it quarantined before; returns its id."""
    cycle = store.open_cycle()
    (chunk_id,) = store.save_chunks([chunk_of(ids)])
    store.add_tasks(cycle.id, [task_for(chunk_id)])
    task = claim_one(store)
    aside = [Quarantined(COLLECTION, record_id, "bad", absent=True) for record_id in ids]
    assert store.complete_task(task, result_for(store, task, gone=gone, quarantined=aside))
    return chunk_id


def test_a_finished_deletion_takes_its_records_out_of_the_chunk(store: SqlStore) -> None:
    """Deleted ids leave chunk, digests and quarantine; ids that turned out to live stay."""
    chunk_id = gone_in_a_chunk(store, ["a", "b", "c", "d"], ["b", "c", "d"])
    assert loaded(store, chunk_id).head.replica.gone_count == 3
    (deletion,) = store.deletions(COLLECTION)
    assert (deletion.kind, deletion.chunk_id) == (DeletionKind.GONE, chunk_id)
    store.distrust(COLLECTION)
    store.finish_deletion(deletion, ["c"])
    chunk = loaded(store, chunk_id)
    assert chunk.head.replica.suspect
    assert chunk.ids == ["a", "c"]
    assert chunk.applied.embedding == digests(2, 1)
    assert (chunk.head.count, chunk.head.replica.gone_count) == (2, 0)
    assert chunk.head.ids_digest == ids_digest(["a", "c"])
    assert {q.record_id for q in store.quarantined()} == {"a", "c"}
    assert store.deletions(COLLECTION) == []


def test_the_right_digests_stay_when_records_leave(store: SqlStore) -> None:
    """Each surviving record keeps its own digests."""
    both = Digests.of(bytes([n]) * 16 for n in range(4))
    chunk = with_digests(chunk_of(["a", "b", "c", "d"]), embedding=both, payload=both)
    (chunk_id,) = store.save_chunks([chunk])
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [task_for(chunk_id)])
    task = claim_one(store)
    result = replace(result_for(store, task, gone=["a", "c"]), chunk=loaded(store, chunk_id))
    store.complete_task(task, result)
    store.finish_deletion(store.deletions(COLLECTION)[0], [])
    left = loaded(store, chunk_id)
    assert left.applied.embedding == left.applied.payload == bytes([1]) * 16 + bytes([3]) * 16


def test_a_chunk_whose_records_are_all_deleted_goes(store: SqlStore) -> None:
    """No chunk without records stays in the ledger."""
    chunk_id = gone_in_a_chunk(store, ["a", "b"], ["a", "b"])
    store.finish_deletion(store.deletions(COLLECTION)[0], [])
    assert store.load_chunk(chunk_id) is None
    assert store.quarantined() == []


def test_finishing_a_deletion_twice_changes_nothing_more(store: SqlStore) -> None:
    """A repeat after a lost answer must not take out records that came back since."""
    chunk_id = gone_in_a_chunk(store, ["a", "b"], ["b"])
    (deletion,) = store.deletions(COLLECTION)
    store.finish_deletion(deletion, [])
    again = chunk_of(["a", "b"], chunk_id=chunk_id)
    store.save_chunks([again])
    store.finish_deletion(deletion, [])
    assert store.load_chunk(chunk_id) == again


def test_a_deletion_outlives_its_chunk(store: SqlStore) -> None:
    """Records to delete are not forgotten because the chunk that named them is gone."""
    chunk_id = gone_in_a_chunk(store, ["a", "b"], ["b"])
    store.save_chunks([chunk_of([], chunk_id=chunk_id)])
    (deletion,) = store.deletions(COLLECTION)
    store.finish_deletion(deletion, [])
    assert store.deletions(COLLECTION) == []


def test_the_quarantine_follows_the_latest_result(store: SqlStore) -> None:
    """A record stays aside with its first instant while it fails, and leaves when it works."""
    cycle = store.open_cycle()
    (chunk_id,) = store.save_chunks([chunk_of(["a", "b", "c"])])

    def reconcile(*aside: Quarantined) -> None:
        store.add_tasks(cycle.id, [task_for(chunk_id)])
        task = claim_one(store)
        assert store.complete_task(task, result_for(store, task, quarantined=aside))

    reconcile(
        Quarantined(COLLECTION, "a", "first", absent=True),
        Quarantined(COLLECTION, "b", "x", absent=True),
    )
    arrange(store, update(quarantine).values(since_at=MOMENT))
    reconcile(
        Quarantined(COLLECTION, "a", "second", absent=False),
        Quarantined(COLLECTION, "c", "y", absent=False),
    )
    kept, new = store.quarantined(COLLECTION)
    assert kept == Quarantined(COLLECTION, "a", "second", absent=False, since_at=MOMENT)
    assert (new.record_id, new.since_at is not None) == ("c", True)
    assert store.quarantined(OTHER) == []
    assert store.quarantined() == [kept, new]


@pytest.mark.parametrize("forget", ["mirror", "chunks"])
def test_forgetting_a_collection_removes_all_of_it_and_nothing_else(
    store: SqlStore, forget: str
) -> None:
    """Chunks, deletions, quarantine, live tasks go; `forget_mirror` takes mirror and holds too."""
    for collection in (COLLECTION, OTHER):
        store.save_mirror(mirror_of(collection, "t", "d", "n"))
        store.save_hold(Hold(collection, "n", HoldKind.DELETES, 1, "many"))
    cycle = planned(store, 3)
    done = claim_one(store)
    aside = [Quarantined(COLLECTION, "0-a", "bad", absent=True)]
    store.complete_task(done, result_for(store, done, gone=["0-b"], quarantined=aside))
    held = claim_one(store)
    result = result_for(store, held)
    plan_into(store, cycle, 2, collection=OTHER)
    forgetter: Callable[[str], None] = getattr(store, f"forget_{forget}")
    forgetter(COLLECTION)
    assert store.chunk_heads(COLLECTION) == []
    assert store.deletions(COLLECTION) == []
    assert store.quarantined() == []
    assert not store.complete_task(held, result)
    assert store.load_chunk(held.chunk_id) is None
    counts = store.task_counts(cycle.id)
    assert (counts.pending, counts.completed, counts.total) == (2, 1, 3)
    assert len(store.chunk_heads(OTHER)) == 2
    left = [OTHER] if forget == "mirror" else [COLLECTION, OTHER]
    assert [mirror.collection_id for mirror in store.mirrors()] == left
    assert [hold.collection_id for hold in store.holds()] == left
    assert store.cycle_counts(cycle.id) == {COLLECTION: OpCounts(read=3), OTHER: OpCounts()}


def test_several_mirrors_are_saved_at_once(store: SqlStore) -> None:
    """New ones and known ones, as single ones are; none is nothing."""
    store.save_mirror(a_mirror())
    changed = a_mirror().with_primary(name="changed", count=7)
    other = mirror_of(OTHER, "t", "d", "other")
    store.save_mirrors([changed, other])
    store.save_mirrors([])
    assert {m.collection_id: m for m in store.mirrors()} == {COLLECTION: changed, OTHER: other}


def test_heads_of_several_collections_come_by_collection(store: SqlStore) -> None:
    """In the ledger's order; a collection without chunks has none."""
    store.save_chunks([chunk_of(["a"]), chunk_of(["b"])])
    store.save_chunks([chunk_of(["c"], collection=OTHER)])
    found = store.heads_of([COLLECTION, OTHER, "none"])
    assert found == {
        COLLECTION: store.chunk_heads(COLLECTION),
        OTHER: store.chunk_heads(OTHER),
        "none": [],
    }
    assert store.heads_of([]) == {}


def test_it_is_known_of_which_collections_deletions_wait(store: SqlStore) -> None:
    """Of any kind."""
    assert store.waiting_deletions() == set()
    store.replace_surplus(COLLECTION, [["x"], ["y"]])
    assert store.waiting_deletions() == {COLLECTION}

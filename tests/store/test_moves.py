"""A ledger that another collection takes over, and foreign records that go with their chunk."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chromasync.model import (
    Chunk,
    DeletionKind,
    Digests,
    Hold,
    HoldKind,
    OpCounts,
    Quarantined,
    Task,
    TaskCounts,
)
from chromasync.store import SqlStore
from tests.store.samples import (
    COLLECTION,
    OTHER,
    chunk_of,
    claim_one,
    digests,
    loaded,
    plan_into,
    planned,
    result_for,
    stored,
    task_for,
    trusted,
)
from tests.support.ledgers import head_with, mirror_of, with_digests

ASIDE = [Quarantined(COLLECTION, "0-a", "bad", absent=True)]


def reconciled(store: SqlStore, *, foreign: list[str], gone: list[str]) -> Task:
    """A task of the queue that was done, with what it found."""
    task = claim_one(store)
    result = result_for(store, task, gone=gone, quarantined=ASIDE)
    seen = with_digests(result.chunk, replica=digests(len(result.chunk.ids), 9))
    assert store.complete_task(task, replace(result, chunk=seen, foreign=foreign))
    return task


@pytest.fixture
def full(store: SqlStore) -> SqlStore:
    """A store whose collection has something of everything; the other one has only a mirror."""
    for collection in (COLLECTION, OTHER):
        store.save_mirror(mirror_of(collection, "t", "d", collection[0]))
        store.save_hold(Hold(collection, "n", HoldKind.DELETES, 1, "many"))
    planned(store, 3)
    reconciled(store, foreign=["0-c"], gone=["0-b"])
    store.replace_surplus(COLLECTION, [["x", "y"]])
    return store


def test_a_ledger_moves_with_all_that_hangs_on_it(full: SqlStore) -> None:
    """Chunks with their contents, deletions of every kind and the quarantine are the new one's."""
    before = [loaded(full, head.id) for head in full.chunk_heads(COLLECTION)]
    deletions = full.deletions(COLLECTION)
    (aside,) = full.quarantined(COLLECTION)
    full.move_ledger(COLLECTION, OTHER)
    after = [loaded(full, head.id) for head in full.chunk_heads(OTHER)]
    moved = [replace(c, head=head_with(c.head, collection_id=OTHER, suspect=True)) for c in before]
    assert after == moved
    assert full.deletions(OTHER) == [replace(d, collection_id=OTHER) for d in deletions]
    assert {d.kind for d in deletions} == set(DeletionKind)
    assert full.quarantined() == [replace(aside, collection_id=OTHER)]
    assert [mirror.collection_id for mirror in full.mirrors()] == [OTHER]
    assert [hold.collection_id for hold in full.holds()] == [OTHER]
    for gone in (full.chunk_heads(COLLECTION), full.deletions(COLLECTION)):
        assert gone == []


def test_what_moved_is_worked_on_by_nobody(full: SqlStore) -> None:
    """Live tasks go; who held one records nothing, and its chunk is in doubt for as long."""
    (cycle,) = full.cycles(1)
    held = claim_one(full, lease_seconds=500)
    result = trusted(result_for(full, held))
    full.move_ledger(COLLECTION, OTHER)
    assert not full.complete_task(held, result)
    assert full.task_counts(cycle.id) == TaskCounts(completed=1)
    assert full.cycle_counts(cycle.id) == {COLLECTION: OpCounts(read=3)}
    heads = {
        head.id: (head.replica.suspect, head.replica.in_hand) for head in full.chunk_heads(OTHER)
    }
    assert heads.pop(held.chunk_id) == (True, True)
    assert set(heads.values()) == {(True, False)}
    full.add_tasks(cycle.id, [task_for(held.chunk_id, OTHER)])
    again = claim_one(full)
    assert full.complete_task(again, trusted(result_for(full, again)))
    assert loaded(full, held.chunk_id).head.replica.suspect


def test_what_moved_is_trusted_again_once_it_was_compared(full: SqlStore) -> None:
    """A chunk that nobody held is in doubt until its next reconcile, and no longer."""
    (cycle,) = full.cycles(1)
    chunk_id = full.chunk_heads(COLLECTION)[0].id
    full.move_ledger(COLLECTION, OTHER)
    full.add_tasks(cycle.id, [task_for(chunk_id, OTHER)])
    task = claim_one(full)
    assert full.complete_task(task, trusted(result_for(full, task)))
    head = loaded(full, chunk_id).head
    assert (head.replica.suspect, head.replica.in_hand) == (False, False)


def test_a_ledger_takes_the_place_of_another(full: SqlStore) -> None:
    """No record is in the ledger twice: what the new one had, another replica had."""
    (cycle,) = full.cycles(1)
    plan_into(full, cycle, 2, collection=OTHER)
    full.replace_surplus(OTHER, [["z"]])
    before = [head.id for head in full.chunk_heads(COLLECTION)]
    full.move_ledger(COLLECTION, OTHER)
    assert [head.id for head in full.chunk_heads(OTHER)] == before
    assert ["z"] not in [deletion.ids for deletion in full.deletions(OTHER)]
    assert full.task_counts(cycle.id).total == 1
    full.move_ledger(COLLECTION, OTHER)
    assert [head.id for head in full.chunk_heads(OTHER)] == before


def test_chunks_without_a_mirror_move_too(store: SqlStore) -> None:
    """A process that died in between has left no mirror, but a ledger that must not stay."""
    (chunk,) = stored(store, chunk_of(["a"]))
    store.save_mirror(mirror_of(OTHER, "t", "d", "n"))
    store.move_ledger(COLLECTION, OTHER)
    assert [head.id for head in store.chunk_heads(OTHER)] == [chunk.head.id]


def test_records_that_change_chunk_are_in_hand_with_it(store: SqlStore) -> None:
    """A worker that was cut off after the leader loaded its chunk may have written them."""
    cut, other = stored(store, chunk_of(["a", "b"]), chunk_of(["c"]))
    store.distrust(COLLECTION, [cut.head.id], in_hand=True)
    (new,) = store.save_chunks([chunk_of(["a"], chunk_id=cut.head.id), other, chunk_of(["b"])])
    assert loaded(store, new).head.replica.in_hand
    assert loaded(store, cut.head.id).head.replica.in_hand


def test_other_doubt_makes_nothing_in_hand(store: SqlStore) -> None:
    """A chunk that told of its being in hand already gives nothing to those saved later."""
    cut, doubted = stored(store, chunk_of(["a"]), chunk_of(["b", "c"]))
    store.distrust(COLLECTION, [cut.head.id], in_hand=True)
    store.distrust(COLLECTION, [doubted.head.id])
    (new,) = store.save_chunks([chunk_of(["b"], chunk_id=doubted.head.id), chunk_of(["c"])])
    found = [loaded(store, i).head for i in (doubted.head.id, new)]
    assert [(head.replica.suspect, head.replica.in_hand) for head in found] == [(True, False)] * 2


def test_planning_does_not_take_a_chunk_out_of_hand(store: SqlStore) -> None:
    """A leader that loaded a chunk before its worker was cut off must not undo that."""
    (chunk,) = stored(store, chunk_of(["a"]))
    store.distrust(COLLECTION, in_hand=True)
    store.save_chunks([chunk])
    assert loaded(store, chunk.head.id).head.replica.in_hand


def test_a_holder_that_is_called_back_leaves_its_chunk_in_hand(store: SqlStore) -> None:
    """A new term calls all tasks back; what nobody held is as trusted as before."""
    planned(store, 2)
    held = claim_one(store)
    assert store.cancel_tasks("no") == 2
    found = {
        head.id: (head.replica.suspect, head.replica.in_hand)
        for head in store.chunk_heads(COLLECTION)
    }
    assert found.pop(held.chunk_id) == (True, True)
    assert list(found.values()) == [(False, False)]


def test_foreign_records_go_with_their_chunk(full: SqlStore) -> None:
    """Who has these records next finds them again; those that are gone stay to be deleted."""
    (chunk_id,) = {d.chunk_id for d in full.deletions(COLLECTION) if d.chunk_id is not None}
    full.save_chunks([chunk_of([], chunk_id=chunk_id)])
    kinds = {deletion.kind for deletion in full.deletions(COLLECTION)}
    assert kinds == {DeletionKind.GONE, DeletionKind.SURPLUS}


def test_what_the_replica_returned_leaves_with_its_record(full: SqlStore) -> None:
    """Each surviving record keeps its own digest of the replica's side."""
    (gone,) = [d for d in full.deletions(COLLECTION) if d.kind is DeletionKind.GONE]
    assert gone.chunk_id is not None
    chunk: Chunk = loaded(full, gone.chunk_id)
    each = Digests.of(bytes([n]) * 16 for n in range(3))
    full.save_chunks([with_digests(chunk, replica=each)])
    full.finish_deletion(gone, [])
    assert loaded(full, gone.chunk_id).applied.replica == each[:16] + each[32:]

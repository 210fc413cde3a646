"""Tasks that concern single records of a chunk: what is stored of them, and what is left alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import LargeBinary, MetaData, literal, select, update

from chromasync.errors import DamagedChunk
from chromasync.ledger.plan import due_ids, extended, has_unread
from chromasync.model import Chunk, ChunkResult, DeletionKind, OpCounts, Quarantined, Task
from chromasync.store import SqlStore, migrations, open_store
from chromasync.store.schema import deletions, tasks
from tests.store.conftest import Places
from tests.store.former import chunks
from tests.store.samples import (
    COLLECTION,
    arrange,
    chunk_of,
    claim_one,
    loaded,
    look,
    stored,
    task_for,
)
from tests.support.ledgers import head_with

IDS = ["plain", "日本語", "nul\0", "", "e", "f", "g", "h"]


def claimed(store: SqlStore, chunk: Chunk, *ids: str) -> Task:
    """A task for these records of a chunk, planned in a new cycle and taken."""
    cycle = store.open_cycle()
    store.add_tasks(cycle.id, [replace(task_for(chunk.head.id), record_ids=ids)])
    return claim_one(store)


def complete(
    store: SqlStore,
    chunk: Chunk,
    asked: frozenset[str] | None,
    *,
    gone: list[str] | None = None,
    aside: list[Quarantined] | None = None,
) -> Chunk:
    """Record that these records of a chunk were looked at."""
    task = claimed(store, chunk, *(asked or IDS))
    result = ChunkResult(chunk, gone or [], aside or [], OpCounts(), asked=asked)
    assert store.complete_task(task, result)
    return loaded(store, chunk.head.id)


def waiting(store: SqlStore) -> list[tuple[DeletionKind, set[str]]]:
    return [(d.kind, set(d.ids)) for d in store.deletions(COLLECTION)]


def test_a_claimed_task_names_its_records(store: SqlStore) -> None:
    """Ids of any alphabet come back; a task that names none is for the whole chunk."""
    (chunk,) = stored(store, chunk_of(IDS))
    task = claimed(store, chunk, *IDS)
    assert task.record_ids == tuple(IDS)
    store.release_tasks([task])
    task = claim_one(store)
    assert task.record_ids == tuple(IDS), "whoever takes it next knows them, too"
    assert store.complete_task(task, ChunkResult(chunk, [], [], OpCounts(), asked=frozenset(IDS)))
    assert look(store, select(tasks.c.record_ids)) == [(None,)], "history needs no ids"
    (other,) = stored(store, chunk_of(["x"]))
    store.add_tasks(store.open_cycle().id, [task_for(other.head.id)])
    assert claim_one(store).record_ids is None


def test_damaged_lists_stand_for_all(store: SqlStore) -> None:
    """Where nobody can tell which records are concerned, the whole chunk is."""
    (chunk,) = stored(store, chunk_of(IDS))
    head = replace(chunk.head, recheck=True, recheck_ids=("e",), looked_cycle=1)
    store.save_chunks([replace(chunk, head=head)])
    task = claimed(store, chunk, "e")
    for table, column in ((tasks, "record_ids"), (chunks, "recheck_ids")):
        arrange(store, update(table).values({column: literal(b"\0damage", LargeBinary())}))
    store.release_tasks([task])
    assert claim_one(store).record_ids is None
    assert loaded(store, chunk.head.id).head.recheck_ids is None


def test_what_waits_to_be_deleted_stays_where_it_was_not_asked_for(store: SqlStore) -> None:
    """A read in part judges the ids that it asked for, and a read of all judges all."""
    (chunk,) = stored(store, chunk_of(IDS))
    chunk = complete(store, chunk, None, gone=["plain", "e"])
    assert chunk.head.replica.gone_count == 2
    chunk = complete(store, chunk, frozenset({"f", "g"}), gone=["g"])
    assert waiting(store) == [(DeletionKind.GONE, {"plain", "e", "g"})]
    assert chunk.head.replica.gone_count == 3
    chunk = complete(store, chunk, frozenset({"plain"}))
    assert waiting(store) == [(DeletionKind.GONE, {"e", "g"})]
    chunk = complete(store, chunk, frozenset())
    assert (waiting(store), chunk.head.replica.gone_count) == ([(DeletionKind.GONE, {"e", "g"})], 2)
    (deletion,) = store.deletions(COLLECTION)
    store.finish_deletion(deletion, [])
    chunk = loaded(store, chunk.head.id)
    assert (set(chunk.ids), chunk.head.replica.gone_count) == (set(IDS) - {"e", "g"}, 0)
    chunk = complete(store, chunk, None)
    assert waiting(store) == []


def test_a_list_of_what_waits_that_is_damaged_forgets_nothing_in_silence(store: SqlStore) -> None:
    """The completion fails, and the collection's ledger is built anew, as for any damage."""
    (chunk,) = stored(store, chunk_of(IDS))
    chunk = complete(store, chunk, None, gone=["e"])
    arrange(store, update(deletions).values(ids=b"\0damage"))
    with pytest.raises(DamagedChunk):
        complete(store, chunk, frozenset({"f"}))


def test_what_was_set_aside_stays_where_it_was_not_asked_for(store: SqlStore) -> None:
    """A record leaves the quarantine only when a task met it and found it well."""
    (chunk,) = stored(store, chunk_of(IDS))
    aside = [Quarantined(COLLECTION, record_id, "why", True) for record_id in ("e", "f")]
    chunk = complete(store, chunk, None, aside=aside)
    for asked, left in ((frozenset({"g"}), ["e", "f"]), (frozenset(), ["e", "f"]),
                        (frozenset({"e", "g"}), ["f"])):  # fmt: skip
        chunk = complete(store, chunk, asked)
        assert [q.record_id for q in store.quarantined()] == left
    complete(store, chunk, None)
    assert store.quarantined() == []


def test_a_chunk_that_was_distrusted_meanwhile_stays_suspect(store: SqlStore) -> None:
    """What a part of it showed says nothing of what someone else may have written."""
    (chunk,) = stored(store, chunk_of(IDS))
    task = claimed(store, chunk, "e")
    store.distrust(COLLECTION, [chunk.head.id], in_hand=True)
    result = ChunkResult(chunk, [], [], OpCounts(), asked=frozenset({"e"}))
    assert store.complete_task(task, result)
    head = loaded(store, chunk.head.id).head
    assert (head.replica.suspect, head.replica.in_hand) == (True, True)


def test_ids_that_leave_with_their_deletion_are_not_looked_at_again(store: SqlStore) -> None:
    """What is left to be read is what is left of the chunk."""
    (chunk,) = stored(store, chunk_of(IDS))
    head = replace(
        chunk.head, recheck=True, recheck_ids=("e", "f"), read_at=store.now(), looked_cycle=1
    )
    chunk = complete(store, replace(chunk, head=head), None, gone=["e", "g"])
    (deletion,) = store.deletions(COLLECTION)
    store.finish_deletion(deletion, [])
    head = loaded(store, chunk.head.id).head
    assert (head.recheck, head.recheck_ids) == (True, ("f",))


@pytest.fixture
def program_of_version_5(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are opened as the program before did, until this is undone."""
    monkeypatch.setattr(migrations, "STEPS", migrations.STEPS[:5])
    monkeypatch.setattr(migrations, "metadata", MetaData())


@pytest.mark.usefixtures("program_of_version_5")
def test_a_store_of_version_5_reads_again_what_it_had_to(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk to look at again names no ids yet, and a waiting task names none: all is read."""
    place = places()
    older = open_store(place)
    columns = {"collection_id": COLLECTION, "chunk_start_offset": 0, "record_count": 1,
               "ids_digest": bytes(16), "read_seconds": 0, "suspect": False, "gone_count": 0,
               "reduced_count": 0, "read_cycle": 3, "in_hand": False}  # fmt: skip
    for recheck in (True, False):
        arrange(older, chunks.insert().values(recheck=recheck, **columns, read_at=older.now()))
    older.close()
    monkeypatch.undo()
    store = open_store(place)
    first, second = store.chunk_heads(COLLECTION)
    assert (first.recheck, first.recheck_ids, first.looked_cycle) == (True, None, None)
    first, second = (head.with_replica(checked_at=store.now()) for head in (first, second))
    assert due_ids(first, check_before=first.read_at or store.now()) is None
    assert due_ids(second, check_before=first.read_at or store.now()) == frozenset()
    assert not has_unread(first)
    store.close()


def test_a_program_of_version_5_leaves_no_ids_that_count(store: SqlStore) -> None:
    """It reads all of a chunk, notes that in the columns it knows, and leaves the others."""
    (chunk,) = stored(store, chunk_of([f"r{n}" for n in range(20)]))
    now = store.now()
    head = head_with(
        chunk.head, read_at=now, checked_at=now, read_cycle=3, looked_cycle=3, added_cycle=1
    )
    grown = extended(replace(chunk, head=head), ["x"], {}, cycle_id=4)
    store.save_chunks([grown])
    (head,) = store.chunk_heads(COLLECTION)
    assert due_ids(head, check_before=now) == frozenset({"x"})
    assert has_unread(head)
    arrange(store, update(chunks).values(read_at=now, read_cycle=4, recheck=True))
    (head,) = store.chunk_heads(COLLECTION)
    assert (due_ids(head, check_before=now), has_unread(head)) == (None, False)
    arrange(store, update(chunks).values(recheck=False))
    (head,) = store.chunk_heads(COLLECTION)
    assert due_ids(head, check_before=now) == frozenset()

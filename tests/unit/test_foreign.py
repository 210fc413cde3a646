"""Reconciling a chunk that others may have written to: what is theirs is held, not overwritten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chromasync.ledger.digest import payload_digests
from chromasync.model import Chunk, OpCounts, Quarantined, Records
from tests.support.ledgers import COLLECTION, record
from tests.unit.scenes import EARLIER, Scene, remembered

A, B, C = record("a", "da", {"k": 1}), record("b", "db"), record("c", None, {}, "u")
NEW = record("a", "the primary's")
THEIRS = record("a", "the application's")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def row_of(chunk: Chunk, record_id: str) -> tuple[bytes, bytes, bytes]:
    row = chunk.ids.index(record_id)
    columns = chunk.applied.embedding, chunk.applied.payload, chunk.applied.replica
    one, two, three = (column.row(row) for column in columns)
    return one, two, three


def on_replica(scene: Scene, record_id: str) -> str | None:
    now = scene.replica.contents(scene.home)
    return now.documents[now.ids.index(record_id)]


def test_an_unchanged_chunk_is_not_looked_at_either(scene: Scene) -> None:
    """Holding what is foreign costs no read where there is nothing to write."""
    scene.holds(A, B, C)
    scene.knows(A, B, C)
    result = scene.reconcile(hold=True)
    assert scene.replica.calls == []
    assert (result.foreign, result.chunk.head.recheck) == ([], False)


def test_new_records_are_looked_for_before_they_are_inserted(scene: Scene) -> None:
    """No record is inserted unseen; one that others have made is not overwritten."""
    scene.holds(A, B, C, on="primary")
    scene.holds(THEIRS, on="replica")
    scene.knows(unknown=["a", "b", "c"])
    result = scene.reconcile(hold=True)
    assert [call.name for call in scene.replica.calls] == ["read", "add", "read"]
    assert result.foreign == ["a"]
    assert result.counts == OpCounts(read=3, inserted=2)
    assert on_replica(scene, "a") == "the application's"
    assert remembered(result.chunk).keys() == {"b", "c"}
    assert result.chunk.head.replica.checked_at == EARLIER


def test_a_changed_record_that_nobody_touched_is_updated(scene: Scene) -> None:
    """The replica returns what is remembered, or what the ledger holds, so it is ours."""
    drifted = record("a", "da", {"k": 1}, embedding=(1.0, 2.0, 3.0000002))
    scene.holds(B, C)
    scene.holds(drifted, on="replica")
    scene.holds(NEW, record("b", "new"), on="primary")
    scene.knows(A, B, C, seen=[drifted])
    result = scene.reconcile(hold=True)
    assert (result.foreign, result.counts.updated) == ([], 2)
    assert (result.chunk.head.replica.suspect, result.chunk.head.recheck) == (False, True)
    scene.assert_equal()
    scene.assert_remembered(result, ["a", "b"])


def test_a_record_that_we_were_about_to_delete_comes_back(scene: Scene) -> None:
    """It is not there, and the primary has it again: nobody else needs to have deleted it."""
    scene.holds(A, B, C, on="primary")
    scene.holds(B, C, on="replica")
    scene.knows(A, B, C, seen=[A, B, C], suspect=True)
    assert scene.reconcile(hold=True).foreign == ["a"]
    result = scene.reconcile(hold=True, deleting={"a"})
    assert (result.foreign, result.counts.inserted) == ([], 1)
    scene.assert_equal()


@pytest.mark.parametrize("seen", [[], [A]])
@pytest.mark.parametrize("primary", [A, NEW])
def test_an_edit_by_others_stays(scene: Scene, seen: list[Records], primary: Records) -> None:
    """Whether or not the primary changed it too: it is reported, and stays due with its old row."""
    scene.holds(B, C)
    scene.holds(primary, on="primary")
    scene.holds(THEIRS, on="replica")
    scene.knows(A, B, C, seen=seen)
    before = row_of(scene.chunk, "a")
    result = scene.reconcile(check=True, hold=True)
    assert (result.foreign, result.counts) == (["a"], OpCounts(read=3))
    assert scene.replica.writes == []
    assert row_of(result.chunk, "a") == before
    assert remembered(result.chunk).keys() - {"a"} == {"b", "c"}
    assert (result.chunk.head.recheck, result.chunk.head.replica.suspect) == (True, True)


def test_what_was_held_is_met_again_and_mended_once_it_may_be(scene: Scene) -> None:
    """The chunk is compared in every reconcile until the record is no longer held."""
    scene.holds(A, B, C, on="primary")
    scene.holds(THEIRS, B, C, on="replica")
    scene.knows(A, B, C, seen=[A])
    for check in (True, False, False):
        result = scene.reconcile(check=check, hold=True)
        assert result.foreign == ["a"]
        scene.chunk = result.chunk
    result = scene.reconcile()
    assert (result.foreign, result.counts) == ([], OpCounts(read=3, updated=1, drifted=1))
    assert not result.chunk.head.replica.suspect
    scene.assert_equal()


def test_the_same_change_on_both_sides_is_no_conflict(scene: Scene) -> None:
    """A record that equals the primary's needs no write, whoever wrote it."""
    scene.holds(B, C)
    scene.holds(NEW)
    scene.knows(A, B, C, seen=[A])
    result = scene.reconcile(hold=True)
    assert (result.foreign, scene.replica.writes) == ([], [])
    scene.assert_ledger_tells_the_primary(result)
    scene.assert_remembered(result, ["a"])


@pytest.mark.parametrize("aside", [False, True])
def test_a_record_that_others_deleted_stays_away(scene: Scene, aside: bool) -> None:
    """Unless it was set aside because the replica did not take it: then it is tried again."""
    scene.holds(A, B, C, on="primary")
    scene.holds(B, C, on="replica")
    scene.knows(A, B, C)
    known = {"a": Quarantined(COLLECTION, "a", "why", absent=True)} if aside else {}
    result = scene.reconcile(check=True, hold=True, aside=known)
    assert result.foreign == ([] if aside else ["a"])
    assert result.counts.inserted == int(aside)
    assert result.quarantined == []


def test_a_chunk_that_was_in_our_hands_is_ours(scene: Scene) -> None:
    """What a cut-off worker may have written is compared and overwritten as ever."""
    scene.holds(A, B, on="primary")
    scene.holds(THEIRS, on="replica")
    scene.knows(A, unknown=["b"], suspect=True, in_hand=True)
    result = scene.reconcile(hold=True)
    assert (result.foreign, result.counts.updated, result.counts.inserted) == ([], 1, 1)
    assert scene.replica.calls[0].name == "read"
    assert (result.chunk.head.replica.in_hand, result.chunk.head.replica.suspect) == (False, False)
    scene.assert_equal()


def test_gone_records_that_others_changed_are_not_handed_over(scene: Scene) -> None:
    """Only what is ours on the replica is gone; all of it stays in the chunk as it was."""
    scene.holds(A, B, C, on="replica")
    scene.holds(record("b", "edited"), record("new", "theirs"), on="replica")
    scene.holds(C, on="primary")
    scene.knows(A, B, C, record("d"), unknown=["never", "new"])
    before = scene.chunk
    result = scene.reconcile(hold=True)
    assert (result.gone, result.foreign) == (["a", "d"], ["b", "new"])
    assert result.chunk.ids == ["a", "b", "c", "d", "new"]
    assert row_of(result.chunk, "b") == row_of(before, "b")
    assert row_of(result.chunk, "new") == row_of(before, "new")
    assert [call.name for call in scene.replica.calls] == ["read"]
    assert (result.chunk.head.replica.gone_count, result.chunk.head.replica.suspect) == (2, True)


def test_gone_records_keep_what_is_remembered(scene: Scene) -> None:
    """While a deletion waits for an approval, the record can still be told from a foreign one."""
    scene.holds(A, B, C)
    drifted = record("a", "da", {"k": 1}, embedding=(1.0, 2.0, 3.0000002))
    scene.holds(drifted, on="replica")
    scene.knows(A, B, C, seen=[drifted])
    scene.primary.remove(scene.source, ["a"])
    scene.chunk = scene.reconcile().chunk
    assert scene.reconcile(hold=True).gone == ["a"]
    scene.holds(THEIRS, on="replica")
    assert scene.reconcile(hold=True).foreign == ["a"]


def test_a_quarantined_record_in_an_older_state_is_still_ours(scene: Scene) -> None:
    """What the replica holds of a record that it refused is remembered, and tells foreign edits."""
    scene.holds(A, B, C)
    scene.holds(NEW, on="primary")
    scene.knows(A, B, C)
    scene.replica.broken.refused = {"a"}
    result = scene.reconcile()
    aside = {"a": result.quarantined[0]}
    scene.assert_remembered(result, ["a"])
    scene.chunk = replace(result.chunk, head=result.chunk.head.with_replica(suspect=True))
    scene.replica.broken.refused = set()
    scene.holds(THEIRS, on="replica")
    assert scene.reconcile(hold=True, aside=aside).foreign == ["a"]
    scene.holds(A, on="replica")
    assert scene.reconcile(hold=True, aside=aside).foreign == []
    scene.assert_equal()


def test_a_record_that_the_replica_cannot_give_is_held(scene: Scene) -> None:
    """Nobody can tell whose it is, so it is not rebuilt until someone decides."""
    scene.holds(A, B, C)
    scene.knows(A, B, C, seen=[A])
    scene.replica.broken.unreadable = {"a"}
    result = scene.reconcile(check=True, hold=True)
    assert (result.foreign, scene.replica.writes) == (["a"], [])
    assert result.chunk.applied.payload.row(0) == payload_digests(A)

"""Reconciling one chunk: what the ledger says decides what is looked at and what is written."""

from __future__ import annotations

import pytest

from chromasync import faultpoints, memory
from chromasync.errors import LeaseLost, ServerFault, ServerUnreachable
from chromasync.lab.fake import Call
from chromasync.ledger.digest import ids_digest, payload_digests
from chromasync.model import OpCounts, Quarantined
from tests.support.ledgers import COLLECTION, names, record
from tests.unit.scenes import CYCLE, EARLIER, NOON, Scene, remembered


@pytest.fixture
def scene() -> Scene:
    return Scene()


A, B, C = record("a", "da", {"k": 1}), record("b", "db"), record("c", None, {}, "u")


def test_an_unchanged_chunk_costs_one_read_of_the_primary(scene: Scene) -> None:
    """Nothing is asked of the replica, nothing written, and the read is remembered."""
    scene.holds(A, B, C)
    scene.knows(A, B, C)
    result = scene.reconcile()
    assert scene.replica.calls == []
    assert (result.counts, result.gone, result.quarantined) == (OpCounts(read=3), [], [])
    head = result.chunk.head
    assert (head.read_at, head.replica.checked_at, head.recheck) == (NOON, EARLIER, False)
    assert (head.replica.gone_count, head.replica.suspect, head.id) == (0, False, 7)
    assert head.read_seconds > 0
    scene.assert_ledger_tells_the_primary(result)


def test_what_was_not_looked_at_keeps_what_is_remembered(scene: Scene) -> None:
    """A chunk without changes keeps its digests of the replica, and its check's cycle."""
    scene.holds(A, B)
    scene.knows(A, B, seen=[A], in_hand=True)
    result = scene.reconcile()
    assert scene.replica.calls == []
    scene.assert_remembered(result, ["a"])
    head = result.chunk.head
    assert (head.read_cycle, head.replica.checked_cycle, head.replica.in_hand) == (CYCLE, 2, False)


def test_what_the_replica_returned_is_remembered(scene: Scene) -> None:
    """Of a record that was compared, equal or written, the last answer's digest is kept."""
    scene.holds(A, B, C)
    scene.knows(A, B, C, seen=[record("a", "older"), record("c", "older")])
    scene.holds(record("b", "new"), on="primary")
    result = scene.reconcile()
    assert remembered(result.chunk).keys() == {"a", "b", "c"}
    scene.knows(A, record("b", "new"), C, seen=[record("a", "older")])
    result = scene.reconcile(check=True)
    scene.assert_remembered(result, ["a", "b", "c"])
    assert (result.chunk.head.read_cycle, result.chunk.head.replica.checked_cycle) == (CYCLE, CYCLE)


def test_a_compare_of_an_untouched_replica_remembers_the_same(scene: Scene) -> None:
    """The digests of one check are those of the next."""
    scene.holds(A, B, C)
    scene.knows(A, B, C, suspect=True)
    first = scene.reconcile(check=True)
    scene.chunk = first.chunk
    assert scene.reconcile(check=True).chunk.applied.replica == first.chunk.applied.replica


def test_new_records_are_inserted_without_asking(scene: Scene) -> None:
    """A chunk of unknown records is written and read back: it is checked with that."""
    scene.holds(A, B, C, on="primary")
    scene.knows(unknown=["a", "b", "c"])
    result = scene.reconcile()
    assert [call.name for call in scene.replica.calls] == ["add", "read"]
    assert result.counts == OpCounts(read=3, inserted=3)
    assert (result.chunk.head.replica.checked_at, result.chunk.head.recheck) == (NOON, True)
    assert result.chunk.head.replica.checked_cycle == CYCLE
    scene.assert_remembered(result, ["a", "b", "c"])
    scene.assert_equal()
    scene.assert_ledger_tells_the_primary(result)


def test_a_changed_record_is_compared_alone(scene: Scene) -> None:
    """Only what differs from the ledger is read from the replica and sent."""
    scene.holds(A, B, C)
    scene.knows(A, B, C)
    changed = record("b", "new")
    scene.holds(changed, on="primary")
    result = scene.reconcile()
    assert {call.ids for call in scene.replica.calls} == {("b",)}
    assert result.counts == OpCounts(read=3, updated=1)
    assert (result.chunk.head.replica.checked_at, result.chunk.head.recheck) == (EARLIER, True)
    scene.assert_equal()
    scene.assert_ledger_tells_the_primary(result)


def test_a_change_that_the_replica_has_already_is_no_write(scene: Scene) -> None:
    """The ledger lags behind after a crash; the comparison finds nothing to do."""
    scene.knows(record("a", "old"), B)
    scene.holds(A, B)
    result = scene.reconcile()
    assert scene.replica.writes == []
    assert result.counts == OpCounts(read=2)
    assert not result.chunk.head.recheck
    scene.assert_ledger_tells_the_primary(result)


@pytest.mark.parametrize("why", ["suspect", "check"])
def test_drift_is_found_when_the_replica_is_looked_at(scene: Scene, why: str) -> None:
    """In a suspect chunk, or for a check, every record is compared and drift is counted."""
    scene.knows(A, B, C, suspect=why == "suspect")
    scene.holds(A, B, C, on="primary")
    scene.holds(record("a", "someone else's"), B, on="replica")
    result = scene.reconcile(check=why == "check")
    assert result.counts == OpCounts(read=3, inserted=1, updated=1, drifted=2)
    assert (result.chunk.head.replica.checked_at, result.chunk.head.replica.suspect) == (
        NOON,
        False,
    )
    scene.assert_equal()


def test_drift_is_not_looked_for_otherwise(scene: Scene) -> None:
    """An ordinary pass trusts the ledger about records that did not change."""
    scene.knows(A, B)
    scene.holds(A, B, on="primary")
    assert scene.reconcile().counts == OpCounts(read=2)
    assert scene.replica.calls == []


def test_unknown_records_of_a_suspect_chunk_are_compared(scene: Scene) -> None:
    """Where the replica may have them after all, they are read before anything is written."""
    scene.holds(A, B)
    scene.knows(unknown=["a", "b"], suspect=True)
    result = scene.reconcile()
    assert [call.name for call in scene.replica.calls] == ["read"]
    assert result.counts == OpCounts(read=2)
    scene.assert_ledger_tells_the_primary(result)


def test_gone_records_are_handed_over_not_deleted(scene: Scene) -> None:
    """What the primary does not return stays on the replica and in the chunk until judged."""
    scene.holds(A, B, C)
    scene.knows(A, B, C)
    scene.primary.remove(scene.source, ["b"])
    result = scene.reconcile()
    assert result.gone == ["b"]
    assert result.chunk.ids == ["a", "b", "c"]
    assert (result.chunk.head.replica.gone_count, result.chunk.head.count) == (1, 3)
    assert scene.replica.writes == []
    assert result.chunk.applied.payload.row(1) == payload_digests(B)


def test_what_never_was_on_the_replica_just_leaves(scene: Scene) -> None:
    """An unknown record that is gone needs no deletion; in a suspect chunk it may be there."""
    scene.holds(A)
    scene.knows(A, unknown=["x", "y"])
    result = scene.reconcile()
    assert (result.gone, result.chunk.ids) == ([], ["a"])
    assert result.chunk.head.ids_digest == ids_digest(["a"])
    scene.assert_ledger_tells_the_primary(result)
    scene.knows(A, unknown=["x"], suspect=True)
    result = scene.reconcile()
    assert (result.gone, result.chunk.ids) == (["x"], ["a", "x"])


def test_a_refused_record_is_quarantined_and_the_rest_goes_through(scene: Scene) -> None:
    """It has a reason, it is absent, and it is not tried again until it changes."""
    scene.holds(A, B, C, on="primary")
    scene.knows(unknown=["a", "b", "c"])
    scene.replica.broken.refused = {"b"}
    result = scene.reconcile()
    (aside,) = result.quarantined
    assert aside == Quarantined(COLLECTION, "b", "Record 'b' is refused.", True)
    assert result.counts == OpCounts(read=3, inserted=2, quarantined=1)
    assert not result.chunk.head.replica.suspect
    assert scene.replica.contents(scene.home).ids == ["a", "c"]
    scene.assert_remembered(result, ["a", "c"])
    scene.assert_ledger_tells_the_primary(result)

    scene.chunk = result.chunk
    scene.replica.calls.clear()
    again = scene.reconcile(aside={"b": aside})
    assert scene.replica.calls == []
    assert again.quarantined == [aside]

    scene.replica.broken.refused = set()
    scene.holds(record("b", "better"), on="primary")
    healed = scene.reconcile(aside={"b": aside})
    assert healed.quarantined == []
    scene.assert_equal()


def test_a_check_tries_the_quarantined_again(scene: Scene) -> None:
    """A look at the replica's side includes records that were set aside."""
    scene.holds(A, B, on="primary")
    scene.holds(A, on="replica")
    scene.knows(A, B)
    aside = {"b": Quarantined(COLLECTION, "b", "why", True)}
    result = scene.reconcile(check=True, aside=aside)
    assert result.quarantined == []
    scene.assert_equal()


def test_a_fault_of_the_replica_is_tried_again_in_the_next_cycle(scene: Scene) -> None:
    """A record at which the server failed, rather than refused, leaves the chunk suspect."""
    scene.holds(A, B, on="primary")
    scene.knows(unknown=["a", "b"])

    def fail(call: Call) -> None:
        if call.name == "add" and "b" in call.ids:
            raise ServerFault("broken", side="replica")

    scene.replica.on_request(fail)
    result = scene.reconcile()
    assert [q.record_id for q in result.quarantined] == ["b"]
    assert result.chunk.head.replica.suspect
    scene.chunk = result.chunk
    scene.replica.on_request(None)
    assert scene.reconcile().quarantined == []
    scene.assert_equal()


def test_a_record_that_the_primary_cannot_give_is_quarantined(scene: Scene) -> None:
    """It is neither gone nor changed; it is compared as soon as it can be read again."""
    scene.holds(A, B, C)
    scene.knows(A, B, unknown=["c"])
    scene.primary.broken.unreadable = {"b", "c"}
    result = scene.reconcile()
    assert result.gone == []
    assert [(q.record_id, q.absent) for q in result.quarantined] == [("b", False), ("c", True)]
    assert all("the primary has it but cannot return it" in q.reason for q in result.quarantined)
    assert result.counts == OpCounts(read=1, quarantined=2)
    assert result.chunk.ids == ["a", "b", "c"]
    assert scene.replica.writes == []

    scene.primary.broken.unreadable = set()
    scene.holds(record("b", "drifted"), on="replica")
    scene.chunk = result.chunk
    assert scene.reconcile().quarantined == []
    scene.assert_equal()


def test_what_a_replica_cannot_carry_is_left_out(scene: Scene) -> None:
    """Lists are dropped for a server without them, counted, and cause no write in each cycle."""
    scene = Scene(arrays=False)
    scene.holds(record("a", "d", {"k": 1, "l": [1, 2]}), B, on="primary")
    scene.knows(unknown=["a", "b"])
    result = scene.reconcile()
    assert result.chunk.head.replica.reduced_count == 1
    assert scene.replica.contents(scene.home).metadatas == [{"k": 1}, {}]
    scene.assert_ledger_tells_the_primary(result)
    scene.chunk = result.chunk
    scene.replica.calls.clear()
    again = scene.reconcile()
    assert (again.chunk.head.replica.reduced_count, scene.replica.calls) == (1, [])
    assert scene.reconcile(check=True).counts == OpCounts(read=2)


def test_large_chunks_are_taken_in_batches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in several requests, the result is that of the whole chunk."""
    monkeypatch.setattr(memory, "BATCH_BYTES", 8_000)
    ids = names(50)
    scene.holds(*[record(i, f"d{i}") for i in ids], on="primary")
    scene.knows(unknown=[*ids, "ghost"])
    result = scene.reconcile()
    assert len([call for call in scene.primary.calls if call.name == "read"]) > 2
    assert result.counts == OpCounts(read=50, inserted=50)
    assert (result.chunk.ids, result.chunk.head.replica.checked_at) == (ids, NOON)
    scene.assert_equal()
    scene.assert_ledger_tells_the_primary(result)


def test_the_primary_s_order_does_not_matter(scene: Scene) -> None:
    """A server answers in its own order; digests go to the right ids."""
    scene.holds(C, A, B, on="primary")
    scene.knows(unknown=["a", "b", "c"])
    result = scene.reconcile()
    assert result.chunk.ids == ["a", "b", "c"]
    scene.assert_ledger_tells_the_primary(result)


def test_without_leave_nothing_is_written(scene: Scene) -> None:
    """A lost lease stops the first write and leaves the chunk as it was."""
    scene.holds(A, on="primary")
    scene.knows(unknown=["a"])
    with pytest.raises(LeaseLost):
        scene.reconcile(permit=LeaseLost("over"))
    assert scene.replica.contents(scene.home).ids == []
    assert scene.replica.writes == []


def test_an_unreachable_primary_ends_the_work(scene: Scene) -> None:
    """Nothing is taken for gone when the primary did not answer."""
    scene.knows(A)

    def away(call: Call) -> None:
        raise ServerUnreachable("away", side="primary")

    scene.primary.on_request(away)
    with pytest.raises(ServerUnreachable):
        scene.reconcile()
    assert scene.replica.calls == []


def test_an_empty_chunk_is_nothing(scene: Scene) -> None:
    """Without ids no server is asked."""
    scene.knows()
    result = scene.reconcile()
    assert (result.chunk.ids, result.counts, scene.primary.calls) == ([], OpCounts(), [])


def test_the_named_points_are_passed(scene: Scene) -> None:
    """Tests can stop after each batch read and after the last write."""
    scene.holds(A, on="primary")
    scene.knows(unknown=["a"])
    points: list[str] = []
    with faultpoints.injected(points.append):
        scene.reconcile()
    assert points == [faultpoints.AFTER_READ, faultpoints.MID_WRITE, faultpoints.AFTER_WRITE]

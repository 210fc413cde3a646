"""Reconciling single records of a chunk: only their rows move, and all others rest."""

from __future__ import annotations

from typing import Any

import pytest

from chromasync.errors import ServerFault, ServerUnreachable
from chromasync.lab.fake import Call
from chromasync.ledger.plan import due_ids
from chromasync.model import Chunk, ChunkResult, OpCounts, Quarantined
from tests.support.ledgers import COLLECTION, names, record
from tests.unit.scenes import CYCLE, EARLIER, NOON, Scene

OTHERS = [record(i, "as it was") for i in names(20)]
A, B, C = record("a", "da", {"k": 1}), record("b", "db"), record("c", None, {}, "u")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def read_by(scene: Scene) -> list[tuple[str, ...]]:
    """The ids of each request for contents to the primary."""
    return [call.ids for call in scene.primary.calls if call.name == "read"]


def rows_of(chunk: Chunk) -> dict[str, tuple[bytes, bytes, bytes]]:
    columns = (chunk.applied.embedding, chunk.applied.payload, chunk.applied.replica)
    return {i: tuple(c.row(row) for c in columns) for row, i in enumerate(chunk.ids)}  # type: ignore[misc]


def settled(scene: Scene, *, unknown: tuple[str, ...] = (), **head: Any) -> None:
    """The ledger knows all but these, and nothing of it is due."""
    scene.knows(A, B, C, *OTHERS, unknown=list(unknown), recheck=False, looked_cycle=3, **head)


def assert_others_rest(scene: Scene, result: ChunkResult, *moved: str) -> None:
    before, after = rows_of(scene.chunk), rows_of(result.chunk)
    rest = before.keys() - set(moved)
    assert {i: after[i] for i in rest} == {i: before[i] for i in rest}
    head = result.chunk.head
    assert (head.read_at, head.read_cycle) == (EARLIER, 3)
    assert (head.replica.checked_at, head.replica.checked_cycle, head.looked_cycle) == (
        EARLIER,
        2,
        CYCLE,
    )
    assert head.read_seconds == scene.chunk.head.read_seconds


def again(result: ChunkResult) -> frozenset[str] | set[str] | None:
    return due_ids(result.chunk.head, check_before=EARLIER)


def asked(result: ChunkResult) -> frozenset[str] | set[str] | None:
    return result.asked


def test_a_changed_record_is_read_alone(scene: Scene) -> None:
    """One id is asked for; its row moves, and it alone is looked at again."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    scene.holds(record("b", "new"), on="primary")
    result = scene.reconcile(ids=("b",))
    assert read_by(scene) == [("b",)]
    assert result.counts == OpCounts(read=1, updated=1)
    assert_others_rest(scene, result, "b")
    assert (again(result), asked(result)) == ({"b"}, {"b"})
    scene.assert_equal()
    scene.assert_ledger_tells_the_primary(result)
    scene.chunk = result.chunk
    quiet = scene.reconcile(ids=())
    assert read_by(scene) == [("b",), ("b",)]
    assert (again(quiet), quiet.counts) == (frozenset(), OpCounts(read=1))


def test_new_records_are_inserted_without_the_others(scene: Scene) -> None:
    """What joined the chunk is read and written; the others are neither read nor compared."""
    scene.holds(A, B, C, *OTHERS)
    scene.holds(record("x", "new"), on="primary")
    settled(scene, unknown=("x", "y"))
    result = scene.reconcile(ids=("x", "y"))
    assert [call.name for call in scene.replica.calls] == ["add", "read"]
    assert result.counts == OpCounts(read=1, inserted=1)
    assert "y" not in result.chunk.ids
    assert_others_rest(scene, result, "x", "y")
    assert again(result) == {"x"}
    scene.assert_equal()


def test_a_missing_record_is_asked_for_alone(scene: Scene) -> None:
    """What the primary does not return is gone, and what it returns is compared."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    scene.primary.remove(scene.source, ["a"])
    result = scene.reconcile(ids=("a", "c"))
    assert read_by(scene) == [("a", "c")]
    assert (result.gone, result.counts) == (["a"], OpCounts(read=1))
    assert_others_rest(scene, result, "a")
    assert scene.replica.writes == []
    assert again(result) == frozenset()


@pytest.mark.parametrize(
    ("head", "check"),
    [
        ({"suspect": True}, False),
        ({"suspect": True, "in_hand": True}, False),
        ({"reduced_count": 1}, False),
        ({"recheck": True}, False),
        ({}, True),
    ],
)
def test_a_chunk_that_is_not_trusted_is_read_whole(
    scene: Scene, head: dict[str, Any], check: bool
) -> None:
    """Whatever a task names, all of a chunk is read of which more than that is in doubt."""
    scene.holds(A, B, C, *OTHERS)
    scene.knows(A, B, C, *OTHERS, **({"recheck": False} | head))
    result = scene.reconcile(ids=("a",), check=check)
    assert result.counts.read == 23
    assert result.asked is None
    assert (result.chunk.head.read_at, result.chunk.head.read_cycle) == (NOON, CYCLE)
    assert not result.chunk.head.replica.suspect
    scene.assert_equal()


def test_ids_that_left_the_chunk_are_not_asked_for(scene: Scene) -> None:
    """A task may name what the ledger no longer has there."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    result = scene.reconcile(ids=("elsewhere",))
    assert read_by(scene) == []
    assert (result.counts, result.gone, asked(result)) == (OpCounts(), [], {"elsewhere"})
    assert_others_rest(scene, result)


def test_a_record_that_cannot_be_given_is_told_from_a_broken_server(scene: Scene) -> None:
    """Its chunk is read whole: the bad record alone is set aside when others come."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    scene.primary.broken.unreadable = {"b"}
    result = scene.reconcile(ids=("a", "b"))
    assert [q.record_id for q in result.quarantined] == ["b"]
    assert (result.asked, result.counts.read, result.gone) == (None, 22, [])
    assert result.chunk.head.read_at == NOON


def test_a_broken_server_is_not_blamed_on_the_one_record_asked(scene: Scene) -> None:
    """When no record of the chunk comes, the task fails and nothing is set aside."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)

    def fail(call: Call) -> None:
        raise ServerFault("broken", side="primary")

    scene.primary.on_request(fail)
    with pytest.raises(ServerFault):
        scene.reconcile(ids=("b",))


def test_what_is_set_aside_elsewhere_stays_so(scene: Scene) -> None:
    """A result in part names the quarantined records that it met, and no others."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    aside = {i: Quarantined(COLLECTION, i, "why", True) for i in "ab"}
    result = scene.reconcile(ids=("b",), aside=aside)
    assert (result.quarantined, asked(result)) == ([aside["b"]], {"b"})


def test_a_write_that_failed_makes_the_whole_chunk_suspect(scene: Scene) -> None:
    """What the server may have taken is compared in the next cycle, with all others."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    scene.holds(record("b", "new"), on="primary")

    def fail(call: Call) -> None:
        if call.name == "update":
            raise ServerFault("broken", side="replica")

    scene.replica.on_request(fail)
    result = scene.reconcile(ids=("b",))
    assert [q.record_id for q in result.quarantined] == ["b"]
    assert result.chunk.head.replica.suspect
    scene.replica.on_request(None)
    scene.chunk = result.chunk
    assert scene.reconcile(ids=("b",)).counts.read == 23
    scene.assert_equal()


def test_a_foreign_record_is_met_again(scene: Scene) -> None:
    """What others wrote is left there, and its chunk is compared whole from then on."""
    scene.holds(A, B, C, *OTHERS)
    settled(scene)
    scene.holds(record("b", "new"), on="primary")
    scene.holds(record("b", "theirs"), on="replica")
    result = scene.reconcile(ids=("b",), hold=True)
    assert (result.foreign, result.counts.read) == (["b"], 1)
    assert result.chunk.head.replica.suspect
    assert scene.replica.writes == []


def test_nothing_is_taken_for_gone_when_the_primary_is_away(scene: Scene) -> None:
    """A read that did not come says nothing."""
    settled(scene)

    def away(call: Call) -> None:
        raise ServerUnreachable("away", side="primary")

    scene.primary.on_request(away)
    with pytest.raises(ServerUnreachable):
        scene.reconcile(ids=("a",))

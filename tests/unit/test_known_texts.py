"""Unchanged embeddings are recognized by their text, and then they are not decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chromasync.ledger.digest import embedding_digests
from chromasync.model import OpCounts, Quarantined, Records
from chromasync.reconcile import chunk as reconciling
from tests.support.ledgers import COLLECTION, record
from tests.unit.scenes import Scene

A, B, C = record("a", "da", {"k": 1}), record("b", "db"), record("c", None, {}, "u")


class Decoded:
    """Counts the records whose embeddings were digested."""

    def __init__(self) -> None:
        self.records = 0

    def __call__(self, records: Records) -> Any:
        self.records += len(records)
        return embedding_digests(records)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Decoded:
    counter = Decoded()
    monkeypatch.setattr(reconciling, "embedding_digests", counter)
    return counter


@pytest.fixture
def scene() -> Scene:
    """Both sides hold three records, and the chunk was read once."""
    scene = Scene()
    scene.holds(A, B, C)
    scene.knows(A, B, C, recheck=False)
    scene.chunk = scene.reconcile().chunk
    return scene


def test_an_unchanged_text_is_not_decoded(scene: Scene, decoded: Decoded) -> None:
    """The second read counts its records, and leaves the ledger's digests as they are."""
    result = scene.reconcile()
    assert decoded.records == 0
    assert result.counts == OpCounts(read=3)
    assert result.chunk.applied == scene.chunk.applied
    assert result.chunk.head.text_digests == scene.chunk.head.text_digests
    scene.assert_ledger_tells_the_primary(result)


def change_embedding(scene: Scene) -> None:
    moved = replace(B, embeddings=B.embeddings + 1) if B.embeddings is not None else B
    scene.holds(moved, on="primary")


def change_document(scene: Scene) -> None:
    scene.holds(record("b", "another"), on="primary")


def lose_record(scene: Scene) -> None:
    scene.primary.remove(scene.source, {"b"})


def move_record(scene: Scene) -> None:
    scene.primary.remove(scene.source, {"a"})
    scene.holds(A, on="primary")


def forget_digest(scene: Scene) -> None:
    scene.knows(A, B, unknown=["c"], text_digests=scene.chunk.head.text_digests)


@pytest.mark.parametrize(
    "change", [change_embedding, change_document, lose_record, move_record, forget_digest]
)
def test_anything_else_is_decoded(
    scene: Scene, decoded: Decoded, change: Callable[[Scene], None]
) -> None:
    """A changed, gone or moved record, or another ledger, is seen; then the text is known again."""
    change(scene)
    result = scene.reconcile()
    assert decoded.records >= 2
    scene.assert_ledger_tells_the_primary(result)
    scene.chunk = result.chunk
    decoded.records = 0
    scene.reconcile()
    assert bool(decoded.records) == bool(result.gone)


def test_a_check_of_the_replica_decodes(scene: Scene, decoded: Decoded) -> None:
    """What is compared with the replica is decoded, and its text is known afterwards."""
    scene.chunk = scene.reconcile(check=True).chunk
    assert decoded.records == 3
    scene.reconcile()
    assert decoded.records == 3


def test_a_read_in_part_leaves_the_texts(scene: Scene, decoded: Decoded) -> None:
    """A read of single records decodes these, and the next whole read recognizes the text."""
    scene.chunk = scene.reconcile(ids=("b",)).chunk
    assert decoded.records == 1
    scene.reconcile()
    assert decoded.records == 1


def test_a_text_that_came_back_is_decoded(scene: Scene, decoded: Decoded) -> None:
    """The replica got another embedding meanwhile, by a read in part, so it is written again."""
    change_embedding(scene)
    scene.chunk = scene.reconcile(ids=("b",)).chunk
    scene.assert_equal()
    scene.holds(B, on="primary")
    decoded.records = 0
    result = scene.reconcile()
    assert (decoded.records, result.counts.updated) == (3, 1)
    scene.assert_equal()
    scene.assert_ledger_tells_the_primary(result)


def test_a_record_that_was_set_aside_is_kept_so(scene: Scene, decoded: Decoded) -> None:
    """A quarantined record is named again in the result of an unchanged read."""
    aside = {"b": Quarantined(COLLECTION, "b", "refused", absent=True)}
    result = scene.reconcile(aside=aside)
    assert [one.record_id for one in result.quarantined] == ["b"]
    assert decoded.records == 3

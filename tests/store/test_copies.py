"""A copy of a store has all that a plan looks at, and its changes stay within it."""

from __future__ import annotations

from pathlib import Path

from chromasync.ledger.digest import whole_digests
from chromasync.model import DirectionState
from chromasync.store import SqlStore
from chromasync.store.copies import COPIED
from tests.store.samples import COLLECTION, loaded
from tests.store.test_repeats import arranged, content_of


def test_a_copy_has_every_row(store: SqlStore) -> None:
    """Of all tables but those of tasks and of alerts that were told."""
    arranged(store)
    before = content_of(store)
    with store.copied() as copy:
        found = content_of(copy)
        for table in COPIED:
            assert found[table.name] == before[table.name], table.name
        assert copy.mirrors() == store.mirrors()
        chunks = [head.id for head in store.chunk_heads(COLLECTION)]
        for chunk_id in chunks:
            one, other = loaded(copy, chunk_id), loaded(store, chunk_id)
            assert (one.ids, one.applied) == (other.ids, other.applied)
    assert {name for name, rows in before.items() if rows} - {t.name for t in COPIED} <= {
        "sync_tasks", "sync_alerts", "sync_schema", "sync_collections",
    }  # fmt: skip


def test_a_turn_of_the_copy_leaves_the_store_as_it_is(store: SqlStore) -> None:
    """The copy follows the other way, with chunks of its own; the store is still promoted."""
    arranged(store)
    store.begin_promotion("ann@here", "http://r", planned=True, lease_seconds=60)
    store.finish_promotion(0, None)
    before = content_of(store)
    with store.copied() as copy:
        place = Path(copy.backend.place.removeprefix("the state file "))
        assert copy.turn(0, {COLLECTION}, whole_digests)
        assert copy.direction().is_following
        copy.save_chunks([])
        assert place.exists()
    assert not place.parent.exists()
    assert content_of(store) == before
    assert store.direction().state is DirectionState.PROMOTED

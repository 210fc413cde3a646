"""Details of the census; `tests/property/test_membership.py` has what holds for any history."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chromasync.cycle import census
from chromasync.cycle.census import _Appender, new_task, pages
from chromasync.cycle.work import CollectionWork
from chromasync.model import Collection, Mirror, NewTask, Side
from chromasync.store import SqlStore
from chromasync.testing.fake import FakeServer
from tests.support.ledgers import COLLECTION, chunk_of, joined, names, record

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
THINGS = Collection(COLLECTION, "things", "t", "d")


@pytest.fixture
def work() -> CollectionWork:
    return CollectionWork(Mirror(COLLECTION, "t", "d", "things"), THINGS, THINGS, NOON)


def ids_by_chunk(store: SqlStore) -> list[list[str]]:
    loaded = [store.load_chunk(head.id) for head in store.chunk_heads(COLLECTION)]
    return [chunk.ids for chunk in loaded if chunk is not None]


def test_a_chunk_that_was_forgotten_meanwhile_has_nothing_to_give(
    store: SqlStore, work: CollectionWork
) -> None:
    """An id said to leave a chunk that is not there any more arrives unknown, and alone."""
    appender = _Appender(store, work, [], 3)
    appender.append(["a", "b"], {"a": 999})
    assert ids_by_chunk(store) == [["a", "b"]]


def test_an_open_chunk_that_was_forgotten_meanwhile_is_not_filled(
    store: SqlStore, work: CollectionWork
) -> None:
    """New ids go to a new chunk then, and are not lost."""
    store.save_chunks([chunk_of(["a"])])
    appender = _Appender(store, work, store.chunk_heads(COLLECTION), 3)
    store.forget_chunks(COLLECTION)
    appender.append(["b"], {})
    appender.append(["c"], {})
    assert ids_by_chunk(store) == [["b", "c"]]


def test_an_open_chunk_whose_ids_come_back_is_filled_again(
    store: SqlStore, work: CollectionWork
) -> None:
    """All ids of the last chunk moved to the end: it is the same chunk, in the new order."""
    (chunk_id,) = store.save_chunks([chunk_of(["a", "b"])])
    appender = _Appender(store, work, store.chunk_heads(COLLECTION), 3)
    assert appender.append(["b", "a", "x", "y"], {"a": chunk_id, "b": chunk_id}) == []
    assert ids_by_chunk(store) == [["b", "a", "x"], ["y"]]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("told", [0, 99])
def test_all_pages_of_a_collection(monkeypatch: pytest.MonkeyPatch, count: int, told: int) -> None:
    """Every id comes once, in order, whatever the server counted; no page is empty."""
    monkeypatch.setattr(census, "PAGE_IDS", 3)
    server = FakeServer(Side.PRIMARY)
    home = server.make()
    if count:
        server.put(home, joined(*[record(i) for i in names(count)]))
    found = list(pages(server, home, told))
    assert [i for page in found for i in page] == names(count)
    assert all(found)


def test_short_pages_before_the_end_are_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that caps its answers is asked on until as many ids came as it counted."""
    server = FakeServer(Side.PRIMARY)
    home = server.make()
    server.put(home, joined(*[record(i) for i in names(5)]))
    whole = server.list_ids

    def capped(collection: Collection, *, offset: int, limit: int) -> list[str]:
        return whole(collection, offset=offset, limit=min(limit, 2))

    monkeypatch.setattr(server, "list_ids", capped)
    assert [i for page in pages(server, home, 5) for i in page] == names(5)


def test_a_task_tells_its_place(work: CollectionWork) -> None:
    """A task names the collection and the records of its chunk by position."""
    head = chunk_of(["a", "b"], chunk_id=4, start=10).head
    task = new_task(work, head, check_replica=True)
    assert task == NewTask(COLLECTION, "things", 4, 10, 12, check_replica=True)
    assert not new_task(work, head).check_replica

"""Details of the membership; `tests/property/test_membership.py` has what holds for any history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chromasync.config import Settings
from chromasync.cycle.membership import MembershipUpdate, new_task
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.lab.fake import FakeServer
from chromasync.ledger import paging
from chromasync.ledger.paging import pages
from chromasync.ledger.plan import new_chunk
from chromasync.model import Collection, NewTask, Side
from chromasync.plan.append import Appender
from chromasync.quiet import Quiet
from chromasync.store import SqlStore
from tests.support.ledgers import COLLECTION, chunk_of, joined, mirror_of, names, record

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
THINGS = Collection(COLLECTION, "things", "t", "d")


@pytest.fixture
def work() -> CollectionWork:
    return CollectionWork(mirror_of(COLLECTION, "t", "d", "things"), THINGS, THINGS, NOON)


def ids_by_chunk(store: SqlStore) -> list[list[str]]:
    loaded = [store.load_chunk(head.id) for head in store.chunk_heads(COLLECTION)]
    return [chunk.ids for chunk in loaded if chunk is not None]


def test_a_chunk_that_was_forgotten_meanwhile_has_nothing_to_give(
    store: SqlStore, work: CollectionWork
) -> None:
    """An id said to leave a chunk that is not there any more arrives unknown, and alone."""
    appender = Appender(store, work.mirror, [], 3)
    appender.append(["a", "b"], {"a": 999})
    assert ids_by_chunk(store) == [["a", "b"]]


def test_an_open_chunk_that_was_forgotten_meanwhile_is_not_filled(
    store: SqlStore, work: CollectionWork
) -> None:
    """New ids go to a new chunk then, and are not lost."""
    store.save_chunks([chunk_of(["a"])])
    appender = Appender(store, work.mirror, store.chunk_heads(COLLECTION), 3)
    store.forget_chunks(COLLECTION)
    appender.append(["b"], {})
    appender.append(["c"], {})
    assert ids_by_chunk(store) == [["b", "c"]]


def test_an_open_chunk_whose_ids_come_back_is_filled_again(
    store: SqlStore, work: CollectionWork
) -> None:
    """All ids of the last chunk moved to the end: it is the same chunk, in the new order."""
    (chunk_id,) = store.save_chunks([chunk_of(["a", "b"])])
    appender = Appender(store, work.mirror, store.chunk_heads(COLLECTION), 3)
    assert appender.append(["b", "a", "x", "y"], {"a": chunk_id, "b": chunk_id}) == []
    assert ids_by_chunk(store) == [["b", "a", "x"], ["y"]]


def test_missing_ids_are_named_though_repeats_of_their_chunk_go(
    store: SqlStore, work: CollectionWork, settings: Settings
) -> None:
    """An id that the ledger has twice leaves its later place; those behind it keep their names."""
    store.save_chunks([chunk_of(["a", "b", "c"]), chunk_of(["b", "d", "e", "f"], start=3)])
    first, second = (head.id for head in store.chunk_heads(COLLECTION))
    primary, replica = FakeServer(Side.PRIMARY), FakeServer(Side.REPLICA)
    work.primary, work.replica = primary.make(), replica.make()
    primary.put(work.primary, joined(*[record(i) for i in "bcde"]))
    work.update_primary(ordered=False)
    cycle = CycleWork(store.open_cycle(), settings, primary, replica, store, Quiet())
    heads = store.heads_of([COLLECTION])
    MembershipUpdate(cycle, lambda tasks: None, heads).take(work)
    assert ids_by_chunk(store) == [["a", "b", "c"], ["d", "e", "f"]]
    assert work.membership.hints == {first: {"a"}, second: {"f"}}


LISTED = {
    "abef": [False, False, False],
    "abe": [True, False, True],
    "ef": [True, False, True],
}
"""What the replica lists, and which chunks are suspect then: all that were written, or none."""


@pytest.mark.parametrize("listed", LISTED)
def test_workers_may_change_chunks_during_the_walk_of_the_replica(
    store: SqlStore,
    work: CollectionWork,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    listed: str,
) -> None:
    """What they write behind the walk is not lost, and a chunk that shrinks misplaces no other."""
    unwritten = new_chunk(COLLECTION, ["c", "d"], 2, {}, suspect=False)
    store.save_chunks([chunk_of("ab"), unwritten, chunk_of("ef", start=4)])
    first, second, _ = (head.id for head in store.chunk_heads(COLLECTION))
    replica = FakeServer(Side.REPLICA)

    def list_ids(collection: Collection, *, offset: int, limit: int) -> list[str]:
        """The answer, while workers complete the first two chunks."""
        store.save_chunks([chunk_of("b", chunk_id=first), chunk_of("cd", chunk_id=second, start=2)])
        return list(listed)[offset:]

    monkeypatch.setattr(replica, "list_ids", list_ids)
    cycle = CycleWork(
        store.open_cycle(), settings, FakeServer(Side.PRIMARY), replica, store, Quiet()
    )
    MembershipUpdate(cycle, lambda tasks: None, {})._walk_replica(work)
    assert [head.replica.suspect for head in store.chunk_heads(COLLECTION)] == LISTED[listed]


LEFT = {6: False, 8: False, 5: True, 9: True}
"""What the replica of an unfinished collection counts, and whether that casts doubt on it."""


@pytest.mark.parametrize("count", LEFT)
@pytest.mark.parametrize("vouched", [True, False])
def test_an_unfinished_collection_is_compared_unless_it_is_vouched_for(
    store: SqlStore, work: CollectionWork, settings: Settings, count: int, vouched: bool
) -> None:
    """All that was written is; the mark spares that where the count can be what was left."""
    in_hand = new_chunk(COLLECTION, ["g", "h"], 6, {}, suspect=False)
    in_hand = replace(in_hand, head=in_hand.head.with_replica(in_hand=True))
    unwritten = new_chunk(COLLECTION, ["i", "j"], 8, {}, suspect=False)
    store.save_chunks([chunk_of("abc"), chunk_of("def", start=3), in_hand, unwritten])
    replica = FakeServer(Side.REPLICA)
    work.replica = replica.make()
    replica.put(work.replica, joined(*[record(i) for i in names(count)]))
    primary = FakeServer(Side.PRIMARY)
    cycle = CycleWork(store.open_cycle(), settings, primary, replica, store, Quiet())
    cycle.vouched = {("t", "d")} if vouched else set()
    update = MembershipUpdate(cycle, lambda tasks: None, {})
    update._look_at_replica_count(work, store.chunk_heads(COLLECTION))
    doubtful = LEFT[count] or not vouched
    suspect = [head.replica.suspect for head in store.chunk_heads(COLLECTION)]
    assert suspect[:2] == [doubtful, doubtful]
    assert suspect[3] is False, "nothing of it was ever written"
    assert bool(work.notes) is doubtful
    assert work.mirror.replica_walked_at is None
    assert (work.counted, work.mirror.replica_count) == (True, count)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7])
@pytest.mark.parametrize("told", [0, 99])
def test_all_pages_of_a_collection(monkeypatch: pytest.MonkeyPatch, count: int, told: int) -> None:
    """Every id comes once, in order, whatever the server counted; no page is empty."""
    monkeypatch.setattr(paging, "PAGE_IDS", 3)
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

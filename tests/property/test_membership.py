"""The ledger's membership over any history of a collection, on a real store in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.cycle.work import CollectionWork
from chromasync.ledger.digest import ids_digest
from chromasync.ledger.plan import due_ids, must_read, without_rows
from chromasync.ledger.walk import MergeWalk, SetWalk
from chromasync.model import UNKNOWN_DIGEST, Chunk, ChunkHead, Collection
from chromasync.plan.append import Appender
from chromasync.store import SqlStore, open_store
from tests.support.ledgers import COLLECTION, chunk_of, cuts, mark_of, mirror_of, paged
from tests.support.properties import examples

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlStore]:
    """One store in a file; each example begins by forgetting what is in it."""
    store = open_store(tmp_path_factory.mktemp("membership") / "state.db")
    yield store
    store.close()


def work_of(*, adopting: bool = False) -> CollectionWork:
    things = Collection(COLLECTION, "things", "t", "d")
    return CollectionWork(mirror_of(COLLECTION, "t", "d", "things", adopting=adopting), things,
                          things, NOON)  # fmt: skip


def chunks_of(store: SqlStore) -> list[Chunk]:
    """All chunks in the ledger's order."""
    loaded = [store.load_chunk(head.id) for head in store.chunk_heads(COLLECTION)]
    return [chunk for chunk in loaded if chunk is not None]


def ids_of(store: SqlStore) -> list[str]:
    return [i for chunk in chunks_of(store) for i in chunk.ids]


def load_ids(store: SqlStore, chunk_id: int) -> list[str]:
    chunk = store.load_chunk(chunk_id)
    return [] if chunk is None else chunk.ids


def assert_sound(store: SqlStore, size: int, known: set[str]) -> None:
    """No id twice, no chunk too large or empty, and digests beside the ids they belong to."""
    assert max(Counter(ids_of(store)).values(), default=1) == 1
    for chunk in chunks_of(store):
        assert 0 < len(chunk.ids) <= size
        assert chunk.head.ids_digest == ids_digest(chunk.ids)
        for row, record_id in enumerate(chunk.ids):
            expected = (mark_of(record_id, "embedding"), mark_of(record_id, "payload"))
            if record_id not in known:
                expected = (UNKNOWN_DIGEST, UNKNOWN_DIGEST)
            found = (chunk.applied.embedding.row(row), chunk.applied.payload.row(row))
            assert found == expected, record_id


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Chunk], int, list[list[str]]]:
    """A ledger, a chunk size, and lists of ids that are new or leave a chunk, none twice."""
    size = draw(st.integers(1, 5))
    counts = draw(st.lists(st.integers(1, size), max_size=5))
    numbers = iter(range(99))
    chunks = [
        chunk_of(
            [f"r{next(numbers)}" for _ in range(count)],
            suspect=draw(st.booleans()),
            read_at=NOON,
            checked_at=NOON,
        )
        for count in counts
    ]
    known = [i for chunk in chunks for i in chunk.ids]
    leaving = draw(st.lists(st.sampled_from(known), unique=True)) if known else []
    strangers = [f"x{n}" for n in range(draw(st.integers(0, 12)))]
    order = draw(st.permutations([*leaving, *strangers]))
    return chunks, size, paged(order, draw(cuts()))


@examples(60)
@given(history=histories(), adopting=st.booleans())
def test_each_id_is_in_one_chunk_after_any_appends(
    store: SqlStore, history: tuple[list[Chunk], int, list[list[str]]], adopting: bool
) -> None:
    """Moved ids take their digests and suspicion along, new ones are unknown, none is lost."""
    chunks, size, appends = history
    store.forget_chunks(COLLECTION)
    store.save_chunks(chunks)
    before = chunks_of(store)
    home = {i: chunk.head.id for chunk in before for i in chunk.ids}
    known = set(home)
    distrusted = {i for chunk in before if chunk.head.replica.suspect for i in chunk.ids}
    appender = Appender(store, work_of(adopting=adopting).mirror, heads(before), size)
    full: list[ChunkHead] = []
    for ids in appends:
        full += appender.append(ids, home)
        assert_sound(store, size, known)
    arrived = [i for ids in appends for i in ids]
    stay = [i for chunk in before for i in chunk.ids if i not in arrived]
    assert ids_of(store) == stay + arrived
    assert_suspicion(store, before, arrived, distrusted, adopting=adopting)
    assert_handed_out(store, before, full, size, arrived)


def heads(chunks: list[Chunk]) -> list[ChunkHead]:
    return [chunk.head for chunk in chunks]


def assert_suspicion(
    store: SqlStore,
    before: list[Chunk],
    arrived: list[str],
    distrusted: set[str],
    *,
    adopting: bool,
) -> None:
    """A chunk is suspect when it was, when one of its records comes suspect, or when adopting."""
    former: Mapping[int, Chunk] = {chunk.head.id: chunk for chunk in before}
    for chunk in chunks_of(store):
        old = former.get(chunk.head.id)
        came = set(chunk.ids).intersection(arrived)
        was = old.head.replica.suspect if old else adopting
        assert chunk.head.replica.suspect is (was or bool(came & distrusted))
        assert chunk.head.read_at == (NOON if old else None)
        assert must_read(chunk.head) is bool(came or chunk.head.replica.suspect)
        if old and not chunk.head.replica.suspect:
            due = due_ids(chunk.head, check_before=NOON)
            assert due is None or due == came


def assert_handed_out(
    store: SqlStore, before: list[Chunk], full: list[ChunkHead], size: int, arrived: list[str]
) -> None:
    """Precisely the new chunks that are full were handed out, as they are in the store."""
    former = {chunk.head.id for chunk in before}
    new = [head for head in store.chunk_heads(COLLECTION) if head.id not in former]
    assert full == [head for head in new if head.count == size]
    assert all(head.count == size for head in new[:-1])
    starts = [head.start_offset for head in new]
    assert starts == sorted(starts)


@st.composite
def eras(draw: st.DrawFn) -> list[list[str]]:
    """What a collection lists in successive cycles: ids go, come, and move to the end."""
    ids: list[str] = []
    names = iter(range(999))
    listings = []
    for _ in range(draw(st.integers(1, 5))):
        gone = draw(st.sets(st.sampled_from(ids))) if ids else set()
        moved = draw(st.lists(st.sampled_from(ids), unique=True, max_size=4)) if ids else []
        ids = [i for i in ids if i not in gone and i not in moved] + moved
        ids += [f"r{next(names)}" for _ in range(draw(st.integers(0, 6)))]
        listings.append(list(ids))
    return listings


@examples(40)
@given(listings=eras(), size=st.integers(1, 4), at_=cuts(), by_set=st.booleans())
def test_the_ledger_follows_any_history(
    store: SqlStore, listings: list[list[str]], size: int, at_: list[int], by_set: bool
) -> None:
    """After each walk, and the deletion of what is missing, the ledger lists what was listed."""
    store.forget_chunks(COLLECTION)
    for listing in listings:
        before = store.chunk_heads(COLLECTION)
        kind = SetWalk if by_set else MergeWalk
        walk = kind(paged(listing, at_), before, lambda n: load_ids(store, n))
        appender = Appender(store, work_of().mirror, before, size)
        for ids in walk.new_ids():
            appender.append(list(dict.fromkeys(ids)), walk.moved)
        for chunk_id, missing in walk.missing.items():
            forget(store, chunk_id, set(missing))
        assert sorted(ids_of(store)) == sorted(listing)
        assert_sound(store, size, set())


def forget(store: SqlStore, chunk_id: int, ids: set[str]) -> None:
    """Let these ids have been deleted."""
    chunk = store.load_chunk(chunk_id)
    assert chunk is not None
    rows = {row for row, record_id in enumerate(chunk.ids) if record_id in ids}
    store.save_chunks([without_rows(chunk, rows)])


@examples(40)
@given(data=st.data(), listings=eras(), size=st.integers(1, 4), at_=cuts())
def test_an_id_that_was_seen_twice_has_one_place_in_the_end(
    store: SqlStore, data: st.DataObject, listings: list[list[str]], size: int, at_: list[int]
) -> None:
    """A walk raced by re-adds may store ids twice; the next set walk leaves each one place."""
    listing = listings[-1]
    store.forget_chunks(COLLECTION)
    raced = list(listing)
    for record_id in data.draw(st.lists(st.sampled_from(listing or ["x"]), max_size=4)):
        raced.insert(data.draw(st.integers(0, len(raced))), record_id)
    for stream in (listings[0], raced):
        before = store.chunk_heads(COLLECTION)
        walk = MergeWalk(paged(stream, at_), before, lambda n: load_ids(store, n))
        appender = Appender(store, work_of().mirror, before, size)
        for ids in walk.new_ids():
            appender.append(list(dict.fromkeys(ids)), walk.moved)
        for chunk_id, missing in walk.missing.items():
            forget(store, chunk_id, set(missing))
    assert set(ids_of(store)) == set(raced)
    before = store.chunk_heads(COLLECTION)
    mend = SetWalk(paged(raced, at_), before, lambda n: load_ids(store, n))
    assert list(mend.new_ids()) == []
    for chunk_id, rows in mend.repeated.items():
        chunk = store.load_chunk(chunk_id)
        assert chunk is not None
        store.save_chunks([without_rows(chunk, set(rows))])
    assert sorted(ids_of(store)) == sorted(set(raced))
    assert_sound(store, size, set())


def test_a_head_that_was_handed_out_can_be_loaded(store: SqlStore) -> None:
    """What is handed out to be planned is the stored chunk itself, with its id."""
    store.forget_chunks(COLLECTION)
    appender = Appender(store, work_of().mirror, [], 2)
    handed = appender.append(["a", "b", "c", "d", "e"], {})
    assert [load_ids(store, head.id) for head in handed] == [["a", "b"], ["c", "d"]]
    (rest,) = appender.append(["f"], {})
    assert load_ids(store, rest.id) == ["e", "f"]
    assert replace(rest, read_at=None) == rest

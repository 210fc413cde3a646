"""The set of ids in 20 bytes each, and the digests of a chunk's ids."""

from __future__ import annotations

import gc
import random
import tracemalloc

import numpy as np
import pytest

from chromasync.ledger import idset
from chromasync.ledger.idset import IdSet, ShortIds
from chromasync.model import DIGEST_BYTES


def test_each_id_is_found_where_it_was_given() -> None:
    """An id's place is its position in the lists laid end to end; an unknown one has none."""
    ids = IdSet.of([["c", "a"], [], ["b"], ["d", "e"]])
    assert len(ids) == 5
    assert ids.find(["a", "b", "c", "d", "e", "x", "", "a"]).tolist() == [1, 2, 0, 3, 4, -1, -1, 1]


def test_an_empty_set_has_nothing() -> None:
    """Nothing is found in a set of nothing, and nothing asked gives nothing."""
    empty = IdSet.of([])
    assert (len(empty), empty.find(["a", "b"]).tolist(), empty.repeats().tolist()) == (
        0,
        [-1, -1],
        [],
    )
    assert IdSet.of([["a"]]).find([]).tolist() == []
    assert IdSet.of([["a"]]).repeats().tolist() == []


def test_of_an_id_given_twice_the_first_place_counts() -> None:
    """`find` names the first place, `repeats` all others, rising."""
    ids = IdSet.of([["a", "b", "a"], ["c", "b", "a"]])
    assert ids.find(["a", "b", "c"]).tolist() == [0, 1, 3]
    assert ids.repeats().tolist() == [2, 4, 5]


def test_the_first_place_counts_among_many_repeats() -> None:
    """However often and wherever ids come again, each is found at its very first place."""
    given = random.Random(5).choices([f"r{n}" for n in range(300)], k=5_000)
    first = {record_id: given.index(record_id) for record_id in set(given)}
    ids = IdSet.of([given])
    assert ids.find(list(first)).tolist() == list(first.values())
    assert ids.repeats().tolist() == sorted(set(range(5_000)) - set(first.values()))


def test_digests_that_end_or_begin_in_zeros_are_apart() -> None:
    """All 16 bytes count, zeros at either end included."""
    digests = [
        bytes(DIGEST_BYTES),
        bytes([1]) + bytes(15),
        bytes([1, 1]) + bytes(14),
        bytes([1]) + bytes(14) + bytes([1]),
        bytes(15) + bytes([1]),
    ]
    assert IdSet(bytearray(b"".join(digests))).repeats().tolist() == []
    assert IdSet(bytearray(b"".join([*digests, digests[1]]))).repeats().tolist() == [5]


def test_an_id_takes_about_20_bytes() -> None:
    """What the set keeps is 16 bytes of digest and 4 of order, with a little room to grow."""
    count = 50_000
    lists = [[f"a rather long name of record {n + m}" for m in range(1_000)]
             for n in range(0, count, 1_000)]  # fmt: skip
    gc.collect()
    tracemalloc.start()
    try:
        ids = IdSet.of(iter(lists))
        gc.collect()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 20 <= kept / count < 24
    assert peak / count < 60
    assert int(np.count_nonzero(ids.find(lists[7]) >= 0)) == 1_000


@pytest.mark.parametrize("at_once", [1, 7, 100, 10**9])
def test_sorting_in_groups_changes_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Large sets are sorted in groups, so that little memory is needed beside them."""
    monkeypatch.setattr(idset, "SORTED_AT_ONCE", at_once)
    given = random.Random(6).choices([f"r{n}" for n in range(400)], k=1_000)
    first = {record_id: given.index(record_id) for record_id in set(given)}
    ids = IdSet.of([given])
    assert ids.find(list(first)).tolist() == list(first.values())
    assert ids.find(["x", "y"]).tolist() == [-1, -1]
    assert ids.repeats().tolist() == sorted(set(range(1_000)) - set(first.values()))


def test_short_digests_tell_the_ids_of_a_chunk_apart() -> None:
    """They name those of the given ids that are in the set, in the given order."""
    chunk = [f"r{n}" for n in range(1_000)]
    some = ShortIds(chunk[::3])
    assert some.among(chunk) == chunk[::3]
    assert some.among(["r3", "x", "r0"]) == ["r3", "r0"]
    assert some.among([]) == []
    assert ShortIds([]).among(chunk) == []
    assert some.rows(["x", "r3", "r0"]) == [1, 2]
    assert len(some) == 334

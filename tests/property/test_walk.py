"""Both walks over any ledger and any stream of ids: nothing is lost, nothing is guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.ledger import walk as walking
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk, Walk
from tests.support.ledgers import Ledger, cuts, ledgers, paged
from tests.support.properties import examples


@st.composite
def streams(draw: st.DrawFn, ledger: Ledger) -> list[str]:
    """The ledger's ids after any deletions, insertions, repeats and moves; or a mere shuffle."""
    ids = draw(st.lists(st.sampled_from(ledger.ids), unique=True)) if ledger.ids else []
    stream = [i for i in ledger.ids if i in ids]
    if draw(st.booleans()):
        stream = draw(st.permutations(stream))
    for _ in range(draw(st.integers(0, 8))):
        place = draw(st.integers(0, len(stream)))
        match draw(st.sampled_from(["insert", "repeat", "move", "append"])):
            case "insert":
                stream.insert(place, f"x{draw(st.integers(0, 5))}")
            case "append":
                stream.append(f"x{draw(st.integers(0, 5))}")
            case "repeat" if stream:
                stream.insert(place, draw(st.sampled_from(stream)))
            case "move" if stream:
                stream.append(stream.pop(place % len(stream)))
            case _:
                pass
    return stream


def handed_out(walk: Walk) -> list[str]:
    return [i for ids in walk.new_ids() for i in ids]


def assert_invariants(ledger: Ledger, stream: Sequence[str], walk: Walk, new: list[str]) -> None:
    """What `ledger/walk.py` promises of both walks."""
    known, seen = set(ledger.ids), set(stream)
    missing = {i for ids in walk.missing.values() for i in ids}
    assert walk.seen == len(stream)
    assert set(new) >= seen - known
    assert set(new) <= seen
    assert missing == known - seen
    for chunk_id, ids in walk.missing.items():
        assert set(ids) <= set(ledger.chunks[chunk_id])
    for record_id, chunk_id in walk.moved.items():
        assert record_id in new
        assert record_id in ledger.chunks[chunk_id]


@examples(200)
@given(st.data(), ledgers(), cuts())
def test_a_merge_walk_loses_and_invents_nothing(
    data: st.DataObject, ledger: Ledger, at: list[int]
) -> None:
    """In any stream: unknown ids are new, unseen ones missing, and moves name their chunk."""
    stream = data.draw(streams(ledger))
    walk = MergeWalk(paged(stream, at), ledger.heads, ledger.load)
    new = handed_out(walk)
    assert_invariants(ledger, stream, walk, new)


@examples(200)
@given(st.data(), ledgers(), cuts())
def test_a_merge_walk_of_single_ids_appends_only_strangers_and_moves(
    data: st.DataObject, ledger: Ledger, at: list[int]
) -> None:
    """When no id comes twice, what is handed out is unknown to the ledger or in `moved`."""
    stream = list(dict.fromkeys(data.draw(streams(ledger))))
    walk = MergeWalk(paged(stream, at), ledger.heads, ledger.load)
    new = handed_out(walk)
    assert len(new) == len(set(new))
    assert {i for i in new if i in set(ledger.ids)} == set(walk.moved)


@examples(200)
@given(st.data(), ledgers(), cuts())
def test_a_merge_walk_is_exact_when_the_order_is_kept(
    data: st.DataObject, ledger: Ledger, at: list[int]
) -> None:
    """Of deletions and appended ids it reports these very ones, in order, and nothing moved."""
    gone = data.draw(st.sets(st.sampled_from(ledger.ids))) if ledger.ids else set()
    added = [f"x{n}" for n in range(data.draw(st.integers(0, 5)))]
    stream = [i for i in ledger.ids if i not in gone] + added
    walk = MergeWalk(paged(stream, at), ledger.heads, ledger.load)
    assert handed_out(walk) == added
    expected = {n: [i for i in ids if i in gone] for n, ids in ledger.chunks.items()}
    assert walk.missing == {n: ids for n, ids in expected.items() if ids}
    assert walk.moved == {}
    untouched = [n for n, ids in expected.items() if not ids]
    if not gone:
        assert ledger.loads == []
    assert len(ledger.loads) <= len(ledger.chunks)
    assert len(untouched) + len(walk.missing) == len(ledger.chunks)


@examples(200)
@given(st.data(), ledgers(), cuts(), st.integers(0, 6))
def test_disorder_is_told_before_anything_is_handed_out(
    data: st.DataObject, ledger: Ledger, at: list[int], most: int
) -> None:
    """A merge that gives up has not handed out a single id; one that does not is exact."""
    stream = data.draw(streams(ledger))
    walk = MergeWalk(paged(stream, at), ledger.heads, ledger.load)
    new: list[str] = []
    with patch.object(walking, "MAX_STRAYS", most):
        try:
            for ids in walk.new_ids():
                new += ids
        except Disordered:
            assert new == []
        else:
            assert_invariants(ledger, stream, walk, new)


@examples(200)
@given(st.data(), ledgers(), cuts())
def test_a_set_walk_is_exact_for_any_order(
    data: st.DataObject, ledger: Ledger, at: list[int]
) -> None:
    """Precisely the unknown ids are new, each as often as it was seen, in the order seen."""
    stream = data.draw(streams(ledger))
    walk = SetWalk(paged(stream, at), ledger.heads, ledger.load)
    new = handed_out(walk)
    known = set(ledger.ids)
    assert new == [i for i in stream if i not in known]
    assert (walk.moved, walk.repeated) == ({}, {})
    assert_invariants(ledger, stream, walk, new)


@examples(200)
@given(st.data(), ledgers(), cuts())
def test_a_set_walk_leaves_each_id_one_place(
    data: st.DataObject, ledger: Ledger, at: list[int]
) -> None:
    """Without the rows named as repeated, a ledger with ids twice has each of its ids once."""
    for _ in range(data.draw(st.integers(0, 4)) if ledger.ids else 0):
        number = data.draw(st.sampled_from(list(ledger.chunks)))
        ledger.chunks[number].append(data.draw(st.sampled_from(ledger.ids)))
    before = ledger.ids
    stream = data.draw(streams(ledger))
    walk = SetWalk(paged(stream, at), ledger.heads, ledger.load)
    new = handed_out(walk)
    assert_invariants(ledger, stream, walk, new)
    left = [
        record_id
        for number, ids in ledger.chunks.items()
        for row, record_id in enumerate(ids)
        if row not in walk.repeated.get(number, [])
    ]
    assert Counter(left) == Counter(set(before))


@examples(200)
@given(ledgers(most_chunks=6, most_ids=20), cuts())
def test_a_set_walk_in_the_ledger_s_order_calls_it_ordered(ledger: Ledger, at: list[int]) -> None:
    """A stream in the ledger's order is always worth a merge next time."""
    walk = SetWalk(paged(ledger.ids, at), ledger.heads, ledger.load)
    assert handed_out(walk) == []
    assert walk.ordered


@pytest.mark.parametrize("stream", [["a", "c", "e"], ["c", "e"], ["e"]])
def test_a_merge_that_meets_an_id_twice_leaves_it_to_the_set_walk(stream: list[str]) -> None:
    """The id is missing in one chunk, and the other one is not whole either."""
    ledger = Ledger([["a", "b"], ["c", "d", "b"], ["e"]])
    walk = MergeWalk([stream], ledger.heads, ledger.load)
    with pytest.raises(Disordered):
        handed_out(walk)
    mend = SetWalk([stream], ledger.heads, ledger.load)
    assert handed_out(mend) == []
    assert mend.repeated == {2: [2]}
    gone = sorted(set(ledger.ids) - set(stream))
    assert sorted(i for ids in mend.missing.values() for i in ids) == gone

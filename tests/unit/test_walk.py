"""The two walks over a ledger, case by case; `tests/property/test_walk.py` has all the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from chromasync.ledger import walk as walking
from chromasync.ledger.walk import Disordered, MergeWalk, SetWalk
from tests.support.ledgers import Ledger, names

AB_CD = (["a", "b"], ["c", "d"])


def merge(ledger: Ledger, *pages: Sequence[str]) -> tuple[list[list[str]], MergeWalk]:
    walk = MergeWalk([list(page) for page in pages], ledger.heads, ledger.load)
    return list(walk.new_ids()), walk


def by_set(ledger: Ledger, *pages: Sequence[str]) -> tuple[list[list[str]], SetWalk]:
    walk = SetWalk([list(page) for page in pages], ledger.heads, ledger.load)
    return list(walk.new_ids()), walk


def test_an_unchanged_collection_costs_no_chunk() -> None:
    """When every chunk's digest agrees, no id list is loaded and nothing is reported."""
    ledger = Ledger([*AB_CD, ["e"]])
    new, walk = merge(ledger, "ab", "cde")
    assert (new, walk.missing, walk.moved, walk.seen, walk.ordered, walk.repeated) == (
        [],
        {},
        {},
        5,
        True,
        {},
    )
    assert ledger.loads == []


def test_pages_may_be_cut_anywhere() -> None:
    """A chunk that lies across pages, or many chunks in a page, are the same stream."""
    ledger = Ledger(AB_CD)
    for pages in (["abcd"], ["a", "b", "c", "d"], ["abc", "d"], ["a", "bcd"]):
        new, walk = merge(ledger, *pages)
        assert (new, walk.missing, walk.seen, ledger.loads) == ([], {}, 4, [])


def test_only_a_chunk_that_changed_is_loaded() -> None:
    """A deletion costs the ids of its own chunk alone."""
    ledger = Ledger([*AB_CD, ["e", "f"]])
    new, walk = merge(ledger, "abdef")
    assert (new, walk.missing) == ([], {2: ["c"]})
    assert ledger.loads == [2]


def test_deletions_at_every_edge() -> None:
    """First and last of a chunk, a whole chunk, and the whole ledger are found missing."""
    ledger = Ledger(AB_CD)
    assert merge(ledger, "bcd")[1].missing == {1: ["a"]}
    assert merge(ledger, "acd")[1].missing == {1: ["b"]}
    assert merge(ledger, "cd")[1].missing == {1: ["a", "b"]}
    assert merge(ledger, "ab")[1].missing == {2: ["c", "d"]}
    assert merge(ledger)[1].missing == {1: ["a", "b"], 2: ["c", "d"]}


def test_new_ids_follow_the_ledger() -> None:
    """What stands behind the last chunk is handed out page by page."""
    assert merge(Ledger(AB_CD), "abc", "dx", "yz")[0] == [["x"], ["y", "z"]]
    assert merge(Ledger([]), "ab", "c")[0] == [["a", "b"], ["c"]]
    assert merge(Ledger([]))[0] == []


def test_a_move_to_the_end_is_neither_a_delete_nor_a_copy() -> None:
    """A record deleted and added again is handed out with the chunk it left."""
    new, walk = merge(Ledger(AB_CD), "bcd", "xa")
    assert (new, walk.moved, walk.missing) == ([["x", "a"]], {"a": 1}, {})


def test_an_exchange_of_places_is_no_news() -> None:
    """An id met in the neighbouring chunk is known: not new, not missing."""
    new, walk = merge(Ledger(AB_CD), "acbd")
    assert (new, walk.missing, walk.moved) == ([], {}, {})


def test_an_unknown_id_amid_the_ledger_is_new() -> None:
    """An id that stands between known ones is handed out first."""
    new, walk = merge(Ledger(AB_CD), "axbcd", "y")
    assert (new, walk.missing) == ([["x"], ["y"]], {})


def test_the_same_stray_twice_is_handed_out_once() -> None:
    """An id that comes up twice out of its place is known once, or new once."""
    new, walk = merge(Ledger([["a", "b", "e"], ["c", "d"]]), "acxcxbed")
    assert (new, walk.missing) == ([["x"]], {})


def test_disorder_is_told_before_anything_is_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more ids out of place than a merge remembers, it gives up having said nothing."""
    monkeypatch.setattr(walking, "MAX_STRAYS", 3)
    ids = names(12)
    ledger = Ledger([ids[:4], ids[4:8], ids[8:]])
    walk = MergeWalk([[*reversed(ids), "new"]], ledger.heads, ledger.load)
    with pytest.raises(Disordered):
        next(walk.new_ids())


def test_strangers_amid_the_ledger_are_disorder_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown ids between known ones count like missing ones."""
    monkeypatch.setattr(walking, "MAX_STRAYS", 2)
    ledger = Ledger([["a", "b", "c", "d"]])
    assert merge(ledger, "axybcd")[0] == [["x", "y"]]
    with pytest.raises(Disordered):
        merge(ledger, "axyzbcd")


def test_as_many_strays_as_a_merge_remembers_are_no_disorder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit itself is still merged."""
    monkeypatch.setattr(walking, "MAX_STRAYS", 2)
    assert merge(Ledger(AB_CD), "cd")[1].missing == {1: ["a", "b"]}
    with pytest.raises(Disordered):
        merge(Ledger([["a", "b", "e"], ["c", "d"]]), "cd")


def test_a_set_walk_is_exact_in_any_order() -> None:
    """Backwards and in single-id pages, what is new and what is missing is found the same."""
    ledger = Ledger(AB_CD)
    new, walk = by_set(ledger, "y", "d", "b", "x", "a")
    assert (new, walk.missing, walk.moved, walk.seen) == ([["y"], ["x"]], {2: ["c"]}, {}, 5)


def test_a_set_walk_tells_whether_a_merge_would_do() -> None:
    """Ids in the ledger's order are worth a merge next time, a shuffle or a reversal is not."""
    ids = names(400)
    ledger = Ledger([ids[n : n + 50] for n in range(0, 400, 50)])
    one_move = [*ids[:7], *ids[8:], ids[7]]
    swapped = [*ids[200:], *ids[:200]]
    answers = []
    for stream in (ids, one_move, swapped, ids[::-1], [*ids[::2], *ids[1::2]], []):
        _, walk = by_set(ledger, stream)
        answers.append(walk.ordered)
    assert answers == [True, True, True, False, True, True]


def test_a_set_walk_over_no_ledger_hands_out_everything() -> None:
    """Without a chunk every id is new, page by page; pages without new ids are left out."""
    assert by_set(Ledger([]), "ab", "c")[0] == [["a", "b"], ["c"]]
    assert by_set(Ledger(AB_CD), "ab", "cx", "d")[0] == [["x"]]


def test_an_id_that_the_ledger_has_twice_is_named_at_its_later_place() -> None:
    """The later row is a repeat and never missing, whether the id was seen or not."""
    ledger = Ledger([["a", "b"], ["b", "c", "a"]])
    _, walk = by_set(ledger, "abc")
    assert (walk.repeated, walk.missing) == ({2: [0, 2]}, {})
    _, walk = by_set(ledger, "c")
    assert (walk.repeated, walk.missing) == ({2: [0, 2]}, {1: ["a", "b"]})


def test_a_look_ahead_never_reads_more_than_it_needs() -> None:
    """A chunk that agrees is passed before the next page is asked for."""
    asked: list[str] = []

    def pages() -> Iterable[list[str]]:
        for page in ("ab", "cd", "xy"):
            asked.append(page)
            yield list(page)

    ledger = Ledger([["a", "b"]])
    walk = MergeWalk(pages(), ledger.heads, ledger.load)
    new = walk.new_ids()
    assert (next(new), asked) == (["c", "d"], ["ab", "cd"])

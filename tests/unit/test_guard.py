"""The guards, case by case and at their borders."""

from __future__ import annotations

import pytest

from chromasync.config import MaxDelete
from chromasync.errors import ChromasyncError, GuardRefusal, SettingsError
from chromasync.guard import (
    choose_holds,
    is_approved,
    judge_deletes,
    judge_drop,
    judge_replacement,
    refuse_equal_urls,
    refuse_same_server,
    refuse_swapped,
)
from chromasync.model import Hold, HoldKind
from chromasync.reports import PlacedHold


def hold(approved: int | None) -> Hold:
    return Hold("c", "docs", HoldKind.DELETES, 7, "why", approved_count=approved)


@pytest.mark.parametrize(
    ("earlier", "count", "expected"),
    [
        (None, 0, False),
        (hold(None), 1, False),
        (hold(7), 7, True),
        (hold(7), 6, True),
        (hold(7), 8, False),
        (hold(0), 0, True),
        (hold(0), 1, False),
    ],
)
def test_an_approval_covers_what_was_counted(
    earlier: Hold | None, count: int, expected: bool
) -> None:
    """Up to the approved count passes; more than that, or no approval, does not."""
    assert is_approved(earlier, count) is expected


def held(key: str, name: str, database: str = "", kind: HoldKind = HoldKind.DELETES) -> PlacedHold:
    tenant = "t" if database else ""
    return PlacedHold(key, name, kind, 7, "why", tenant=tenant, database=database)


HELD = [
    held("1", "docs", "prod"),
    held("1", "docs", "prod", HoldKind.SURPLUS),
    held("2", "docs", "test"),
    held("3", "users", "prod"),
    held("4", "odd"),
    held("5", "twin", "prod"),
    held("6", "twin"),
]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ([], ""),
        (["users"], "3"),
        (["t/prod/users"], "3"),
        (["t/prod/docs"], "11"),
        (["2"], "2"),
        (["t/test/docs", "2", "odd"], "24"),
        (["t/prod/twin"], "5"),
        (["6"], "6"),
    ],
)
def test_an_approval_chooses_by_name_full_name_or_id(names: list[str], keys: str) -> None:
    """Every hold of the collections that are meant, once each."""
    assert "".join(hold.collection_id for hold in choose_holds(HELD, names)) == keys


@pytest.mark.parametrize(
    ("name", "candidates"), [("docs", "t/prod/docs, t/test/docs"), ("twin", "6, t/prod/twin")]
)
def test_a_name_of_several_collections_chooses_none(name: str, candidates: str) -> None:
    """It is a usage error that lists what each of them can be called instead."""
    with pytest.raises(SettingsError, match="in 2 collections named") as caught:
        choose_holds(HELD, ["users", name])
    assert caught.value.exit_code == 2
    assert caught.value.hint == f"Name the one that is meant: {candidates}."


@pytest.mark.parametrize("name", ["user", "t/test/users", "t/prod/odd", "prod/users", ""])
def test_a_name_under_which_nothing_is_held_chooses_none(name: str) -> None:
    """A misspelt one approves nothing else, either."""
    with pytest.raises(ChromasyncError, match="Nothing is held") as caught:
        choose_holds(HELD, ["users", name])
    assert caught.value.exit_code == 4


def test_a_collection_that_was_made_anew_has_one_name_with_the_old_one() -> None:
    """Two ids in one place are one collection to whoever names it."""
    both = [held("1", "docs", "prod"), held("2", "docs", "prod", HoldKind.REPLACE)]
    assert choose_holds(both, ["docs"]) == choose_holds(both, ["t/prod/docs"]) == both


@pytest.mark.parametrize(
    ("limit", "count", "total", "held"),
    [
        ("10%", 0, 0, False),
        ("10%", 100, 0, False),
        ("10%", 101, 0, True),
        ("10%", 100, 500, False),
        ("10%", 101, 1_000, True),
        ("10%", 200, 2_000, False),
        ("10%", 201, 2_000, True),
        ("10%", 200, 2_009, False),
        ("0%", 100, 10_000, False),
        ("0%", 101, 10_000, True),
        ("100%", 10_000, 10_000, False),
        ("2.5%", 250, 10_000, False),
        ("2.5%", 251, 10_000, True),
        ("5", 5, 1_000_000, False),
        ("5", 6, 1_000_000, True),
        ("0", 1, 1_000_000, True),
        ("0", 0, 0, False),
    ],
)
def test_deletes_beyond_the_limit_are_held(limit: str, count: int, total: int, held: bool) -> None:
    """A percentage gives at least 100 records, a count is taken as it is; the limit itself goes."""
    reason = judge_deletes(count, total, MaxDelete.parse(limit), primary_empty=False)
    assert (reason is not None) is held
    if reason is not None:
        assert f"{count:,} deletes are more than the limit" in reason


def test_an_empty_primary_deletes_nothing() -> None:
    """However few they are, deletes are held while the primary has no record at all."""
    reason = judge_deletes(1, 1_000, MaxDelete.parse("100%"), primary_empty=True)
    assert reason == "the primary has no records left in any collection"


@pytest.mark.parametrize(
    ("missing", "vanished", "known", "empty", "why"),
    [
        (2, 1, 1, False, None),
        (3, 1, 10, False, None),
        (2, 5, 10, False, None),
        (2, 5, 11, False, None),
        (2, 1, 2, False, None),
        (1, 1, 10, False, "the next one confirms"),
        (0, 1, 10, False, "the next one confirms"),
        (2, 6, 10, False, "6 of 10 collections vanished at once"),
        (2, 6, 11, False, "6 of 11 collections vanished at once"),
        (2, 2, 3, False, "2 of 3 collections vanished at once"),
        (2, 2, 2, False, "2 of 2 collections vanished at once"),
        (1, 6, 10, False, "6 of 10 collections vanished at once"),
        (2, 1, 10, True, "lists no collections at all"),
        (9, 1, 1, True, "lists no collections at all"),
    ],
)
def test_a_vanished_collection_is_dropped_when_it_surely_is_gone(
    missing: int, vanished: int, known: int, empty: bool, why: str | None
) -> None:
    """Two listings must miss it, no more than half may vanish at once, and not everything."""
    reason = judge_drop(missing, vanished, known, primary_empty=empty)
    if why is None:
        assert reason is None
    else:
        assert reason is not None
        assert why in reason


@pytest.mark.parametrize(
    ("old", "new", "mirrored", "empty", "why"),
    [
        (1_000, 1_000, True, False, None),
        (1_000, 900, True, False, None),
        (1_000, 899, True, False, "re-created with 899 records where 1,000 were"),
        (50, 0, True, False, None),
        (101, 0, True, False, "re-created with 0 records"),
        (10, 5_000, True, False, None),
        (0, 5, False, False, None),
        (1, 5, False, False, "unknown origin with 1 records"),
        (1, 1, True, True, "no records left"),
        (0, 0, True, True, None),
        (0, 0, False, True, None),
    ],
)
def test_a_re_created_collection_replaces_one_that_is_not_much_larger(
    old: int, new: int, mirrored: bool, empty: bool, why: str | None
) -> None:
    """What would be lost counts like deletes; nothing of unknown origin is overwritten."""
    limit = MaxDelete.parse("10%")
    reason = judge_replacement(old, new, limit, mirrored=mirrored, primary_empty=empty)
    if why is None:
        assert reason is None
    else:
        assert reason is not None
        assert why in reason


def test_one_server_on_both_sides_is_refused() -> None:
    """A collection id that both sides list means one server, or a copied disk."""
    refuse_same_server([], [])
    refuse_same_server({"a", "b"}, {"c"})
    with pytest.raises(GuardRefusal, match="lead to one server") as caught:
        refuse_same_server({"a", "b"}, {"b", "c"})
    assert caught.value.untouched == "Nothing was written to either side."
    assert caught.value.exit_code == 4


def test_one_url_for_both_sides_is_refused() -> None:
    """A slash at the end makes no difference."""
    refuse_equal_urls("http://p", "http://r")
    with pytest.raises(GuardRefusal, match=r"are the same \(http://p\)"):
        refuse_equal_urls("http://p", "http://p/")


def test_swapped_servers_are_refused() -> None:
    """A primary that lists what the ledger knows as the replica's is the wrong one."""
    refuse_swapped(["p"], [], "http://p")
    refuse_swapped(["p"], ["r"], "http://p")
    with pytest.raises(GuardRefusal, match=r"http://p\) is the replica of earlier cycles"):
        refuse_swapped(["x", "r"], ["r"], "http://p")

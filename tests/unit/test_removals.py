"""What may leave the replica: one budget for everything, case by case and at its borders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chromasync.config import MaxDelete
from chromasync.model import Hold, HoldKind, Removal
from chromasync.plan.removals import (
    Candidate,
    IdSum,
    Surroundings,
    Verdict,
    judge_removals,
)

TEN_PERCENT = MaxDelete.parse("10%")


def deletes(key: str, count: int, total: int, **more: object) -> Candidate:
    """Records that the primary deleted in one collection."""
    wholly = count >= total
    made = Candidate(
        key, "t", "d", key, HoldKind.DELETES, count, total, f"set of {key}", wholly=wholly
    )
    return replace(made, **more)  # type: ignore[arg-type]


def drop(key: str, count: int, seen: int = 1, **more: object) -> Candidate:
    """A collection that vanished, as `seen` successful cycles before this one saw."""
    made = Candidate(
        key,
        "t",
        "d",
        key,
        HoldKind.DROP,
        count,
        count,
        f"set of {key}",
        wholly=True,
        whole=True,
        seen_cycles=seen,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def judged(
    candidates: Sequence[Candidate],
    limit: str = "10%",
    others: dict[str, int] | None = None,
    **more: object,
) -> list[Verdict]:
    """The verdicts in order; `others` are collections of which nothing goes, with their records."""
    totals = {c.collection_id: c.total for c in candidates} | (others or {})
    around = Surroundings(MaxDelete.parse(limit), totals, len(totals))
    around = replace(around, **more)  # type: ignore[arg-type]
    verdicts = judge_removals(candidates, around)
    return [verdicts[c.key] for c in candidates]


OTHERS = {"other": 5_000, "more": 5_000, "most": 5_000}


@pytest.mark.parametrize(
    ("limit", "count", "total", "held"),
    [
        ("10%", 1, 10, False),
        ("10%", 100, 500, False),
        ("10%", 101, 500, True),
        ("10%", 101, 1_000, True),
        ("10%", 200, 2_000, False),
        ("10%", 201, 2_000, True),
        ("10%", 200, 2_009, False),
        ("0%", 1, 10_000, True),
        ("100%", 9_999, 10_000, False),
        ("2.5%", 250, 10_000, False),
        ("2.5%", 251, 10_000, True),
        ("5", 5, 1_000_000, False),
        ("5", 6, 1_000_000, True),
        ("0", 1, 1_000_000, True),
    ],
)
def test_deletes_beyond_the_limit_of_a_collection_are_held(
    limit: str, count: int, total: int, held: bool
) -> None:
    """The limit itself goes; never means never, as a count and as a percentage."""
    (verdict,) = judged([deletes("a", count, total)], limit, OTHERS)
    assert verdict.held is held
    if held:
        assert f"{count:,} deletes are more than the limit" in verdict.reason


def test_many_small_losses_share_one_floor() -> None:
    """Fifty collections may not lose 80 of 80 records each because 100 may go from one."""
    many = [deletes(f"c{n}", 79, 80) for n in range(50)]
    assert all(v.held for v in judged(many, others=OTHERS))
    assert "3,950 deletes in 50 collections are more than the 100" in judged(many)[0].reason
    assert not any(v.held for v in judged(many[:1], others=OTHERS))


def test_a_large_collection_does_not_pay_for_a_small_one() -> None:
    """What one collection may lose by its own percentage is no excuse for another."""
    large, small = deletes("a", 900, 10_000), deletes("b", 150, 300)
    verdicts = judged([large, small])
    assert [v.held for v in verdicts] == [False, True]


def test_the_whole_replica_has_a_limit_too() -> None:
    """Each collection within its share, and all together beyond it, is held."""
    within = [deletes(f"c{n}", 200, 2_000) for n in range(10)]
    assert not any(v.held for v in judged(within))
    # what is held by itself takes nothing from them
    assert [v.held for v in judged([*within, deletes("large", 150, 300)])] == [False] * 10 + [True]
    gone = Removal("earlier", 100, whole=False)
    assert all(v.held for v in judged(within, removed=[gone, gone]))


def test_a_day_has_one_budget() -> None:
    """What went unasked today counts, so that a drip is no way around the limit."""
    removed = [Removal("a", 150, whole=False)]
    assert judged([deletes("a", 60, 1_850)], others=OTHERS, removed=removed)[0].held
    assert not judged([deletes("a", 50, 1_850)], others=OTHERS, removed=removed)[0].held


@pytest.mark.parametrize(
    ("gone", "known", "held"), [(1, 1, True), (1, 2, True), (1, 3, False), (2, 4, True)]
)
def test_half_of_the_collections_is_most(gone: int, known: int, held: bool) -> None:
    """However few records they have."""
    drops = [drop(f"c{n}", 2) for n in range(gone)]
    others = {f"o{n}": 1_000 for n in range(known - gone)}
    verdicts = judged(drops, others=others)
    assert [v.held for v in verdicts] == [held] * gone
    if held:
        assert f"{gone} of {known} collections are gone" in verdicts[0].reason


def test_collections_that_went_today_count_as_gone() -> None:
    """Half, and then half of the rest, is a drip that is held."""
    removed = [Removal(f"gone{n}", 1, whole=True) for n in range(3)]
    others = {f"o{n}": 100 for n in range(4)}
    assert judged([drop("a", 1)], others=others, removed=removed)[0].held
    assert not judged([drop("a", 1)], others=others, removed=removed[:1])[0].held


@pytest.mark.parametrize("make", [drop, lambda key, n, seen: deletes(key, n, n, seen_cycles=seen)])
def test_a_collection_goes_in_the_second_successful_cycle(make: object) -> None:
    """One that vanished and one that was emptied alike; a cycle with an error confirms nothing."""
    first, second = make("a", 5, 0), make("a", 5, 1)  # type: ignore[operator]
    (verdict,) = judged([first], others=OTHERS)
    assert (verdict.unconfirmed, verdict.seen_cycles) == (True, 1)
    assert not judged([second], others=OTHERS)[0].held
    assert judged([first], others=OTHERS, succeeded=False)[0].seen_cycles == 0


def test_a_re_created_collection_that_loses_nothing_takes_over_at_once() -> None:
    """It counts the records whose ids the new one lacks: none."""
    swap = replace(drop("a", 0), kind=HoldKind.REPLACE, wholly=False, seen_cycles=0)
    assert not judged([swap])[0].held
    assert judged([replace(swap, count=5, total=500)], others=OTHERS)[0].unconfirmed


def approved(candidate: Candidate, digest: str) -> Hold:
    """The hold of a candidate, approved for a set."""
    return replace(candidate.hold(Verdict("why")), approved_digest=digest)


def test_an_approval_is_for_exactly_one_set() -> None:
    """The same set goes, whatever its size; another one of the same size does not."""
    large = deletes("a", 900, 1_000)
    right, wrong = approved(large, large.set_digest), approved(large, "another set")
    assert judged([large], holds=[right])[0].approved
    assert judged([large], holds=[wrong])[0].held
    assert judged([large], approved_sets=frozenset({large.set_digest}))[0].approved


def test_what_is_approved_does_not_count_against_the_budget() -> None:
    """An approved loss of one collection leaves the others what they may lose."""
    large, small = deletes("a", 900, 1_000), deletes("b", 90, 1_000)
    verdicts = judged([large, small], holds=[approved(large, large.set_digest)])
    assert [v.held for v in verdicts] == [False, False]


def test_nothing_approves_what_could_not_be_read() -> None:
    """An error of the collection in this cycle stops its deletes whatever was said before."""
    failed = deletes("a", 5, 1_000, trouble="reading failed")
    verdicts = judged([failed], holds=[approved(failed, failed.set_digest)])
    assert verdicts[0].reason == "reading failed"


def test_nothing_of_unknown_origin_goes_unasked() -> None:
    """However few they are; the reason says what they are."""
    assert judged([deletes("a", 1, 1_000, doubt="unknown")])[0].reason == "unknown"


def test_no_collection_goes_while_another_is_undecided() -> None:
    """Drops and replacements wait, even approved ones; deletes in other collections do not."""
    gone, small = drop("a", 5), deletes("b", 5, 1_000)
    verdicts = judged(
        [gone, small], frozen="undecided", holds=[approved(gone, gone.set_digest)], others=OTHERS
    )
    assert [v.reason for v in verdicts] == ["undecided", ""]


def test_an_empty_primary_deletes_nothing() -> None:
    """However few they are, deletes are held while the primary has no record at all."""
    (verdict,) = judged([deletes("a", 1, 1_000)], "100%", primary_empty=True)
    assert verdict.reason == "the primary has no records left in any collection"


def test_a_set_of_ids_has_one_name_in_any_order() -> None:
    """Another id, another context or another number of ids is another name."""
    one = IdSum(["a", "b"])
    assert one.digest("x") == IdSum(["b", "a"]).digest("x")
    others = [IdSum(["a"]), IdSum(["a", "c"]), IdSum(["ab"]), IdSum()]
    names = {one.digest("x"), one.digest("y"), *(o.digest("x") for o in others)}
    assert len(names) == 6


def test_a_collection_whose_drop_was_refused_is_counted_once() -> None:
    """It was counted before it was to go, and is there still; another one's notes count on."""
    again = drop("a", 80)
    assert not judged([again], others=OTHERS, removed=[Removal("a", 80, whole=True)])[0].held
    assert judged([again], others=OTHERS, removed=[Removal("a", 79, whole=True)])[0].held
    one_of_three = {"other": 5_000, "more": 5_000}
    emptied = drop("a", 0)
    removed = [Removal("a", 80, whole=True)]
    assert not judged([emptied], others=one_of_three, removed=removed)[0].held
    removed = [Removal("b", 80, whole=True)]
    assert judged([emptied], others=one_of_three, removed=removed)[0].held


@pytest.mark.parametrize(("total", "approved"), [(0, True), (1, False)])
def test_an_approved_drop_that_was_refused_midway_stays_approved(
    total: int, approved: bool
) -> None:
    """Once its records are gone nothing is left to ask for; one that is left asks anew."""
    candidate = drop("a", total, set_digest="what is left")
    hold = Hold("a", "a", HoldKind.DROP, 6, "reason", approved_digest="what was there")
    (verdict,) = judged([candidate], limit="0", holds=[hold])
    assert verdict.approved is approved
    (verdict,) = judged([candidate], limit="0", holds=[replace(hold, approved_digest=None)])
    assert not verdict.approved

"""Whether a primary went back in time: by what is missing, and by what came later and survived."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chromasync.config import load_settings
from chromasync.model import Hold, HoldKind, Mirror
from chromasync.plan.older import (
    OLDER,
    Ages,
    Seen,
    Tail,
    judge_ages,
    tail_of,
    unseen_of,
    vanished_to_judge,
)
from chromasync.plan.removals import IdSum
from tests.support.ledgers import mirror_of

MIRROR = mirror_of("A", "t", "d", "a", replica_id="ra", first_cycle=1)
OTHER = mirror_of("B", "t", "d", "b", replica_id="rb", first_cycle=1)
LOST = [f"n{n}" for n in range(90)]


def tail(missing: int, newest: int, added: int = 2, new: int = 0) -> Tail:
    """The tail of a collection whose older records came in cycle 1."""
    return Tail(missing, newest, added, frozenset({1}), new)


def seen(found: Tail | None = None, lost: list[str] = LOST, mirror: Mirror = MIRROR) -> Seen:
    """A collection of 300 records that lacks some."""
    return Seen(mirror, IdSum(lost), 300, found or tail(len(lost), len(lost)))


def survivor(*cycles: int) -> Seen:
    """Another collection with records of these cycles, none of which is missing."""
    return Seen(OTHER, IdSum(), 50, Tail(0, 0, max(cycles), frozenset(cycles)))


def judged(*every: Seen, holds: tuple[Hold, ...] = (), clean: int = 9, away: bool = False) -> Ages:
    """The judgement of these."""
    return judge_ages(every, holds, clean_cycle=clean, away=away)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([set(), set(), set()], Tail(0, 0, 3, frozenset({1, 2, 3}))),
        ([set(), set(), {9}], Tail(1, 1, 3, frozenset({1, 2}))),
        ([set(), set(), {7, 8, 9}], Tail(3, 3, 3, frozenset({1, 2}))),
        ([set(), {8, 9}, set(range(10))], Tail(12, 12, 3, frozenset({1}))),
        ([set(range(10))] * 3, Tail(30, 30, 3)),
        ([{0, 1, 2}, set(), {9}], Tail(4, 1, 3, frozenset({1, 2}))),
        ([set(), {9}, {5}], Tail(2, 0, 3, frozenset({1, 3}))),
    ],
)
def test_the_tail_is_what_is_missing_at_the_end(missing: list[set[int]], expected: Tail) -> None:
    """Counted from the newest record backwards, without a gap."""
    assert tail_of([10, 10, 10], [1, 2, 3], missing) == expected


def test_an_empty_ledger_has_no_tail() -> None:
    """Nothing is missing from nothing."""
    nothing = tail_of([], [], [])
    assert nothing == Tail(0, 0, 0)
    assert not judged(seen(nothing, []), away=True).held


@pytest.mark.parametrize(
    ("found", "others", "away", "older"),
    [
        (tail(90, 90), (), False, True),
        (tail(90, 90), (1, 2), False, True),
        (tail(90, 90), (1, 3), False, False),
        (tail(100, 90), (), False, True),
        (tail(101, 90), (), False, False),
        (tail(4, 4), (), False, False),
        (tail(5, 5), (), False, True),
        (tail(1, 1), (), True, True),
        (tail(1, 1), (3,), True, False),
        (tail(40, 0), (), True, False),
        (tail(90, 90, new=44), (), False, True),
        (tail(90, 90, new=45), (), False, False),
        (tail(90, 90, new=500), (), True, True),
    ],
)
def test_a_primary_went_back_when_only_the_newest_part_is_missing(
    found: Tail, others: tuple[int, ...], away: bool, older: bool
) -> None:
    """What came later and is still there says that they were deleted; so, at times, do numbers."""
    ages = judged(seen(found), *([survivor(*others)] if others else []), away=away)
    assert bool(ages.held) is older
    assert ages.doubt == (OLDER if older else "")


def test_what_came_after_the_last_clean_cycle_proves_nothing() -> None:
    """It may have been written to the restored primary."""
    assert judged(seen(), survivor(3), clean=2).held
    assert not judged(seen(), survivor(3), clean=3).held


def test_a_hold_stays_until_someone_decides_or_all_is_back() -> None:
    """Nothing that comes later ends it: not new records, not records that survive elsewhere."""
    (held,) = judged(seen()).held.values()
    assert held.count == 90
    assert "lacks the newest 90 of 300 records" in held.reason
    appended = seen(tail(90, 0, added=5, new=20))
    (again,) = judged(appended, survivor(8), holds=(held,)).held.values()
    assert again.set_digest == held.set_digest
    waiting = seen(tail(0, 0))  # none of them is news any more
    assert judged(waiting, holds=(held,)).held
    assert judged(seen(tail(0, 0), []), holds=(held,)).ended == {"A"}


def test_an_approval_is_for_exactly_what_is_missing() -> None:
    """One more missing record, and it is held again."""
    (held,) = judged(seen()).held.values()
    approved = replace(held, approved_digest=held.set_digest)
    assert judged(seen(), holds=(approved,)).approved == {"A": held.set_digest}
    more = judged(seen(lost=[*LOST, "another"]), holds=(approved,))
    assert (more.approved, list(more.held)) == ({}, ["A"])


def test_what_could_not_be_walked_stays_held_and_keeps_all_deletes() -> None:
    """An error in a cycle decides nothing."""
    (held,) = judged(seen()).held.values()
    unread = Seen(MIRROR, IdSum(), 300, None)
    ages = judged(unread, survivor(8), holds=(held,))
    assert (ages.unseen, ages.held, ages.ended, ages.doubt) == ([held], {}, set(), OLDER)
    assert judged(unread).doubt == ""


def test_what_another_guard_took_out_stays_held() -> None:
    """But not what the settings leave out by now, nor what the store does not know any more."""
    (held,) = judged(seen()).held.values()
    urls = {"PRIMARY_URL": "http://p:1", "REPLICA_URL": "http://r:2", "SYNC_TENANTS": "t"}
    scope = load_settings(flags=urls).scope
    without = replace(scope, exclude=("a",))
    assert [s.mirror for s in unseen_of([], [held], [MIRROR], scope)] == [MIRROR]
    assert unseen_of([seen()], [held], [MIRROR], scope) == []
    assert unseen_of([], [held], [MIRROR], without) == []
    assert unseen_of([], [held], [], scope) == []


def test_the_newest_collection_may_have_been_undone_too() -> None:
    """After an outage only, and unless something newer survived."""
    newest = MIRROR.with_primary(first_cycle=4)
    gone = Seen.gone(newest, lambda: LOST)
    (held,) = judged(gone, survivor(1), away=True).held.values()
    assert (held.kind, held.count) == (HoldKind.OLDER_PRIMARY, 90)
    assert held.set_digest == IdSum(LOST).digest(HoldKind.DROP, "ra")
    assert "the whole collection" in held.reason
    assert judged(gone, survivor(1, 3), away=True).held
    assert not judged(gone, survivor(4), away=True).held
    assert not judged(gone, survivor(5), away=True).held
    assert not judged(gone, survivor(1), away=False).held
    assert judged(gone, survivor(5), holds=(held,)).held


def test_a_collection_that_vanished_is_asked_about_after_an_outage() -> None:
    """Or when it is held already; one without a replica has nothing to lose."""
    (held,) = judged(Seen.gone(MIRROR, lambda: LOST), away=True).held.values()
    assert vanished_to_judge([MIRROR], [], away=True) == [MIRROR]
    assert vanished_to_judge([MIRROR], [], away=False) == []
    assert vanished_to_judge([MIRROR], [held], away=False) == [MIRROR]
    assert vanished_to_judge([replace(MIRROR, replica_id=None)], [], away=True) == []

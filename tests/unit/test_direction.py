"""Which settings lead the other way after a promotion, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chromasync.errors import GuardRefusal
from chromasync.model import Deployment, Direction, DirectionState, MarkRow
from chromasync.plan.direction import leads_other_way, promoted_error, turnable
from chromasync.plan.mark import Mark, MarkState, judge_mark, parse_mark, refuse_marked_primary
from chromasync.wording.assessment import assess
from chromasync.wording.freshness import headline
from tests.cli.fakes import NOON, snapshot
from tests.support.ledgers import mirror_of

ME = Deployment("me")
MIRRORS = [
    mirror_of("a1", "t", "d", "docs", replica_id="b1"),
    mirror_of("a2", "t", "d", "new"),
]
PROMOTED = Mark("me", 7, "n", "", "m", datetime(2030, 1, 2, tzinfo=UTC), 300, promoted=0)


@pytest.mark.parametrize(
    ("primary", "replica", "marked", "expected"),
    [
        ({"b1"}, {"a1"}, False, True),
        ({"b1"}, set(), False, True),
        ({"b9"}, {"a1"}, True, True),
        ({"a1"}, {"b1"}, False, False),
        ({"c1"}, {"a1"}, False, False),
        ({"b1"}, {"b1"}, True, False),
        (set(), set(), False, False),
    ],
)
def test_the_promoted_replica_must_be_the_primary(
    primary: set[str], replica: set[str], marked: bool, expected: bool
) -> None:
    """It is known by a collection or by its mark; it may not be the replica, too."""
    assert leads_other_way(primary, replica, MIRRORS, is_marked=marked) is expected


def test_a_ledger_is_kept_where_the_replica_had_its_one_copy() -> None:
    """A collection that was never copied, or that was being replaced, is compared anew."""
    replaced = mirror_of("a3", "t", "d", "wiki", replica_id="b3-new")
    former = mirror_of("superseded:b3/a3", "t", "d", "wiki", replica_id="b3")
    assert turnable([*MIRRORS, replaced, former]) == {"a1"}


@pytest.mark.parametrize(
    ("store_id", "turns", "state"),
    [
        ("me", 0, MarkState.REFUSED),
        ("me", 1, MarkState.DOUBT),
        ("other", 0, MarkState.REFUSED),
        ("other", 9, MarkState.REFUSED),
    ],
)
def test_a_promoted_server_is_no_replica(store_id: str, turns: int, state: MarkState) -> None:
    """Only the store that promoted it may mirror to it, and only after its direction was turned."""
    found = parse_mark(replace(PROMOTED, store_id=store_id).document())
    assert found.promoted == 0
    row = MarkRow("t/d", 7, "n", written=True)
    verdict = judge_mark(found, row, ME, NOON, lambda _: True, turns=turns)
    expected = MarkState.KNOWN if state is MarkState.DOUBT else state
    assert verdict.state is expected
    assert (verdict.error is None) is (state is not MarkState.REFUSED)
    unknown = judge_mark(found, MarkRow("t/d"), ME, NOON, lambda _: True, turns=turns)
    assert unknown.state is state


def test_a_promoted_server_is_a_primary() -> None:
    """Its mark is not refused where the mark of a replica is."""
    refuse_marked_primary({"t/d": PROMOTED, "t/e": replace(PROMOTED, store_id="x")}, ME, "http://p")


def test_a_promoted_server_that_took_no_mark_is_a_primary() -> None:
    """What this store left there before the promotion counts for nothing, but later marks do."""
    left = replace(PROMOTED, promoted=None)
    promoted_at = left.written_at + timedelta(hours=1)
    refuse_marked_primary({"t/d": left}, ME, "http://p", promoted_at)
    later = replace(left, written_at=promoted_at + timedelta(hours=1))
    for mark, at in (
        (left, None),
        (later, promoted_at),
        (replace(left, store_id="x"), promoted_at),
    ):
        with pytest.raises(GuardRefusal):
            refuse_marked_primary({"t/d": mark}, ME, "http://p", at)


@pytest.mark.parametrize("state", [DirectionState.PROMOTING, DirectionState.PROMOTED])
def test_everybody_says_it_first(state: DirectionState) -> None:
    """The status, the page and every refusal name who promoted which server."""
    direction = Direction(state, by="ann@here", url="http://two", since_at=NOON)
    seen = replace(snapshot(), direction=direction, taken_at=NOON + timedelta(hours=2))
    assert seen.exit_code == 6
    assert headline(seen).startswith("ann@here ")
    assert "http://two" in headline(seen)
    assert headline(seen) in assess(seen).why
    assert "ann@here" in str(promoted_error(direction))
    assert "http://two" in str(promoted_error(direction))

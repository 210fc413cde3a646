"""Recommendations: a row for each change, and what it was based on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import func, select

from chromasync.model import Recommendation
from chromasync.store import SqlStore, recommended
from chromasync.store.schema_history import recommendations
from tests.store.samples import look

ONE = Recommendation(
    "phase 0", "phase 1", "why\0", "7 USD", ("large",), {"documents": 5.5, "side": None}
)


def test_a_recommendation_is_recorded_with_when_and_why(store: SqlStore) -> None:
    """The store's own time; the reason in printable form."""
    assert store.recommendations(5) == []
    noted = store.note_recommendation(ONE)
    assert noted.created_at is not None
    assert abs((store.now() - noted.created_at).total_seconds()) < 60
    assert noted == replace(ONE, reason="why\ufffd", created_at=noted.created_at)
    assert store.recommendations(5) == [noted]


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        (replace(ONE, reason="other words", measured={"documents": 6}), 1),
        (replace(ONE, estimated_monthly_cost="8 USD"), 1),
        (replace(ONE, recommended_phase="phase 2"), 2),
        (replace(ONE, current_phase="phase 1"), 2),
        (replace(ONE, rules=("large", "memory")), 2),
    ],
)
def test_only_a_change_makes_a_row(store: SqlStore, other: Recommendation, rows: int) -> None:
    """New figures alone are no change; other phases or rules are."""
    first = store.note_recommendation(ONE)
    noted = store.note_recommendation(other)
    assert look(store, select(func.count()).select_from(recommendations)) == [(rows,)]
    assert (noted == first) == (rows == 1)


def test_a_recommendation_that_comes_back_is_a_change(store: SqlStore) -> None:
    """Newest first, and the oldest are forgotten."""
    other = replace(ONE, recommended_phase="phase 2")
    for one in (ONE, other, ONE):
        store.note_recommendation(one)
    phases = [one.recommended_phase for one in store.recommendations(5)]
    assert phases == ["phase 1", "phase 2", "phase 1"]


def test_their_number_is_bounded(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the advice changes."""
    monkeypatch.setattr(recommended, "KEPT_RECOMMENDATIONS", 3)
    for number in range(6):
        store.note_recommendation(replace(ONE, recommended_phase=f"phase {number}"))
    assert [one.recommended_phase for one in store.recommendations(9)] == [
        "phase 5",
        "phase 4",
        "phase 3",
    ]

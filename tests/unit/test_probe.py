"""Which indexes a cycle asks, and what it makes of a ledger that is damaged."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chromasync.cycle import probe
from chromasync.model import Mirror
from chromasync.reports import Outcome
from tests.support.house import House

pytestmark = pytest.mark.usefixtures("impatient")


def mirrors(house: House) -> dict[str, Mirror]:
    return {mirror.name: mirror for mirror in house.store.mirrors()}


def test_a_silent_index_is_asked_before_collections_with_other_errors(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little time there is, it is found out at once that it answers again."""
    monkeypatch.setattr(probe, "SHARE", 0.0)
    house.sync()
    for name in ("steady", "still"):
        house.store.save_mirror(replace(mirrors(house)[name], consecutive_errors=1, probed_cycle=0))
    house.store.save_mirror(replace(mirrors(house)["quiet"], unanswering="it does not answer"))
    report = house.sync()
    assert mirrors(house)["quiet"].unanswering is None
    assert report.outcome is Outcome.IDENTICAL


def test_a_damaged_chunk_ends_no_cycle(house: House, tmp_path: Path) -> None:
    """An index is asked for records of another chunk in its turn; the ledger is built anew."""
    house.fill(50)
    house.sync()
    with closing(sqlite3.connect(tmp_path / "state.db")) as state, state:
        state.execute("UPDATE sync_chunk_ids SET ids = x'00ff00ff'")
    house.sync()
    assert house.sync().outcome is Outcome.IDENTICAL

"""Most records of a collection are lost at once: held, approved, and deleted in small requests."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chromasync.ledger import walk
from chromasync.model import HoldKind
from chromasync.reports import Outcome
from tests.support.stage import Stage, fill

RECORDS = 20_000
LOST_SHARE = 0.6
CHUNK = 1000


@pytest.mark.longest
@pytest.mark.long
def test_a_mass_delete_is_held_then_streamed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 % of 20,000 records, all over the collection, are deleted chunk by chunk."""
    monkeypatch.setattr(walk, "MAX_STRAYS", CHUNK)  # so that the walk is that of millions
    docs = stage.create(count=RECORDS)
    assert stage.sync().counts.inserted == RECORDS
    chances = np.random.default_rng(13).random(RECORDS)
    lost = [f"r{n}" for n in np.flatnonzero(chances < LOST_SHARE)]
    for at in range(0, len(lost), CHUNK):
        docs.delete(ids=lost[at : at + CHUNK])
    fill(docs, 50, start=RECORDS)

    for _ in range(2):
        report = stage.sync()
        (hold,) = report.holds
        assert (report.outcome, hold.kind, hold.count) == (
            Outcome.HELD,
            HoldKind.DELETES,
            len(lost),
        )
    assert stage.on_replica().count() == RECORDS + 50

    monkeypatch.setattr(stage.servers.replica_proxy, "keep_bodies", True)
    stage.approve("docs")
    before = len(stage.replica_writes())
    report = stage.sync()
    assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, len(lost))
    assert len(lost) > RECORDS // 2
    deleted = [json.loads(request.body)["ids"] for request in stage.replica_writes()[before:]]
    assert sorted(i for ids in deleted for i in ids) == sorted(lost)
    assert max(len(ids) for ids in deleted) <= CHUNK
    stage.assert_identical()
    stage.assert_quiet()

"""What scattered changes cost: requests, ids asked for and bytes answered, counted by a proxy."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from chromasync.cycle import probe
from chromasync.lab.proxy import RecordingProxy
from chromasync.ledger import plan
from chromasync.reports import Outcome
from tests.support.stage import Stage, fill

RECORDS, CHUNK, CHANGES = 1_500, 50, 15
SPREAD = range(7, RECORDS, RECORDS // CHANGES)
"""Each in a chunk of its own."""

EMPTY_ANSWER = 200
"""Bytes at most of an answer without a record in it."""


class Cost(NamedTuple):
    """What reads of contents by id came to."""

    requests: int
    ids: int
    answered: int


class Meter:
    """Counts what one side is asked for by id while cycles run."""

    def __init__(self, proxy: RecordingProxy) -> None:
        self.proxy = proxy
        proxy.keep_bodies = True
        self.seen = len(proxy.requests)

    def cost(self) -> Cost:
        """Since this was asked last."""
        new = self.proxy.requests[self.seen :]
        self.seen += len(new)
        gets = [(json.loads(r.body), r) for r in new if r.path.endswith("/get")]
        reads = [(body["ids"], r) for body, r in gets if body.get("ids")]
        return Cost(
            len(reads), sum(len(i) for i, _ in reads), sum(r.response_size for _, r in reads)
        )


def change_and_sync(stage: Stage) -> tuple[Cost, Cost, Cost]:
    """Deletes and additions, then updates that a full read finds, then the cycle after it.

    Returns what the primary was asked for in the first, in the last, and in all of a full read.
    """
    docs = stage.primary.get_collection("docs", embedding_function=None)
    meter = Meter(stage.servers.primary_proxy)
    docs.delete(ids=[f"r{n}" for n in SPREAD])
    fill(docs, CHANGES, start=RECORDS)
    report = stage.sync()
    assert (report.counts.deleted, report.counts.inserted) == (CHANGES, CHANGES)
    scattered = meter.cost()
    stage.sync()
    changed = [f"r{n + 1}" for n in SPREAD]
    docs.update(ids=changed, metadatas=[{"n": -1}] * CHANGES)
    meter.cost()
    assert stage.sync(full=True).counts.updated == CHANGES
    whole = meter.cost()
    report = stage.sync()
    assert report.counts.applied == 0
    assert report.outcome is Outcome.IDENTICAL
    return scattered, meter.cost(), whole


@pytest.mark.long
@pytest.mark.parametrize("in_part", [True, False])
def test_scattered_changes_cost_reads_in_proportion(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, in_part: bool
) -> None:
    """Each change costs a few ids and their bytes, and would cost its whole chunk otherwise."""
    monkeypatch.setattr(probe, "_silence", lambda *_: "")
    if not in_part:
        monkeypatch.setattr(plan, "MOST_SHARE", -1.0)
    stage.overrides |= {"SYNC_CHUNK_SIZE": str(CHUNK), "SYNC_SCRUB_BUDGET": "0"}
    fill(stage.create(), RECORDS)
    for _ in range(2):
        stage.sync()
    scattered, again, whole = change_and_sync(stage)
    print(f"{in_part=} {scattered=} {again=} {whole=}")
    if not in_part:
        assert scattered.ids >= CHANGES * CHUNK
        assert again.ids == CHANGES * (CHUNK - 1)
    else:
        each = whole.answered / whole.ids
        # what is missing is asked for twice: before it counts as gone, and before it is deleted
        assert scattered.ids == 3 * CHANGES
        assert scattered.requests <= 2 * CHANGES + 1
        assert again.ids == again.requests == CHANGES
        assert scattered.answered < 1.2 * each * CHANGES + EMPTY_ANSWER * scattered.requests
        assert again.answered < 1.2 * each * CHANGES + EMPTY_ANSWER * again.requests
    stage.assert_identical()

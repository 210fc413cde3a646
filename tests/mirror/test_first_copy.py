"""The first copy, and that an unchanged pair costs no write."""

from __future__ import annotations

import pytest

from tests.support.stage import Stage, fill


@pytest.mark.long
@pytest.mark.parametrize("count", [0, 1, 250])
@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_a_collection_of_any_size_becomes_identical(stage: Stage, space: str, count: int) -> None:
    """Every distance, no record, one record, several chunks."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "100"
    stage.create(space=space, count=count, metadata={"made": "here", "n": 1, "f": 0.1, "b": True})
    report = stage.sync_and_judge()
    assert report.counts.inserted == count


def test_new_records_fill_the_last_chunk_before_new_ones_begin(stage: Stage) -> None:
    """Small additions do not leave small chunks behind."""
    collection = stage.create(count=150)
    stage.sync(SYNC_CHUNK_SIZE="100")
    for start in range(150, 210, 20):
        fill(collection, 20, start=start)
        stage.sync(SYNC_CHUNK_SIZE="100")
    stage.assert_identical()
    with stage.app() as app:
        (mirror,) = app.store.mirrors()
        counts = [head.count for head in app.store.chunk_heads(mirror.collection_id)]
    assert counts == [100, 100, 10]

"""Which records there are: none, one, very many, gone, back again, in another order."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from chromasync.model import HoldKind
from tests.support.rest import Record, Rest
from tests.support.stage import Stage, fill, vectors
from tests.support.writes import watched

MOST_RECORDS = 5461
"""What Chroma says that one write may carry."""
MOST_VARIABLES = 32_766
"""Rows that one of its statements can name."""


def columns(records: dict[str, Record], ids: list[str]) -> dict[str, Any]:
    """These records as a body to add them."""
    rows = [records[name] for name in ids]
    return {
        "ids": ids,
        "embeddings": [row.embedding for row in rows],
        "documents": [row.document for row in rows],
        "metadatas": [row.metadata or None for row in rows],
        "uris": [row.uri for row in rows],
    }


def names(numbers: range) -> list[str]:
    return [f"r{n}" for n in numbers]


@pytest.mark.long
def test_from_none_to_one_record_and_back(stage: Stage) -> None:
    """A collection's first record arrives, its last one leaves when confirmed, again and again."""
    for name in ("other", "more", "most"):
        stage.create(name, count=3)
    docs = stage.create(space="l2")
    stage.sync_and_judge()
    for _ in range(2):
        fill(docs, 1)
        assert stage.sync_and_judge().counts.inserted == 1
        docs.delete(ids=["r0"])
        (hold,) = stage.sync().holds
        assert (hold.kind, hold.count, hold.unconfirmed) == (HoldKind.DELETES, 1, True)
        assert stage.sync_and_judge().counts.deleted == 1
    assert stage.on_replica().count() == 0


def test_records_with_nothing_but_an_embedding(stage: Stage, on_primary: Rest) -> None:
    """Neither document nor metadata nor uri: none of them appears on the way."""
    stage.create()
    rows = vectors(150).tolist()
    on_primary.write("add", ids=names(range(150)), embeddings=rows)
    with watched(stage.servers.replica_proxy) as writes:
        stage.sync_and_judge()
    assert {field for write in writes.records for field in write.fields} == {"embedding"}
    got = stage.on_replica().get(include=["documents", "metadatas", "uris"])
    columns: list[Any] = [got["documents"], got["metadatas"], got["uris"]]
    assert columns == [[None] * 150] * 3


@pytest.mark.long
@pytest.mark.parametrize("count", [48, 50])
def test_records_around_the_end_of_a_chunk(stage: Stage, count: int) -> None:
    """New records are copied once each, wherever a chunk ends; deleted ones leave any place."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "50"
    docs = stage.create(space="l2", count=count)
    assert stage.sync_and_judge().counts.inserted == count
    fill(docs, 3, start=count)
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync_and_judge().counts.applied == 3
    assert sorted(writes.by_id) == sorted(names(range(count, count + 3)))
    leaving = ["r0", "r25", f"r{count - 1}", f"r{count + 2}"]
    docs.delete(ids=leaving)
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync_and_judge().counts.deleted == 4
    assert sorted(writes.by_id) == sorted(leaving)
    assert writes.actions == {"delete": 4}


@pytest.mark.long
@pytest.mark.parametrize(
    ("space", "leaving"), [("l2", "some"), ("cosine", "some"), ("l2", "chunk"), ("cosine", "all")]
)
def test_records_that_come_back_as_they_were_cost_no_write(
    stage: Stage, on_primary: Rest, space: str, leaving: str
) -> None:
    """A new order on the primary is no delete and no copy, however many records moved."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "50"
    stage.create(space=space, count=230)
    stage.sync()
    held = on_primary.records()
    chosen = {"some": names(range(3, 230, 4)), "chunk": names(range(50, 100)), "all": list(held)}
    ids = chosen[leaving]
    random.Random(5).shuffle(ids)
    on_primary.write("delete", ids=ids)
    on_primary.write("add", **columns(held, ids))
    assert list(on_primary.records())[-len(ids) :] == ids
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert writes.requests == []
    assert report.counts.applied == 0
    stage.assert_identical()
    stage.assert_quiet()
    assert sorted(i for chunk in stage.ledger_ids() for i in chunk) == sorted(held)


def test_records_that_come_back_changed_send_the_change(stage: Stage, on_primary: Rest) -> None:
    """Of many records that moved, only what differs is sent, beside what left and what is new."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "50"
    stage.create(space="l2", count=230)
    stage.sync()
    held = on_primary.records()
    moved = names(range(20, 90))
    on_primary.write("delete", ids=[*moved, "r5", "r200"])
    held["r30"] = held["r30"]._replace(metadata={"n": 30})
    held["r60"] = held["r60"]._replace(document="rewritten")
    on_primary.write("add", **columns(held, list(reversed(moved))))
    on_primary.write("add", ids=["new"], embeddings=[[1.0] * 8])
    with watched(stage.servers.replica_proxy) as writes:
        stage.sync()
    dropped: dict[str, Any] = {"share": None, "even": None, "name": None, "tags": None}
    assert writes.by_id == {
        "r30": [("update", {"metadata": dropped})],
        "r60": [("update", {"document": "rewritten"})],
        "new": [("add", {"embedding": [1.0] * 8})],
        "r5": [("delete", {})],
        "r200": [("delete", {})],
    }
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_more_records_than_one_write_takes(stage: Stage, on_primary: Rest) -> None:
    """More than 5,461 records, in the largest chunks, are written in parts the server takes."""
    count = MOST_RECORDS + 139
    stage.overrides["SYNC_CHUNK_SIZE"] = "5000"
    fill(stage.create(space="l2"), count, dimension=2)
    with watched(stage.servers.replica_proxy) as copied:
        assert stage.sync().counts.inserted == count
    metadatas = [{"n": -1}] * count
    on_primary.write("update", ids=names(range(count)), metadatas=metadatas)
    with watched(stage.servers.replica_proxy) as changed:
        assert stage.sync().counts.updated == count
    for writes in (copied, changed):
        sizes = [len(json.loads(request.body)["ids"]) for request in writes.to_records]
        assert sum(sizes) == count
        assert max(sizes) <= MOST_RECORDS
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_more_records_than_one_statement_takes(stage: Stage) -> None:
    """Beyond 32,766 records, a few changes anywhere still cost only themselves."""
    count = MOST_VARIABLES + 234
    docs = stage.create(space="l2")
    rows = vectors(count, 2)
    for start in range(0, count, 5000):
        part = range(start, min(start + 5000, count))
        docs.add(
            ids=names(part),
            embeddings=rows[part.start : part.stop],
            metadatas=[{"k": 1}] * len(part),
        )
    assert stage.sync().counts.inserted == count
    docs.update(ids=["r0", "r20000", f"r{count - 1}"], metadatas=[{"k": 2}] * 3)
    docs.delete(ids=["r1", "r15000", f"r{count - 2}"])
    docs.add(ids=["new"], embeddings=vectors(1, 2))
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert writes.actions == {"update": 3, "delete": 3, "add": 1}
    assert report.counts.read == count - 2
    stage.assert_identical()
    stage.assert_quiet()

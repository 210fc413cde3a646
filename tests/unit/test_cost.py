"""What scattered changes cost among 400,000 records: counted, without a clock."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from chromasync.cycle import probe
from chromasync.lab.fake import FakeServer
from chromasync.lease import Lead
from chromasync.ledger.digest import embedding_digests, payload_digests
from chromasync.model import AppliedDigests, Chunk, Collection, Digests, Records
from chromasync.ports import Unchanged
from chromasync.reconcile.read import answer_bytes
from chromasync.reports import CycleReport, Outcome
from chromasync.store import SqlStore
from tests.support.house import House, house_of
from tests.support.ledgers import chunk_of

RECORDS, CHUNK, CHANGES = 400_000, 1_000, 100
SPREAD = range(500, RECORDS, RECORDS // CHANGES)
"""Each in a chunk of its own."""


class Cost(NamedTuple):
    """What reads of contents by id came to on the primary."""

    requests: int
    ids: int
    answered: int


class Meter:
    """Counts what the primary is asked for by id, and finds it without looking at every record."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.answered = 0
        self.seen = 0

    def read(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        embeddings: bool = True,
        most_attempts: int | None = None,
        unchanged: Unchanged | None = None,
    ) -> Records:
        """As the fake's own, but for the order of the answer; everything is decoded."""
        del most_attempts, unchanged
        self.server._request("read", ids)
        with self.server._shared.lock:
            there = self.server._records(collection)
            found = self.server._rows(
                collection, [i for i in ids if i in there], embeddings=embeddings
            )
        self.answered += round(answer_bytes(found))
        return found

    def cost(self) -> Cost:
        """Since this was asked last."""
        reads = [call for call in self.server.calls[self.seen :] if call.name == "read"]
        cost = Cost(len(reads), sum(len(call.ids) for call in reads), self.answered)
        self.seen, self.answered = len(self.server.calls), 0
        return cost


def many(numbers: Iterable[int], text: str = "as it was") -> Records:
    ids = [f"r{n}" for n in numbers]
    count = len(ids)
    vectors = np.ones((count, 8), dtype=np.float32)
    return Records(ids, [text] * count, [{}] * count, [None] * count, vectors)


def copied(house: House) -> None:
    """Let both sides and the ledger hold all records, as many quiet cycles would leave them."""
    house.primary.put(house.home, many(range(1)))
    for _ in range(2):
        house.sync()
    rest = many(range(1, RECORDS))
    house.primary.put(house.home, rest)
    copy_of = house.copy()
    house.replica._shared.records[copy_of.id] = copy.copy(house.primary._records(house.home))
    for record_id, one in house.replica._records(copy_of).items():
        house.replica._records(copy_of)[record_id] = copy.copy(one)
    house.store.save_chunks(list(chunks_of(house, rest)))
    (mirror,) = house.store.mirrors()
    known = mirror.with_primary(count=RECORDS)
    house.store.save_mirror(replace(known, replica_count=RECORDS))


def chunks_of(house: House, records: Records) -> Iterator[Chunk]:
    embedding, payload = (of(records.take([0])) for of in (embedding_digests, payload_digests))
    now = house.store.now()
    for start in range(0, len(records), CHUNK):
        ids = records.ids[start : start + CHUNK]
        head = chunk_of(
            ids, start=start + 1, read_at=now, checked_at=now, read_cycle=2, checked_cycle=2,
            added_cycle=1, looked_cycle=2, read_seconds=0.1, collection_id=house.home.id,
        ).head  # fmt: skip
        applied = AppliedDigests(
            Digests(embedding.row(0) * len(ids)), Digests(payload.row(0) * len(ids))
        )
        yield Chunk(head, ids, applied)


@pytest.fixture
def house(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(probe, "_silence", lambda *_: "")
    flags = {"SYNC_CHUNK_SIZE": str(CHUNK), "SYNC_SCRUB_BUDGET": "0", "SYNC_MARK": "off"}
    with house_of(store, 1, **flags) as house:
        house.lead = Lead(store, "me", 600)
        copied(house)
        yield house


def done(report: CycleReport) -> tuple[int, int, int]:
    return (report.counts.inserted, report.counts.updated, report.counts.deleted)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("impatient")
def test_scattered_changes_among_many_records_cost_reads_in_proportion(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 deletes, 100 additions and 100 updates are asked for by id, not by chunk."""
    meter = Meter(house.primary)
    for server in (house.primary, house.replica):
        monkeypatch.setattr(
            server, "read", (meter if server is house.primary else Meter(server)).read
        )
    meter.cost()
    assert done(house.sync()) == (0, 0, 0)
    assert meter.cost() == (0, 0, 0), "nothing changed, and nothing is read"

    house.primary.remove(house.home, [f"r{n}" for n in SPREAD])
    house.primary.put(house.home, many(range(RECORDS, RECORDS + CHANGES)))
    assert done(house.sync()) == (CHANGES, 0, CHANGES)
    scattered = meter.cost()

    house.primary.put(house.home, many((n + 1 for n in SPREAD), "changed"))
    idle = house.settings
    house.settings = idle.model_copy(update={"sync_scrub_budget": 1.0})
    assert done(house.sync()) == (0, CHANGES, 0)
    house.settings = idle
    whole = meter.cost()
    report = house.sync()
    assert (done(report), report.outcome) == ((0, 0, 0), Outcome.IDENTICAL)
    again = meter.cost()
    print(f"{scattered=} {again=} {whole=}")

    # what is missing is asked for twice: before it counts as gone, and before it is deleted
    assert scattered.ids == 3 * CHANGES
    assert scattered.requests <= 2 * CHANGES + 2
    assert again.ids == again.requests == CHANGES
    each = whole.answered / whole.ids
    assert scattered.answered + again.answered < 2.5 * CHANGES * each
    assert whole.ids == RECORDS

"""Which unchanged content is read again, when, and what the program may say for it."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from chromasync.cycle import probe
from chromasync.ledger.scrub import choose_scrubs, reread_cycles
from chromasync.model import ChunkHead
from chromasync.reports import CycleReport, Outcome
from tests.support.stage import Stage, fill

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
TINY = {"SYNC_SCRUB_BUDGET": "0.0001%", "SYNC_INTERVAL": "1"}
"""Less than any read takes, more than nothing: one chunk a cycle."""


class Watch:
    """What the program reads of the primary, as the proxy sees it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.proxy = stage.servers.primary_proxy
        self.proxy.keep_bodies = True
        self.start()

    def start(self) -> None:
        self.seen = len(self.proxy.requests)

    def sync(self, **overrides: str) -> set[str]:
        """One cycle; the ids of records whose content it read from the primary."""
        self.start()
        self.report: CycleReport = self.stage.sync(full=False, **overrides)
        bodies = [
            json.loads(request.body)
            for request in self.proxy.requests[self.seen :]
            if request.path.endswith("/get")
        ]
        assert all(body.get("ids") or body["include"] == [] for body in bodies)
        # what shall be deleted is asked for once more, without its vector
        read = [body["ids"] for body in bodies if "embeddings" in body["include"]]
        return {record_id for ids in read for record_id in ids}


@pytest.fixture
def watch(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Watch:
    """No index is asked with the vectors of a few records, which would have to be read."""
    monkeypatch.setattr(probe, "_silence", lambda *_: "")
    return Watch(stage)


def ids(first: int, last: int) -> set[str]:
    return {f"r{n}" for n in range(first, last)}


def test_everything_is_read_each_cycle_while_it_fits(stage: Stage, watch: Watch) -> None:
    """A small primary is compared whole, so a changed field is found in the next cycle."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    docs = stage.create(count=100)
    for _ in range(3):
        assert watch.sync() == ids(0, 100)
    docs.update(ids=["r50"], metadatas=[{"n": -50}])
    watch.sync()
    assert watch.report.counts.updated == 1
    assert watch.report.counts.read == 100
    stage.assert_identical()


@pytest.mark.long
def test_without_a_budget_a_quiet_cycle_only_walks(stage: Stage, watch: Watch) -> None:
    """No record is read, yet what is added and deleted is found."""
    stage.overrides |= {"SYNC_SCRUB_BUDGET": "0", "SYNC_CHUNK_SIZE": "20"}
    docs = stage.create(count=100)
    assert watch.sync() == ids(0, 100)
    assert watch.sync() == ids(0, 100), "what was just written is read once more"
    for _ in range(2):
        assert watch.sync() == set()
        assert watch.report.outcome is Outcome.IDENTICAL
    fill(docs, 10, start=100)
    docs.delete(ids=["r30"])
    assert watch.sync() == {"r30"} | ids(100, 110)
    assert (watch.report.counts.inserted, watch.report.counts.deleted) == (10, 1)
    stage.assert_identical()


@pytest.mark.long
def test_what_was_written_is_read_again_in_the_next_cycle(stage: Stage, watch: Watch) -> None:
    """A read that raced a write may have been torn; after a clean read the record rests."""
    stage.overrides |= {"SYNC_SCRUB_BUDGET": "0", "SYNC_CHUNK_SIZE": "20"}
    docs = stage.create(count=60)
    for _ in range(3):
        watch.sync()
    fill(docs, 5, start=60)
    assert watch.sync() == ids(60, 65)
    docs.update(ids=["r62", "r2"], metadatas=[{"n": -62}, {"n": -2}])
    assert watch.sync() == ids(60, 65)
    assert watch.report.counts.updated == 1
    assert watch.sync() == {"r62"}
    assert watch.sync() == set()
    assert watch.report.outcome is Outcome.IDENTICAL
    assert stage.sync(full=True).counts.updated == 1
    stage.assert_identical()


@pytest.mark.long
def test_a_part_that_is_read_makes_nothing_younger(stage: Stage, watch: Watch) -> None:
    """What was added joins a chunk that was read before, and is identical as of that read."""
    stage.overrides |= {"SYNC_SCRUB_BUDGET": "0", "SYNC_CHUNK_SIZE": "100"}
    docs = stage.create(count=60)
    for _ in range(3):
        watch.sync()
    before = watch.report.identical_as_of
    for start in (60, 65):
        fill(docs, 5, start=start)
        assert watch.sync() == ids(start - 5, start + 5) - ids(0, 60)
        assert (watch.report.outcome, watch.report.counts.inserted) == (Outcome.IDENTICAL, 5)
        assert watch.report.identical_as_of == before
    docs.update(ids=["r2"], metadatas=[{"n": -2}])
    assert watch.sync(SYNC_SCRUB_BUDGET="100%") == ids(0, 70)
    after = watch.report.identical_as_of
    assert after == watch.report.cycle.started_at
    assert before is not None
    assert after > before
    stage.assert_identical()


@pytest.mark.long
def test_a_tiny_budget_reads_the_oldest_first_and_everything_in_time(
    stage: Stage, watch: Watch
) -> None:
    """One chunk a cycle, round and round, within the number of cycles that the status promises."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    stage.create(count=100)
    watch.sync()
    watch.sync()
    rounds = [watch.sync(**TINY) for _ in range(10)]
    assert all(len(read) == 20 for read in rounds)
    assert set().union(*rounds[:5]) == ids(0, 100)
    assert rounds[5:] == rounds[:5]
    with stage.app(**TINY) as app:
        promised = app.status().reread_seconds
    assert promised is not None
    assert promised >= 5


@pytest.mark.parametrize("seed", range(5))
def test_every_chunk_is_read_within_the_promised_cycles(seed: int) -> None:
    """For any reading times and any budget, as far as the times stay what they were."""
    chance = random.Random(seed)
    heads = {
        n: ChunkHead(
            n,
            "c",
            0,
            10,
            b"",
            read_at=MOMENT + timedelta(seconds=chance.randrange(100)),
            read_seconds=chance.choice([0.001, 0.5, 1.0, 7.0]),
        )
        for n in range(1, 40)
    }
    budget = chance.uniform(0.1, 20)
    whole = sum(head.read_seconds for head in heads.values())
    promised = reread_cycles(whole, budget)
    assert math.isfinite(promised)
    now = MOMENT + timedelta(seconds=1000)
    read: set[int] = set()
    for _ in range(int(promised)):
        now += timedelta(seconds=300)
        chosen = choose_scrubs(heads.values(), budget, MOMENT)
        for scrub in chosen:
            read.add(scrub.head.id)
            heads[scrub.head.id] = replace(scrub.head, read_at=now)
    assert read == set(heads)
    assert reread_cycles(whole, 0) == math.inf


@pytest.mark.long
def test_identical_as_of_moves_with_the_oldest_read_and_never_back(
    stage: Stage, watch: Watch
) -> None:
    """It is the oldest of the walk and all reads, in the report and in any process's status."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "20"
    stage.create(count=100)
    watch.sync()
    watch.sync()
    since = stage.status().taken_at
    stands: list[datetime] = []
    for _ in range(6):
        watch.sync(**TINY)
        with stage.app() as app:
            (mirror,) = app.store.mirrors()
            heads = app.store.chunk_heads(mirror.collection_id)
        reads = [head.read_at for head in heads if head.read_at]
        assert len(reads) == 5
        assert mirror.primary.walked_at is not None
        assert watch.report.identical_as_of == min(mirror.primary.walked_at, *reads)
        assert stage.status().identical_as_of == watch.report.identical_as_of
        stands.append(min(mirror.primary.walked_at, *reads))
    assert stands == sorted(stands)
    assert stands[3] < since, "one chunk was not read again yet"
    assert stands[5] > since, "by now all were"


def test_without_reads_identical_as_of_stands_still(stage: Stage, watch: Watch) -> None:
    """A walk alone proves nothing about contents, so the instant stays and the lag grows."""
    stage.overrides["SYNC_SCRUB_BUDGET"] = "0"
    stage.create(count=10)
    for _ in range(3):
        watch.sync()
    as_of = watch.report.identical_as_of
    lag = stage.status().lag_seconds
    watch.sync()
    watch.sync()
    assert watch.report.identical_as_of == as_of
    later = stage.status().lag_seconds
    assert lag is not None
    assert later is not None
    assert later > lag


def test_a_held_cycle_does_not_move_identical_as_of(stage: Stage, watch: Watch) -> None:
    """While the replica holds what the primary has not, it is not identical as of now."""
    stage.overrides["SYNC_MAX_DELETE"] = "1"
    docs = stage.create(count=10)
    watch.sync()
    as_of = watch.report.identical_as_of
    docs.delete(ids=["r0", "r1"])
    watch.sync()
    assert watch.report.outcome is Outcome.HELD
    assert watch.report.identical_as_of == as_of
    stage.approve()
    watch.sync()
    moved = watch.report.identical_as_of
    assert as_of is not None
    assert moved is not None
    assert moved > as_of


@pytest.mark.long
@pytest.mark.parametrize("sizes", [(30, 10, 50), (10, 1000)])
def test_another_chunk_size_copies_nothing_again(stage: Stage, sizes: tuple[int, ...]) -> None:
    """What is in the ledger keeps its chunks; only what is new is cut anew."""
    docs = stage.create(count=100)
    stage.sync(SYNC_CHUNK_SIZE=str(sizes[0]))
    for step, size in enumerate(sizes[1:]):
        stage.assert_quiet(SYNC_CHUNK_SIZE=str(size))
        fill(docs, 25, start=200 + 100 * step)
        report = stage.sync(SYNC_CHUNK_SIZE=str(size))
        assert report.counts.inserted == report.counts.applied == 25
        stage.assert_identical()
        stage.assert_quiet(SYNC_CHUNK_SIZE=str(size))

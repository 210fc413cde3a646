"""Reading a chunk in part leads where reading it whole leads, and never tells of a younger instant.

The engine runs whole, over a real store, between two servers in memory.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.errors import ServerUnreachable
from chromasync.lab.fake import Call, FakeServer
from chromasync.ledger import plan
from chromasync.ledger.digest import embedding_digests, payload_digests
from chromasync.model import Chunk, Side
from chromasync.reports import CycleReport, Outcome
from chromasync.store import open_store
from chromasync.worker import pool as working
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record
from tests.support.properties import examples
from tests.support.worlds import TARGETS

IDS = names(70)
WRITES = ("add", "upsert", "update", "delete")


class Era(NamedTuple):
    """What happens before one cycle, and how that cycle goes."""

    puts: list[int]
    removed: list[int]
    refused: set[int]
    full: bool
    cut_after: int | None


some = st.lists(st.integers(0, len(IDS) - 1), max_size=6, unique=True)
eras = st.builds(
    Era,
    puts=some,
    removed=some,
    refused=st.sets(st.integers(0, 9), max_size=2),
    full=st.sampled_from([False, False, False, True]),
    cut_after=st.sampled_from([None, None, None, 0, 1, 2, 3]),
)


class World:
    """An engine, when each record of the primary changed last, and the ledger in the end."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.changed_at: dict[str, datetime] = {}
        self.number = 0
        self.known: dict[str, tuple[bytes, bytes]] = {}

    def change(self, era: Era) -> None:
        self.number += 1
        there = self.house.primary.contents(self.house.home).ids
        gone = [IDS[n] for n in era.removed if IDS[n] in there]
        self.house.primary.remove(self.house.home, gone)
        put = [IDS[n] for n in era.puts]
        self.put(put)
        self.house.replica.broken.refused = {IDS[n] for n in era.refused}
        self.changed_at |= dict.fromkeys(gone + put, self.house.store.now())

    def put(self, ids: list[str]) -> None:
        new = [record(i, f"{i} in {self.number}", {"n": self.number}) for i in ids]
        if new:
            self.house.primary.put(self.house.home, joined(*new))

    def cycle(self, *, full: bool = False, cut_after: int | None = None) -> None:
        with cut_off(self.house.replica, cut_after):
            self.assert_true(self.house.sync(full=full))

    def assert_true(self, report: CycleReport) -> None:
        """What was not changed since the instant that is told is the same on both sides."""
        as_of = report.collections[0].identical_as_of
        if report.outcome is not Outcome.IDENTICAL or as_of is None:
            return
        wanted = contents(self.house.primary, self.house.home)
        found = contents(self.house.replica, self.house.copy())
        assert wanted.keys() == found.keys()
        for record_id in wanted:
            changed_at = self.changed_at.get(record_id)
            if changed_at is None or changed_at < as_of:
                assert found[record_id] == wanted[record_id], record_id

    def approve(self) -> None:
        for hold in self.house.store.holds():
            self.house.store.approve(hold)

    def chunks(self) -> list[Chunk]:
        heads = self.house.store.chunk_heads(self.house.home.id)
        return self.house.store.load_chunks([head.id for head in heads])

    def ledger(self) -> dict[str, tuple[bytes, bytes]]:
        return {
            record_id: (chunk.applied.embedding.row(row), chunk.applied.payload.row(row))
            for chunk in self.chunks()
            for row, record_id in enumerate(chunk.ids)
        }


@contextlib.contextmanager
def cut_off(server: FakeServer, cut_after: int | None) -> Iterator[None]:
    """Let the replica die after so many writes, as often as it is asked then."""
    left = [cut_after]

    def die(call: Call) -> None:
        if left[0] is not None and call.name in WRITES:
            left[0] -= 1
            if left[0] < 0:
                raise ServerUnreachable("killed", side=Side.REPLICA)

    server.on_request(die)
    try:
        yield
    except ServerUnreachable:
        pass
    finally:
        server.on_request(None)


def contents(server: FakeServer, home: Any) -> dict[str, tuple[Any, ...]]:
    records = server.contents(home)
    assert records.embeddings is not None
    columns = zip(records.embeddings.tolist(), records.documents, records.metadatas, strict=True)
    return dict(zip(records.ids, columns, strict=True))


def lived(history: list[Era], most_deletes: str, target: dict[str, str]) -> World:
    """The world after this history and a few quiet cycles, judged in each cycle."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "state.db")
        flags: dict[str, Any] = {
            "SYNC_SCRUB_BUDGET": "0",
            "SYNC_CHUNK_SIZE": "40",
            "SYNC_MARK": "off",
            **target,
        }
        with house_of(store, SYNC_MAX_DELETE=most_deletes, **flags) as house:
            world = World(house)
            world.put(IDS[:50])
            for _ in range(2):
                world.cycle()
            for era in history:
                world.change(era)
                world.cycle(full=era.full, cut_after=era.cut_after)
            house.replica.broken.refused = set()
            for full in (False, True, False, False):
                world.approve()
                world.cycle(full=full)
            assert_settled(world)
        store.close()
    return world


def assert_settled(world: World) -> None:
    """Both sides and the ledger hold the same, and nothing is left to be read."""
    primary = world.house.primary.contents(world.house.home)
    assert contents(world.house.replica, world.house.copy()) == contents(
        world.house.primary, world.house.home
    )
    embedding, payload = embedding_digests(primary), payload_digests(primary)
    truth = {i: (embedding.row(n), payload.row(n)) for n, i in enumerate(primary.ids)}
    assert world.house.sync().counts.read == 0
    world.known = world.ledger()
    assert world.known == truth
    assert not any(plan.must_read(c.head) or plan.has_unread(c.head) for c in world.chunks())


@pytest.mark.long
@pytest.mark.timeout(600)
@examples(12)
@given(
    history=st.lists(eras, min_size=1, max_size=5),
    most_deletes=st.sampled_from(["100%", "3"]),
    target=st.sampled_from(TARGETS[:3]),
)
def test_parts_lead_where_the_whole_leads(
    history: list[Era], most_deletes: str, target: dict[str, str]
) -> None:
    """Whatever comes, goes, changes, is refused, held or cut off: the same ledger in the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working, "IDLE_SECONDS", 0.02)
        in_part = lived(history, most_deletes, target)
        patch.setattr(plan, "MOST_SHARE", -1.0)
        whole = lived(history, most_deletes, target)
    assert in_part.known == whole.known

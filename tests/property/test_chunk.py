"""Whatever both servers and the ledger hold, one reconcile makes the chunk's records equal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from chromasync.lab.fake import FakeServer
from chromasync.ledger.digest import embedding_digests, payload_digests, replica_digests
from chromasync.ledger.plan import extended
from chromasync.model import (
    DIGEST_BYTES,
    UNKNOWN_DIGEST,
    AppliedDigests,
    Chunk,
    ChunkResult,
    Digests,
    OpCounts,
    Pair,
    Records,
    Side,
    Space,
    Task,
)
from chromasync.reconcile.chunk import ChunkReconciler
from chromasync.reconcile.diff import Differ
from tests.support.ledgers import COLLECTION, chunk_of, contents, names
from tests.support.properties import examples

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
IDS = names(4)
some = st.sets(st.sampled_from(IDS))


def part(records: Records, ids: set[str]) -> Records:
    return records.take([row for row, i in enumerate(records.ids) if i in ids])


class World:
    """Two servers and a chunk of all ids, of which the ledger knows some as `known` tells."""

    def __init__(
        self, primary: Records, replica: Records, known: Records, *, suspect: bool
    ) -> None:
        self.primary, self.replica = FakeServer(Side.PRIMARY), FakeServer()
        self.pair = Pair(self.primary.make(), self.replica.make(), Space.L2)
        self.primary.put(self.pair.primary, primary)
        self.replica.put(self.pair.replica, replica)
        self.reconciler = ChunkReconciler(self.primary, self.replica)
        blank = [UNKNOWN_DIGEST] * len(IDS)
        embedding, payload = list(blank), list(blank)
        for row, record_id in enumerate(known.ids):
            one = known.take([row])
            embedding[IDS.index(record_id)] = embedding_digests(one)
            payload[IDS.index(record_id)] = payload_digests(one)
        head = chunk_of(IDS, chunk_id=7, suspect=suspect).head
        applied = AppliedDigests(Digests.of(embedding), Digests.of(payload))
        self.chunk = Chunk(head, list(IDS), applied)

    def reconcile(self, *, check: bool = False, hold: bool = False) -> ChunkResult:
        task = Task(1, 1, COLLECTION, "docs", 7, check, 0, NOON, hold_foreign=hold)
        result = self.reconciler.reconcile(self.pair, self.chunk, task, lambda: 60.0, {})
        self.chunk = result.chunk
        return result

    def held(self) -> dict[str, bytes]:
        """What the replica holds, by id: a digest of everything in the record."""
        now = self.replica.contents(self.pair.replica)
        digests = replica_digests(now)
        return {i: digests.row(row) for row, i in enumerate(now.ids)}

    def write_on_replica(self, records: Records, lost: set[str]) -> set[str]:
        """Let others put these records there and take those away; which ones that changed."""
        before = self.held()
        self.replica.put(self.pair.replica, records)
        self.replica.remove(self.pair.replica, lost & self.held().keys())
        after = self.held()
        return {i for i in IDS if before.get(i) != after.get(i)}

    def different(self, ids: set[str]) -> dict[str, object]:
        """How the replica differs from the primary in these records, all of which it must have."""
        wanted = part(self.primary.contents(self.pair.primary), ids)
        found = self.replica.contents(self.pair.replica)
        left: dict[str, object] = {}
        for row, record_id in enumerate(wanted.ids):
            if record_id not in found.ids:
                left[record_id] = "missing"
                continue
            place = found.ids.index(record_id)
            difference = Differ(Space.L2).difference(wanted, row, found, place)
            if difference is not None:
                left[record_id] = difference
        return left


@examples(200)
@given(
    held=st.tuples(contents(IDS), contents(IDS), contents(IDS)),
    where=st.tuples(some, some, some),
    suspect=st.booleans(),
)
def test_a_distrusted_chunk_becomes_equal_whatever_was_there(
    held: tuple[Records, Records, Records],
    where: tuple[set[str], set[str], set[str]],
    suspect: bool,
) -> None:
    """A suspect chunk, or one to be checked, needs no truth in the ledger at all."""
    on_primary, on_replica, in_ledger = where
    world = World(*map(part, held, where), suspect=suspect)
    result = world.reconcile(check=not suspect)
    assert world.different(on_primary) == {}
    assert result.quarantined == []
    gone = set(IDS) - on_primary
    assert set(result.gone) >= gone & in_ledger
    assert set(world.replica.contents(world.pair.replica).ids) >= on_replica
    before = len(world.replica.calls)
    again = world.reconcile()
    assert again.counts == OpCounts(read=len(on_primary))
    assert len(world.replica.calls) == before


@examples(200)
@given(contents(IDS), contents(IDS), some, some, some)
def test_a_trusted_chunk_becomes_equal_when_the_ledger_is_true(
    old: Records, new: Records, in_ledger: set[str], changed: set[str], on_primary: set[str]
) -> None:
    """From what the ledger knows and the primary holds now, only what changed is written."""
    now = [new if i in changed else old for i in IDS]
    primary = Records(
        list(IDS),
        [now[n].documents[n] for n in range(len(IDS))],
        [now[n].metadatas[n] for n in range(len(IDS))],
        [now[n].uris[n] for n in range(len(IDS))],
        old.embeddings,
    )
    known = part(old, in_ledger)
    world = World(part(primary, on_primary), known, known, suspect=False)
    result = world.reconcile()
    assert world.different(on_primary) == {}
    assert set(result.gone) == in_ledger - on_primary
    assert set(world.chunk.ids) == in_ledger | on_primary
    written = {i for call in world.replica.writes for i in call.ids}
    assert written <= changed | (on_primary - in_ledger)
    assert result.counts.inserted == len(on_primary - in_ledger)
    before = len(world.replica.calls)
    assert world.reconcile().counts == OpCounts(read=len(on_primary))
    assert len(world.replica.calls) == before


@examples(200)
@given(
    held=st.tuples(contents(IDS), contents(IDS), contents(IDS)),
    where=st.tuples(some, some, some, some),
    remembers=st.booleans(),
    check=st.booleans(),
)
def test_what_others_wrote_is_never_changed_until_it_may_be(
    held: tuple[Records, Records, Records],
    where: tuple[set[str], set[str], set[str], set[str]],
    remembers: bool,
    check: bool,
) -> None:
    """Held, every foreign record stays as it is, all others become equal; later, all do."""
    old, new, theirs = held
    in_ledger, on_primary, edited, lost = where
    known = part(old, in_ledger)
    world = World(known, known, known, suspect=False)
    if remembers:
        world.reconcile(check=True)
        world.chunk = extended(world.chunk, [i for i in IDS if i not in in_ledger], {})
    world.primary.put(world.pair.primary, part(new, on_primary))
    world.primary.remove(world.pair.primary, in_ledger - on_primary)
    foreign = world.write_on_replica(part(theirs, edited), lost)
    before = world.held()
    result = world.reconcile(check=check, hold=True)
    after = world.held()
    assert {i: after.get(i) for i in foreign} == {i: before.get(i) for i in foreign}
    assert set(result.foreign) <= foreign
    assert world.different(on_primary - foreign) == {}
    assert set(result.gone).isdisjoint(result.foreign)
    if check:
        assert world.different(on_primary).keys() == set(result.foreign) & on_primary
    again = world.reconcile(hold=True)
    assert set(result.foreign) <= set(again.foreign) <= foreign
    assert world.held() == after
    world.reconcile(check=check)
    looked_at = on_primary if check or result.foreign else on_primary - foreign
    assert world.different(looked_at) == {}


@examples(100)
@given(contents(IDS), some, some, some)
def test_refused_records_never_hold_up_the_others(
    primary: Records, on_primary: set[str], refused: set[str], forgotten: set[str]
) -> None:
    """Precisely the bad records are quarantined, each once, and all the others are equal."""
    empty = part(primary, set())
    world = World(part(primary, on_primary), empty, empty, suspect=False)
    world.replica.broken.refused, world.replica.broken.forgotten = refused, forgotten
    result = world.reconcile()
    bad = (refused | forgotten) & on_primary
    assert sorted(q.record_id for q in result.quarantined) == sorted(bad)
    assert all(q.absent for q in result.quarantined)
    assert world.different(on_primary - bad) == {}
    assert set(world.replica.contents(world.pair.replica).ids) == on_primary - bad
    assert len(world.chunk.applied.embedding) == DIGEST_BYTES * len(world.chunk.ids)
    world.replica.broken.refused, world.replica.broken.forgotten = set(), set()
    world.chunk = replace(world.chunk, head=world.chunk.head.with_replica(suspect=True))
    assert world.reconcile().quarantined == []
    assert world.different(on_primary) == {}

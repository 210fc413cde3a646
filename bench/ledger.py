"""Fills the ledger for the stand-ins of `bench.standin`, as a finished copy would have left it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.standin import DATABASE, NAME, TENANT, VECTOR, content_of, id_of
from chromasync.config import Settings
from chromasync.ledger.digest import (
    embedding_digests,
    ids_digest,
    payload_digests,
    replica_digests,
)
from chromasync.model import (
    AppliedDigests,
    Chunk,
    ChunkHead,
    Cycle,
    CycleStatus,
    Digests,
    Mirror,
    MirrorStatus,
    PrimaryCollection,
    Space,
)
from chromasync.store import open_store

BATCH = 20
"""Chunks in one transaction."""


def fill(state: str, primary_id: str, replica_id: str, records: int, chunk: int) -> dict[str, Any]:
    """Store a mirror and all its chunks in a new state store."""
    store = open_store(Settings(sync_data_dir=Path(state)).store)
    term = store.take_lead("bench", 3600)
    assert term is not None
    led = store.led_by(term)
    cycle = led.open_cycle()
    led.save_mirror(_mirror(primary_id, replica_id, records, cycle))
    starts = range(0, records, chunk)
    for first in range(0, len(starts), BATCH):
        batch = starts[first : first + BATCH]
        led.save_chunks([_chunk(primary_id, at, min(chunk, records - at), cycle) for at in batch])
    led.close_cycle(cycle.id, CycleStatus.COMPLETED, 0, read=records)
    store.give_up_lead(term)
    store.close()
    return {"chunks": len(starts)}


def _mirror(primary_id: str, replica_id: str, records: int, cycle: Cycle) -> Mirror:
    now = cycle.started_at
    primary = PrimaryCollection(
        primary_id,
        TENANT,
        DATABASE,
        NAME,
        count=records,
        walked_at=now,
        space=Space.L2,
        dimension=len(VECTOR),
        first_cycle=cycle.id,
    )
    return Mirror(
        primary,
        replica_id,
        MirrorStatus.IDENTICAL,
        replica_count=records,
        replica_walked_at=now,
        identical_as_of=now,
        last_successful_sync_at=now,
        settled_cycle=cycle.id,
    )


def _chunk(collection_id: str, start: int, count: int, cycle: Cycle) -> Chunk:
    one = content_of([0])
    ids = [id_of(n) for n in range(start, start + count)]
    now, number = cycle.started_at, cycle.id
    head = ChunkHead(
        0,
        collection_id,
        start,
        count,
        ids_digest(ids),
        read_at=now,
        read_seconds=0.01,
        read_cycle=number,
        added_cycle=number,
        looked_cycle=number,
    ).with_replica(checked_at=now, checked_cycle=number)
    # the content does not depend on the id, so one digest serves all
    kinds = (embedding_digests, payload_digests, replica_digests)
    digests = [Digests(of(one) * count) for of in kinds]
    return Chunk(head, ids, AppliedDigests(*digests))

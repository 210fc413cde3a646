"""Proves that indexes answer, by a few queries on both sides of each collection in turn.

The collection that waited longest is probed first. Each cycle probes one collection, and more while
the probes took less than `SHARE` of its time. A replica that has the records and does not answer is
`unanswering`; it is probed in every cycle until it answers. If the primary's index is dead, the
replica may have the only copy of the vectors, so nothing is deleted or replaced there.
"""

from __future__ import annotations

import random

import numpy as np

from chromasync.answers import why_silent
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.errors import DamagedChunk, ServerFault
from chromasync.lease import monotonic
from chromasync.ports import Reader

SHARE = 0.01
"""Share of a cycle's time for probes, apart from the one collection that is always probed."""

SAMPLE = 3
"""Vectors in one sample."""

MANY = 10
"""Fewest records of a collection for which single bad records cannot explain a dead index."""

ATTEMPTS = 2
"""Samples that must all fail: an index is approximate, and records may change meanwhile."""


def probe_indexes(cycle: CycleWork) -> None:
    """Probe the indexes of some collections on both sides.

    Raises:
        ServerError: a server is unreachable.
    """
    began = monotonic()
    for number, work in enumerate(_in_turn(cycle)):
        if number and monotonic() - began > SHARE * cycle.seconds and not work.mirror.unanswering:
            return
        cycle.check_stop()
        _probe(cycle, work)


def check_primary(cycle: CycleWork, work: CollectionWork) -> None:
    """Record an error for a collection whose index on the primary is dead.

    With the error, this cycle reads no more records of it, because each would fail after several
    requests. A small collection is still read: the records that the primary cannot return are
    quarantined, and the others are mirrored.
    """
    if work.silent and work.error is None:
        why = work.silent
        work.error = ServerFault(
            f"The primary's index of {work.mirror.name} does not answer: {_sentence(why)}",
            side=cycle.primary.side,
            untouched="Nothing of it is deleted or replaced on the replica, which may be the only "
            "copy of its vectors.",
            hint="Restore the primary's index, or go on with the replica.",
        )


def look_at_primary(cycle: CycleWork, work: CollectionWork) -> None:
    """Probe the primary's index of a collection with waiting deletions; records its error.

    Raises:
        ServerError: the primary is unreachable.
    """
    if work.error is None:
        work.silent = work.silent or _silence(cycle, work, cycle.primary)
        check_primary(cycle, work)


def _in_turn(cycle: CycleWork) -> list[CollectionWork]:
    """Collections to probe: unanswering ones first, then those with errors, then by age."""
    able = [
        work
        for work in cycle.collections
        if work.error is None and not work.diverged and work.mirror.replica_count
    ]
    return sorted(
        able,
        key=lambda work: (
            work.mirror.unanswering is None,
            not work.mirror.consecutive_errors,
            work.mirror.probed_cycle or 0,
            work.mirror.collection_id,
        ),
    )


def _probe(cycle: CycleWork, work: CollectionWork) -> None:
    why = _silence(cycle, work, cycle.replica)
    work.update(probed_cycle=cycle.cycle.id, unanswering=why or None)
    work.silent = _silence(cycle, work, cycle.primary)
    if work.mirror.primary.count >= MANY:
        check_primary(cycle, work)


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."


def _silence(cycle: CycleWork, work: CollectionWork, reader: Reader) -> str:
    collection = work.primary if reader is cycle.primary else work.replica
    why = ""
    for attempt in range(ATTEMPTS):
        ids = _some_ids(cycle, work, attempt)
        why = why_silent(reader, collection, ids, work.mirror.primary.space) if ids else ""
        if not why:
            break
    return why


def _some_ids(cycle: CycleWork, work: CollectionWork, attempt: int) -> list[str]:
    """A few ids of records that both sides have; each attempt takes other ones."""
    key = work.mirror.collection_id
    chance = random.Random(f"{cycle.cycle.id}/{attempt}/{key}")  # noqa: S311 (no secret)
    heads = [
        head
        for head in cycle.store.chunk_heads(key)
        if head.read_at is not None and not (head.replica.suspect or head.replica.gone_count)
    ]
    if not heads:
        return []
    heads = [head for head in heads if head.count >= SAMPLE] or heads
    written = _written_ids(cycle, chance.choice(heads).id)
    aside = {record.record_id for record in cycle.store.quarantined(key)}
    ids = [record_id for record_id in written if record_id not in aside]
    return chance.sample(ids, min(SAMPLE, len(ids)))


def _written_ids(cycle: CycleWork, chunk_id: int) -> list[str]:
    """The written records of a chunk; none if the chunk is gone or damaged.

    The next task that reads a damaged chunk reports it, and the ledger is built anew.
    """
    try:
        chunk = cycle.store.load_chunk(chunk_id)
    except DamagedChunk:
        return []
    if chunk is None:
        return []
    return [chunk.ids[row] for row in np.flatnonzero(chunk.applied.written).tolist()]

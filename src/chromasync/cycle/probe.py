"""Proof that indexes answer: a few queries on both sides, for each collection in its turn.

Whoever waited longest is asked first. One collection is asked in every cycle, and more while the
questions took less than `SHARE` of its time. A replica that has the records and does not answer is
`unanswering`, and asked in every cycle until it answers. Where the primary's index is dead, the
replica may be the only copy of the vectors: nothing is deleted or replaced there.
"""

from __future__ import annotations

import random

import numpy as np

from chromasync.answers import why_silent
from chromasync.cycle.work import CollectionWork, CycleWork
from chromasync.errors import DamagedChunk, ServerFault
from chromasync.lease import monotonic
from chromasync.ledger.plan import written_rows
from chromasync.ports import Reader

SHARE = 0.01
"""Of a cycle's time, beyond the one collection that is asked in any case."""

SAMPLE = 3
"""Vectors that are asked for."""

MANY = 10
"""Records of a collection from which on two samples in vain are no accident of single records."""

ATTEMPTS = 2
"""Samples that must all be in vain: an index is approximate, and records may change meanwhile."""


def probe_indexes(cycle: CycleWork) -> None:
    """Ask some collections' indexes on both sides.

    Raises:
        ServerError: a server is away.
    """
    began = monotonic()
    for number, work in enumerate(_in_turn(cycle)):
        if number and monotonic() - began > SHARE * cycle.seconds and not work.mirror.unanswering:
            return
        cycle.check_stop()
        _probe(cycle, work)


def check_primary(cycle: CycleWork, work: CollectionWork) -> None:
    """Make it an error of a collection that its primary's index is dead.

    Of many records, none is read any more in this cycle: each would take several requests to fail.
    Few ones are, so that those which cannot be given are set aside, and the others go on.
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
    """Ask the primary's index of a collection of which something would go, and note what is wrong.

    Raises:
        ServerError: the primary is away.
    """
    if work.error is None:
        work.silent = work.silent or _silence(cycle, work, cycle.primary)
        check_primary(cycle, work)


def _in_turn(cycle: CycleWork) -> list[CollectionWork]:
    """Collections to ask: silent ones first, then those with errors, then the longest unasked."""
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
    if work.mirror.primary_count >= MANY:
        check_primary(cycle, work)


def _sentence(words: str) -> str:
    return words if words.endswith(".") else f"{words}."


def _silence(cycle: CycleWork, work: CollectionWork, reader: Reader) -> str:
    collection = work.primary if reader is cycle.primary else work.replica
    why = ""
    for attempt in range(ATTEMPTS):
        ids = _some_ids(cycle, work, attempt)
        why = why_silent(reader, collection, ids, work.mirror.space) if ids else ""
        if not why:
            break
    return why


def _some_ids(cycle: CycleWork, work: CollectionWork, attempt: int) -> list[str]:
    """A few ids of records that both sides have, other ones each time."""
    key = work.mirror.collection_id
    chance = random.Random(f"{cycle.cycle.id}/{attempt}/{key}")  # noqa: S311 (no secret)
    heads = [
        head
        for head in cycle.store.chunk_heads(key)
        if head.read_at is not None and not (head.suspect or head.gone_count)
    ]
    if not heads:
        return []
    heads = [head for head in heads if head.count >= SAMPLE] or heads
    written = _written_ids(cycle, chance.choice(heads).id)
    aside = {record.record_id for record in cycle.store.quarantined(key)}
    ids = [record_id for record_id in written if record_id not in aside]
    return chance.sample(ids, min(SAMPLE, len(ids)))


def _written_ids(cycle: CycleWork, chunk_id: int) -> list[str]:
    """The records of a chunk that were written to the replica; none where it is gone or damaged.

    The task that reads a damaged chunk next reports it, and the ledger is built anew.
    """
    try:
        chunk = cycle.store.load_chunk(chunk_id)
    except DamagedChunk:
        return []
    if chunk is None:
        return []
    return [chunk.ids[row] for row in np.flatnonzero(written_rows(chunk)).tolist()]

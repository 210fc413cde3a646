"""Reads a sample of a collection's records on both sides, and counts the equal ones.

The ids come from a few places of the replica's collection or of a ledger. The records are read by
id on both sides and compared with the differ's tolerances, embeddings included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chromasync.definition import effective
from chromasync.errors import DamagedChunk
from chromasync.ledger.paging import pages
from chromasync.model import Collection, Hold, Records
from chromasync.plan.likeness import Likeness, hold_adoption, is_decided, spread_runs
from chromasync.plan.pairing import Match, Pairing
from chromasync.plan.removals import IdSum
from chromasync.ports import Reader, Store
from chromasync.reconcile.diff import Differ, carried
from chromasync.reconcile.read import RecordReader


class Sampler:
    """Compares samples; reads servers and store, writes nothing."""

    def __init__(self, primary: Reader, replica: Reader, store: Store) -> None:
        self._primary = primary
        self._replica = replica
        self._store = store

    def of_replica(self, primary: Collection, replica: Collection) -> Likeness:
        """Compare a sample of the replica's records with the primary.

        Raises:
            ServerError: one side could not be read.
        """
        ids: list[str] = []
        for offset, limit in spread_runs(self._replica.count(replica)):
            ids += self._replica.list_ids(replica, offset=offset, limit=limit)
        return self._compare(primary, replica, list(dict.fromkeys(ids)))

    def ids(self, replica: Collection) -> IdSum:
        """The digest of all ids of a replica collection.

        Raises:
            ServerError: the ids could not be read.
        """
        every = IdSum()
        for page in pages(self._replica, replica, self._replica.count(replica)):
            every.add(page)
        return every

    def of_ledger(self, ledger_id: str, primary: Collection, replica: Collection) -> Likeness:
        """Compare a sample of the written records in a ledger on both sides.

        Raises:
            ServerError: one side could not be read.
        """
        return self._compare(primary, replica, self._ids_of_ledger(ledger_id))

    def _ids_of_ledger(self, ledger_id: str) -> list[str]:
        heads = self._store.chunk_heads(ledger_id)
        ids: list[str] = []
        for start, length in spread_runs(sum(head.count for head in heads)):
            before = 0
            for head in heads:
                first, last = max(start, before), min(start + length, before + head.count)
                if first < last:
                    ids += self._written_ids(head.id, first - before, last - before)
                before += head.count
        return ids

    def _written_ids(self, chunk_id: int, first: int, last: int) -> list[str]:
        """Ids of a chunk's rows, without records that were never written to the replica."""
        try:
            chunk = self._store.load_chunk(chunk_id)
        except DamagedChunk:  # the next cycle that reads it builds the ledger anew
            return []
        if chunk is None:
            return []
        written = chunk.applied.written
        return [chunk.ids[row] for row in range(first, last) if written[row]]

    def _compare(self, primary: Collection, replica: Collection, ids: Sequence[str]) -> Likeness:
        differ = Differ(effective(primary).space)
        asked, same = len(ids), 0
        for batch in RecordReader(self._primary).batches(primary, ids):
            asked -= len(batch.unreadable)
            present = self._on_replica(replica, batch.asked)
            for piece in batch.pieces:
                wanted, _ = carried(piece, self._replica.capabilities())
                same += sum(
                    differ.difference(wanted, row, *present[record_id]) is None
                    for row, record_id in enumerate(wanted.ids)
                    if record_id in present
                )
        counts = self._primary.count(primary), self._replica.count(replica)
        return Likeness(*counts, compared=asked, same=same)

    def _on_replica(
        self, replica: Collection, ids: Sequence[str]
    ) -> dict[str, tuple[Records, int]]:
        batch = RecordReader(self._replica).read(replica, ids)
        return {i: (piece, row) for piece in batch.pieces for row, i in enumerate(piece.ids)}


@dataclass(frozen=True, slots=True)
class AdoptionVerdict:
    """The decision about adopting a replica collection that is in no ledger.

    Attributes:
        hold: its hold, approved or not; None if it is mostly the same.
        is_decided: its adoption was approved.
    """

    likeness: Likeness
    hold: Hold | None
    is_decided: bool = False


def judge_adoption(
    sampler: Sampler, pairing: Pairing, holds: list[Hold], *, beside: bool = False
) -> AdoptionVerdict | None:
    """The decision about adopting the replica collection of a pairing; None without adoption.

    Raises:
        ServerError: one side could not be read.
    """
    if pairing.match is not Match.ADOPT or pairing.replica is None:
        return None
    likeness = sampler.of_replica(pairing.primary, pairing.replica)
    hold = hold_adoption(pairing, likeness, sampler.ids, beside=beside)
    return AdoptionVerdict(likeness, hold, hold is not None and is_decided(hold, holds))

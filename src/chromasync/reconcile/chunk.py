"""Reconcile one chunk: read it from the primary, compare it with the ledger, write the replica.

The ledger decides which records are read from the replica:

* If a record's digests equal the ledger's, the record is unchanged. It costs one read of the
  primary. Unchanged embeddings are recognized by their text (`reconcile.texts`).
* If the ledger does not know a record, it is inserted without a read of the replica. The read-back
  shows whether the replica had it already, and the next round corrects it.
* Any other record is compared with the replica's present record, and only the difference is sent.
* Every record is compared in a *suspect* chunk, when the check of the replica's side is due, and
  when the replica's server can now hold parts of records that it could not hold before.

A task may be limited to some records (`ledger.plan.asked_of` returns them, or None for all). Then
only these records are read, and only their rows change. The ledger keeps the digests of the others
and the instant of their last read. If the primary cannot return one of these records, the whole
chunk is read: only a comparison with other records shows whether the record or the server fails.

If the replica refuses a record, the write is tried again when the record's content changes. If the
server failed at a record, the write is tried again in the next cycle.

A record that the primary no longer returns is *gone*. It is never deleted here, but passed to the
delete guard at the end of the cycle. If the reconcile is interrupted, the chunk's ledger entry
stays as before.

A task with `hold_foreign` reads the replica before each write, and asks `origin` about every record
that differs or is gone. A record that others wrote on the replica is left as it is and reported. It
keeps its row in the ledger, and its chunk stays suspect. So the next reconcile compares it again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace

from chromasync import faultpoints
from chromasync.ledger.digest import embedding_digests, ids_digest, payload_digests
from chromasync.ledger.plan import asked_of, rechecked
from chromasync.memory import Memory
from chromasync.model import (
    UNKNOWN_DIGEST,
    AppliedDigests,
    Capabilities,
    Chunk,
    ChunkHead,
    ChunkResult,
    Collection,
    Mirror,
    OpCounts,
    Pair,
    Quarantined,
    Records,
    Task,
)
from chromasync.ports import Permit, Reader, Unchanged, Writer
from chromasync.reconcile.apply import Applied, Applier, Comparer
from chromasync.reconcile.diff import Differ, carried
from chromasync.reconcile.origin import Held, Known, is_ours
from chromasync.reconcile.read import ReadBatch, RecordReader
from chromasync.reconcile.texts import KnownTexts
from chromasync.timing import Stopwatch


def pair_of(mirror: Mirror) -> Pair | None:
    """The two collections that a mirror names; None while it has no replica yet.

    A worker in another process needs no other facts about them.
    """
    if mirror.replica_id is None or mirror.primary.space is None:
        return None
    primary = Collection(
        id=mirror.collection_id,
        name=mirror.name,
        tenant=mirror.tenant,
        database=mirror.database,
        dimension=mirror.primary.dimension,
    )
    return Pair(primary, replace(primary, id=mirror.replica_id), mirror.primary.space)


class AnyReconciler(ABC):
    """Reconciles chunks of any collection; what becomes of the differences is its comparer's."""

    def __init__(self, primary: Reader, replica: Reader, memory: Memory | None = None) -> None:
        self._primary = RecordReader(primary, memory=memory)
        self._server = replica
        self._replica_reader = RecordReader(replica, memory=memory)

    def reconcile(
        self,
        pair: Pair,
        chunk: Chunk,
        task: Task,
        permit: Permit,
        set_aside: Mapping[str, Quarantined],
        *,
        deleting: Container[str] = frozenset(),
        note_write: Callable[[], None] = lambda: None,
        write_permit: Permit | None = None,
    ) -> ChunkResult:
        """Make the chunk's records on the replica equal to the primary's.

        Args:
            pair: the two collections.
            chunk: the ledger's entry.
            task: the claimed task; it says whether the replica's side is to be checked.
            permit: called before every write, and after every read, so that work whose lease is
                lost ends soon.
            set_aside: quarantined records by id; they are tried again when their content changed.
            deleting: records that we may have deleted, without having noted it.
            note_write: called before every write, and before `permit` is asked about it.
            write_permit: called before every write instead, where more is to be done then.

        Raises:
            LeaseLost: `permit` refused.
            ServerError: one of the servers failed for a reason other than single records.
        """

        def permit_write() -> float:
            note_write()
            return (write_permit or permit)()

        applier = self._comparer_of(pair, permit_write)
        work = _ChunkWork(chunk, task, applier, self._server.capabilities(), set_aside)
        work.deleting = deleting
        for ids in work.to_read():
            batches = self._primary.batches(
                pair.primary, ids, parts=work.parts, unchanged=work.unchanged
            )
            for batch in work.timed(batches):
                faultpoints.reach(faultpoints.AFTER_READ)
                permit()
                work.take_in(batch)
        faultpoints.reach(faultpoints.AFTER_WRITE)
        return work.result()

    @abstractmethod
    def _comparer_of(self, pair: Pair, permit: Permit) -> Comparer:
        """What makes the replica's records equal, or only says how; `permit` is for each write."""


class ChunkReconciler(AnyReconciler):
    """Makes the replica equal; shared by the worker threads of a process."""

    def __init__(self, primary: Reader, replica: Writer, memory: Memory | None = None) -> None:
        super().__init__(primary, replica, memory)
        self._replica = replica

    def _comparer_of(self, pair: Pair, permit: Permit) -> Comparer:
        writer = self._replica.permitted_by(permit)
        return Applier(writer, self._replica_reader, pair.replica, Differ(pair.space))


class _ChunkWork:
    """The state of one reconcile: the digests of each row, and the results so far.

    Attributes:
        deleting: records that we may have deleted although the deletion still waits.
        texts: recognizes answers in which nothing changed.
    """

    def __init__(
        self,
        chunk: Chunk,
        task: Task,
        applier: Comparer,
        capabilities: Capabilities,
        set_aside: Mapping[str, Quarantined],
    ) -> None:
        self._chunk = chunk
        self._task = task
        self._applier = applier
        self._capabilities = capabilities
        self._set_aside = set_aside
        # an upgraded server can now hold parts of records that were left out before
        self._regained = chunk.head.replica.reduced_count > 0 and capabilities.arrays
        self._compare_all = chunk.head.replica.suspect or task.check_replica or self._regained
        self.deleting: Container[str] = frozenset()
        self._asked = asked_of(chunk.head, task)
        self._put_off: set[str] = set()
        self._again: set[str] = set()
        self._rows = {record_id: row for row, record_id in enumerate(chunk.ids)}
        self.texts = KnownTexts(chunk, self._rows, set_aside)
        self._embedding: dict[int, bytes] = {}
        self._payload: dict[int, bytes] = {}
        self._replica: dict[int, bytes] = {}
        self._dropped: set[int] = set()
        self._gone: list[str] = []
        self._foreign: list[str] = []
        self._quarantined: list[Quarantined] = []
        self._counts = OpCounts()
        self._reduced = 0
        self._repeat = False
        self._reading = Stopwatch()

    def to_read(self) -> Iterator[list[str]]:
        """The ids of the task, and then all others if the primary cannot return one of them."""
        first, ids = self._asked, self._chunk.ids
        if first is None:
            yield ids
            return
        yield [record_id for record_id in ids if record_id in first]
        if self._put_off:
            self._asked = None
            yield [i for i in ids if i not in first or i in self._put_off]

    def timed(self, batches: Iterator[ReadBatch]) -> Iterator[ReadBatch]:
        """The batches; the time of reading them is measured."""
        while True:
            with self._reading:
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    @property
    def parts(self) -> int:
        """The number of answers of the last whole read; 0 for another read."""
        return self.texts.parts if self._asked is None else 0

    @property
    def unchanged(self) -> Unchanged | None:
        """Recognizes unchanged answers of a whole read; no other read has the same answers."""
        return self._is_unchanged if self._asked is None else None

    def _is_unchanged(self, found: Records) -> bool:
        """Whether an answer has only records for which there is nothing to do."""
        if self._compare_all:
            return False
        if not self._capabilities.arrays and carried(found, self._capabilities)[1]:
            return False
        return self.texts.recognize(found)

    def take_in(self, batch: ReadBatch) -> None:
        """Write the differences of one batch of the primary's records, and note gone records."""
        returned = set(batch.unreadable)
        for piece in batch.pieces:
            returned.update(piece.ids)
            if piece.embeddings is None:
                self._counts += OpCounts(read=len(piece))
            else:
                self._take_in_records(piece)
        if len(batch.pieces) != 1:
            self.texts.note_unknown(len(batch.pieces))
        self._note_gone([record_id for record_id in batch.asked if record_id not in returned])
        if self._asked is not None:
            self._put_off.update(batch.unreadable)
            return
        for record_id, reason in batch.unreadable.items():
            self._note_unreadable(record_id, reason)

    def _take_in_records(self, records: Records) -> None:
        embedding, payload = embedding_digests(records), payload_digests(records)
        self.texts.note(records, embedding, payload)
        same = [
            self._is_same(records.ids[i], embedding.row(i), payload.row(i))
            for i in range(len(records))
        ]
        rows = [i for i in range(len(records)) if self._compare_all or not same[i]]
        done = self._write_differing(records, rows)
        self._foreign.extend(i for i in records.ids if i in done.foreign)
        for i, record_id in enumerate(records.ids):
            if record_id in done.foreign:
                continue
            self._embedding[self._rows[record_id]] = embedding.row(i)
            self._payload[self._rows[record_id]] = payload.row(i)
            if same[i] and not self._compare_all and record_id in self._set_aside:
                self._quarantined.append(self._set_aside[record_id])
        looked_at = [records.ids[i] for i in rows]
        self._remember(looked_at, done)
        expected = set() if self._regained else {records.ids[i] for i in rows if same[i]}
        mended = done.different - done.foreign
        self._count(done, len(records), drifted=len(mended & expected))

    def _remember(self, looked_at: Sequence[str], done: Applied) -> None:
        """Store the digest of each record that the replica returned; unknown if written since."""
        for record_id in looked_at:
            if record_id not in done.foreign:
                seen = done.seen.get(record_id, UNKNOWN_DIGEST)
                self._replica[self._rows[record_id]] = seen

    def _write_differing(self, records: Records, rows: list[int]) -> Applied:
        if not rows:
            _, reduced = carried(records, self._capabilities)
            self._reduced += reduced
            return Applied()
        sendable, reduced = carried(records, self._capabilities)
        self._reduced += reduced
        wanted = sendable.take(rows) if len(rows) < len(sendable) else sendable
        if self._task.hold_foreign:
            return self._applier.apply(wanted, set(), self._may_write)
        absent = (
            set()
            if self._compare_all
            else {i for i in wanted.ids if self._is_unknown(self._rows[i])}
        )
        return self._applier.apply(wanted, absent)

    def _may_write(self, record_id: str, held: Held) -> bool:
        return is_ours(self._known(record_id), held, on_primary=True)

    def _known(self, record_id: str) -> Known:
        chunk, row = self._chunk, self._rows[record_id]
        aside = self._set_aside.get(record_id)
        return Known(
            chunk.applied.embedding.row(row),
            chunk.applied.payload.row(row),
            chunk.applied.replica.row(row),
            absent=record_id in self.deleting or (aside is not None and aside.absent),
            in_hand=chunk.head.replica.in_hand,
        )

    def _count(self, done: Applied, read: int, drifted: int) -> None:
        self._repeat = self._repeat or bool(done.failed)
        self._again |= done.written
        for record_id, reason in done.refused.items():
            self._quarantine(record_id, reason, absent=record_id in done.absent)
        self._counts += OpCounts(
            read=read,
            inserted=len(done.inserted),
            updated=len(done.updated),
            replaced=len(done.replaced),
            drifted=drifted,
        )

    def _is_same(self, record_id: str, embedding: bytes, payload: bytes) -> bool:
        row = self._rows[record_id]
        return (
            self._chunk.applied.embedding.row(row) == embedding
            and self._chunk.applied.payload.row(row) == payload
        )

    def _is_unknown(self, row: int) -> bool:
        return self._chunk.applied.payload.row(row) == UNKNOWN_DIGEST

    def _note_gone(self, record_ids: Sequence[str]) -> None:
        foreign = self._foreign_among(record_ids) if self._task.hold_foreign else set()
        for record_id in record_ids:
            row = self._rows[record_id]
            if record_id in foreign:
                self._foreign.append(record_id)
            elif self._is_unknown(row) and not self._chunk.head.replica.suspect:
                self._dropped.add(row)
            else:
                self._gone.append(record_id)

    def _foreign_among(self, record_ids: Sequence[str]) -> set[str]:
        """The records among these, which are gone from the primary, that others wrote."""
        look = self._applier.look(record_ids)
        return {
            record_id
            for record_id in record_ids
            if not is_ours(self._known(record_id), look.held(record_id), on_primary=False)
        }

    def _note_unreadable(self, record_id: str, reason: str) -> None:
        row = self._rows[record_id]
        # an unknown digest makes the next read compare the record with the replica
        self._embedding[row] = UNKNOWN_DIGEST
        words = f"the primary has it but cannot return it: {reason}"
        self._quarantine(record_id, words, absent=self._is_unknown(row))

    def _quarantine(self, record_id: str, reason: str, *, absent: bool) -> None:
        collection_id = self._chunk.head.collection_id
        self._quarantined.append(Quarantined(collection_id, record_id, reason, absent))

    def result(self) -> ChunkResult:
        """The chunk's new ledger entry, and all else to record."""
        before = self._chunk
        keep = [row for row in range(len(before.ids)) if row not in self._dropped]
        ids = [before.ids[row] for row in keep] if self._dropped else before.ids
        counts = self._counts + OpCounts(quarantined=len(self._quarantined))
        all_seen = self._compare_all or counts.inserted == len(ids) - len(self._quarantined)
        head = replace(
            self._head_of_read(all_seen=all_seen),
            count=len(ids),
            ids_digest=ids_digest(ids) if self._dropped else before.head.ids_digest,
        ).with_replica(
            suspect=self._repeat or bool(self._foreign),
            gone_count=len(self._gone),
            reduced_count=self._reduced,
            in_hand=False,
        )
        head = rechecked(head, frozenset(self._again.union(self._foreign)))
        applied = self._applied().take(keep) if self._dropped else self._applied()
        entry = Chunk(head, ids, applied)
        return ChunkResult(entry, self._gone, self._quarantined, counts, self._foreign, self._asked)

    def _applied(self) -> AppliedDigests:
        """The digests of all rows after this reconcile."""
        before = self._chunk.applied
        return AppliedDigests(
            before.embedding.changed(self._embedding),
            before.payload.changed(self._payload),
            before.replica.changed(self._replica),
        )

    def _head_of_read(self, *, all_seen: bool) -> ChunkHead:
        """The head with the instant of this read, and of the check if it saw every record.

        If the chunk was read in part, both instants stay as before.
        """
        task = self._task
        head = replace(self._chunk.head, looked_cycle=task.cycle_id)
        if self._asked is not None:
            return head
        if all_seen:
            head = head.with_replica(checked_at=task.claimed_at, checked_cycle=task.cycle_id)
        return replace(
            head,
            read_at=task.claimed_at,
            read_cycle=task.cycle_id,
            read_seconds=self._reading.seconds,
            text_digests=self.texts.digests,
        )

"""Apply and verify: send the differences to the replica, read them back, and repeat.

Each round reads the present records from the replica, computes the differences, and sends the
smallest write for each. The first round skips the read of records that the ledger knows to be
absent, and adds them. If one is there after all, the server leaves it as it is, and the next round
compares it. If a record still differs after `ROUNDS`, the replica's server does not keep it as
written, and it is quarantined. A record that the server refuses is quarantined, too. The writes are
not atomic on the server, so every write can be repeated. If a process dies between two writes, the
chunk becomes suspect.

The digest of each record as the replica returned it is remembered. If the replica returns the same
later, nothing was written there since. This needs no additional reads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from chromasync import faultpoints
from chromasync.errors import ServerError, ServerFault
from chromasync.ledger.digest import replica_digests
from chromasync.model import Change, Collection, Records
from chromasync.ports import Writer
from chromasync.reconcile.diff import Differ, Difference, Whole, describe
from chromasync.reconcile.origin import Held, Nothing, found
from chromasync.reconcile.read import RecordReader
from chromasync.reconcile.split import Splitter

ROUNDS = 3

MOST_KEYS = 32
"""Metadata keys of one record in one write; Chroma Cloud refuses more."""

Write = Callable[[Collection, Records], None]

MayWrite = Callable[[str, Held], bool]
"""Whether a record that differs may be written; called with its id and the replica's record."""


@dataclass(slots=True)
class Applied:
    """The outcome of an apply, by record id.

    Attributes:
        different: records that the replica lacked or held in another state.
        refused: records that could not be made equal, with the reason.
        failed: the refused records at which the server failed, which may pass.
        absent: the refused records that are not on the replica at all.
        foreign: records that differ and were left as they are, because others wrote them.
        seen: digests of records as the replica returned them, if not written since.
    """

    inserted: set[str] = field(default_factory=set)
    updated: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    different: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    seen: dict[str, bytes] = field(default_factory=dict)

    @property
    def written(self) -> set[str]:
        """Records that were changed on the replica."""
        return self.inserted | self.updated | self.replaced

    def refuse(self, culprits: Iterable[tuple[str, ServerError]]) -> None:
        """Note records that the server did not take."""
        for record_id, error in culprits:
            self.refused[record_id] = error.what
            if isinstance(error, ServerFault):
                self.failed.add(record_id)

    def count(self, kind: set[str], ids: Iterable[str]) -> None:
        """Count records that the server accepted; each counts for its first write only."""
        counted = self.written | self.refused.keys()
        kind.update(i for i in ids if i not in counted)

    def forget(self, ids: Iterable[str]) -> None:
        """Forget the digests of records that were written, unless the server refused them."""
        for record_id in ids:
            if record_id not in self.refused or record_id in self.absent:
                self.seen.pop(record_id, None)


@dataclass(slots=True)
class Look:
    """The replica's answer for the records that it was asked for.

    Attributes:
        present: the answer and the row of each record that it returned.
        unreadable: records that it has but cannot return.
        digests: the digest of each whole record that it returned.
    """

    present: dict[str, tuple[Records, int]] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    digests: dict[str, bytes] = field(default_factory=dict)

    def take_in(self, records: Records) -> None:
        """Add one answer."""
        digests = replica_digests(records)
        for row, record_id in enumerate(records.ids):
            self.present[record_id] = (records, row)
            self.digests[record_id] = digests.row(row)

    def held(self, record_id: str) -> Held:
        """The replica's state of one record that was asked for."""
        if record_id in self.unreadable:
            return Nothing.UNREADABLE
        if record_id not in self.present:
            return Nothing.MISSING
        records, row = self.present[record_id]
        return found(records.take([row]))


class Comparer(ABC):
    """Compares the wanted records with what one replica collection holds.

    Args:
        reader: reads the replica.
        collection: the replica's collection.
        differ: compares two records.
    """

    def __init__(self, reader: RecordReader, collection: Collection, differ: Differ) -> None:
        self._reader = reader
        self._collection = collection
        self._differ = differ

    @abstractmethod
    def apply(
        self, wanted: Records, known_absent: set[str], may_write: MayWrite | None = None
    ) -> Applied:
        """Make the replica's records equal to `wanted`, or say how; `known_absent` are not there.

        `may_write` is called for each record that differs, before the first write.

        Raises:
            LeaseLost: this process may no longer write.
            ServerError: the replica failed for a reason other than single records.
        """

    def look(self, ids: Sequence[str]) -> Look:
        """Read these records from the replica."""
        look = Look()
        for batch in self._reader.batches(self._collection, ids):
            look.unreadable.update(batch.unreadable)
            for piece in batch.pieces:
                look.take_in(piece)
        return look

    def _compare(
        self,
        wanted: Records,
        rows: Sequence[int],
        known_absent: set[str],
        done: Applied,
        may_write: MayWrite | None = None,
    ) -> dict[int, Difference]:
        """The rows that differ and may be written; other rows that differ are noted as foreign."""
        look = self.look([wanted.ids[row] for row in rows if wanted.ids[row] not in known_absent])
        done.seen.update(look.digests)
        differences: dict[int, Difference] = {}
        for row in rows:
            record_id = wanted.ids[row]
            difference = self._one(wanted, row, look)
            if difference is None:
                continue
            done.different.add(record_id)
            if may_write is None or may_write(record_id, look.held(record_id)):
                differences[row] = difference
            else:
                done.foreign.add(record_id)
        return differences

    def _one(self, wanted: Records, row: int, look: Look) -> Difference:
        record_id = wanted.ids[row]
        if record_id in look.unreadable:
            return Whole.REBUILD
        if record_id not in look.present:
            return Whole.INSERT
        records, other = look.present[record_id]
        return self._differ.difference(wanted, row, records, other)


class Applier(Comparer):
    """Makes records of one replica collection equal to the wanted ones.

    Args:
        writer: the replica, bound to the permit of the task.
        reader: reads the same replica.
        collection: the replica's collection.
        differ: how two records compare.
    """

    def __init__(
        self, writer: Writer, reader: RecordReader, collection: Collection, differ: Differ
    ) -> None:
        super().__init__(reader, collection, differ)
        self._writer = writer

    def apply(
        self, wanted: Records, known_absent: set[str], may_write: MayWrite | None = None
    ) -> Applied:
        """See `Comparer`."""
        done = Applied()
        rows = list(range(len(wanted)))
        differences = self._compare(wanted, rows, known_absent, done, may_write)
        for _ in range(ROUNDS - 1):
            if not differences:
                return done
            self._send(wanted, differences, done)
            done.forget(wanted.ids[row] for row in differences)
            rows = [row for row in differences if wanted.ids[row] not in done.refused]
            differences = self._compare(wanted, rows, set(), done)
        self._refuse_leftovers(wanted, differences, done)
        return done

    def _send(self, wanted: Records, differences: dict[int, Difference], done: Applied) -> None:
        inserts = [row for row, d in differences.items() if d is Whole.INSERT]
        replaces = [r for r, d in differences.items() if d in (Whole.REPLACE, Whole.REBUILD)]
        changes = [additions_of(d) for d in differences.values() if isinstance(d, Change)]
        # a server adds a record faster than it looks whether to overwrite one
        self._insert(wanted, inserts, done, done.inserted, self._writer.add)
        self._replace(wanted, replaces, done)
        for batch in self._writer.change_batches(changes):
            send = partial(self._writer.update, self._collection)
            culprits = Splitter(send, fits=self._writer.most_records).run(batch)
            done.refuse((change.id, error) for change, error in culprits)
            done.count(done.updated, [change.id for change in batch])
            faultpoints.reach(faultpoints.MID_WRITE)

    def _replace(self, wanted: Records, rows: Sequence[int], done: Applied) -> None:
        if rows:
            self._writer.delete(self._collection, [wanted.ids[row] for row in rows])
            faultpoints.reach(faultpoints.MID_WRITE)
            self._insert(wanted, rows, done, done.replaced, self._writer.upsert)

    def _insert(
        self, wanted: Records, rows: Sequence[int], done: Applied, kind: set[str], write: Write
    ) -> None:
        if not rows:
            return
        for batch in self._writer.batches(wanted.take(rows)):

            def send(part: Sequence[int], batch: Records = batch) -> None:
                whole = len(part) == len(batch)
                write(self._collection, batch if whole else batch.take(part))

            splitter = Splitter(send, fits=self._writer.most_records)
            culprits = [(batch.ids[at], e) for at, e in splitter.run(range(len(batch)))]
            done.refuse(culprits)
            done.absent.update(record_id for record_id, _ in culprits)
            done.count(kind, batch.ids)
            faultpoints.reach(faultpoints.MID_WRITE)

    def _refuse_leftovers(
        self, wanted: Records, differences: dict[int, Difference], done: Applied
    ) -> None:
        for row, difference in differences.items():
            reason = (
                f"the replica's server does not keep it as written: {describe_left(difference)}"
            )
            done.refused[wanted.ids[row]] = reason
            if difference is Whole.INSERT:
                done.absent.add(wanted.ids[row])
            if difference is Whole.REBUILD:
                done.failed.add(wanted.ids[row])


def additions_of(change: Change) -> Change:
    """The change without the keys that it removes, if all of it has more keys than servers take.

    Servers with quotas count removed keys of a request, too. The next round removes these keys.
    """
    metadata = change.metadata or {}
    added = {key: value for key, value in metadata.items() if value is not None}
    if len(metadata) + change.clear_uri <= MOST_KEYS or not added:
        return change
    return replace(change, metadata=added, clear_uri=False)


def describe_left(difference: Difference) -> str:
    """Which fields still differ, in words."""
    if difference is Whole.INSERT:
        return "it is not there after a write that the server accepted"
    if difference is Whole.REBUILD:
        return "it cannot return it"
    return f"{describe(difference)} differs"

"""A reconcile that stops before its first write: what it would insert, update and replace.

It is the reconcile of a chunk itself, with something that compares once and sends nothing. What
the server would refuse, or not keep as written, only a write can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import orjson

from chromasync.model import Pair, Records
from chromasync.ports import Permit, Reader
from chromasync.reconcile.apply import Applied, Comparer, Look, MayWrite
from chromasync.reconcile.chunk import AnyReconciler
from chromasync.reconcile.diff import Differ, Difference, Whole
from chromasync.reconcile.read import RecordReader
from chromasync.sizing.effort import Load, Writes

BYTES_PER_FLOAT_SENT = 16 / 3
"""A float32 in base64."""

TO_BE_CREATED = ""
"""The id of a replica collection that is not there yet."""


class DryReconciler(AnyReconciler):
    """Reconciles chunks without a write.

    Attributes:
        writes: what would be sent to the replica, so far.
    """

    def __init__(self, primary: Reader, replica: Reader) -> None:
        super().__init__(primary, replica)
        self.writes = Writes()

    @property
    def bytes(self) -> int:
        """About how much would be sent to the replica, so far."""
        sent = self.writes.new + self.writes.again + self.writes.parts
        return round(sent.floats * BYTES_PER_FLOAT_SENT + sent.text_bytes)

    def _comparer_of(self, pair: Pair, permit: Permit) -> Comparer:  # noqa: ARG002 (no write)
        return _Once(self, self._replica_reader, pair)


class _Once(Comparer):
    """Compares once, and sends nothing."""

    def __init__(self, dry: DryReconciler, reader: RecordReader, pair: Pair) -> None:
        super().__init__(reader, pair.replica, Differ(pair.space))
        self._dry = dry

    def apply(
        self, wanted: Records, known_absent: set[str], may_write: MayWrite | None = None
    ) -> Applied:
        """See `Comparer`; tells by the first comparison which write each record would need."""
        done = Applied()
        rows = list(range(len(wanted)))
        differences = self._compare(wanted, rows, known_absent, done, may_write)
        for row, difference in differences.items():
            done.count(_kind_of(done, difference), [wanted.ids[row]])
        self._dry.writes += _writes_of(wanted, differences)
        return done

    def look(self, ids: Sequence[str]) -> Look:
        """See `Comparer`; a collection that is not there yet holds nothing."""
        return Look() if self._collection.id == TO_BE_CREATED else super().look(ids)


def _kind_of(done: Applied, difference: Difference) -> set[str]:
    if difference is Whole.INSERT:
        return done.inserted
    return done.replaced if isinstance(difference, Whole) else done.updated


def _writes_of(wanted: Records, differences: Mapping[int, Difference]) -> Writes:
    """The writes that these differences need."""
    new, again, parts = [], [], []
    for row, difference in differences.items():
        floats, text = _sent(wanted, row, difference)
        if difference is Whole.INSERT:
            new.append((floats, text))
        elif floats:
            again.append((floats, text))
        else:
            parts.append((floats, text))
    return Writes(_load(new), _load(again), _load(parts))


def _load(sent: Sequence[tuple[int, int]]) -> Load:
    floats, text = sum(one[0] for one in sent), sum(one[1] for one in sent)
    return Load(len(sent), floats, text)


def _sent(wanted: Records, row: int, difference: Difference) -> tuple[int, int]:
    """The numbers of the embedding to send, and the bytes of all the rest."""
    if difference is None or isinstance(difference, Whole):
        floats = 0 if wanted.embeddings is None else wanted.embeddings.shape[1]
        rest = [wanted.ids[row], wanted.documents[row], wanted.metadatas[row], wanted.uris[row]]
        return floats, _json_bytes(rest)
    floats = 0 if difference.embedding is None else difference.embedding.size
    changes = [difference.id, difference.document, difference.metadata, difference.uri]
    return floats, _json_bytes(changes)


def _json_bytes(values: Iterable[object]) -> int:
    return sum(len(orjson.dumps(value)) + 1 for value in values if value is not None)

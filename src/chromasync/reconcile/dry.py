"""A reconcile that stops before its first write: what it would insert, update and replace.

It is the reconcile of a chunk itself, with something that compares once and sends nothing. What
the server would refuse, or not keep as written, only a write can tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson

from chromasync.model import Pair, Records
from chromasync.ports import Permit, Reader
from chromasync.reconcile.apply import Applied, Comparer, Look, MayWrite
from chromasync.reconcile.chunk import AnyReconciler
from chromasync.reconcile.diff import Differ, Difference, Whole
from chromasync.reconcile.read import RecordReader

BYTES_PER_FLOAT_SENT = 16 / 3
"""A float32 in base64."""

TO_BE_CREATED = ""
"""The id of a replica collection that is not there yet."""


class DryReconciler(AnyReconciler):
    """Reconciles chunks without a write.

    Attributes:
        bytes: about how much would be sent to the replica, so far.
    """

    def __init__(self, primary: Reader, replica: Reader) -> None:
        super().__init__(primary, replica)
        self.bytes = 0

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
        for row, difference in self._compare(wanted, rows, known_absent, done, may_write).items():
            self._dry.bytes += _sent_bytes(wanted, row, difference)
            done.count(_kind_of(done, difference), [wanted.ids[row]])
        return done

    def look(self, ids: Sequence[str]) -> Look:
        """See `Comparer`; a collection that is not there yet holds nothing."""
        return Look() if self._collection.id == TO_BE_CREATED else super().look(ids)


def _kind_of(done: Applied, difference: Difference) -> set[str]:
    if difference is Whole.INSERT:
        return done.inserted
    return done.replaced if isinstance(difference, Whole) else done.updated


def _sent_bytes(wanted: Records, row: int, difference: Difference) -> int:
    if difference is None or isinstance(difference, Whole):
        floats = 0 if wanted.embeddings is None else wanted.embeddings.shape[1]
        rest = [wanted.ids[row], wanted.documents[row], wanted.metadatas[row], wanted.uris[row]]
        return int(floats * BYTES_PER_FLOAT_SENT) + _json_bytes(rest)
    floats = 0 if difference.embedding is None else difference.embedding.size
    changes = [difference.id, difference.document, difference.metadata, difference.uri]
    return int(floats * BYTES_PER_FLOAT_SENT) + _json_bytes(changes)


def _json_bytes(values: Iterable[object]) -> int:
    return sum(len(orjson.dumps(value)) + 1 for value in values if value is not None)

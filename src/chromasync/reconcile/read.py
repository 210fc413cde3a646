"""Reads records by id in batches bounded by bytes; skips records that the server cannot return.

If the vector of one record is lost, Chroma answers 500 for every page that contains the record. The
page is split until that record is alone. If its payload is gone, too, it was deleted meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from chromasync.errors import RequestRefused, ServerFault
from chromasync.memory import Memory
from chromasync.model import Collection, Records
from chromasync.ports import Reader, Unchanged
from chromasync.reconcile.split import Splitter

FIRST_GUESS_BYTES = 2_000
"""Assumed size of a record without its embedding, until the first answer."""
LARGEST_BATCH = 2_000
MOST_PARTS = 2
"""Most batches for one that would be enough, so that equal batches are read again."""
BYTES_PER_FLOAT = 11
BYTES_PER_RECORD = 200


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """Records read, in the server's order, and records that could not be read.

    Attributes:
        asked: the ids asked for.
        pieces: the answers; an id in none of them is not on the server.
        unreadable: ids that the server has but cannot return, with the server's message.
    """

    asked: list[str]
    pieces: list[Records] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)


class RecordReader:
    """Reads one server; learns per collection how large its records are.

    Args:
        most_lost: give up a batch with more unreadable records than that; None for no limit, so
            that each of them is found, however long that takes.
        memory: says how large the answers may be.
    """

    def __init__(
        self, reader: Reader, most_lost: int | None = None, memory: Memory | None = None
    ) -> None:
        self._reader = reader
        self._memory = memory or Memory()
        self._most_lost = most_lost
        self._record_bytes: dict[str, float] = {}

    def batches(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        embeddings: bool = True,
        parts: int = 0,
        unchanged: Unchanged | None = None,
    ) -> Iterator[ReadBatch]:
        """The records of `ids`, in batches whose answers stay near the size for this memory.

        Args:
            embeddings: also read the embeddings.
            parts: the number of batches last time; there are as many equal ones again, if the size
                allows it.
            unchanged: see `ports.Unchanged`.
        """
        left = list(ids)
        while left:
            size = self._batch_size(collection)
            needed = -(-len(left) // size)
            if needed <= parts <= MOST_PARTS * needed:
                size = -(-len(left) // parts)
            yield self.read(collection, left[:size], embeddings=embeddings, unchanged=unchanged)
            left = left[size:]
            parts -= 1

    def read(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        embeddings: bool = True,
        unchanged: Unchanged | None = None,
    ) -> ReadBatch:
        """The records of `ids` in one batch, split only where the server fails.

        Raises:
            ServerFault, RequestRefused: the server returns none of them, or too many are lost.
        """
        batch = ReadBatch(list(ids))

        def send(part: Sequence[str]) -> None:
            # only requests for all records or a single one are retried after transient failures
            attempts = 1 if 1 < len(part) < len(batch.asked) else None
            records = self._reader.read(
                collection, part, embeddings=embeddings, most_attempts=attempts, unchanged=unchanged
            )
            batch.pieces.append(records)
            if not embeddings or records.embeddings is not None:
                self._learn(collection, records)

        for record_id, error in Splitter(send, self._most_lost).run(batch.asked):
            if self._may_exist(collection, record_id):
                batch.unreadable[record_id] = error.what
        return batch

    def _may_exist(self, collection: Collection, record_id: str) -> bool:
        """Whether a record that failed alone may exist; only an empty answer shows its absence."""
        try:
            return len(self._reader.read(collection, [record_id], embeddings=False)) > 0
        except (RequestRefused, ServerFault):
            return True

    def _batch_size(self, collection: Collection) -> int:
        guess = (collection.dimension or 0) * BYTES_PER_FLOAT + FIRST_GUESS_BYTES
        known = self._record_bytes.get(collection.id, guess)
        return max(1, min(LARGEST_BATCH, int(self._memory.batch_bytes() / known)))

    def _learn(self, collection: Collection, records: Records) -> None:
        if not len(records):
            return
        mean = answer_bytes(records) / len(records)
        before = self._record_bytes.get(collection.id, mean)
        self._record_bytes[collection.id] = max(mean, (before + mean) / 2)


def answer_bytes(records: Records) -> float:
    """About how large a server's answer with these records is, in bytes."""
    floats = 0 if records.embeddings is None else records.embeddings.size
    text = sum(len(d) for d in records.documents if d) + sum(len(u) for u in records.uris if u)
    values = sum(
        len(key) + (len(value) if isinstance(value, str | list) else 8)
        for metadata in records.metadatas
        for key, value in metadata.items()
    )
    return floats * BYTES_PER_FLOAT + text + values + len(records) * BYTES_PER_RECORD

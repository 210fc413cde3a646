"""Recognizes unchanged embeddings by the text in which the primary sends them.

Decoding embeddings costs more than all else that is done with an answer. But a server sends an
unchanged embedding in the same digits again, so it is enough to compare the text, and a digest of
the text is quick: it needs no lock of the interpreter.

A chunk remembers one digest for each answer of its last whole read (`ChunkHead.text_digests`). It
is made of three things: the text of the embeddings, everything else of the records in the answer's
order, and the digests that the ledger has of them. So it is equal only if

* the text is as it was when it was decoded,
* it is about the same records in the same order, and all else about them is the same, and
* the ledger still has the digests that were computed then.

No change of the ledger needs to touch it: afterwards, it is not equal any more. In that case, or if
anything else about the records is to be looked at, the answer is decoded as usual. The digits may
change with the version of the server; then everything is decoded once.

The answers must have the same records as before, so a chunk is read in as many equal parts as there
are digests (`parts`). `UNKNOWN_DIGEST` stands for an answer whose text is not known.
"""

from __future__ import annotations

from collections.abc import Container

from chromasync.ledger.digest import answer_digest
from chromasync.model import UNKNOWN_DIGEST, Chunk, Digests, Records


class KnownTexts:
    """The texts of one chunk: those of the last whole read, and those of this one.

    Args:
        chunk: the ledger's entry, before this read.
        rows: the row of each of its ids.
        set_aside: ids of records whose answers are always decoded.
    """

    def __init__(self, chunk: Chunk, rows: dict[str, int], set_aside: Container[str]) -> None:
        self._chunk = chunk
        self._rows = rows
        self._set_aside = set_aside
        self._before = Digests(chunk.head.text_digests or b"")
        self._known = {self._before.row(n) for n in range(self._before.rows)} - {UNKNOWN_DIGEST}
        self._now: list[bytes] = []

    @property
    def parts(self) -> int:
        """The number of answers of the last whole read; 0 if it is not known."""
        return self._before.rows

    @property
    def digests(self) -> bytes | None:
        """The digests of all answers that were noted; None if no text is known."""
        known = any(digest != UNKNOWN_DIGEST for digest in self._now)
        return bytes(Digests.of(self._now)) if known else None

    def recognize(self, found: Records) -> bool:
        """Whether all records are as the ledger has them; then the answer is noted."""
        if found.text_digest is None or not self._known:
            return False
        rows = [self._rows.get(i, -1) for i in found.ids]
        if -1 in rows or any(i in self._set_aside for i in found.ids):
            return False
        applied = self._chunk.applied
        digest = answer_digest(found, applied.embedding.take(rows), applied.payload.take(rows))
        if digest in self._known:
            self._now.append(digest)
        return digest in self._known

    def note(self, found: Records, embedding: Digests, payload: Digests) -> None:
        """Note a decoded answer, and the digests of its records."""
        known = found.text_digest is not None
        self._now.append(answer_digest(found, embedding, payload) if known else UNKNOWN_DIGEST)

    def note_unknown(self, answers: int) -> None:
        """Note a batch that was read with so many answers, or none: the next read has others."""
        del self._now[len(self._now) - answers :]
        self._now.append(UNKNOWN_DIGEST)

"""The walk: compares a server's ids, page by page, with the ledger's chunks.

A single-node Chroma lists ids in insertion order and the ledger keeps them in that order, so the
usual walk is a merge. The next ids either equal a chunk (one comparison of digests), or the walk
searches them for the chunk's ids. A stream of pages may have three faults, and the walk must be
exact in spite of them:

* An id may be unseen. `paging` handles deletes before the cursor, if the server keeps an order.
* A record that is deleted and added again moves to the end, and it may be seen twice.
* Another server may list in any order.

So the missing ids are only a *hint*: the caller asks the primary by id before anything is deleted.
The walk matches ids that are out of place with ids that it missed elsewhere. If more than
`MAX_STRAYS` ids are out of place, the merge gives up (`Disordered`). The caller then uses the set
walk, which is exact for any order and needs 20 bytes an id.

Invariants of both walks: every id seen is in the ledger or is returned as new; every ledger id that
was not seen is in `missing`; no id is in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.digest import ids_digest
from chromasync.ledger.idset import IdSet
from chromasync.model import ChunkHead

MAX_STRAYS = 50_000
"""Ids out of place that the merging walk remembers (about 10 MB)."""

ORDERED_SHARE = 0.99
"""Share of neighbours in the ledger's order above which a merge is worth while."""

Flags = NDArray[np.bool_]
Pages = Iterable[list[str]]
LoadIds = Callable[[int], list[str]]


class Disordered(Exception):
    """The order does not allow a merge; not an error: the caller uses the set walk."""


class _Stream:
    """The pages as one stream with lookahead of any length."""

    def __init__(self, pages: Pages) -> None:
        self._pages = iter(pages)
        self._buffer: list[str] = []
        self._at = 0
        self.seen = 0

    def peek(self, count: int) -> list[str]:
        """The next `count` ids, or all that are left."""
        while len(self._buffer) - self._at < count:
            page = next(self._pages, None)
            if page is None:
                break
            self._buffer = self._buffer[self._at :] + page
            self._at = 0
        return self._buffer[self._at : self._at + count]

    def skip(self, count: int) -> None:
        self._at += count
        self.seen += count

    def rest(self) -> Iterator[list[str]]:
        """The remaining ids, page by page."""
        left = self._buffer[self._at :]
        self._buffer, self._at = [], 0
        while True:
            if left:
                self.seen += len(left)
                yield left
            page = next(self._pages, None)
            if page is None:
                return
            left = page


class MergeWalk:
    """The walk of a server that lists ids in the ledger's order.

    Iterate `new_ids` to its end; the attributes are complete only then.

    Attributes:
        missing: ledger ids that were not seen, by chunk id.
        moved: ids seen again after the ledger's end, with the chunk they left.
        seen: ids seen.
        ordered: always true for a complete merge.
        repeated: always empty, because a merge gives up if the ledger has an id twice.
    """

    ordered = True

    def __init__(self, pages: Pages, heads: Sequence[ChunkHead], load_ids: LoadIds) -> None:
        self._stream = _Stream(pages)
        self._heads = heads
        self._load_ids = load_ids
        self._missed: dict[str, int] = {}
        self._strays: list[str] = []
        self.moved: dict[str, int] = {}
        self.repeated: dict[int, list[int]] = {}

    @property
    def seen(self) -> int:
        """Ids seen so far."""
        return self._stream.seen

    @property
    def missing(self) -> dict[int, list[str]]:
        """Ledger ids that were not seen, by chunk id."""
        by_chunk: dict[int, list[str]] = {}
        for record_id, chunk_id in self._missed.items():
            by_chunk.setdefault(chunk_id, []).append(record_id)
        return by_chunk

    def new_ids(self) -> Iterator[list[str]]:
        """Ids to append to the ledger, in the order seen; those in `moved` leave a chunk.

        Raises:
            Disordered: before the first ids are returned.
        """
        for head in self._heads:
            self._pass_chunk(head)
        strays = dict.fromkeys(self._strays)
        early = [i for i in strays if self._missed.pop(i, None) is None]
        self._strays = []
        if early:
            yield early
        for ids in self._stream.rest():
            self._note_moved(ids)
            yield ids

    def _pass_chunk(self, head: ChunkHead) -> None:
        ahead = self._stream.peek(head.count)
        if len(ahead) == head.count and ids_digest(ahead) == head.ids_digest:
            self._stream.skip(head.count)
            return
        expected = dict.fromkeys(self._load_ids(head.id), head.id)
        if not self._missed.keys().isdisjoint(expected):
            raise Disordered  # the ledger has an id twice, and only the set walk repairs that
        ahead = self._stream.peek(2 * len(expected))
        last = max((i for i, seen in enumerate(ahead) if seen in expected), default=-1)
        for seen in ahead[: last + 1]:
            if expected.pop(seen, None) is None:
                self._strays.append(seen)
        self._stream.skip(last + 1)
        self._missed.update(expected)
        if len(self._missed) + len(self._strays) > MAX_STRAYS:
            raise Disordered

    def _note_moved(self, ids: list[str]) -> None:
        if self._missed:
            for record_id in ids:
                chunk_id = self._missed.pop(record_id, None)
                if chunk_id is not None:
                    self.moved[record_id] = chunk_id


class SetWalk:
    """The walk that is exact for any order; the same attributes as `MergeWalk`.

    Attributes:
        ordered: whether nearly all ids came in the ledger's order.
        repeated: rows of ids that the ledger has twice, by chunk id (the later row of each).
    """

    def __init__(self, pages: Pages, heads: Sequence[ChunkHead], load_ids: LoadIds) -> None:
        self._pages = pages
        self._heads = heads
        self._load_ids = load_ids
        self._known = IdSet.of(load_ids(head.id) for head in heads)
        self._found = np.zeros(len(self._known), dtype=bool)
        self._in_order = 0
        self.moved: dict[str, int] = {}
        self.seen = 0

    def new_ids(self) -> Iterator[list[str]]:
        """Ids that the ledger does not have, in the order seen."""
        for page in self._pages:
            self.seen += len(page)
            rows = self._known.find(page)
            known = rows[rows >= 0]
            self._found[known] = True
            self._in_order += int(np.count_nonzero(np.diff(known) > 0)) + 1
            fresh = [page[i] for i in np.flatnonzero(rows < 0)]
            if fresh:
                yield fresh

    @property
    def ordered(self) -> bool:
        """Whether a merge would suffice next time."""
        return self._in_order >= ORDERED_SHARE * int(np.count_nonzero(self._found))

    @property
    def missing(self) -> Mapping[int, list[str]]:
        """Ledger ids that were not seen, by chunk id; loaded when they are asked for."""
        unseen = ~self._found
        unseen[self._known.repeats()] = False
        rows = {head.id: np.packbits(part) for head, part in self._by_chunk(unseen) if part.any()}
        return _Missing(rows, self._load_ids)

    @property
    def repeated(self) -> dict[int, list[int]]:
        """Rows of ids that the ledger has twice, by chunk id."""
        repeats = np.zeros(len(self._known), dtype=bool)
        repeats[self._known.repeats()] = True
        parts = self._by_chunk(repeats)
        return {head.id: np.flatnonzero(part).tolist() for head, part in parts if part.any()}

    def _by_chunk(self, flags: Flags) -> Iterator[tuple[ChunkHead, Flags]]:
        """Each chunk with the flags of its rows."""
        start = 0
        for head in self._heads:
            yield head, flags[start : start + head.count]
            start += head.count


class _Missing(Mapping[int, list[str]]):
    """Missing ids by chunk: only their rows are kept, because there may be millions."""

    def __init__(self, rows: Mapping[int, NDArray[np.uint8]], load_ids: LoadIds) -> None:
        self._rows = rows
        self._load_ids = load_ids

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __getitem__(self, chunk_id: int) -> list[str]:
        ids = self._load_ids(chunk_id)
        flags = np.unpackbits(self._rows[chunk_id], count=len(ids))
        return [ids[row] for row in np.flatnonzero(flags).tolist()]


Walk = MergeWalk | SetWalk

"""An exact set of ids at 20 bytes an id, for ids that come in any order.

Ids are stored as their 16-byte digests in one array plus a sorting index, so ten million ids take
200 MB where Python strings would take a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.digest import id_digests
from chromasync.model import DIGEST_BYTES

Rows = NDArray[np.int64]
Digests = NDArray[np.bytes_]

SORTED_AT_ONCE = 500_000
"""Digests that are sorted at a time; sorting needs three times the memory of its index."""

SHORT_BYTES = 8


class IdSet:
    """Ids in the order in which they were added; `find` returns their positions.

    Args:
        digests: the ids' digests end to end, see `digest.id_digests`.
    """

    def __init__(self, digests: bytearray) -> None:
        self._digests = np.frombuffer(digests, dtype=f"S{DIGEST_BYTES}")
        self._order = _sorting(self._digests, digests)

    @classmethod
    def of(cls, lists: Iterable[Sequence[str]]) -> Self:
        """The set of all ids in these lists."""
        digests = bytearray()
        for ids in lists:
            digests += id_digests(ids)
        return cls(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, record_id: object) -> bool:
        return isinstance(record_id, str) and bool(self.find([record_id])[0] >= 0)

    def find(self, ids: Sequence[str]) -> Rows:
        """The position of each id, -1 if it is not in the set; int64 of shape (len(ids),)."""
        if not len(self) or not ids:
            return np.full(len(ids), -1, dtype=np.int64)
        asked = np.frombuffer(id_digests(ids), dtype=f"S{DIGEST_BYTES}")
        at = np.searchsorted(self._digests, asked, sorter=self._order)
        rows = self._order[np.minimum(at, len(self) - 1)].astype(np.int64)
        return np.where(self._digests[rows] == asked, rows, -1)

    def repeats(self) -> Rows:
        """Positions of ids that have an earlier position too, in ascending order."""
        found = [np.empty(0, dtype=np.int64)]
        for start in range(0, len(self) - 1, SORTED_AT_ONCE):
            ordered = self._order[start : start + SORTED_AT_ONCE + 1]
            sorted_ = self._digests[ordered]
            found.append(ordered[1:][sorted_[1:] == sorted_[:-1]].astype(np.int64))
        return np.sort(np.concatenate(found))


def _sorting(digests: Digests, raw: bytearray) -> NDArray[np.uint32]:
    """The stable sorting index of digests.

    They are sorted in groups with the same first bits, so that little memory is needed beside the
    index. Digests are random, so the groups are of equal size.
    """
    bits = max(0, (len(digests) // SORTED_AT_ONCE).bit_length())
    if not bits:
        return np.argsort(digests, kind="stable").astype(np.uint32)
    first = np.frombuffer(raw, dtype=np.uint8)[::DIGEST_BYTES] >> (8 - min(bits, 8))
    order = np.empty(len(digests), dtype=np.uint32)
    done = 0
    for group in range(1 << min(bits, 8)):
        rows = np.flatnonzero(first == group).astype(np.uint32)
        order[done : done + len(rows)] = rows[np.argsort(digests[rows], kind="stable")]
        done += len(rows)
    return order


class ShortIds:
    """Some ids of one chunk as digests of 8 bytes, to tell them from the chunk's other ids.

    Two of a chunk's few thousand ids agree by chance once in a trillion chunks. So this serves for
    decisions that are checked before anything is deleted, and not for more.
    """

    __slots__ = ("_digests",)

    def __init__(self, ids: Sequence[str]) -> None:
        self._digests = np.sort(_short(ids))

    def __len__(self) -> int:
        return len(self._digests)

    def __contains__(self, record_id: object) -> bool:
        return isinstance(record_id, str) and bool(self.among([record_id]))

    def among(self, ids: Sequence[str]) -> list[str]:
        """Those of the given ids that are in the set, in order."""
        rows = np.flatnonzero(np.isin(_short(ids), self._digests)).tolist()
        return [ids[row] for row in rows]


def _short(ids: Sequence[str]) -> NDArray[np.uint64]:
    whole = np.frombuffer(id_digests(ids), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    return np.ascontiguousarray(whole[:, :SHORT_BYTES]).view(np.uint64).reshape(-1)


def has_more(lists: Iterable[Sequence[str]], than: Iterable[Sequence[str]]) -> bool:
    """Whether an id of `lists` is in none of `than`; needs 20 bytes for each id of `than`."""
    known = IdSet.of(than)
    return any((known.find(ids) < 0).any() for ids in lists)

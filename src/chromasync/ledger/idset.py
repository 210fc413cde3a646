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

MOST_PREFIX_BITS = 16
FEW_BITS = 4
"""Up to so many bits, that is 16 digests, share a prefix; more in sets of millions."""


class IdSet:
    """Ids in the order in which they were added; `find` returns their positions.

    Args:
        digests: the ids' digests end to end, see `digest.id_digests`.
    """

    def __init__(self, digests: bytearray) -> None:
        self._digests = np.frombuffer(digests, dtype=f"S{DIGEST_BYTES}")
        self._order = _sorting(self._digests, digests)
        self._prefix_bits = max(0, min(MOST_PREFIX_BITS, len(self).bit_length() - FEW_BITS))
        self._starts = _starts(digests, self._prefix_bits)

    @classmethod
    def of(cls, lists: Iterable[Sequence[str]]) -> Self:
        """The set of all ids in these lists."""
        digests = bytearray()
        for ids in lists:
            digests += id_digests(ids)
        return cls(digests)

    def __len__(self) -> int:
        return len(self._digests)

    def find(self, ids: Sequence[str]) -> Rows:
        """The position of each id, -1 if it is not in the set; int64 of shape (len(ids),)."""
        if not len(self) or not ids:
            return np.full(len(ids), -1, dtype=np.int64)
        raw = id_digests(ids)
        asked = np.frombuffer(raw, dtype=f"S{DIGEST_BYTES}")
        rows = self._row_at(self._first_places(asked, _prefixes(raw, self._prefix_bits)))
        return np.where(self._digests[rows] == asked, rows, -1)

    def _row_at(self, places: Rows) -> Rows:
        """The rows at these places of the sorted order; after its end, the last one."""
        return self._order[np.minimum(places, len(self) - 1)].astype(np.int64)

    def _first_places(self, asked: Digests, prefixes: Rows) -> Rows:
        """The first place in the sorted order whose digest is not less, for each asked digest.

        `np.searchsorted` would copy the order, as a type of twice the size, in each call.
        """
        low, high = self._starts[prefixes], self._starts[prefixes + 1]
        while (is_open := low < high).any():
            middle = (low + high) // 2
            is_less = self._digests[self._row_at(middle)] < asked
            low = np.where(is_open & is_less, middle + 1, low)
            high = np.where(is_open & ~is_less, middle, high)
        return low

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


def _prefixes(raw: bytes | memoryview, bits: int) -> Rows:
    """The first bits of each digest, as numbers that sort like them."""
    two = np.frombuffer(raw, dtype=">u2").reshape(-1, DIGEST_BYTES // 2)[:, 0]
    return two.astype(np.int64) >> (MOST_PREFIX_BITS - bits)


def _starts(raw: bytearray, bits: int) -> Rows:
    """Where each prefix begins in the sorted order, and at the end the number of digests."""
    counts = np.zeros((1 << bits) + 1, dtype=np.int64)
    part = memoryview(raw)
    for at in range(0, len(raw), SORTED_AT_ONCE * DIGEST_BYTES):
        prefixes = _prefixes(part[at : at + SORTED_AT_ONCE * DIGEST_BYTES], bits)
        counts[1:] += np.bincount(prefixes, minlength=1 << bits)
    return np.cumsum(counts)


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

    def among(self, ids: Sequence[str]) -> list[str]:
        """Those of the given ids that are in the set, in order."""
        return [ids[row] for row in self.rows(ids)]

    def rows(self, ids: Sequence[str]) -> list[int]:
        """The positions of those of the given ids that are in the set, in ascending order."""
        rows: list[int] = np.flatnonzero(np.isin(_short(ids), self._digests)).tolist()
        return rows


def _short(ids: Sequence[str]) -> NDArray[np.uint64]:
    whole = np.frombuffer(id_digests(ids), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
    return np.ascontiguousarray(whole[:, :SHORT_BYTES]).view(np.uint64).reshape(-1)


def has_more(lists: Iterable[Sequence[str]], than: Iterable[Sequence[str]]) -> bool:
    """Whether an id of `lists` is in none of `than`; needs 20 bytes for each id of `than`."""
    known = IdSet.of(than)
    return any((known.find(ids) < 0).any() for ids in lists)

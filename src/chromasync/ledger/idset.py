"""An exact set of ids at 24 bytes an id, for ids that come in any order.

Ids are stored as their 16-byte digests in one array plus a sorting index, so ten million ids take
240 MB where Python strings would take a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from chromasync.ledger.digest import id_digests
from chromasync.model import DIGEST_BYTES

Rows = NDArray[np.int64]


class IdSet:
    """Ids in the order in which they were added; `find` returns their positions.

    Args:
        digests: the ids' digests end to end, see `digest.id_digests`.
    """

    def __init__(self, digests: bytearray) -> None:
        self._digests = np.frombuffer(digests, dtype=f"S{DIGEST_BYTES}")
        self._order = np.argsort(self._digests, kind="stable")

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
        asked = np.frombuffer(id_digests(ids), dtype=f"S{DIGEST_BYTES}")
        at = np.searchsorted(self._digests, asked, sorter=self._order)
        rows = self._order[np.minimum(at, len(self) - 1)]
        return np.where(self._digests[rows] == asked, rows, -1)

    def repeats(self) -> Rows:
        """Positions of ids that have an earlier position too, in ascending order."""
        if len(self) < 2:
            return np.empty(0, dtype=np.int64)
        ordered = self._order
        same = self._digests[ordered[1:]] == self._digests[ordered[:-1]]
        return np.sort(ordered[1:][same])


def has_more(lists: Iterable[Sequence[str]], than: Iterable[Sequence[str]]) -> bool:
    """Whether an id of `lists` is in none of `than`; needs 24 bytes for each id of `than`."""
    known = IdSet.of(than)
    return any((known.find(ids) < 0).any() for ids in lists)

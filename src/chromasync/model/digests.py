"""Digests of 16 bytes, one a row, laid end to end as the ledger stores them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DIGEST_BYTES = 16

UNKNOWN_DIGEST = bytes(DIGEST_BYTES)
"""The digest in the ledger of a record that may be missing on the replica."""


class Digests(bytes):
    """Digests of 16 bytes, one a row, laid end to end."""

    __slots__ = ()

    @classmethod
    def of(cls, rows: Iterable[bytes]) -> Self:
        """The digests of some rows, in order."""
        return cls(b"".join(rows))

    @classmethod
    def unknown(cls, rows: int) -> Self:
        """So many rows of `UNKNOWN_DIGEST`."""
        return cls(DIGEST_BYTES * rows)

    @property
    def rows(self) -> int:
        """The number of digests."""
        return len(self) // DIGEST_BYTES

    def row(self, row: int) -> bytes:
        """The digest of one row."""
        return self[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES]

    def take(self, rows: Iterable[int]) -> Digests:
        """The digests of some rows, in the order of `rows`, which mostly follow each other."""
        wanted = list(rows)
        first = wanted[0] if wanted else 0
        if wanted == list(range(first, first + len(wanted))):
            return Digests(self[first * DIGEST_BYTES : (first + len(wanted)) * DIGEST_BYTES])
        return Digests.of([self.row(row) for row in wanted])

    def changed(self, changes: Mapping[int, bytes]) -> Digests:
        """The digests with others at some rows."""
        if not changes:
            return self
        whole = bytearray(self)
        for row, digest in changes.items():
            whole[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES] = digest
        return Digests(whole)

    def known(self) -> NDArray[np.bool_]:
        """Which rows are not `UNKNOWN_DIGEST`; bool of shape (rows,)."""
        # a command that only shows states reads no digest, and need not load it
        import numpy as np  # noqa: PLC0415

        table = np.frombuffer(self, dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        known: NDArray[np.bool_] = np.count_nonzero(table, axis=1) > 0
        return known


NO_DIGESTS = Digests()

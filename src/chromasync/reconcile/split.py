"""Finding the bad records: a request that fails is repeated in halves until single records fail.

Records that fail alone are returned with their errors, and all others succeed. If the server fails
on every single record, the server is broken, not the records, and the error is raised. But bad
records may be adjacent at the front. So before that verdict, a few records from all over the rest
are sent alone, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from chromasync.errors import RequestRefused, ServerFault

SINGLES_BEFORE_PROBING = 8
PROBES = 8

T = TypeVar("T")
Culprit = tuple[T, RequestRefused | ServerFault]


class Splitter(Generic[T]):
    """Repeats a failing request in halves; good for one run.

    Args:
        send: does one request for the given items; raises `RequestRefused` or `ServerFault` when
            the server does not take them, and anything else for other reasons.
        most: the largest number of bad items before the error is raised; None for no limit.
        fits: the most items that one request may have now, which a refusal may have shown.
    """

    def __init__(
        self,
        send: Callable[[Sequence[T]], None],
        most: int | None = None,
        fits: Callable[[], int] | None = None,
    ) -> None:
        self._send = send
        self._most = most
        self._fits = fits
        self._items: Sequence[T] = ()
        self._settled: set[int] = set()
        self._succeeded = False
        self._culprits: dict[int, RequestRefused | ServerFault] = {}

    def run(self, items: Sequence[T]) -> list[Culprit[T]]:
        """Send all items; returns those that the server does not take, in order, with the errors.

        No item is part of two requests that succeed.

        Raises:
            RequestRefused, ServerFault: every single item asked so far failed, or more than
                `most` did.
        """
        self._items = items
        if items:
            self._halve(range(len(items)))
        return [(items[row], self._culprits[row]) for row in sorted(self._culprits)]

    def _halve(self, rows: Sequence[int]) -> None:
        error = self._try(rows)
        if error is None:
            return
        if len(rows) == 1:
            self._blame(rows[0], error)
            return
        for part in self._parts(rows):
            if left := [row for row in part if row not in self._settled]:
                self._halve(left)

    def _parts(self, rows: Sequence[int]) -> list[Sequence[int]]:
        """Two halves, or more parts if a half does not fit into one request."""
        middle = len(rows) // 2
        fitting = len(rows) if self._fits is None else max(1, self._fits())
        if len(rows) - middle <= fitting:
            return [rows[:middle], rows[middle:]]
        return [rows[at : at + fitting] for at in range(0, len(rows), fitting)]

    def _try(self, rows: Sequence[int]) -> RequestRefused | ServerFault | None:
        whole = len(rows) == len(self._items)
        try:
            self._send(self._items if whole else [self._items[row] for row in rows])
        except (RequestRefused, ServerFault) as error:
            return error
        self._settled.update(rows)
        self._succeeded = True
        return None

    def _blame(self, row: int, error: RequestRefused | ServerFault) -> None:
        self._settled.add(row)
        self._culprits[row] = error
        if self._most is not None and len(self._culprits) > self._most:
            raise error
        if not self._succeeded and len(self._culprits) > SINGLES_BEFORE_PROBING:
            self._probe(error)

    def _probe(self, error: RequestRefused | ServerFault) -> None:
        """Send a few single items, from the last one backwards; raises if all of them fail."""
        left = [row for row in range(len(self._items) - 1, -1, -1) if row not in self._settled]
        for row in left[:: max(1, -(-len(left) // PROBES))]:
            refusal = self._try([row])
            if refusal is None:
                return
            self._settled.add(row)
            self._culprits[row] = refusal
        raise error

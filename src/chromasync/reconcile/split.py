"""Finding the one bad record: a request that fails is repeated in halves until single records fail.

What fails alone is handed back with its reason, and everything else goes through. A server that
fails on *every* single record asked is not short of one record, it is broken: then the error is
raised instead of blaming the records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from chromasync.errors import RequestRefused, ServerFault

SINGLES_BEFORE_GIVING_UP = 8

T = TypeVar("T")
Culprit = tuple[T, RequestRefused | ServerFault]


class Splitter(Generic[T]):
    """Repeats a failing request in halves.

    Args:
        send: does one request for the given items; raises `RequestRefused` or `ServerFault` when
            the server does not take them, and anything else for other reasons.
    """

    def __init__(self, send: Callable[[Sequence[T]], None]) -> None:
        self._send = send
        self._succeeded = False
        self._culprits: list[Culprit[T]] = []

    def run(self, items: Sequence[T]) -> list[Culprit[T]]:
        """Send all items; the ones that the server does not take, each with the error.

        Raises:
            RequestRefused, ServerFault: every single item asked so far failed.
        """
        if not items:
            return self._culprits
        try:
            self._send(items)
            self._succeeded = True
        except (RequestRefused, ServerFault) as error:
            if len(items) == 1:
                self._blame(items[0], error)
            else:
                middle = len(items) // 2
                self.run(items[:middle])
                self.run(items[middle:])
        return self._culprits

    def _blame(self, item: T, error: RequestRefused | ServerFault) -> None:
        self._culprits.append((item, error))
        if not self._succeeded and len(self._culprits) > SINGLES_BEFORE_GIVING_UP:
            raise error

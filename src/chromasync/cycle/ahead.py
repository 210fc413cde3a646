"""Asking the primary ahead: the ids of the next collections are on their way meanwhile.

A small collection costs little but the time that its answers take to come. Large ones are not asked
ahead: their ids need memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Self

from chromasync.cycle.work import CollectionWork
from chromasync.ledger import paging
from chromasync.model import Collection
from chromasync.ports import Reader

AT_ONCE = 4
AHEAD = 8
"""Collections whose ids are asked for before their turn."""

SMALL = 2_000
"""Records that a collection had in the last cycle, so that its ids may be asked ahead."""


class FirstPages:
    """The ids with which each small collection of the primary begins; a context manager."""

    def __init__(self, reader: Reader, works: Sequence[CollectionWork]) -> None:
        self._reader = reader
        self._waiting = deque(works)
        self._asked: dict[str, Future[list[str]]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def pages(self, collection: Collection, count: Callable[[], int]) -> Iterator[list[str]]:
        """All ids of a collection; see `paging.pages`."""
        self._look_ahead(collection)
        first = self._asked.pop(collection.id, None)

        def ask(offset: int, limit: int) -> list[str]:
            nonlocal first
            if offset == 0 and first is not None:
                page, first = first.result(), None
                return page
            return self._reader.list_ids(collection, offset=offset, limit=limit)

        return paging.stitched(ask, count, paging.PAGE_IDS)

    def _look_ahead(self, collection: Collection) -> None:
        """Ask for the ids of those whose turn comes next."""
        while self._waiting and self._waiting[0].primary.id == collection.id:
            self._waiting.popleft()
        for work in list(self._waiting)[:AHEAD]:
            key = work.primary.id
            if key not in self._asked and work.mirror.primary_count <= SMALL:
                ask = partial(self._reader.list_ids, work.primary, offset=0, limit=paging.PAGE_IDS)
                self._asked[key] = self._pool.submit(ask)

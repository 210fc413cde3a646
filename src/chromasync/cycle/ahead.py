"""Asking the primary ahead: the ids of the next collections are on their way meanwhile.

A small collection costs little but the time that its answers take to come. Large ones are not asked
ahead: their ids need memory. A tiny one that is due to be read is read whole at once (see `tiny`),
and its ids are those of its records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from chromasync.cycle.work import CollectionWork
from chromasync.errors import ServerError
from chromasync.ledger import paging
from chromasync.ledger.digest import embedding_digests, ids_digest, payload_digests
from chromasync.model import Collection, Records
from chromasync.ports import Reader

AT_ONCE = 4
AHEAD = 8
"""Collections whose ids are asked for before their turn."""

SMALL = 2_000
"""Records that a collection had in the last cycle, so that its ids may be asked ahead."""

TINY = 64
"""Records of a collection that may be read whole, instead of its ids."""


class Content(NamedTuple):
    """All records of a collection as digests: the records of many may be too much to keep.

    The columns are those of a chunk of the ledger.
    """

    ids_digest: bytes
    embedding_digests: bytes
    payload_digests: bytes

    @classmethod
    def of(cls, records: Records) -> Self:
        """The digests of records that were read with their embeddings."""
        return cls(ids_digest(records.ids), embedding_digests(records), payload_digests(records))


class FirstPages:
    """The ids with which each small collection of the primary begins; a context manager.

    Args:
        whole: keys of the primary's collections that are read whole.

    Attributes:
        contents: what was read of them, by key; nothing of those that are not tiny any more.
    """

    def __init__(
        self, reader: Reader, works: Sequence[CollectionWork], whole: Container[str] = frozenset()
    ) -> None:
        self._reader = reader
        self._waiting = deque(works)
        self._whole = whole
        self._asked: dict[str, Future[list[str]]] = {}
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self.contents: dict[str, Content] = {}

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
            if offset == 0 and collection.id in self._whole:
                return self._read_whole(collection)
            return self._reader.list_ids(collection, offset=offset, limit=limit)

        return paging.stitched(ask, count, paging.PAGE_IDS)

    def _look_ahead(self, collection: Collection) -> None:
        """Ask for the ids of those whose turn comes next."""
        while self._waiting and self._waiting[0].primary.id == collection.id:
            self._waiting.popleft()
        for work in list(self._waiting)[:AHEAD]:
            key = work.primary.id
            if key not in self._asked and work.mirror.primary_count <= SMALL:
                ask = self._read_whole if key in self._whole else self._list
                self._asked[key] = self._pool.submit(ask, work.primary)

    def _list(self, collection: Collection) -> list[str]:
        return self._reader.list_ids(collection, offset=0, limit=paging.PAGE_IDS)

    def _read_whole(self, collection: Collection) -> list[str]:
        """The ids of a tiny collection, and its content; of one that has grown, the ids alone."""
        try:
            records = self._reader.read_first(collection, TINY + 1)
        except ServerError:  # the reason may be a single record: a task finds out which
            return self._list(collection)
        if len(records) > TINY:
            return self._list(collection)
        if records:
            self.contents[collection.id] = Content.of(records)
        return records.ids

"""Prefetches the ids of the primary's next collections while one collection is walked.

The cost of a small collection is mostly the latency of its requests. Large collections are not
prefetched, because their ids need memory. A tiny collection that is due to be read is read whole
(see `tiny`), and its ids are taken from its records.
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
"""Collections whose ids are requested before their turn."""

SMALL = 2_000
"""Most records that a collection may have had in the last cycle to be prefetched."""

TINY = 64
"""Most records of a collection that is read whole instead of listing its ids."""


class Content(NamedTuple):
    """The digests of all records of a collection; the records themselves need too much memory.

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
    """The first page of ids of each small collection of the primary; a context manager.

    Args:
        whole: keys of the primary's collections that are read whole.

    Attributes:
        contents: their content by key; collections that are no longer tiny are not in it.
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
        """Request the ids of the next collections."""
        while self._waiting and self._waiting[0].primary.id == collection.id:
            self._waiting.popleft()
        for work in list(self._waiting)[:AHEAD]:
            key = work.primary.id
            if key not in self._asked and work.mirror.primary.count <= SMALL:
                ask = self._read_whole if key in self._whole else self._list
                self._asked[key] = self._pool.submit(ask, work.primary)

    def _list(self, collection: Collection) -> list[str]:
        return self._reader.list_ids(collection, offset=0, limit=paging.PAGE_IDS)

    def _read_whole(self, collection: Collection) -> list[str]:
        """The ids of a tiny collection; its content is kept, too, unless it has grown."""
        try:
            records = self._reader.read_first(collection, TINY + 1)
        except ServerError:  # a single record may be the reason: a task finds out which
            return self._list(collection)
        if len(records) > TINY:
            return self._list(collection)
        if records:
            self.contents[collection.id] = Content.of(records)
        return records.ids

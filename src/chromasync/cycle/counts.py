"""The record counts of the replica's collections at the start of a cycle, read in parallel."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from chromasync.errors import ServerUnreachable
from chromasync.model import Collection
from chromasync.ports import Reader

AT_ONCE = 4


class Counts:
    """Record counts of the replica's collections at the start of the cycle."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, Future[int]] = {}

    def ask(self, collections: Iterable[Collection]) -> None:
        """Count these collections in parallel.

        Raises:
            ServerUnreachable: the server is unreachable; the remaining requests are cancelled.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for collection in collections:
                self._known[collection.id] = pool.submit(self._reader.count, collection)
            for asked in as_completed(self._known.values()):
                if isinstance(error := asked.exception(), ServerUnreachable):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise error

    def note_created(self, collection: Collection) -> None:
        """Set the count of a collection that this cycle created to 0."""
        created: Future[int] = Future()
        created.set_result(0)
        self._known[collection.id] = created

    def of(self, collection: Collection) -> int:
        """The count of one collection; requested now if it was not before.

        Raises:
            ServerError: the collection could not be counted.
        """
        known = self._known.get(collection.id)
        return self._reader.count(collection) if known is None else known.result()

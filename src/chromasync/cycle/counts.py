"""How many records the replica's collections have when a cycle begins, asked side by side."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed

from chromasync.errors import ServerUnreachable
from chromasync.model import Collection
from chromasync.ports import Reader

AT_ONCE = 4


class Counts:
    """How many records collections of the replica had when the cycle began."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, Future[int]] = {}

    def ask(self, collections: Iterable[Collection]) -> None:
        """Ask for these, side by side.

        Raises:
            ServerUnreachable: the server is away; the others are not asked then.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for collection in collections:
                self._known[collection.id] = pool.submit(self._reader.count, collection)
            for asked in as_completed(self._known.values()):
                if isinstance(error := asked.exception(), ServerUnreachable):
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise error

    def note_created(self, collection: Collection) -> None:
        """One that was created in this cycle had none."""
        created: Future[int] = Future()
        created.set_result(0)
        self._known[collection.id] = created

    def of(self, collection: Collection) -> int:
        """The count of one; asked now, if it was not before.

        Raises:
            ServerError: it could not be counted.
        """
        known = self._known.get(collection.id)
        return self._reader.count(collection) if known is None else known.result()

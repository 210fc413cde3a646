"""The state store: ledger, queue and control in a database (`ports.Store`).

`open_store` is the only door. SqlStore is one set of statements for every database; `core.Backend`
is the seam at which SQLite (`sqlite`) stands today.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from sqlalchemy import func, select

from chromasync.errors import SettingsError
from chromasync.model import Term
from chromasync.store.core import Backend
from chromasync.store.history import HistoryPart
from chromasync.store.leads import LeadPart
from chromasync.store.ledger import LedgerPart
from chromasync.store.migrations import migrate
from chromasync.store.queue import QueuePart
from chromasync.store.schema import schema_versions
from chromasync.store.sqlite import SqliteBackend

__all__ = ["SqlStore", "open_store", "store_exists"]


class SqlStore(LedgerPart, QueuePart, LeadPart, HistoryPart):
    """`ports.Store` over a database; safe to use from many threads.

    A led view (`led_by`) refuses, with LeaseLost and in the same transaction, every write of the
    ledger, `add_tasks`, `cancel_tasks`, `open_cycle`, `close_cycle`, `save_hold` and `clear_hold`
    once its term has ended.
    """

    def led_by(self, term: Term) -> SqlStore:
        """A view of this store that writes only while `term` holds."""
        return SqlStore(self._backend, term)

    def schema_version(self) -> int:
        """The number of the newest migration that was applied."""
        with self._reading() as tx:
            return int(tx.execute(select(func.max(schema_versions.c.version))).scalar_one())

    def close(self) -> None:
        """Close all connections; on a led view this does nothing."""
        if self._term is None:
            self._backend.close()


def open_store(place: str | PathLike[str]) -> SqlStore:
    """Open a state store, creating it or bringing its schema up to date as needed.

    Args:
        place: a file, `sqlite:///file` (relative) or `sqlite:////file` (absolute).

    Raises:
        SettingsError: the place is not one that can hold a state store.
        StoreUnusable: what is there is damaged, newer than this program, or another program's.
        StoreUnavailable: it is locked, or the disk fails.
    """
    backend: Backend = SqliteBackend(_sqlite_path(str(place)))
    try:
        migrate(backend)
    except BaseException:
        backend.close()
        raise
    return SqlStore(backend)


def store_exists(place: str | PathLike[str]) -> bool:
    """Whether there is a state store already at a place that `open_store` takes.

    Raises:
        SettingsError: the place is not one that can hold a state store.
    """
    return _sqlite_path(str(place)).exists()


def _sqlite_path(place: str) -> Path:
    scheme, separator, rest = place.partition("://")
    if not separator:
        path = place
    elif scheme.startswith("postgres"):
        raise SettingsError(
            "PostgreSQL as the state store is not available in this version.",
            untouched="Nothing was started.",
            hint="Leave DATABASE_URL unset to use a SQLite file under SYNC_DATA_DIR.",
        )
    elif scheme == "sqlite" and rest.startswith("/"):
        path = rest[1:]
    else:
        path = ""
    if not path or path == ":memory:" or "\0" in path:
        raise SettingsError(
            f"A state store cannot be opened by a URL like {scheme}://…; allowed are a file or"
            " sqlite:///file.",
            untouched="Nothing was started.",
            hint="Leave DATABASE_URL unset to use a SQLite file under SYNC_DATA_DIR.",
        )
    return Path(path)

"""The state store: ledger, queue and control in a database (`ports.Store`).

`open_store` opens every store. SqlStore is one set of statements for every database. The
differences between SQLite (`sqlite`) and PostgreSQL (`postgres`) are behind `core.Backend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from chromasync.config import StorePlace
from chromasync.model import Term
from chromasync.store.alerts import AlertPart
from chromasync.store.control import ControlPart
from chromasync.store.copies import copy_rows
from chromasync.store.core import Backend
from chromasync.store.deployment import DeploymentPart
from chromasync.store.direction import DirectionPart
from chromasync.store.history import HistoryPart
from chromasync.store.holds import HoldPart
from chromasync.store.instants import InstantPart
from chromasync.store.leads import LeadPart
from chromasync.store.ledger import LedgerPart
from chromasync.store.measurements import MeasurementPart
from chromasync.store.migrations import migrate
from chromasync.store.queue import QueuePart
from chromasync.store.recommended import RecommendationPart
from chromasync.store.rehearsal import Rehearsed, rehearse
from chromasync.store.retry import retried, retry_while_away
from chromasync.store.schema import schema_versions
from chromasync.store.shares import SharePart
from chromasync.store.snapshot import SnapshotPart
from chromasync.store.sqlite import SqliteBackend, beside
from chromasync.store.trials import TrialPart
from chromasync.store.workers import WorkerPart

if TYPE_CHECKING:
    from chromasync.store.postgres import PostgresBackend

__all__ = ["Rehearsed", "SqlStore", "open_store", "rehearse_store", "store_exists"]


class SqlStore(
    LedgerPart,
    QueuePart,
    WorkerPart,
    LeadPart,
    TrialPart,
    HistoryPart,
    MeasurementPart,
    RecommendationPart,
    HoldPart,
    DeploymentPart,
    DirectionPart,
    ControlPart,
    SharePart,
    AlertPart,
    InstantPart,
    SnapshotPart,
):
    """`ports.Store` over a database; safe to use from many threads.

    A led view (`led_by`) checks its term in the transaction of each write. Once the term has ended,
    it raises LeaseLost in every write of the ledger, in `add_tasks` and `cancel_tasks`, and in the
    writes of cycles, holds and the deployment. The calls of operators (`approve`, `note_shown`) are
    not checked.
    """

    def led_by(self, term: Term) -> SqlStore:
        """A view of this store that writes only while `term` holds."""
        return SqlStore(self._backend, term, self._floor)

    def urgent(self) -> SqlStore:
        """This store for urgent calls: with its own connection, short limits and no retries.

        On SQLite it is this store itself, because all connections wait for the same lock.
        """
        backend = self._backend.urgent()
        return self if backend is self._backend else SqlStore(backend, self._term, self._floor)

    @contextmanager
    def copied(self) -> Iterator[SqlStore]:
        """A copy of this store in a temporary file, for the block; see `copies`.

        Raises:
            StoreError: this store cannot be read, or there is no room for the copy.
        """
        with (
            TemporaryDirectory(prefix="chromasync-") as folder,
            closing(open_store(Path(folder) / "copy.db")) as copy,
        ):
            with copy.backend.migrating() as target, self._reading() as source:
                copy_rows(source, target)
            yield copy

    @retried
    def schema_version(self) -> int:
        """The number of the newest migration that was applied."""
        with self._reading() as tx:
            return int(tx.execute(select(func.max(schema_versions.c.version))).scalar_one())

    @retried
    def connections(self) -> str | None:
        """How many connections we need, may have, and are in use; None on SQLite."""
        return self._backend.connections()

    def close(self) -> None:
        """Close all connections; on a view this does nothing."""
        if not self._is_view:
            self._backend.close()


def open_store(place: StorePlace | str | PathLike[str]) -> SqlStore:
    """Open a state store, creating it or bringing its schema up to date as needed.

    Args:
        place: a file, `sqlite:///file` (relative), `sqlite:////file` (absolute), or a PostgreSQL
            URL as libpq takes it.

    Raises:
        SettingsError: the place is not one that can hold a state store.
        StoreUnusable: the database is damaged, too new for this program, or another program's.
        StoreUnavailable: it is locked or unreachable, has no connections left, or its disk fails.
    """
    backend = _backend(_parsed(place))
    try:
        retry_while_away(backend, lambda: migrate(backend))
    except BaseException:
        backend.close()
        raise
    return SqlStore(backend)


def store_exists(place: StorePlace | str | PathLike[str]) -> bool:
    """Whether there is a state store already at a place that `open_store` takes.

    Raises:
        SettingsError: the place is not one that can hold a state store.
        StoreError: a database server cannot be asked.
    """
    parsed = _parsed(place)
    if parsed.path is not None:
        return parsed.path.exists()
    backend = _postgres(parsed.url)
    try:
        return backend.has(schema_versions.name)
    finally:
        backend.close()


def rehearse_store(place: StorePlace | str | PathLike[str]) -> Rehearsed:
    """Try all that a cycle needs of a state store, and undo it; the store may not exist yet.

    Raises:
        SettingsError, StoreError: the error that would stop a cycle.
    """
    parsed = _parsed(place)
    if parsed.path is None:
        return _rehearsed(_backend(parsed))
    with beside(parsed.path) as file:
        return _rehearsed(SqliteBackend(file, stands_for=parsed.path))


def _rehearsed(backend: Backend) -> Rehearsed:
    try:
        return retry_while_away(backend, lambda: rehearse(backend))
    finally:
        backend.close()


def _backend(place: StorePlace) -> Backend:
    if place.path is not None:
        return SqliteBackend(place.path)
    backend = _postgres(place.url)
    try:
        retry_while_away(backend, backend.prepare)
    except BaseException:
        backend.close()
        raise
    return backend


def _postgres(url: str) -> PostgresBackend:
    # its driver takes longer to import than `chromasync status` may take, and a file needs none
    from chromasync.store.postgres import PostgresBackend  # noqa: PLC0415

    return PostgresBackend(url)


def _parsed(place: StorePlace | str | PathLike[str]) -> StorePlace:
    return place if isinstance(place, StorePlace) else StorePlace.parse(place)

"""The base of every part of the store: transactions, error translation, and the term check.

A `Backend` is the seam between databases. Everything above it is one set of SQLAlchemy Core
statements. The differences (time, types, locks, upserts, driver errors) are methods here or
compiled constructs of `schema`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import Connection, Engine, Table, and_, bindparam, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from chromasync import faultpoints
from chromasync.errors import LeaseLost, StoreError
from chromasync.model import Term
from chromasync.store.claim_floor import ClaimFloor
from chromasync.store.schema import RUNNING, Later, Now, cycles, leases

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

COORDINATOR = "coordinator"
"""Name of the lease that the leader holds."""

CLOCK_SLACK_SECONDS = 1.0
"""How far a lease may seem to reach beyond its length before the clock must have stepped back."""

WRITES = "chromasync_writes"
"""Execution option of connections whose transactions are going to write."""

LONG = "chromasync_long"
"""Execution option of connections whose statements may take minutes."""


class Backend(Protocol):
    """One kind of database.

    Attributes:
        engine: where connections come from.
        place: the store's file or address for messages; without secrets.
        types: column types by placeholder, for the migrations.
        driver_error: the error class that the driver raises where SQLAlchemy does not translate.
        asks_first: whether a claim reads first, and takes the write lock only if there is a task.
        retry_seconds: for how long to retry during an outage; 0 means no retries.
    """

    engine: Engine
    place: str
    types: Mapping[str, str]
    driver_error: type[Exception]
    asks_first: bool
    retry_seconds: float

    def turn(self) -> AbstractContextManager[None]:
        """Wait for this process's turn to write; raises StoreUnavailable after a time limit."""

    def translate(self, error: Exception) -> StoreError:
        """Our error for an error of the driver, SQLAlchemy or the operating system."""

    def passes(self, error: BaseException | None) -> bool:
        """Whether an error that `translate` takes may pass within seconds."""

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that understands ON CONFLICT."""

    def is_gone(self, holder: str) -> bool:
        """Whether the process behind `holder` has provably ended."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction that writes, and that only one process at a time can begin."""

    def connections(self) -> str | None:
        """How many connections there are and how many are in use; None on SQLite."""

    def urgent(self) -> Backend:
        """The same database with its own connection and short limits; itself on SQLite."""

    def close(self) -> None:
        """Close all connections, also those of `urgent`."""


_seconds_ahead = leases.c.ttl_seconds + CLOCK_SLACK_SECONDS
LEASE_EXPIRED = (leases.c.expires_at <= Now()) | (leases.c.expires_at > Later(_seconds_ahead))

_LEAD = (
    select(leases.c.token)
    .where(
        leases.c.name == COORDINATOR,
        leases.c.holder == bindparam("holder"),
        leases.c.token == bindparam("token"),
        and_(leases.c.expires_at > Now(), leases.c.expires_at <= Later(_seconds_ahead)),
    )
    # FOR KEY SHARE is the weakest row lock. A successor waits for the writes of this term that are
    # in flight, because it locks FOR UPDATE. The leader's own renewal does not wait.
    .with_for_update(read=True, key_share=True)
)

# Locks the running cycle's row. So a retry waits until the transaction of a lost connection has
# committed or rolled back. Only the opening and the closing of cycles lock this row otherwise.
PLANNING = select(cycles.c.id).where(RUNNING).with_for_update()


class Core:
    """Transactions over a backend; in a led view only while its term holds.

    Args:
        backend: the database.
        term: the term under which a led view writes.
        floor: the claim floor of the store that this view shows; None for a store of its own.
    """

    def __init__(
        self, backend: Backend, term: Term | None = None, floor: ClaimFloor | None = None
    ) -> None:
        self._backend = backend
        self._term = term
        self._is_view = floor is not None
        self._floor = floor or ClaimFloor()
        self._writer = backend.engine.execution_options(**{WRITES: True})
        self._long_writer = backend.engine.execution_options(**{WRITES: True, LONG: True})

    @property
    def backend(self) -> Backend:
        """The database behind this store."""
        return self._backend

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One transaction that reads a consistent snapshot; it waits for no writer."""
        with translated(self._backend), self._backend.engine.begin() as tx:
            yield tx

    @contextmanager
    def _writing(self, *, long: bool = False) -> Iterator[Connection]:
        """One transaction that writes; `long` when its statements may take minutes."""
        writer = self._long_writer if long else self._writer
        with translated(self._backend), self._backend.turn():
            with writer.begin() as tx:
                yield tx
            faultpoints.reach(faultpoints.AFTER_COMMIT)

    @contextmanager
    def _leading(self) -> Iterator[Connection]:
        """One transaction that writes; raises LeaseLost when this view's term has ended."""
        with self._writing(long=True) as tx:
            if self._term is not None:
                _require_lead(tx, self._term)
            yield tx


@contextmanager
def translated(backend: Backend) -> Iterator[None]:
    """Translate the errors of the driver in the block into our own."""
    try:
        yield
    except (SQLAlchemyError, OSError, ValueError, backend.driver_error) as error:
        raise backend.translate(error) from error


def names_in(tx: Connection) -> set[str]:
    """The names of all tables and views."""
    found = inspect(tx)
    return {*found.get_table_names(), *found.get_view_names()}


def _require_lead(tx: Connection, term: Term) -> None:
    held = tx.execute(_LEAD, {"holder": term.holder, "token": term.number}).scalar()
    if held is None:
        raise LeaseLost(
            f"This process no longer leads (term {term.number} ended).",
            untouched="Nothing was written.",
            hint="Another coordinator goes on, or this one starts a new term.",
        )

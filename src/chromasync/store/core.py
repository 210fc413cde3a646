"""What every part of the store stands on: transactions, error translation, and the term check.

A `Backend` is the seam between databases. Everything above it is one set of SQLAlchemy Core
statements; whatever differs (time, types, locks, upserts, driver errors) is a method here or a
compiled construct of `schema`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Connection, Engine, Table, and_, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from chromasync import faultpoints
from chromasync.errors import LeaseLost, StoreError
from chromasync.model import Term
from chromasync.store.claim_floor import ClaimFloor
from chromasync.store.schema import RUNNING, Later, Now, cycles, leases

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
        place: the store as people know it, for messages; without secrets.
        types: column types by placeholder, for the migrations.
        driver_error: what the driver raises outside SQLAlchemy's hands.
        asks_first: whether looking for work should not wait for a turn to write.
        retry_seconds: for how long to repeat what an outage made fail; 0 means not at all.
    """

    engine: Engine
    place: str
    types: Mapping[str, str]
    driver_error: type[Exception]
    asks_first: bool
    retry_seconds: float

    def turn(self) -> AbstractContextManager[None]:
        """Wait for this process's turn to write; raises StoreUnavailable when it never comes."""

    def translate(self, error: Exception) -> StoreError:
        """The error of our tree for one of the driver, SQLAlchemy or the operating system."""

    def passes(self, error: BaseException | None) -> bool:
        """Whether what `translate` was given may be gone within seconds."""

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert:
        """An INSERT that understands ON CONFLICT."""

    def is_gone(self, holder: str) -> bool:
        """Whether the process behind `holder` has provably ended."""

    def migrating(self) -> AbstractContextManager[Connection]:
        """A transaction that writes, and that only one process can hold."""

    def connections(self) -> str | None:
        """How many connections there are and how many are in use; None where nobody counts."""

    def urgent(self) -> Backend:
        """The same database over connections of their own and with short limits, where it pays."""

    def close(self) -> None:
        """Give all connections back, those of `urgent` too."""


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
    # Its weakest lock: whoever takes over waits for what is being written in this term, while the
    # leader itself can renew it meanwhile.
    .with_for_update(read=True, key_share=True)
)

# A lock that else only the opening and the closing of cycles want: a repeat waits for it until a
# transaction whose connection was cut has ended, one way or the other.
PLANNING = select(cycles.c.id).where(RUNNING).with_for_update()


class Core:
    """Transactions over a backend, perhaps only while a term holds.

    Args:
        backend: the database.
        term: the term that a led view writes under.
        floor: where claims begin, as the store knows that this one is a view of.
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
        """One consistent view of the store, which waits for no writer."""
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
        """One transaction that writes, and does so only while this view's term holds."""
        with self._writing(long=True) as tx:
            if self._term is not None:
                _require_lead(tx, self._term)
            yield tx


@contextmanager
def translated(backend: Backend) -> Iterator[None]:
    """Let nothing but our own errors out of the block."""
    try:
        yield
    except (SQLAlchemyError, OSError, ValueError, backend.driver_error) as error:
        raise backend.translate(error) from error


def _require_lead(tx: Connection, term: Term) -> None:
    held = tx.execute(_LEAD, {"holder": term.holder, "token": term.number}).scalar()
    if held is None:
        raise LeaseLost(
            f"This process no longer leads (term {term.number} ended).",
            untouched="Nothing was written.",
            hint="Another coordinator goes on, or this one starts a new term.",
        )

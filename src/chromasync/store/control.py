"""The control row: the pause in force and the requested cycles (a part of `ports.Control`).

Operators write the row, and every process reads it every few seconds. A pause that has run out
counts as ended; nobody needs to clear it. A request for a cycle has a number. The leader notes the
newest number when it opens a cycle. So a request is served by the first cycle that begins after
it, and a request during a cycle asks for another one.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Connection, and_, bindparam, or_, select, update

from chromasync.model import ControlRow, Orders
from chromasync.store.core import Core
from chromasync.store.retry import retried
from chromasync.store.rows import CONTROL
from chromasync.store.schema import Later, Now
from chromasync.store.schema_service import control

_ROW = select(*CONTROL.columns)
_ORDERS = select(*CONTROL.columns, Now())
_RESUMED = dict.fromkeys(("paused_at", "paused_by", "pause_reason", "paused_until"))
_RESUME = update(control).values(_RESUMED)
_WANT = (
    update(control)
    .where(control.c.wanted_number == bindparam("former"))
    .values(
        wanted_number=control.c.wanted_number + 1,
        wanted_full=or_(control.c.wanted_full, bindparam("full", type_=Boolean)),
        wanted_at=Now(),
        wanted_by=bindparam("who"),
    )
)
_BEGIN = (
    update(control)
    .where(control.c.begun_number < bindparam("number"))
    .values(
        begun_number=bindparam("number"),
        begun_cycle=bindparam("cycle"),
        # a request that came meanwhile may be for everything
        wanted_full=and_(control.c.wanted_number > bindparam("number"), control.c.wanted_full),
    )
)


class ControlPart(Core):
    """The control row."""

    @retried
    def control(self) -> ControlRow:
        """The pause in force and the requested cycles."""
        with self._reading() as tx:
            return control_in(tx)

    @retried
    def orders(self) -> Orders:
        """The same with the store's time, in one query, because every process asks often."""
        with self._reading() as tx:
            *row, now = tx.execute(_ORDERS).one()
        return Orders(CONTROL.build(row), now)

    @retried
    def pause(self, who: str, reason: str, seconds: float | None = None) -> ControlRow:
        """Pause all processes for `seconds`, or until someone resumes; replaces a former pause."""
        values: dict[str, Any] = {
            "paused_at": Now(),
            "paused_by": who,
            "pause_reason": reason,
            "paused_until": None if seconds is None else Later(seconds),
        }
        with self._writing() as tx:
            tx.execute(update(control).values(values))
            return control_in(tx)

    @retried
    def resume(self) -> None:
        """End the pause."""
        with self._writing() as tx:
            tx.execute(_RESUME)

    def want_cycle(self, who: str, *, full: bool = False) -> int:
        """Ask the leader for a cycle that begins from now on; returns the request's number.

        Args:
            who: who asks, as `user@host`.
            full: read everything, without regard to the scrub budget.
        """
        while True:
            number = self._want_after(self.control().wanted_number, who, full)
            if number is not None:
                return number

    @retried
    def _want_after(self, former: int, who: str, full: bool) -> int | None:  # noqa: FBT001
        """The number of a request after `former` that asks for as much; None to try again.

        It may be a request of somebody else, or the one of a call whose answer was lost.
        """
        with self._writing() as tx:
            tx.execute(_WANT, {"former": former, "full": full, "who": who})
            row = control_in(tx)
        is_ours = row.begun_number <= former and row.wanted_full >= full
        return row.wanted_number if is_ours else None

    @retried
    def begin_wanted(self, number: int, cycle_id: int) -> None:
        """Record that a cycle has begun for the requests up to `number`."""
        with self._leading() as tx:
            tx.execute(_BEGIN, {"number": number, "cycle": cycle_id})


def control_in(tx: Connection) -> ControlRow:
    """Like `control`, in the caller's transaction."""
    return CONTROL.build(tx.execute(_ROW).one())

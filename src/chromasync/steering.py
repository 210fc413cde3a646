"""What operators asked of this process: to pause, and to begin a cycle now.

A thread reads the control row of the store every WATCH_SECONDS. Nothing else connects the processes
of a store, so all of them obey within a few seconds. While the store is away, the last answer stays
valid.

A pause takes effect in two steps:

* At once, `check` raises at the stopping points of a cycle, and tasks are put down.
* After GRACE_SECONDS, `admit` raises before every request to a server. Until then a cycle may reach
  a stopping point and write its marks. A cycle that is cut off there is planned again, like that of
  a process that was killed.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime

from chromasync.errors import Paused, StoreError
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import ControlRow, Orders
from chromasync.ports import Control
from chromasync.processes import ended_among
from chromasync.repeated import Repeated

WATCH_SECONDS = 1.5
GRACE_SECONDS = 2.5
NAP_SECONDS = 0.25
"""Time after which a waiting process looks whether it was asked to stop."""

log = get_logger()


class Steering:
    """What was asked of this process, as last seen. Thread-safe: it only replaces whole values."""

    def __init__(self) -> None:
        self._orders: Orders | None = None
        self._pause: ControlRow | None = None
        self._paused_at = 0.0
        self._begun = 0

    @property
    def orders(self) -> Orders | None:
        """The last answer of the store; None before the first one."""
        return self._orders

    @property
    def is_paused(self) -> bool:
        """Whether a pause is in force."""
        return self._pause is not None

    @property
    def has_request(self) -> bool:
        """Whether someone asked for a cycle that has not begun."""
        if self._orders is None:
            return False
        row = self._orders.row
        return row.wanted_number > max(row.begun_number, self._begun)

    def check(self) -> None:
        """Raise Paused while a pause is in force."""
        pause = self._pause
        if pause is not None:
            raise paused_error(pause)

    def admit(self) -> None:
        """The same, but only when the pause has lasted for GRACE_SECONDS."""
        pause = self._pause
        if pause is not None and time.monotonic() - self._paused_at >= GRACE_SECONDS:
            raise paused_error(pause)

    def note_begun(self, number: int) -> None:
        """Note that a cycle has begun for the requests up to this one."""
        self._begun = max(self._begun, number)

    def note(self, orders: Orders) -> None:
        """Take over an answer of the store, and log when a pause began or ended."""
        was_paused, self._orders = self.is_paused, orders
        if orders.paused and not was_paused:
            self._paused_at = time.monotonic()
        self._pause = orders.row if orders.paused else None
        if orders.paused == was_paused:
            return
        if orders.paused:
            log.info(Event.PAUSED, **_fields(orders.row))
        else:
            log.info(Event.RESUMED)


class Watch:
    """The thread that reads the control row for a `Steering` until it is stopped.

    Args:
        control: the store, for urgent calls (`Store.urgent`).
    """

    def __init__(self, control: Control, steering: Steering) -> None:
        self._control = control
        self._steering = steering
        self._reads = Repeated(Event.NO_ORDERS, "the control row")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control-watch", daemon=True)

    def start(self) -> None:
        """Read the row once, and start the thread; raises StoreError."""
        self.look()
        self._thread.start()

    def ended_threads(self) -> tuple[str, ...]:
        """The name of the thread if it has ended although nobody stopped it."""
        return () if self._stop.is_set() else ended_among([self._thread])

    def stop(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def look(self) -> Orders:
        """Read the row now; raises StoreError."""
        orders = self._control.orders()
        self._steering.note(orders)
        return orders

    def _run(self) -> None:
        while not self._stop.wait(self._pause()):
            try:
                self.look()
            except StoreError as error:
                self._reads.failed(str(error))
            else:
                self._reads.succeeded()

    def _pause(self) -> float:
        """Seconds until the next look; a pause with an end is looked at when it should end."""
        orders = self._steering.orders
        left = None if orders is None or not orders.paused else orders.seconds_left
        return WATCH_SECONDS if left is None else min(WATCH_SECONDS, left + 0.05)


def paused_error(row: ControlRow) -> Paused:
    """The error of everything that does not begin, or ends early, because of this pause."""
    reason = f" ({row.pause_reason})" if row.pause_reason else ""
    until = "" if row.paused_until is None else f" It ends at {_moment(row.paused_until)}."
    since = "some time ago" if row.paused_at is None else f"at {_moment(row.paused_at)}"
    return Paused(
        f"{row.paused_by} paused chromasync {since}{reason}.{until}",
        untouched="No request is sent to either server; the next cycle goes on where work stopped.",
    )


def _moment(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _fields(row: ControlRow) -> dict[str, object]:
    return {
        "by": row.paused_by,
        "reason": row.pause_reason or None,
        "since": None if row.paused_at is None else row.paused_at.isoformat(),
        "until": None if row.paused_until is None else row.paused_until.isoformat(),
    }

"""The clock of a process that runs cycles: notices that the store's wall clock jumped.

It lives as long as the process. Before a cycle is opened, the store's clock and the monotonic one
are compared with the last time that this was done, and what the store holds with its clock. Where
either says that the clock jumped, the store forgets every instant; this is done before anything
else, so that a process that dies here leaves nothing that looks fresh.
"""

from __future__ import annotations

from chromasync.lease import monotonic
from chromasync.plan.clock import Reading, is_ahead, step_between
from chromasync.ports import Store

FUTURE = (
    "Instants that are stored lie in the future, so the clock has gone back since. It is not known "
    "any more when anything was read: everything is read again."
)
MEANWHILE = (
    "The clock jumped during this cycle, so it cannot be said since when anything is identical: "
    "the next cycle reads everything again."
)


class CycleClock:
    """Compares clocks from cycle to cycle."""

    def __init__(self) -> None:
        self._last: Reading | None = None

    def open(self, store: Store) -> str:
        """Look at the clocks before a cycle; returns what to say when all instants were unknown."""
        now = _read(store)
        words = self._why_unknown(store, now)
        if words:
            store.forget_instants()
        self._last = now
        return words

    def has_jumped(self, store: Store) -> bool:
        """Whether the clock jumped since the cycle was opened."""
        return self._last is not None and step_between(self._last, _read(store)) != 0.0

    def _why_unknown(self, store: Store, now: Reading) -> str:
        step = 0.0 if self._last is None else step_between(self._last, now)
        if step:
            way = "forwards" if step > 0 else "back"
            return (
                f"The clock went {abs(step):,.1f} seconds {way} since the last cycle. It is not "
                "known any more when anything was read: everything is read again."
            )
        return FUTURE if is_ahead(store.newest_instant(), now.wall) else ""


def _read(store: Store) -> Reading:
    before = monotonic()
    wall = store.now()
    return Reading(wall, before, monotonic())

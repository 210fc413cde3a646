"""Detects that the store's wall clock jumped between the cycles of a process.

The detector lives as long as the process. Before a cycle is opened, it compares how far the store's
clock and the monotonic clock moved since the last comparison, and it compares the newest stored
instant with the store's clock. If either comparison shows a jump, the store forgets all instants.
This is the first step of a cycle, so a process that dies here leaves nothing that looks fresh.
"""

from __future__ import annotations

from chromasync.lease import monotonic
from chromasync.plan.clock import Reading, is_ahead, step_between
from chromasync.ports import Store

FUTURE = (
    "Stored instants lie in the future, so the clock went back. All stored instants are unknown "
    "now, so everything is read again."
)
MEANWHILE = (
    "The clock jumped during this cycle, so no collection has a known instant as of which it is "
    "identical. The next cycle reads everything again."
)


class CycleClock:
    """Compares the two clocks from cycle to cycle."""

    def __init__(self) -> None:
        self._last: Reading | None = None

    def open(self, store: Store) -> str:
        """Compare the clocks before a cycle; returns a warning if the instants were forgotten."""
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
                f"The clock went {abs(step):,.1f} seconds {way} since the last cycle. All stored "
                "instants are unknown now, so everything is read again."
            )
        return FUTURE if is_ahead(store.newest_instant(), now.wall) else ""


def _read(store: Store) -> Reading:
    before = monotonic()
    wall = store.now()
    return Reading(wall, before, monotonic())

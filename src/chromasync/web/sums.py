"""Counters over the cycles of all processes, as one process has seen them in the store.

The store deletes old cycles, so a sum over its rows would fall. This sum only grows: it remembers
what was counted of each cycle, and adds what is new.
"""

from __future__ import annotations

from chromasync.model import CycleStatus, OpCounts
from chromasync.reports import StatusSnapshot


class CycleSums:
    """Adds up what cycles did since the first snapshot."""

    def __init__(self) -> None:
        self._known: dict[int, OpCounts] | None = None
        self._newest = 0
        self.counts = OpCounts()

    def note(self, snapshot: StatusSnapshot) -> None:
        """Add what is new in a snapshot."""
        seen = _counts_of(snapshot)
        if self._known is not None:
            for cycle_id, counts in seen.items():
                if cycle_id in self._known or cycle_id > self._newest:
                    self._add(counts, self._known.get(cycle_id, OpCounts()))
        self._known = seen
        self._newest = max(self._newest, *seen, 0)

    def _add(self, counts: OpCounts, former: OpCounts) -> None:
        # of a cycle that was cut off, fewer records may be counted than were seen in progress
        grown = OpCounts(*(max(0, getattr(counts, n) - getattr(former, n)) for n in _NAMES))
        self.counts += grown


_NAMES = OpCounts.__slots__


def _counts_of(snapshot: StatusSnapshot) -> dict[int, OpCounts]:
    """The counts of each listed cycle; those of a running one are the sums of its tasks so far."""
    counts = {cycle.id: cycle.counts for cycle in snapshot.cycles}
    for cycle in snapshot.cycles[:1]:
        if cycle.status is CycleStatus.RUNNING:
            counts[cycle.id] = sum((c.counts for c in snapshot.collections), OpCounts())
    return counts

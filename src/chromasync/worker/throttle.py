"""What a process says about its pace, and what it learns about the others, with each heartbeat."""

from __future__ import annotations

from collections.abc import Mapping

from chromasync.model import Side
from chromasync.ports import Pacing, Store

Pacings = Mapping[Side, Pacing]


def reason_of(pacings: Pacings) -> str | None:
    """Why this process sends fewer requests than it could; None if it does not."""
    reasons = [f"{side}: {pacing.reason}" for side, pacing in pacings.items() if pacing.reason]
    return "; ".join(reasons) or None


def share_among_active(pacings: Pacings, store: Store) -> None:
    """Divide the shares of the servers' time by the number of active processes."""
    if pacings:
        count = store.active_workers()
        for pacing in pacings.values():
            pacing.among(count)

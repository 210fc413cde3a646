"""The choice of unchanged chunks to read again, within a time budget; pure.

A chunk that need not be read (`plan.must_read`) may be read again: it is *scrubbed*. If all such
chunks fit the budget, all are scrubbed in each cycle. Otherwise the chunks that were read longest
ago come first, so every record is read again within `reread_cycles` cycles. The replica's
side of a chunk is read together with it if its last check is older than the check interval. The
budget covers both sides of one chunk before the next chunk, so a due check never waits longer than
the chunk's next read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from chromasync.config import Role, Settings
from chromasync.model import ChunkHead

SIDES = 2
"""Time to read both sides of a chunk, in units of its `read_seconds`."""


@dataclass(frozen=True, slots=True)
class Scrub:
    """A chunk to read again; `check_replica` reads the replica's side too."""

    head: ChunkHead
    check_replica: bool


def choose_scrubs(
    heads: Iterable[ChunkHead], budget_seconds: float, check_before: datetime
) -> list[Scrub]:
    """The chunks to scrub within the budget, those that were read longest ago first.

    Args:
        heads: chunks that need no read for another reason.
        budget_seconds: reading time of all workers together.
        check_before: replica checks older than this are due.
    """
    left = budget_seconds
    chosen: list[Scrub] = []
    for head in sorted(heads, key=_read_instant):
        if left <= 0:
            break
        due = head.replica.checked_at is None or head.replica.checked_at < check_before
        left -= head.read_seconds * (SIDES if due else 1)
        chosen.append(Scrub(head, check_replica=due))
    return chosen


def _read_instant(head: ChunkHead) -> float:
    return head.read_at.timestamp() if head.read_at else -math.inf


def scrub_budget_seconds(settings: Settings, active_workers: int) -> float:
    """Seconds of reading per cycle that unchanged content may cost, all workers together.

    It assumes that every active process has as many threads as this one.

    Args:
        active_workers: how many processes the store shows as active.
    """
    share_seconds = settings.sync_scrub_budget * settings.sync_interval
    return share_seconds * settings.sync_workers * _processes_at_work(settings, active_workers)


def _processes_at_work(settings: Settings, active_workers: int) -> int:
    if settings.role is Role.SINGLE:
        return 1
    planners = 0 if settings.sync_coordinator_works else 1
    return max(1, active_workers - planners)


def reread_cycles(read_seconds: float, budget_seconds: float) -> float:
    """Cycles within which every record is read again; infinite with no budget.

    The budget must cover a check of the replica's side of each chunk, too.

    Args:
        read_seconds: how long reading all chunks once takes.
    """
    total = SIDES * read_seconds
    if total <= budget_seconds:
        return 1.0
    return math.ceil(total / budget_seconds) if budget_seconds > 0 else math.inf


def reread_seconds(settings: Settings, active_workers: int, read_seconds: float) -> float | None:
    """Seconds within which every record is read again; None for never.

    Args:
        active_workers: how many processes the store shows as active.
        read_seconds: how long reading all chunks once takes.
    """
    if settings.sync_scrub_budget == 0:
        return None
    cycles = reread_cycles(read_seconds, scrub_budget_seconds(settings, active_workers))
    return None if math.isinf(cycles) else cycles * settings.sync_interval

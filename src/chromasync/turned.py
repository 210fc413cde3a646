"""The state store as the next cycle finds it: after a promotion, with the direction turned.

`plan` and `doctor` change nothing. So they look at a copy of the store, which is turned as the
cycle would turn the store itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from chromasync.config import Settings
from chromasync.cycle.turn import due_turn, turn
from chromasync.dryrun import DryRun
from chromasync.ports import Progress, Reader, Store
from chromasync.reports import PlanReport


def plan_next_cycle(
    store: Store,
    primary: Reader,
    replica: Reader,
    settings: Settings,
    progress: Progress,
    *,
    rebuild: Sequence[str] = (),
) -> PlanReport:
    """What the next cycle would do; if it turns the direction first, a warning says so.

    Raises:
        GuardRefusal, AnotherStore, ReplicaPromoted: a cycle would refuse to run.
        ServerError, StoreError: a side or the store could not be read.
    """
    with as_next_cycle_finds(store, primary, replica, settings) as (seen, turns):
        planned = DryRun(primary, replica, seen, settings, rebuild).plan(progress)
    return replace(planned, warnings=(*filter(None, [turns]), *planned.warnings))


@contextmanager
def as_next_cycle_finds(
    store: Store, primary: Reader, replica: Reader, settings: Settings
) -> Iterator[tuple[Store, str]]:
    """The store for a look, and a sentence if the next cycle turns the direction first.

    The sentence is empty if the replica follows; then it is the store itself.

    Raises:
        ReplicaPromoted: the settings still lead to the promoted replica.
        ServerError, StoreError: a server cannot be listed, or the store cannot be read.
    """
    due = due_turn(primary, replica, store, settings)
    if due is None:
        yield store, ""
        return
    words = (
        f"The direction turns with the next cycle: {settings.primary_url} was promoted and is the "
        f"primary, and {settings.replica_url} follows it. Nothing was turned yet."
    )
    with store.copied() as copy:
        turn(copy, due)
        yield copy, words

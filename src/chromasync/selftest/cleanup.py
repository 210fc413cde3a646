"""Taking away what the self-test made: its collections on both sides, and what the store knows.

While nobody leads, the self-test takes the lead for it. Beside a running coordinator it does it
between two cycles: a cycle that saw one half of it would report a collection that vanished, and
hold it. If one began meanwhile, it is done once more when that one has ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from chromasync.errors import ChromasyncError
from chromasync.lease import monotonic
from chromasync.model import Cycle, CycleStatus, Side
from chromasync.ports import Store, Writer
from chromasync.selftest.stage import Stage
from chromasync.worker.heartbeat import process_name

LEAD_SECONDS = 60.0
TRIES = 5
GAP_SECONDS = 3.0
"""So much time the clean-up wants before the next cycle."""
LOOK_SECONDS = 0.1


def clean_up(stage: Stage, quiet_seconds: float) -> list[str]:
    """Remove everything under the stage's prefix; what could not be removed, a sentence each.

    Args:
        quiet_seconds: how long the end of a running cycle is waited for.
    """
    store = stage.store
    try:
        term = store.take_lead(process_name(), LEAD_SECONDS)
        if term is None:
            return _clean_between_cycles(stage, quiet_seconds)
        try:
            return _clean(stage, store.led_by(term))
        finally:
            store.give_up_lead(term)
    except ChromasyncError as error:
        return [*_drop_all(stage), f"The store could not be cleaned up: {error}"]


def _clean_between_cycles(stage: Stage, quiet_seconds: float) -> list[str]:
    deadline = monotonic() + quiet_seconds
    problems: list[str] = []
    for _ in range(TRIES):
        before = _wait_for_gap(stage.store, deadline)
        problems = _clean(stage, stage.store)
        if before is not None and _newest(stage.store) == before:
            return problems
    return [*problems, "The coordinator was at work during the whole clean-up; look for holds."]


def _wait_for_gap(store: Store, deadline: float) -> Cycle | None:
    """Wait until no cycle runs or is about to begin; the newest one then, None if it never was."""
    while monotonic() < deadline:
        if _is_quiet(store.cycles(2), store.now()):
            return _newest(store)
        time.sleep(LOOK_SECONDS)
    return None


def _is_quiet(cycles: Sequence[Cycle], now: datetime) -> bool:
    """Whether there is time to clean up before the next cycle, by the rhythm of the last two."""
    if len(cycles) < 2 or cycles[0].status is CycleStatus.RUNNING:
        return False
    rhythm = (cycles[0].started_at - cycles[1].started_at).total_seconds()
    left = rhythm - (now - cycles[0].started_at).total_seconds()
    return left >= min(GAP_SECONDS, rhythm / 2)


def _newest(store: Store) -> Cycle | None:
    return next(iter(store.cycles(1)), None)


def _clean(stage: Stage, store: Store) -> list[str]:
    problems = _drop_all(stage)
    if not problems:
        for mirror in store.mirrors():
            if mirror.name.startswith(stage.prefix):
                store.forget_mirror(mirror.collection_id)
    return problems


def _drop_all(stage: Stage) -> list[str]:
    sides = ((Side.PRIMARY, stage.application), (Side.REPLICA, stage.replica))
    attempts = [_attempt(name, partial(_drop, stage, writer)) for name, writer in sides]
    return [problem for problem in attempts if problem]


def _attempt(side: Side, step: Callable[[], None]) -> str:
    try:
        step()
    except ChromasyncError as error:
        return f"The test's collections could not be dropped on the {side}: {error.what}"
    return ""


def _drop(stage: Stage, writer: Writer) -> None:
    for collection in writer.list_collections(stage.tenant, stage.database):
        if collection.name.startswith(stage.prefix):
            writer.drop_collection(collection)

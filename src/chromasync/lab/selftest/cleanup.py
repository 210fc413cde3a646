"""Taking away what self-tests made: collections on both sides, and what the store knows of them.

First the trial ends in the store: cycles that begin from then on leave its collections alone, and
do not miss them either. A cycle that is at work may have seen them, so its end is waited for; while
nobody leads, the self-test takes the lead instead. What cannot be removed is left to the next
self-test, which begins with what earlier ones left behind when they were killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from chromasync.errors import ChromasyncError
from chromasync.lab.selftest.lifetime import is_ours, may_be_in_use
from chromasync.lab.selftest.stage import Stage
from chromasync.lease import monotonic
from chromasync.model import Collection, CycleStatus, Side, Term
from chromasync.ports import Reader, Store, Writer
from chromasync.trials import trial_of
from chromasync.worker.heartbeat import process_name

Place = tuple[str, str]
"""A tenant and a database of it."""

LEAD_SECONDS = 60.0
LOOK_SECONDS = 0.1


class StillAtWork(ChromasyncError):
    """A cycle that may have seen the collections did not end in time."""


def clean_up(stage: Stage, quiet_seconds: float) -> list[str]:
    """Remove all that this self-test made; what could not be removed, a sentence each.

    Args:
        quiet_seconds: how long the end of a running cycle is waited for.
    """
    return _remove(stage, {stage.prefix}, [(stage.tenant, stage.database)], quiet_seconds)


def clear_leftovers(stage: Stage, quiet_seconds: float) -> tuple[int, list[str]]:
    """Remove what self-tests that were killed left behind.

    Returns:
        How many collections that were, and what could not be removed, a sentence each.

    Raises:
        ServerError, StoreError: a side, or the store, could not be read.
    """
    places = [
        (tenant, database)
        for tenant in stage.settings.sync_tenants
        for database in stage.primary.list_databases(tenant)
        if stage.settings.covers(tenant, database)
    ]
    listed = [c for side in (stage.primary, stage.replica) for c in _made(side, places)]
    over = find_over(stage.store, listed)
    if not over:
        return 0, []
    problems = _remove(stage, over, places, quiet_seconds)
    return 0 if problems else len({c.name for c in listed if trial_of(c.name) in over}), problems


def find_over(store: Store, made: Sequence[Collection]) -> set[str]:
    """The trials that are over and of which something is left, on a server or in the store.

    One that this store does not know may be at work with another store, as long as its collections
    say so.
    """
    mirrored = {trial_of(mirror.name) for mirror in store.mirrors()} - {""}
    known = store.known_trials() | mirrored
    in_use = {trial_of(c.name) for c in made if may_be_in_use(c)} - known
    return (known | {trial_of(c.name) for c in made}) - store.live_trials() - in_use


def _remove(
    stage: Stage, trials: set[str], places: Sequence[Place], quiet_seconds: float
) -> list[str]:
    drop_all = partial(_drop_all, stage, trials, places)
    try:
        for trial in trials:
            stage.store.keep_trial(trial, "", 0.0)
        with _between_cycles(stage.store, quiet_seconds) as store:
            problems = drop_all()
            if not problems:
                _forget(store, trials)
            return problems
    except StillAtWork as error:
        return [str(error)]
    except ChromasyncError as error:
        return [*drop_all(), f"The store could not be cleaned up: {error}"]


# ---- between cycles --------------------------------------------------------------------------


@contextmanager
def _between_cycles(store: Store, quiet_seconds: float) -> Iterator[Store]:
    """The store, once no cycle is at work that began before; led by us where nobody else leads."""
    at_work = {c.id for c in store.cycles(1) if c.status is CycleStatus.RUNNING}
    term = _wait(store, at_work, quiet_seconds)
    if term is None:
        yield store
        return
    try:
        yield store.led_by(term)
    finally:
        store.give_up_lead(term)


def _wait(store: Store, at_work: set[int], quiet_seconds: float) -> Term | None:
    """Wait until that cycle has ended, or take the lead in the place of a leader that is gone."""
    name, deadline = process_name(), monotonic() + quiet_seconds
    while True:
        term = store.take_lead(name, LEAD_SECONDS)
        if term is not None:
            return term
        newest = store.cycles(1)
        if not any(c.id in at_work and c.status is CycleStatus.RUNNING for c in newest):
            return None
        if monotonic() > deadline:
            raise StillAtWork(
                f"A cycle that may have seen the test's collections did not end in "
                f"{quiet_seconds:.0f} seconds.",
                untouched="So they were left where they are; no later cycle looks at them.",
                hint="The next self-test removes them.",
            )
        time.sleep(LOOK_SECONDS)


# ---- both sides and the store ----------------------------------------------------------------


def _drop_all(stage: Stage, trials: set[str], places: Sequence[Place]) -> list[str]:
    sides = ((Side.PRIMARY, stage.application), (Side.REPLICA, stage.replica))
    attempts = [_attempt(side, partial(_drop, writer, trials, places)) for side, writer in sides]
    return [problem for problem in attempts if problem]


def _attempt(side: Side, step: Callable[[], None]) -> str:
    try:
        step()
    except ChromasyncError as error:
        return f"The test's collections could not be dropped on the {side}: {error.what}"
    return ""


def _drop(writer: Writer, trials: set[str], places: Sequence[Place]) -> None:
    for collection in _made(writer, places):
        if trial_of(collection.name) in trials:
            writer.drop_collection(collection)


def _made(side: Reader, places: Sequence[Place]) -> list[Collection]:
    """What self-tests made in these databases: by its name and by its mark."""
    listed = [c for place in places for c in side.list_collections(*place)]
    return [c for c in listed if trial_of(c.name) and is_ours(c)]


def _forget(store: Store, trials: Iterable[str]) -> None:
    for mirror in store.mirrors():
        if trial_of(mirror.name) in trials:
            store.forget_mirror(mirror.collection_id)
    for trial in trials:
        store.forget_trial(trial)

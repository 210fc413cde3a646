"""Removes the collections of self-tests on both sides, and their data in the store.

First the trial ends in the store. Cycles that begin after that ignore its collections, and do not
count them as missing. A running cycle may have seen them, so the self-test waits for its end; if no
process leads, the self-test takes the lead instead. The next self-test removes what is left, also
after a self-test that was killed.
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
"""A tenant and one of its databases."""

LEAD_SECONDS = 60.0
LOOK_SECONDS = 0.1


class StillAtWork(ChromasyncError):
    """A cycle that may have seen the collections did not end in time."""


def clean_up(stage: Stage, quiet_seconds: float) -> list[str]:
    """Remove everything of this self-test; returns one sentence for each failure.

    Args:
        quiet_seconds: longest wait for the end of a running cycle.
    """
    return _remove(stage, {stage.prefix}, [(stage.tenant, stage.database)], quiet_seconds)


def clear_leftovers(stage: Stage, quiet_seconds: float) -> tuple[int, list[str]]:
    """Remove the collections of self-tests that were killed.

    Returns:
        The number of removed collections, and one sentence for each failure.

    Raises:
        ServerError, StoreError: a side, or the store, could not be read.
    """
    places = [
        (tenant, database)
        for tenant in stage.settings.sync_tenants
        for database in stage.primary.list_databases(tenant)
        if stage.settings.scope.covers(tenant, database)
    ]
    listed = [c for side in (stage.primary, stage.replica) for c in _made(side, places)]
    over = find_over(stage.store, listed)
    if not over:
        return 0, []
    problems = _remove(stage, over, places, quiet_seconds)
    return 0 if problems else len({c.name for c in listed if trial_of(c.name) in over}), problems


def find_over(store: Store, made: Sequence[Collection]) -> set[str]:
    """The ended trials with remaining data, on a server or in the store.

    A trial that this store does not know may be running with another store, until the time that its
    collections name.
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
    """The store after the end of any earlier cycle; we lead if no other process does."""
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
    """Wait until that cycle has ended, or take the lead from a leader that is gone."""
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
                untouched="They stay where they are; later cycles ignore them.",
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
    """The collections of self-tests in these databases, by name and by mark."""
    listed = [c for place in places for c in side.list_collections(*place)]
    return [c for c in listed if trial_of(c.name) and is_ours(c)]


def _forget(store: Store, trials: Iterable[str]) -> None:
    for mirror in store.mirrors():
        if trial_of(mirror.name) in trials:
            store.forget_mirror(mirror.collection_id)
    for trial in trials:
        store.forget_trial(trial)

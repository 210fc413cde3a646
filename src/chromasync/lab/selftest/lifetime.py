"""Shows other processes that this self-test is alive: a lease in the store, marks on collections.

Cycles use the lease, which expires soon after a self-test was killed. A self-test with another
store sees the collections only. So the metadata of the collections names the time in which their
self-test may be running. This depends on clocks of different hosts, which are exact enough to
decide when the collections may be removed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from chromasync.lease import Renewing
from chromasync.model import Collection, Scalar
from chromasync.ports import Store
from chromasync.worker.heartbeat import process_name

LIFE_SECONDS = 60.0
"""A silent self-test counts as ended after this time; on SQLite, a killed one at once."""
MAKER = "chromasync selftest"
CLOCK_SLACK_SECONDS = 300.0
"""Largest difference of the clocks of two hosts."""


@contextmanager
def kept_alive(store: Store, trial: str) -> Iterator[None]:
    """Record in the store, while the block runs, that this trial is alive.

    Raises:
        StoreError: the store cannot be written.
    """
    urgent, holder = store.urgent(), process_name()
    store.keep_trial(trial, holder, LIFE_SECONDS)

    def renew() -> bool:
        urgent.keep_trial(trial, holder, LIFE_SECONDS)
        return True

    renewing = Renewing("trial-keeper", LIFE_SECONDS, renew)
    renewing.start()
    try:
        yield
    finally:
        renewing.stop()


def mark(lasts_seconds: float) -> dict[str, Scalar]:
    """Metadata for a collection of a self-test that ends within so many seconds."""
    return {
        "made_by": MAKER,
        "made_at": int(time.time()),
        "lasts_seconds": int(lasts_seconds),
    }


def is_ours(collection: Collection) -> bool:
    """Whether this is a collection of a self-test, or its copy on the replica."""
    return collection.metadata.get("made_by") == MAKER


def may_be_in_use(collection: Collection) -> bool:
    """Whether its self-test may be running, by its mark; a mark in the future does not count."""
    made_at, lasts = (collection.metadata.get(name) for name in ("made_at", "lasts_seconds"))
    if not isinstance(made_at, int | float) or not isinstance(lasts, int | float):
        return False
    age = time.time() - made_at
    return -CLOCK_SLACK_SECONDS < age < lasts + CLOCK_SLACK_SECONDS

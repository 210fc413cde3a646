"""How others know that this self-test lives: a lease in the store, and a mark on its collections.

Cycles go by the lease, which ends soon after a self-test that was killed. A self-test that uses
another store sees the collections only; so these say, in their metadata, from when to when their
self-test may be at work. That rests on clocks of different hosts, and is good enough for what it
decides: when they may be removed.
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
"""A self-test without a sign of life for so long is over; on SQLite, a killed one at once."""
MAKER = "chromasync selftest"
CLOCK_SLACK_SECONDS = 300.0
"""How far the clocks of two hosts may be apart."""


@contextmanager
def kept_alive(store: Store, trial: str) -> Iterator[None]:
    """Let the store know, while the block lasts, that this trial lives.

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
    """Metadata for a collection of a self-test that is over in so many seconds at the latest."""
    return {
        "made_by": MAKER,
        "made_at": int(time.time()),
        "lasts_seconds": int(lasts_seconds),
    }


def is_ours(collection: Collection) -> bool:
    """Whether a self-test made this collection, or a cycle its copy."""
    return collection.metadata.get("made_by") == MAKER


def may_be_in_use(collection: Collection) -> bool:
    """Whether, by its mark, the self-test that made it may be at work; not by a mark to come."""
    made_at, lasts = (collection.metadata.get(name) for name in ("made_at", "lasts_seconds"))
    if not isinstance(made_at, int | float) or not isinstance(lasts, int | float):
        return False
    age = time.time() - made_at
    return -CLOCK_SLACK_SECONDS < age < lasts + CLOCK_SLACK_SECONDS

"""What other processes do in the store's tests; every function here runs in a child."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any

from chromasync.store import open_store
from tests.store.samples import claim, result_for

_WAIT_SECONDS = 60
_together: Barrier | None = None


def _meet(barrier: Barrier) -> None:
    global _together  # noqa: PLW0603 (a child has no other place to keep it)
    _together = barrier


def _wait_for_all() -> None:
    assert _together is not None
    _together.wait(_WAIT_SECONDS)


@contextmanager
def children(count: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that begin each job at the same moment; gone when the block ends."""
    context: Any = get_context("spawn")
    pool = ProcessPoolExecutor(count, context, _meet, (context.Barrier(count),))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def open_and_close(place: str) -> int:
    """Open the store at the same moment as all others; returns what this process is called."""
    _wait_for_all()
    store = open_store(place)
    store.close()
    return os.getpid()


def work_off(place: str, most: int) -> list[int]:
    """Claim and complete tasks until there are none; returns the ids of those completed."""
    store = open_store(place)
    done = []
    try:
        _wait_for_all()
        while claimed := claim(store, most, f"child-{os.getpid()}", 120):
            for task in claimed:
                assert store.complete_task(task, result_for(store, task, mark=7, gone=["0-a"]))
                done.append(task.id)
    finally:
        store.close()
    return done


def lead_and_die(place: str, holder: str) -> None:
    """Take the lead for an hour and end without giving it up."""
    store = open_store(place)
    assert store.take_lead(holder, 3600) is not None
    os._exit(0)

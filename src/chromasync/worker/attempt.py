"""One attempt at one task: reconcile its chunk, and record what came of it.

What an error means for the task:

    lost lease               left to its new owner, or handed back when nobody has taken it
    server unreachable       handed back unharmed; the workers of this process pause
    state store away         what was done is recorded as soon as it answers again
    damaged ledger           failed; the collection's ledger is forgotten and built anew
    anything lasting         failed with its reason, at once; the next cycle tries again
    anything unforeseen      tried again after a while, failed after `MAX_RETRIES` times

A chunk whose attempt was broken off, or whose completion was refused, is suspect: what the attempt
wrote to the replica, nobody knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import structlog

from chromasync import faultpoints
from chromasync.errors import (
    ChromasyncError,
    DamagedChunk,
    LeaseLost,
    Retry,
    StoreUnavailable,
)
from chromasync.lease import Lease
from chromasync.model import Task
from chromasync.ports import Store
from chromasync.reconcile.chunk import ChunkReconciler, pair_of

MAX_RETRIES = 5
INSIST_SECONDS = 1.0
"""Pause between two tries to record something while the store is away."""

T = TypeVar("T")
log = structlog.get_logger()


class Attempts:
    """Makes attempts; shared by the threads of a pool.

    Args:
        store: the state store.
        reconciler: does the work of one task.
        note_trouble: told of every error that concerns more than one task.
        abandoned: set when nothing can be waited for any longer.
    """

    def __init__(
        self,
        store: Store,
        reconciler: ChunkReconciler,
        note_trouble: Callable[[ChromasyncError], None],
        abandoned: threading.Event,
    ) -> None:
        self._store = store
        self._reconciler = reconciler
        self._note_trouble = note_trouble
        self._abandoned = abandoned

    def make(self, task: Task, lease: Lease) -> bool:
        """Do the task; whether it ended without trouble.

        Raises:
            StoreError: the outcome could not be recorded.
        """
        try:
            faultpoints.reach(faultpoints.AFTER_CLAIM)
            self._reconcile(task, lease)
        except LeaseLost as error:
            log.warning("lease lost", task=task.id, reason=error.what)
            self.put_down(task)
        except DamagedChunk as error:
            self._fail(task, error)
            self._insist(lambda: self._store.forget_chunks(task.collection_id))
        except ChromasyncError as error:
            return self._give_way(task, error)
        except Exception as error:
            log.exception("task failed unexpectedly", task=task.id)
            self._distrust(task)
            words = f"unexpected {type(error).__name__}: {error}"
            self._insist(lambda: self._store.fail_task(task, words, max_retries=MAX_RETRIES))
        return True

    def put_down(self, task: Task) -> None:
        """Hand a task back that was begun; its chunk is suspect."""
        self._distrust(task)
        self.hand_back(task)

    def hand_back(self, task: Task) -> None:
        """Give a task back that was not begun."""
        self._insist(lambda: self._store.release_tasks([task]))

    def _give_way(self, task: Task, error: ChromasyncError) -> bool:
        if error.retry is Retry.TRANSIENT:
            self.put_down(task)
            self._note_trouble(error)
            return False
        self._distrust(task)
        self._fail(task, error)
        return True

    def _reconcile(self, task: Task, lease: Lease) -> None:
        brief = self._store.brief(task)
        pair = None if brief.mirror is None else pair_of(brief.mirror)
        if brief.chunk is None or pair is None:
            self._store.fail_task(task, "its chunk is no longer in the ledger", max_retries=0)
            return
        set_aside = {record.record_id: record for record in brief.quarantined}
        result = self._reconciler.reconcile(pair, brief.chunk, task, lease.check, set_aside)
        if not self._insist(lambda: self._store.complete_task(task, result)):
            log.warning("completion refused", task=task.id, reason="another worker owns the task")
            self._distrust(task)
        faultpoints.reach(faultpoints.AFTER_COMPLETE)

    def _fail(self, task: Task, error: ChromasyncError) -> None:
        self._insist(lambda: self._store.fail_task(task, str(error), max_retries=0))

    def _distrust(self, task: Task) -> None:
        self._insist(lambda: self._store.distrust(task.collection_id, [task.chunk_id]))

    def _insist(self, step: Callable[[], T]) -> T:
        """Do a step in the store; while it is away, again: the fence tells when that is too late.

        Raises:
            StoreUnavailable: the store is still away when this process ends.
        """
        while True:
            try:
                return step()
            except StoreUnavailable as error:
                self._note_trouble(error)
                if self._abandoned.wait(INSIST_SECONDS):
                    raise

"""One attempt at one task: reconcile its chunk, and record the result.

The effect of an error on the task:

    pause                    handed back without a retry
    lost lease               left to its new owner, or handed back if it has none
    server unreachable       handed back without a retry; the workers of this process back off
    state store away         recorded as soon as the store answers again
    damaged ledger           failed; the collection's ledger is forgotten and built anew
    permanent error          failed at once with its reason; the next cycle tries again
    unexpected error         retried after a backoff, failed after `model.MAX_RETRIES` retries

If an attempt was broken off, or its completion was refused, its chunk is suspect: it is unknown
what the attempt wrote to the replica. The chunk becomes `in_hand` only if the attempt had begun to
write: an attempt that only read wrote nothing there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from chromasync import faultpoints
from chromasync.errors import (
    ChromasyncError,
    DamagedChunk,
    LeaseLost,
    Paused,
    Retry,
    ServerError,
    StoreUnavailable,
)
from chromasync.events import Event
from chromasync.lease import Lease
from chromasync.logs import get_logger
from chromasync.marks import MarkKeeper
from chromasync.model import DeletionKind, Side, Task, TaskInput
from chromasync.ports import Permit, Reconciler, Store
from chromasync.reconcile.chunk import pair_of
from chromasync.worker.tally import Tally

STORE_RETRY_SECONDS = 1.0
"""Pause between two tries to record an outcome while the store is away."""

T = TypeVar("T")
log = get_logger()


class Attempts:
    """Makes attempts; shared by the threads of a pool.

    Args:
        store: the state store.
        reconciler: does the work of one task.
        note_trouble: called with every error that concerns more than one task.
        abandoned: set when the process ends without waiting any longer.
        answered: called after every chunk that was reconciled.
        marks: writes a cycle's mark before the first write; None where no marks are kept.
        tally: counts the tasks with their records.
    """

    def __init__(
        self,
        store: Store,
        reconciler: Reconciler,
        note_trouble: Callable[[ChromasyncError], None],
        abandoned: threading.Event,
        *,
        answered: Callable[[], None],
        marks: MarkKeeper | None = None,
        tally: Tally | None = None,
    ) -> None:
        self._tally = tally or Tally()
        self._store = store
        self._reconciler = reconciler
        self._note_trouble = note_trouble
        self._abandoned = abandoned
        self._answered = answered
        self._marks = marks

    def make(self, task: Task, lease: Lease) -> bool:
        """Do the task; whether it ended without trouble.

        Raises:
            StoreError: the outcome could not be recorded.
        """
        try:
            faultpoints.reach(faultpoints.AFTER_CLAIM)
            self._reconcile(task, lease)
        except Paused as error:
            log.info(Event.PUT_DOWN, task=task.id, reason=error.what)
            self.put_down(lease)
        except LeaseLost as error:
            log.warning(Event.LEASE_LOST, task=task.id, reason=error.what)
            self._tally.note_lost()
            self.put_down(lease)
        except DamagedChunk as error:
            self._fail(task, error)
            self._retry_while_store_away(lambda: self._store.forget_chunks(task.collection_id))
        except ChromasyncError as error:
            return self._hand_back_or_fail(lease, error)
        except Exception as error:
            log.exception(Event.TASK_FAILED, task=task.id)
            self._distrust(lease)
            words = f"unexpected {type(error).__name__}: {error}"
            self._retry_while_store_away(lambda: self._store.fail_task(task, words))
        return True

    def put_down(self, lease: Lease) -> None:
        """Hand back a task that was begun; its chunk becomes suspect."""
        self._distrust(lease)
        self.hand_back(lease.task)

    def hand_back(self, task: Task) -> None:
        """Hand back a task that was not begun."""
        self._retry_while_store_away(lambda: self._store.release_tasks([task]))

    def _hand_back_or_fail(self, lease: Lease, error: ChromasyncError) -> bool:
        if error.retry is Retry.TRANSIENT:
            self.put_down(lease)
            if isinstance(error, ServerError) and error.side == Side.PRIMARY:
                self._retry_while_store_away(self._store.note_away)
            self._note_trouble(error)
            return False
        self._distrust(lease)
        self._fail(lease.task, error)
        return True

    def _reconcile(self, task: Task, lease: Lease) -> None:
        given = self._store.task_input(task)
        pair = None if given.mirror is None else pair_of(given.mirror)
        if given.chunk is None or pair is None:
            self._store.fail_task(task, "its chunk is no longer in the ledger", final=True)
            return
        set_aside = {record.record_id: record for record in given.quarantined}
        result = self._reconciler.reconcile(
            pair,
            given.chunk,
            task,
            lease.check,
            set_aside,
            deleting=self._deleting(task, given.chunk.ids),
            note_write=lease.note_write,
            write_permit=self._marking(task, lease, given),
        )
        self._answered()
        if self._retry_while_store_away(lambda: self._store.complete_task(task, result)):
            self._tally.note_done(result.counts)
        else:
            log.warning(
                Event.COMPLETION_REFUSED, task=task.id, reason="another worker owns the task"
            )
            self._distrust(lease)
        faultpoints.reach(faultpoints.AFTER_COMPLETE)

    def _deleting(self, task: Task, ids: Sequence[str]) -> set[str]:
        """Those ids whose record we may have deleted although the deletion still waits.

        Millions of deletions may wait, so they stay packed but for one list at a time.
        """
        if not task.hold_foreign:
            return set()
        asked, waiting = set(ids), self._store.deletions(task.collection_id)
        gone = (d.ids for d in waiting if d.kind is DeletionKind.GONE)
        return {i for deleted in gone for i in deleted if i in asked}

    def _marking(self, task: Task, lease: Lease, given: TaskInput) -> Permit | None:
        """A permit that writes the cycle's mark before the first write, if one is due."""
        mirror, row = given.mirror, given.mark
        if self._marks is None or mirror is None or row is None or row.cycle_id != task.cycle_id:
            return None
        rows = {(mirror.tenant, mirror.database): row}
        return self._marks.permit(lease.check, rows, self._store.note_mark_written)

    def _fail(self, task: Task, error: ChromasyncError) -> None:
        self._tally.note_failed()
        self._retry_while_store_away(lambda: self._store.fail_task(task, str(error), final=True))

    def _distrust(self, lease: Lease) -> None:
        task = lease.task
        self._retry_while_store_away(
            lambda: self._store.distrust(task.collection_id, [task.chunk_id], in_hand=lease.wrote)
        )

    def _retry_while_store_away(self, step: Callable[[], T]) -> T:
        """Run a step in the store, and retry it while the store is away; the fence guards it.

        Raises:
            StoreUnavailable: the store is still away when this process ends.
        """
        while True:
            try:
                return step()
            except StoreUnavailable as error:
                self._note_trouble(error)
                if self._abandoned.wait(STORE_RETRY_SECONDS):
                    raise

"""The coordinator: one cycle from listing to close.

    list both sides → guards → collections → census (walks, tasks) → scrub → wait → prune → drops
    → close

Workers, of this process and of others, take tasks as soon as they are published. An error that
concerns one collection is noted there, stops deletes in it, and the cycle goes on; an error that
concerns a server or the store ends the cycle, which then deletes nothing. Whatever was published
and not done stays visible in the ledger's chunks, so the next cycle plans it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Any, TypeVar, cast

import structlog

from chromasync import faultpoints
from chromasync.config import Settings
from chromasync.cycle.census import Census, new_task
from chromasync.cycle.close import report_cycle, settle_mirror
from chromasync.cycle.collections import settle_collections, why_incompatible
from chromasync.cycle.drops import Drops, note_vanished
from chromasync.cycle.listing import list_primary, list_replica
from chromasync.cycle.pairing import Pairings, final_name, pair_collections
from chromasync.cycle.prune import prune
from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.errors import ChromasyncError, DamagedChunk, Stopped, StoreError
from chromasync.guard import refuse_same_server, refuse_swapped
from chromasync.lease import Lead, monotonic
from chromasync.ledger.plan import choose_scrubs, must_read
from chromasync.model import (
    ChunkHead,
    Collection,
    CycleStatus,
    Mirror,
    MirrorStatus,
    NewTask,
    Records,
    TaskCounts,
)
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.reports import CycleReport
from chromasync.status import active_workers, look_at_mirrored, scrub_budget_seconds
from chromasync.worker.pool import WorkerPool

WAIT_SECONDS = 0.25
WATCH_SHARE = 10
"""Between two looks at the queue, so many times as long as the look took: it has other work."""
LONGEST_WAIT_SECONDS = 5.0
STALL_SECONDS = 30.0
"""Without progress for so long, the servers are asked whether they are there at all."""
KEEP_SECONDS = 86_400.0
KEEP_TASKS = 1_000_000

S = TypeVar("S", bound=Reader)
log = structlog.get_logger()


class Coordinator:
    """Runs cycles for as long as `lead` holds.

    Args:
        pool: the workers of this process; others may share the work.
        stop: set when the process shall end; the cycle at hand ends early then.
    """

    def __init__(
        self,
        primary: Reader,
        replica: Writer,
        store: Store,
        settings: Settings,
        *,
        lead: Lead,
        pool: WorkerPool,
        stop: threading.Event,
    ) -> None:
        self._stop = stop
        self._primary = primary
        self._replica = replica.permitted_by(lead.check)
        self._store = store.led_by(lead.term)
        self._settings = settings
        self._pool = pool

    def run_cycle(self, progress: Progress, *, full: bool = False) -> CycleReport:
        """One cycle.

        Args:
            full: read every record of the primary and the replica, whatever the budget.

        Raises:
            ChromasyncError: the cycle could not be finished; its reason is stored with it.
        """
        cycle = CycleWork(
            self._store.open_cycle(),
            self._settings,
            _until_stop(self._primary, self._check_stop),
            _until_stop(self._replica, self._check_stop),
            self._store,
            progress,
            full,
        )
        faultpoints.reach(faultpoints.AFTER_OPEN)
        try:
            self._do(cycle)
            return self._close(cycle)
        except ChromasyncError as error:
            self._abort(cycle, error)
            raise

    def _do(self, cycle: CycleWork) -> None:
        pairings, known = self._match(cycle)
        settle_collections(cycle, pairings)
        self._take_census(cycle)
        self._publish_scrubs(cycle)
        faultpoints.reach(faultpoints.AFTER_PLAN)
        self._wait_for_tasks(cycle)
        self._delete(cycle, pairings, known)
        faultpoints.reach(faultpoints.BEFORE_CLOSE)

    # ---- collections ------------------------------------------------------------------------

    def _match(self, cycle: CycleWork) -> tuple[Pairings, int]:
        """List both sides, refuse wrong servers, and match; also how many mirrors are known."""
        cycle.primary_listing = list_primary(self._primary, self._settings)
        cycle.replica_listing = list_replica(self._replica, self._settings, cycle.primary_listing)
        mirrors = [m for m in self._store.mirrors() if self._settings.covers(m.tenant, m.database)]
        primary_ids = cycle.primary_listing.collections.keys()
        known_replica_ids = {m.replica_id for m in mirrors if m.replica_id}
        refuse_swapped(primary_ids, known_replica_ids, self._settings.primary_url)
        refuse_same_server(primary_ids, cycle.replica_listing.collections.keys())
        pairings = pair_collections(
            cycle.primary_listing,
            cycle.replica_listing,
            mirrors,
            self._settings.wants_collection,
            partial(why_incompatible, server=self._replica.capabilities()),
        )
        return pairings, len(mirrors)

    # ---- tasks ------------------------------------------------------------------------------

    def _take_census(self, cycle: CycleWork) -> None:
        census = Census(cycle, partial(self._publish, cycle))
        cycle.progress.start("walking", None)
        for work in cycle.collections:
            self._check_stop()
            self._note_error(work, partial(census.take, work))

    def _publish(self, cycle: CycleWork, tasks: list[NewTask]) -> None:
        self._check_stop()
        works = {w.mirror.collection_id: w for w in cycle.collections}
        for collection_id in {task.collection_id for task in tasks}:
            self._mark_syncing(works[collection_id])
        self._store.add_tasks(cycle.cycle.id, tasks)
        self._pool.wake()

    def _mark_syncing(self, work: CollectionWork) -> None:
        """Remember that writes may follow: a later count that differs is then our own doing.

        It also tells the workers, who know of a collection what its mirror says and no more.
        """
        if not work.announced:
            work.announced = True
            work.update(status=MirrorStatus.SYNCING)
            self._store.save_mirror(work.mirror)

    def _publish_scrubs(self, cycle: CycleWork) -> None:
        works = {w.mirror.collection_id: w for w in cycle.collections if w.error is None}
        heads = [
            head
            for work in works.values()
            for head in self._store.chunk_heads(work.mirror.collection_id)
            if not _is_read_in(cycle, head) and not must_read(head) and head.id not in work.hints
        ]
        budget = inf if cycle.full else scrub_budget_seconds(self._store, self._settings)
        tasks = [
            new_task(works[s.head.collection_id], s.head, check_replica=s.check_replica)
            for s in choose_scrubs(heads, budget, cycle.check_before)
        ]
        for task in tasks:
            works[task.collection_id].planned += task.end_offset - task.start_offset
        if tasks:
            self._publish(cycle, tasks)

    def _wait_for_tasks(self, cycle: CycleWork) -> None:
        """Until every task is done; errors of single collections are noted with them.

        Raises:
            ChromasyncError: a server or the store cannot be reached any more.
        """
        total = sum(work.planned for work in cycle.collections)
        cycle.progress.start("reconciling", total)
        seen = 0
        watch = _Watch()
        while (counts := watch.look(partial(self._store.task_counts, cycle.cycle.id))).live:
            self._check_stop()
            self._check_workers()
            if watch.is_stalled(counts):
                self._look_why_nothing_happens(cycle, counts)
            seen = self._show(cycle, seen)
            watch.wait(self._pool.progressed)
        self._show(cycle, seen)
        failed = self._store.failed_tasks(cycle.cycle.id)
        for work in cycle.collections:
            if work.mirror.collection_id in failed:
                work.error = ChromasyncError(failed[work.mirror.collection_id])

    def _check_workers(self) -> None:
        """Raise what stops the workers of this process."""
        if self._pool.trouble is not None:
            raise self._pool.trouble
        if not self._pool.alive and not self._stop.is_set():
            raise ChromasyncError("A worker thread of this process ended unexpectedly.")

    def _look_why_nothing_happens(self, cycle: CycleWork, counts: TaskCounts) -> None:
        """Say what is waited for; raises ServerUnreachable when a server is away."""
        workers = active_workers(self._store)
        if not workers:
            cycle.progress.note(f"No worker is active. Tasks that wait for one: {counts.live:,}.")
        log.warning(
            "no task ended for a while",
            pending=counts.pending,
            processing=counts.processing,
            active_workers=workers,
        )
        for server in (self._primary, self._replica):
            server.list_databases(self._settings.sync_tenants[0])

    def _check_stop(self) -> None:
        """Let the tasks at hand be finished, and raise Stopped, when the process shall end."""
        if self._stop.is_set():
            self._pool.drain()
            raise Stopped(
                "The cycle ended early, because the process was asked to stop.",
                untouched="What it had not done yet is planned again by the next cycle.",
            )

    def _show(self, cycle: CycleWork, seen: int) -> int:
        read = sum(c.read for c in self._store.cycle_counts(cycle.cycle.id).values())
        cycle.progress.advance(read - seen)
        return read

    # ---- the end ----------------------------------------------------------------------------

    def _delete(self, cycle: CycleWork, pairings: Pairings, known: int) -> None:
        holds = self._store.holds()
        for work in cycle.collections:
            if self._store.deletions(work.mirror.collection_id):
                self._mark_syncing(work)
            self._note_error(work, partial(prune, cycle, work, holds))
        note_vanished(cycle, pairings)
        Drops(cycle, pairings, holds, known).run()

    def _close(self, cycle: CycleWork) -> CycleReport:
        cycle.primary, cycle.replica = self._primary, self._replica  # it is done: stop or not
        for work in cycle.collections:
            settle_mirror(cycle, work)
        for mirror, error in cycle.refused:
            self._store.save_mirror(_refused(cycle, mirror, error))
        status = CycleStatus.FAILED if cycle.has_errors else CycleStatus.COMPLETED
        closed = self._store.close_cycle(cycle.cycle.id, status, cycle.deleted)
        self._prune_history()
        tasks = self._store.task_counts(cycle.cycle.id)
        counts = self._store.cycle_counts(cycle.cycle.id)
        return report_cycle(cycle, closed, tasks, counts)

    def _abort(self, cycle: CycleWork, error: ChromasyncError) -> None:
        """Leave the store so that the next cycle starts clean; the store may be gone itself."""
        stopped = isinstance(error, Stopped)
        status = CycleStatus.ABANDONED if stopped else CycleStatus.FAILED
        log.warning("cycle ended early", cycle=cycle.cycle.id, reason=str(error))
        try:
            with self._pool.recalled():
                self._store.cancel_tasks(str(error))
            if isinstance(error, DamagedChunk):
                self._store.forget_chunks(error.collection_id)
            for mirror in [] if stopped else self._concerned(cycle):
                self._store.save_mirror(_failed(cycle, mirror, error))
            self._store.close_cycle(cycle.cycle.id, status, cycle.deleted, str(error))
        except ChromasyncError as second:
            # what is left running, its tasks included, ends when the next cycle is opened
            log.warning("the aborted cycle could not be recorded", reason=str(second))
        else:
            self._prune_history()

    def _concerned(self, cycle: CycleWork) -> list[Mirror]:
        """The mirrors of a cycle; of one that ended before it had matched any, all of them."""
        if cycle.collections:
            return [work.mirror for work in cycle.collections]
        return list(look_at_mirrored(self._store, self._settings).mirrors)

    def _prune_history(self) -> None:
        """Forget what is old; where the store refuses, the cycle that has ended stays as it is."""
        try:
            self._store.prune_history(keep_seconds=KEEP_SECONDS, keep_tasks=KEEP_TASKS)
        except StoreError as error:
            log.warning("old history was not pruned; the next cycle tries again", reason=str(error))

    @staticmethod
    def _note_error(work: CollectionWork, step: Callable[[], None]) -> None:
        """Do one collection's step; an error that concerns only it is kept with it."""
        try:
            step()
        except REFUSALS as error:
            log.warning("collection failed", name=work.mirror.name, reason=str(error))
            work.error = error


class _UntilStop:
    """A server that answers no more questions once the process shall end.

    So walks end between two pages, and deletes between two batches, each of which begins with a
    question. What only writes passes: renames that belong together stay together.
    """

    def __init__(self, server: Reader, check: Callable[[], None]) -> None:
        self._server = server
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def list_ids(self, collection: Collection, *, offset: int, limit: int) -> list[str]:
        self._check()
        return self._server.list_ids(collection, offset=offset, limit=limit)

    def read(
        self, collection: Collection, ids: Sequence[str], *, embeddings: bool = True
    ) -> Records:
        self._check()
        return self._server.read(collection, ids, embeddings=embeddings)

    def count(self, collection: Collection) -> int:
        # one that lost its name is dropped in any case: later, nobody would know whose it was
        if collection.name == final_name(collection):
            self._check()
        return self._server.count(collection)


def _until_stop(server: S, check: Callable[[], None]) -> S:
    return cast("S", _UntilStop(server, check))


class _Watch:
    """Looks at the queue again and again: soon while that is cheap, seldom where it is not."""

    def __init__(self) -> None:
        self._cost = 0.0
        self._finished = -1
        self._progress_at = monotonic()

    def look(self, ask: Callable[[], TaskCounts]) -> TaskCounts:
        """Ask for the counts, and note what that cost."""
        began = monotonic()
        counts = ask()
        self._cost = monotonic() - began
        finished = counts.completed + counts.failed
        if finished != self._finished:
            self._finished, self._progress_at = finished, monotonic()
        return counts

    def is_stalled(self, counts: TaskCounts) -> bool:
        """Whether nothing ended for `STALL_SECONDS`; once in each such time."""
        stalled = counts.live > 0 and monotonic() - self._progress_at > STALL_SECONDS
        if stalled:
            self._progress_at = monotonic()
        return stalled

    def wait(self, progressed: threading.Event) -> None:
        """Until something ended here, or for a while: other processes tell us nothing."""
        pause = min(WATCH_SHARE * self._cost, LONGEST_WAIT_SECONDS)
        time.sleep(pause)
        progressed.wait(max(0.0, WAIT_SECONDS - pause))
        progressed.clear()


def _is_read_in(cycle: CycleWork, head: ChunkHead) -> bool:
    return head.read_at is not None and head.read_at >= cycle.cycle.started_at


def _refused(cycle: CycleWork, mirror: Mirror, error: ChromasyncError) -> Mirror:
    return replace(_failed(cycle, mirror, error), status=MirrorStatus.ERROR)


def _failed(cycle: CycleWork, mirror: Mirror, error: ChromasyncError) -> Mirror:
    return replace(
        mirror,
        last_attempt_at=cycle.cycle.started_at,
        consecutive_errors=mirror.consecutive_errors + 1,
        last_error=str(error),
    )

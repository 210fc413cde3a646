"""The coordinator: runs one cycle from the listing to the close.

    list both sides → guards → collections → membership (walks, tasks) → scrub → wait → prune
    → drops → close

Workers of this and of other processes claim tasks as soon as they are published. An error of one
collection is recorded with it and stops deletes in it; the cycle continues. An error of a server or
of the store ends the cycle, which then deletes nothing. The chunks in the ledger show which tasks
were published and not done, so the next cycle plans them again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf

from chromasync import faultpoints
from chromasync.config import Settings
from chromasync.cycle import waiting
from chromasync.cycle.adopt import clear_decided, hold_unlike
from chromasync.cycle.ahead import FirstPages
from chromasync.cycle.clock import MEANWHILE, CycleClock
from chromasync.cycle.close import close_mirrors, report_cycle
from chromasync.cycle.collections import ensure_collections
from chromasync.cycle.keep import drop_overdue, finish_keeping
from chromasync.cycle.marks import CycleMarks
from chromasync.cycle.match import match_collections
from chromasync.cycle.membership import MembershipUpdate
from chromasync.cycle.notes import (
    note_absence,
    note_clean,
    note_definitions,
    note_failure,
    note_foreign,
)
from chromasync.cycle.older import hold_older
from chromasync.cycle.probe import check_primary, look_at_primary, probe_indexes
from chromasync.cycle.removals import Removals
from chromasync.cycle.tell import Figures, figures_of, is_same_failure, known_figures
from chromasync.cycle.tiny import TinyScrubs
from chromasync.cycle.waiting import QueueWatch
from chromasync.cycle.work import REFUSALS, CollectionWork, CycleWork
from chromasync.errors import (
    ChromasyncError,
    DamagedChunk,
    Paused,
    SettingsError,
    Stopped,
    StoreError,
)
from chromasync.events import Event
from chromasync.lease import Lead, monotonic
from chromasync.ledger.scrub import choose_scrubs, scrub_budget_seconds
from chromasync.logs import get_logger
from chromasync.marks import MarkKeeper
from chromasync.mirrored import look_at_mirrored
from chromasync.model import (
    ChunkHead,
    ControlRow,
    Cycle,
    CycleStatus,
    Mirror,
    MirrorStatus,
    NewTask,
    TaskCounts,
)
from chromasync.plan.pairing import Pairings
from chromasync.plan.reading import quiet_chunks
from chromasync.ports import Progress, Reader, Store, Writer
from chromasync.reports import CycleReport, lag_between
from chromasync.steering import Steering
from chromasync.worker.pool import WorkerPool

PUT_DOWN_SECONDS = 2.0
"""Longest wait, in a pause, until no worker holds a task; less than `steering.GRACE_SECONDS`."""
KEEP_SECONDS = 86_400.0
KEEP_TASKS = 1_000_000

log = get_logger()


class Coordinator:
    """Runs cycles for as long as `lead` holds.

    Args:
        pool: the workers of this process; other processes may share the work.
        stop: set when the process is to end; then the running cycle ends early.
        marks: writes the marks of this process on the replica.
        clock: the clock of the process, which has seen its earlier cycles.
        steering: what operators asked of this process.

    Attributes:
        figures: the figures of a cycle that ended early, for the log; None if there was none.
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
        marks: MarkKeeper | None = None,
        clock: CycleClock | None = None,
        steering: Steering | None = None,
    ) -> None:
        self.figures: Figures | None = None
        self._steering = steering or Steering()
        self._stop = stop
        self._clock = clock or CycleClock()
        self._primary = primary
        self._store = store.led_by(lead.term)
        keeper = marks or MarkKeeper(replica)
        self._marks = CycleMarks(keeper, self._store, lead.check, lead.term.holder)
        self._replica = replica.permitted_by(self._marks.permit)
        self._settings = settings
        self._pool = pool

    def run_cycle(
        self,
        progress: Progress,
        *,
        full: bool = False,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport:
        """Run one cycle.

        Args:
            full: read every record of the primary and the replica, regardless of the budget.
            adopt: take over collections of the replica that are not mostly the same.
            rebuild: names of collections to build anew beside those on the replica.

        Raises:
            ChromasyncError: the cycle could not be finished; the store has the reason.
        """
        wanted = self._store.control()
        full |= wanted.has_request and wanted.wanted_full
        jumped = self._clock.open(self._store)
        cycle = CycleWork(
            self._open(wanted),
            self._settings,
            self._primary,
            self._replica,
            self._store,
            progress,
            full,
            adopt,
            check_stop=self._check_stop,
            rebuild=rebuild,
        )
        cycle.warnings += [jumped] if jumped else []
        faultpoints.reach(faultpoints.AFTER_OPEN)
        try:
            with self._pool.watched():
                self._do(cycle)
            return self._close(cycle)
        except ChromasyncError as error:
            self._abort(cycle, error)
            raise

    def _open(self, wanted: ControlRow) -> Cycle:
        """Open a cycle, which serves the requests so far; later ones are for another cycle."""
        opened = self._store.open_cycle(self._settings.sync_lease_seconds)
        if wanted.has_request:
            self._store.begin_wanted(wanted.wanted_number, opened.id)
            self._steering.note_begun(wanted.wanted_number)
            log.info(Event.CYCLE_WANTED, cycle=opened.id, by=wanted.wanted_by)
        return opened

    def _do(self, cycle: CycleWork) -> None:
        cycle.usage.begin("list")
        pairings = match_collections(cycle, self._marks)
        if pairings is None:
            return
        pairings = hold_unlike(cycle, pairings)
        finish_keeping(cycle)
        ensure_collections(cycle, pairings)
        clear_decided(cycle)
        cycle.usage.begin("walk")
        membership = self._update_membership(cycle)
        hold_older(cycle, pairings)
        cycle.usage.begin("probe")
        probe_indexes(cycle)
        cycle.usage.begin("plan")
        self._publish_due(cycle, membership)
        self._publish_scrubs(cycle, membership)
        faultpoints.reach(faultpoints.AFTER_PLAN)
        cycle.usage.begin("reconcile")
        self._wait_for_tasks(cycle)
        cycle.usage.begin("remove")
        self._remove(cycle, pairings)
        faultpoints.reach(faultpoints.BEFORE_CLOSE)

    # ---- tasks ------------------------------------------------------------------------------

    def _update_membership(self, cycle: CycleWork) -> MembershipUpdate:
        cycle.progress.start("walking", None)
        heads = self._store.heads_of([work.mirror.collection_id for work in cycle.collections])
        tiny = TinyScrubs(cycle, heads, self._scrub_budget(cycle))
        with FirstPages(self._primary, cycle.collections, tiny.chosen.keys()) as first:
            membership = MembershipUpdate(cycle, partial(self._publish, cycle), heads, first)
            for work in cycle.collections:
                self._check_stop()
                self._note_error(work, partial(membership.take, work))
        tiny.note(first.contents)
        return membership

    def _scrub_budget(self, cycle: CycleWork) -> float:
        if cycle.full:
            return inf
        return scrub_budget_seconds(self._settings, self._store.active_workers())

    def _publish_due(self, cycle: CycleWork, membership: MembershipUpdate) -> None:
        """Publish tasks for chunks that must be read; collections in doubt are known by now."""
        works = [work for work in cycle.collections if work.error is None and not work.older]
        heads = self._store.heads_of([work.mirror.collection_id for work in works])
        tasks = [
            task
            for work in works
            for task in membership.due(work, heads[work.mirror.collection_id])
        ]
        if tasks:
            self._publish(cycle, tasks)

    def _publish(self, cycle: CycleWork, tasks: list[NewTask]) -> None:
        self._check_stop()
        concerned = {task.collection_id for task in tasks}
        works = [work for work in cycle.collections if work.mirror.collection_id in concerned]
        self._mark_syncing(*works)
        self._marks.prepare(sorted({(w.mirror.tenant, w.mirror.database) for w in works}))
        self._store.add_tasks(cycle.cycle.id, tasks)
        self._pool.wake()

    def _mark_syncing(self, *works: CollectionWork) -> None:
        """Store that writes may follow, so that the count is unknown if the cycle is cut off.

        Workers read the mirror, too: they know nothing else of a collection.
        """
        new = [work for work in works if not work.announced]
        for work in new:
            work.announced = True
            work.update(status=MirrorStatus.SYNCING, settled_cycle=None)
        self._store.save_mirrors([work.mirror for work in new])

    def _publish_scrubs(self, cycle: CycleWork, membership: MembershipUpdate) -> None:
        """Publish tasks for chunks within the budget, and for the due records of the others."""
        works = {
            w.mirror.collection_id: w for w in cycle.collections if w.error is None and not w.older
        }
        known = self._store.heads_of(works)
        heads = [
            head
            for key, work in works.items()
            for head in quiet_chunks(known[key], work.membership.asked, cycle.check_before)
            if not _is_read_in(cycle, head)
        ]
        budget = self._scrub_budget(cycle) - cycle.tiny_seconds
        scrubs = choose_scrubs(heads, budget, cycle.check_before)
        read_whole = {scrub.head.id for scrub in scrubs}
        rest = [head for head in heads if head.id not in read_whole]
        in_part = [membership.due_in_part(works[head.collection_id], head) for head in rest]
        whole = [membership.task(works[s.head.collection_id], s) for s in scrubs]
        tasks = [task for task in in_part if task is not None] + whole
        if tasks:
            self._publish(cycle, tasks)

    def _wait_for_tasks(self, cycle: CycleWork) -> None:
        """Wait until every task is done; an error of one collection is recorded with it.

        Raises:
            ChromasyncError: a server or the store is no longer reachable.
        """
        total = sum(work.planned for work in cycle.collections)
        cycle.progress.start("reconciling", total)
        seen = 0
        watch = QueueWatch()
        while (counts := watch.look(partial(self._store.task_counts, cycle.cycle.id))).live:
            self._check_stop()
            self._check_workers()
            self._marks.refresh()
            if watch.is_stalled(counts):
                self._look_why_nothing_happens(cycle, counts)
            seen = watch.timed(partial(self._show, cycle, seen))
            watch.wait(self._pool.progressed)
        self._show(cycle, seen)
        failed = self._store.failed_tasks(cycle.cycle.id)
        for work in cycle.collections:
            if work.mirror.collection_id in failed:
                work.error = ChromasyncError(failed[work.mirror.collection_id])

    def _check_workers(self) -> None:
        """Raise the error that stops the workers of this process."""
        trouble = self._pool.trouble
        if trouble is not None:
            raise trouble
        if not self._pool.alive and not self._stop.is_set():
            raise ChromasyncError("A worker thread of this process ended unexpectedly.")

    def _look_why_nothing_happens(self, cycle: CycleWork, counts: TaskCounts) -> None:
        """Find out why no task ends, and report it.

        Raises:
            ServerUnreachable: a server is unreachable.
            AnotherStore: another store's mark keeps the workers from writing.
            WritesRefused: the replica refuses all writes, so the workers hand all tasks back.
        """
        workers = self._store.active_workers()
        if not workers:
            cycle.progress.note(f"No worker is active. Tasks that wait for one: {counts.live:,}.")
        log.warning(
            Event.NO_TASK_ENDED,
            pending=counts.pending,
            processing=counts.processing,
            active_workers=workers,
        )
        for server in (self._primary, self._replica):
            server.list_databases(self._settings.sync_tenants[0])
        self._marks.check()
        if workers and not counts.processing:
            self._replica.check_writes(cycle.collections[0].replica)

    def _check_stop(self) -> None:
        """If the process is to end, drain the pool and raise Stopped; in a pause, raise Paused."""
        if self._stop.is_set():
            self._pool.drain()
            raise Stopped(
                "The cycle ended early, because the process was asked to stop.",
                untouched="The next cycle plans the remaining work again.",
            )
        self._steering.check()

    def _show(self, cycle: CycleWork, seen: int) -> int:
        read = sum(c.read for c in self._store.cycle_counts(cycle.cycle.id).values())
        cycle.progress.advance(read - seen)
        return read

    # ---- the end ----------------------------------------------------------------------------

    def _remove(self, cycle: CycleWork, pairings: Pairings) -> None:
        cycle.waiting = self._store.waiting_deletions()
        waiting = [w for w in cycle.collections if w.mirror.collection_id in cycle.waiting]
        self._mark_syncing(*waiting)
        for work in cycle.collections:
            if work.mirror.collection_id in cycle.waiting:
                look_at_primary(cycle, work)
            check_primary(cycle, work)
        note_absence(cycle)
        Removals(cycle, pairings).run()
        drop_overdue(cycle)

    def _close(self, cycle: CycleWork) -> CycleReport:
        cycle.usage.begin("close")
        self._marks.finish(cycle)
        cycle.jumped = self._clock.has_jumped(self._store)
        note_definitions(cycle)
        note_foreign(cycle)
        close_mirrors(cycle)
        for mirror, error in [*cycle.refused, *cycle.untold]:
            self._store.save_mirror(_refused(cycle, mirror, error))
        if cycle.jumped:
            cycle.warnings.append(MEANWHILE)
            self._store.forget_instants()
        failed = cycle.has_errors or cycle.missing
        status = CycleStatus.FAILED if failed else CycleStatus.COMPLETED
        note_clean(cycle)
        closed = self._store.close_cycle(
            cycle.cycle.id, status, cycle.deleted, cycle.missing, read=cycle.read
        )
        self._prune_history()
        return self._report(cycle, closed)

    def _report(self, cycle: CycleWork, closed: Cycle) -> CycleReport:
        seen = self._store.snapshot(0, counted=closed.id)
        report = report_cycle(cycle, closed, seen)
        self._note_usage(cycle, lag_between(report.identical_as_of, seen.taken_at))
        return report

    def _note_usage(self, cycle: CycleWork, lag_seconds: float | None) -> None:
        """Record what the closed cycle used; if the store refuses, only its history lacks it."""
        try:
            self._store.note_usage(cycle.cycle.id, cycle.usage.usage, lag_seconds)
        except StoreError as error:
            log.warning(Event.USAGE_NOT_RECORDED, reason=str(error))

    def _abort(self, cycle: CycleWork, error: ChromasyncError) -> None:
        """Close the cycle in the store with its error; the store may be unreachable itself."""
        stopped = isinstance(error, Stopped | Paused)
        status = CycleStatus.ABANDONED if stopped else CycleStatus.FAILED
        self.figures = known_figures(cycle)
        try:
            with self._pool.recalled():
                if isinstance(error, Paused):
                    self._wait_until_put_down(cycle)
                self._store.cancel_tasks(str(error))
            self._marks.finish_quietly(cycle, error)
            if isinstance(error, DamagedChunk):
                self._store.forget_chunks(error.collection_id)
            note_failure(cycle, error)
            asked_wrongly = isinstance(error, SettingsError)
            for mirror in [] if stopped or asked_wrongly else self._concerned(cycle):
                self._store.save_mirror(_failed(cycle, mirror, error))
            closed = self._store.close_cycle(
                cycle.cycle.id,
                status,
                cycle.deleted,
                str(error),
                read=cycle.read,
                exit_code=error.exit_code,
            )
        except ChromasyncError as second:
            # the next cycle ends this one in the store, with its tasks, when it is opened
            if not is_same_failure(error, second):
                log.warning(Event.NOT_RECORDED, reason=str(second))
        else:
            self._note_figures(cycle, closed)
            self._prune_history()

    def _wait_until_put_down(self, cycle: CycleWork) -> None:
        """Let all processes put their tasks down: a task that is called back delays its chunk."""
        deadline = monotonic() + PUT_DOWN_SECONDS
        while self._store.task_counts(cycle.cycle.id).processing and monotonic() < deadline:
            time.sleep(waiting.WAIT_SECONDS)

    def _note_figures(self, cycle: CycleWork, closed: Cycle) -> None:
        try:
            self.figures = figures_of(self._report(cycle, closed))
        except StoreError as error:
            log.warning(Event.FIGURES_UNKNOWN, reason=str(error))

    def _concerned(self, cycle: CycleWork) -> list[Mirror]:
        """The mirrors of a cycle; all of them if it ended before the matching."""
        if cycle.collections:
            return [work.mirror for work in cycle.collections]
        return list(look_at_mirrored(self._store.snapshot(0), self._settings.scope).mirrors)

    def _prune_history(self) -> None:
        """Delete old history; if the store refuses, the closed cycle is not affected."""
        try:
            self._store.prune_history(keep_seconds=KEEP_SECONDS, keep_tasks=KEEP_TASKS)
        except StoreError as error:
            log.warning(Event.NOT_PRUNED, reason=str(error))

    @staticmethod
    def _note_error(work: CollectionWork, step: Callable[[], None]) -> None:
        """Do a step of one collection; an error of this collection is recorded with it."""
        try:
            step()
        except REFUSALS as error:
            work.error = error


def _is_read_in(cycle: CycleWork, head: ChunkHead) -> bool:
    return head.read_cycle == cycle.cycle.id


def _refused(cycle: CycleWork, mirror: Mirror, error: ChromasyncError) -> Mirror:
    return replace(_failed(cycle, mirror, error), status=MirrorStatus.ERROR)


def _failed(cycle: CycleWork, mirror: Mirror, error: ChromasyncError) -> Mirror:
    return replace(
        mirror,
        last_attempt_at=cycle.cycle.started_at,
        consecutive_errors=mirror.consecutive_errors + 1,
        last_error=str(error),
    )

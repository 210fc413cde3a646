"""The composition root: settings become servers, store and engine; one method per command.

Each method loads the parts of the program that its command needs: all of them take longer to import
than `chromasync status` may take.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from chromasync.config import Role, Settings
from chromasync.desk import Desk, no_store
from chromasync.errors import AnotherInstance, SettingsError, Stopped
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import Side
from chromasync.processes import operator_name

if TYPE_CHECKING:
    from chromasync.alerts import AlertWatcher, Receiver
    from chromasync.chroma import ChromaReader, ChromaWriter, Connection
    from chromasync.failover_reports import PromoteReport, RestoreReport
    from chromasync.model import Vitals
    from chromasync.ports import Progress, Writer
    from chromasync.reach import Places
    from chromasync.reports import (
        CycleReport,
        DoctorReport,
        FenceReport,
        PlanReport,
        VerifyReport,
    )
    from chromasync.role import Participant
    from chromasync.steering import Steering

NOBODY_WORKS = (
    "No worker is active, and this process has no worker threads of its own "
    "(SYNC_COORDINATOR_WORKS=false). Changes are copied when a worker is started."
)

log = get_logger()


class Application(Desk):
    """The whole program; it opens servers and store on first use."""

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        super().__init__(settings, stack)
        self._servers: tuple[ChromaReader, ChromaWriter] | None = None
        self._is_limited = False

    @classmethod
    @contextmanager
    def open(cls, settings: Settings) -> Iterator[Application]:
        """The program for these settings; at the end it closes servers and store."""
        with ExitStack() as stack:
            yield cls(settings, stack)

    @cached_property
    def _steering(self) -> Steering:
        """What operators ask of this process."""
        from chromasync.steering import Steering

        return Steering()

    @property
    def servers(self) -> tuple[ChromaReader, Writer]:
        """Primary (read-only) and replica; raises SettingsError, GuardRefusal, FolderInUse."""
        from chromasync.targeted import targeted_writer

        primary, replica = self._connected
        return primary, targeted_writer(replica, self.settings)

    @property
    def _connected(self) -> tuple[ChromaReader, ChromaWriter]:
        from chromasync.reach import open_servers

        if self._servers is None:
            self._servers = open_servers(self.settings, self.connection, self._stack)
        return self._servers

    @cached_property
    def places(self) -> Places:
        """Where both sides are: servers, or folders with their private servers."""
        from chromasync.reach import Places

        return Places(self.settings, self._stack)

    def connection(self, side: Side) -> Connection:
        """The connection settings of one side; see `Places.connection`.

        In a pause, the processes of the service send no request over it.
        """
        return replace(self.places.connection(side), admit=self._steering.admit)

    # ---- commands ---------------------------------------------------------------------------

    def sync(
        self,
        progress: Progress,
        *,
        full: bool = False,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport:
        """One cycle.

        Args:
            full: read everything on both sides, without regard to the scrub budget.
            adopt: take over collections of the replica that are mostly different.
            rebuild: names of collections to build anew, which then replace the replica's.

        If another process leads, that one runs the cycle.

        Raises:
            AnotherInstance: another process leads, and cannot do `adopt` or `rebuild`.
            Paused: someone paused the service.
        """
        from chromasync.folders import Use
        from chromasync.reach import refuse_shared_folders
        from chromasync.role import refuse_to_plan

        refuse_to_plan(self.settings)
        refuse_shared_folders(self.settings, lambda: self.store)
        self.places.replica = Use.WRITE
        self.places.note_away = self.store.note_away
        if not self.settings.worker_threads and not self.store.active_workers():
            progress.note(NOBODY_WORKS)
        return self._cycle(progress, threading.Event(), full=full, adopt=adopt, rebuild=rebuild)

    def fence(self, progress: Progress, *, timeout_seconds: float | None = None) -> FenceReport:
        """Wait until all that was written to the primary before the call is verified.

        Raises:
            Paused: someone paused the service.
            ChromasyncError: a cycle of this process ended early.
        """
        from chromasync.fence import Fence, set_after
        from chromasync.reach import refuse_folders
        from chromasync.role import refuse_to_plan

        refuse_folders(self.settings, "fence")
        refuse_to_plan(self.settings)
        asked_at, stop = self.store.now(), threading.Event()

        def cycle(full: bool) -> CycleReport:  # noqa: FBT001 -- the only argument
            return self._cycle(progress, stop, full=full)

        with set_after(timeout_seconds, stop):
            return Fence(asked_at, cycle, self.status, stop).wait(progress)

    def promote(
        self,
        progress: Progress,
        *,
        wait_for_fence: bool = False,
        timeout_seconds: float | None = None,
        anyway: bool = False,
    ) -> PromoteReport:
        """Make the replica the primary: with a fence a switchover, otherwise a failover.

        Args:
            timeout_seconds: the longest wait for the fence.
            anyway: promote without a fence although the primary answers.

        Raises:
            GuardRefusal: see `Promotion.run`.
            SettingsError: there is no state store.
        """
        from chromasync.failover.promote import Checks, Promotion
        from chromasync.reach import refuse_folders

        refuse_folders(self.settings, "promote")
        if not self._has_store():
            raise no_store(self.settings, "Nothing was promoted.")
        primary, replica = self.servers
        checks = Checks(
            partial(self.fence, progress, timeout_seconds=timeout_seconds),
            partial(self.verify, progress),
        )
        promotion = Promotion(
            primary,
            replica,
            self.store,
            self.settings,
            look=self.status,
            checks=checks if wait_for_fence else None,
            anyway=anyway,
            progress=progress,
        )
        return promotion.run(operator_name())

    def cancel_promotion(self) -> PromoteReport:
        """Let the replica follow again after a promotion that was interrupted.

        Raises:
            SettingsError: there is no state store.
        """
        from chromasync.failover.promote import report_promotion
        from chromasync.failover_reports import PromoteOutcome

        if not self._has_store():
            raise no_store(self.settings, "Nothing was cancelled.")
        cancelled = self.store.cancel_promotion()
        outcome = PromoteOutcome.CANCELLED if cancelled else PromoteOutcome.NOT_BEGUN
        return report_promotion(self.status(), outcome)

    def _cycle(
        self,
        progress: Progress,
        stop: threading.Event,
        *,
        full: bool,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport:
        """A cycle of this process, or of the process that leads; see `sync`."""
        from chromasync.reach import refuse_led_folders
        from chromasync.steering import paused_error
        from chromasync.wanted import WantedCycle, no_own_cycle

        while True:
            if (orders := self.store.orders()).paused:
                raise paused_error(orders.row)
            try:
                with self._participant(stop) as participant, self._limited():
                    return participant.run_cycle(progress, full=full, adopt=adopt, rebuild=rebuild)
            except AnotherInstance:
                leader = self.store.leader()
            refuse_led_folders(self.settings)
            if adopt or rebuild:
                raise no_own_cycle()
            if leader is not None:
                wanted = WantedCycle(self.store, self.settings, progress, stop)
                report = wanted.run(leader, operator_name(), full=full)
                if report is not None:
                    return report

    def run(self, stop: threading.Event) -> int:
        """The service in its role, until `stop` is set; gives the exit code."""
        from chromasync.advice.keeper import AdviceKeeper
        from chromasync.alerts import receivers_of
        from chromasync.quiet import Quiet
        from chromasync.reach import refuse_folders
        from chromasync.role import PATIENT_LEADS

        refuse_folders(self.settings, "run")
        receivers = receivers_of(self.settings)
        single = self.settings.role is Role.SINGLE
        patience = PATIENT_LEADS * self.settings.sync_lead_seconds
        participant = self._participant(stop, leads_at_once=single, patience=patience)
        try:
            with (
                self._page(participant),
                participant,
                self._limited(),
                self._watcher(receivers, participant.name),
                AdviceKeeper(self.settings, self.advise),
            ):
                participant.serve(Quiet())
        except Stopped as stopped:
            log.info(Event.ENDED, reason=stopped.what)
        return 0

    def dashboard(self, stop: threading.Event) -> None:
        """Serve the page until `stop` is set; only the state store is needed."""
        from chromasync.alerts import receivers_of
        from chromasync.worker.heartbeat import process_name

        if self.settings.sync_http_port is None:
            raise SettingsError(
                "The page needs a port, but neither SYNC_HTTP_PORT nor PORT is set.",
                untouched="Nothing was started.",
                hint="For example: chromasync dashboard --set SYNC_HTTP_PORT=8080",
            )
        if not self._has_store():
            raise no_store(self.settings, "Nothing was started.")
        receivers = receivers_of(self.settings)
        with self._page(), self._watcher(receivers, process_name()):
            stop.wait()

    @contextmanager
    def _page(self, participant: Participant | None = None) -> Iterator[None]:
        """Serve the page beside the block, if a port is set; it has a store connection of its own.

        A slow reader of the page must not hold the connection that the workers share.
        """
        if self.settings.sync_http_port is None:
            yield
            return
        from chromasync.web.page import open_page

        process = None if participant is None else _OwnProcess(participant, self._connected)
        with open_page(self.settings, process):
            yield

    def plan(self, progress: Progress, *, rebuild: Sequence[str] = ()) -> PlanReport:
        """What a cycle would do; writes nothing, neither to a server nor to the store."""
        from chromasync.turned import plan_next_cycle

        primary, replica = self.servers
        store = self._store_to_look_at()
        return plan_next_cycle(store, primary, replica, self.settings, progress, rebuild=rebuild)

    def verify(
        self,
        progress: Progress,
        *,
        sample_percent: float = 100.0,
        repair: bool = False,
        queries: int = 0,
    ) -> VerifyReport:
        """Compare both sides; with `repair`, run a full cycle on differences, and compare again.

        All guards apply to the full cycle, so they may hold surplus records.
        """
        from chromasync.folders import Use
        from chromasync.reach import refuse_shared_role
        from chromasync.verify import Verifier

        if repair:
            refuse_shared_role(self.settings)
        self.places.replica = Use.READ
        primary, replica = self.servers
        verifier = Verifier(primary, replica, self.settings, self._kept_ids, queries)
        with self._limited():
            report = verifier.verify(progress, sample_percent)
            if not repair or not report.different:
                return report
            mended = self.sync(progress, full=True)
            after = verifier.verify(progress, sample_percent, repaired=True)
        return replace(after, repair=mended)

    def restore(self, progress: Progress, to: str, names: Sequence[str] = ()) -> RestoreReport:
        """Copy the replica's content to the new, empty server at `to`; the service is paused.

        Args:
            names: the only collections to copy; none of them means all.
        """
        from chromasync.chroma import ChromaReader, ChromaWriter
        from chromasync.failover.restore import Restore, refuse_urls, restore_settings
        from chromasync.folders import Use
        from chromasync.reach import primary_pacer
        from chromasync.targeted import targeted_reader

        settings = restore_settings(self.settings, to, names)
        refuse_urls(self.settings, settings.replica_url)
        main = self.store if self._has_store() else None
        with Application.open(settings) as inside, ExitStack() as stack:
            inside.places.replica = Use.MAKE
            ours = replace(inside.connection(Side.PRIMARY), called="replica", prefix="REPLICA")
            theirs = replace(inside.connection(Side.REPLICA), called="new server", prefix="PRIMARY")
            reader = stack.enter_context(ChromaReader(ours, primary_pacer(settings)))
            source = targeted_reader(reader, self.settings)
            target = stack.enter_context(ChromaWriter(theirs))
            return Restore(source, target, settings, main, names).run(progress)

    def doctor(self, *, alert: bool = False) -> DoctorReport:
        """Check settings, reachability, versions and capabilities; reports errors, raises none.

        Args:
            alert: send a test message to each receiver of alerts.
        """
        from chromasync.alerts import check_receivers
        from chromasync.doctor import examine

        report = examine(self.settings, self.connection, self._store_to_look_at)
        return replace(report, checks=(*report.checks, *check_receivers(self.settings, send=alert)))

    def _kept_ids(self) -> list[str]:
        """Dropped collections that stay on the replica for a while."""
        return [one.replica_id for one in self.store.kept()] if self._has_store() else []

    @contextmanager
    def _limited(self) -> Iterator[None]:
        """Keep a share of SYNC_MAX_REQUESTS_PER_SECOND during the block, if there is a limit."""
        from chromasync.shares import RESERVE, ShareKeeper
        from chromasync.worker.heartbeat import process_name

        limit = self.settings.sync_max_requests_per_second
        if limit is None or self._is_limited:
            yield
            return
        pacer = self.servers[0].pacing
        self._is_limited = True
        try:
            with ShareKeeper(self.store.urgent(), process_name(), limit, pacer):
                yield
        finally:
            self._is_limited = False
            pacer.allow(RESERVE * limit)

    def _watcher(self, receivers: Sequence[Receiver], holder: str) -> AlertWatcher:
        """Has alerts told while it is entered."""
        from chromasync.alerts import AlertWatcher, place_of

        return AlertWatcher(
            self.store,
            self.status,
            receivers,
            holder=holder,
            place=place_of(self.settings),
        )

    def _participant(
        self,
        stop: threading.Event | None = None,
        *,
        leads_at_once: bool = True,
        patience: float = 0.0,
    ) -> Participant:
        from chromasync.role import Participant

        self.settings.check_role()
        primary, replica = self.servers
        for server in self._connected:
            server.pacing.stop = stop or threading.Event()
        return Participant(
            primary,
            replica,
            self.store,
            self.settings,
            stop,
            leads_at_once=leads_at_once,
            patience_seconds=patience,
            steering=self._steering,
        )


class _OwnProcess:
    """What the page shows of the process in which it runs."""

    def __init__(
        self, participant: Participant, servers: tuple[ChromaReader, ChromaWriter]
    ) -> None:
        self._participant = participant
        self._servers = servers

    def vitals(self) -> Vitals:
        """Its threads, its duty, and its work so far."""
        return self._participant.vitals()

    def outcomes(self) -> dict[Side, dict[str, int]]:
        """Its requests to both servers by outcome."""
        return {server.side: server.request_counts for server in self._servers}

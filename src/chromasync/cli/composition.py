"""The interface of the program for the commands; the program is imported when it is needed.

`chromasync --help` must be fast, but the import of the program and its libraries is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from threading import Event
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from chromasync.advice_reports import AdviceReport
    from chromasync.config import Settings
    from chromasync.failover_reports import PromoteReport, RestoreReport
    from chromasync.lab.selftest import SelftestReport
    from chromasync.model import Hold
    from chromasync.ports import Progress
    from chromasync.reports import (
        ControlReport,
        CycleReport,
        DoctorReport,
        FenceReport,
        PlanReport,
        StatusSnapshot,
        VerifyReport,
    )


class Program(Protocol):
    """The whole program; every method raises ChromasyncError subclasses."""

    def sync(
        self,
        progress: Progress,
        *,
        full: bool = False,
        adopt: bool = False,
        rebuild: Sequence[str] = (),
    ) -> CycleReport: ...
    def plan(self, progress: Progress, *, rebuild: Sequence[str] = ()) -> PlanReport: ...
    def verify(
        self,
        progress: Progress,
        *,
        sample_percent: float = 100.0,
        repair: bool = False,
        queries: int = 0,
    ) -> VerifyReport: ...
    def promote(
        self,
        progress: Progress,
        *,
        wait_for_fence: bool = False,
        timeout_seconds: float | None = None,
        anyway: bool = False,
    ) -> PromoteReport: ...
    def cancel_promotion(self) -> PromoteReport: ...
    def status(self) -> StatusSnapshot: ...
    def advise(
        self,
        documents: int | None = None,
        *,
        dimension: int | None = None,
        text_bytes: int | None = None,
    ) -> AdviceReport: ...
    def approve(
        self, names: Sequence[str], *, everything: bool, expected: int | None = None
    ) -> list[Hold]: ...
    def fence(self, progress: Progress, *, timeout_seconds: float | None = None) -> FenceReport: ...
    def restore(self, progress: Progress, to: str, names: Sequence[str] = ()) -> RestoreReport: ...
    def pause(self, seconds: float | None, reason: str) -> ControlReport: ...
    def resume(self) -> ControlReport: ...
    def note_shown(self, report: CycleReport | StatusSnapshot, *, watched: bool = True) -> None: ...
    def run(self, stop: Event) -> int: ...
    def dashboard(self, stop: Event) -> None: ...
    def doctor(self, *, alert: bool = False) -> DoctorReport: ...


def open_program(settings: Settings) -> AbstractContextManager[Program]:
    """The program with real servers and a real state store."""
    from chromasync.app import Application

    return Application.open(settings)


def play_demo(console: Console, *, keep: bool) -> int:
    """Run the demo with real servers; returns its exit code."""
    from chromasync.lab.demo import run_demo

    return run_demo(console, keep=keep)


def play_selftest(
    settings: Settings, say: Callable[[str], None], *, timeout_seconds: float | None, sqlite: bool
) -> SelftestReport:
    """Run the self-test with real processes; its report has the exit code."""
    from chromasync.lab.selftest import run_selftest

    return run_selftest(settings, say, timeout_seconds=timeout_seconds, sqlite=sqlite)

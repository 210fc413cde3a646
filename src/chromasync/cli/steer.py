"""The commands that steer the processes of a store: `pause`, `resume` and `fence`."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import click

from chromasync.cli import composition
from chromasync.cli.commands import program
from chromasync.cli.invoking import long_work, prepare, print_out
from chromasync.cli.options import FiniteRange, GroupedHelp, Invocation, common_options, examples

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chromasync.documents import Document
    from chromasync.reports import FenceReport

UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_SECONDS = 366 * 86_400
OBEYED = "Within 5 seconds no process of this store sends a request to either server."

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


class Duration(click.ParamType[float]):
    """A time like 90s, 30m, 2h, 1d or 1h30m, in seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds; fails like any other wrong value."""
        text = str(value).strip().lower()
        if not _DURATION.fullmatch(text):
            self.fail(f"{value!r} is not a duration like 90s, 30m, 2h, 1d or 1h30m.", param, ctx)
        seconds = sum(float(n) * UNIT_SECONDS[unit] for n, unit in _PART.findall(text))
        if not 1 <= seconds <= LONGEST_SECONDS:
            self.fail(f"{value!r} is not between 1s and 366d.", param, ctx)
        return seconds


def show_result(invocation: Invocation, report: Document, *sentences: str) -> int:
    """Print a report as its document or as these sentences, and give its exit code."""
    if invocation.as_json:
        from chromasync.documents import encode, report_document

        print_out(lambda: sys.stdout.write(encode(report_document(invocation.command, report))))
    elif not invocation.quiet:
        from chromasync.cli.page import Page

        print_out(lambda: Page().say(*sentences))
    return report.exit_code


def show_lines(invocation: Invocation, report: Document, lines: Iterable[str]) -> int:
    """The same with each sentence on a line of its own."""
    if invocation.as_json or invocation.quiet:
        return show_result(invocation, report)
    print_out(lambda: click.echo("\n".join(lines)))
    return report.exit_code


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync pause",
        'chromasync pause --for 2h --reason "the primary gets a new disk"',
    ),
)
@click.option(
    "--for",
    "seconds",
    metavar="DURATION",
    type=Duration(),
    help="End the pause by itself after this time: 90s, 30m, 2h, 1d, 1h30m.",
)
@click.option("--reason", metavar="TEXT", default="", help="Shown to everyone by `status`.")
@common_options
def pause(invocation: Invocation, *, seconds: float | None, reason: str) -> int:
    """Pause all processes that use this state store.

    Within five seconds none of them sends a request to either server. A cycle in progress ends, and
    the next one goes on where it stopped. Processes that start in the pause wait, too. The lag goes
    on growing. `plan`, `verify` and `status` still work.
    """
    settings = prepare(invocation, servers=False, desk=True)
    with composition.open_program(settings) as application:
        report = application.pause(seconds, reason)
    from chromasync.wording.freshness import pause_end

    return show_result(invocation, report, f"Paused. {OBEYED}", pause_end(report.control))


@program.command(cls=GroupedHelp, epilog=examples("chromasync resume"))
@common_options
def resume(invocation: Invocation) -> int:
    """End a pause: all processes go on within five seconds."""
    settings = prepare(invocation, servers=False, desk=True)
    with composition.open_program(settings) as application:
        report = application.resume()
    if not report.was_paused:
        return show_result(invocation, report, "Nothing was paused.")
    return show_result(invocation, report, "Resumed. All processes go on within 5 seconds.")


@program.command(
    cls=GroupedHelp,
    epilog=examples("chromasync fence", "chromasync fence --timeout 600 --json | jq .outcome"),
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=FiniteRange(0, min_open=True),
    help="Longest wait; without it, the wait ends when nothing but time is missing.",
)
@common_options
def fence(invocation: Invocation, *, timeout_seconds: float | None) -> int:
    """Wait until everything written to the primary before now is verified on the replica.

    It ends with 0 when every record of every mirrored collection was read on both sides after the
    call, and they are the same. Beside a running service, the service runs the cycles; otherwise
    this command does. It ends with another exit code, and says why, if something is held,
    quarantined or paused, if a cycle fails, or after --timeout (1).
    """
    return long_work(
        invocation,
        lambda app, progress: app.fence(progress, timeout_seconds=timeout_seconds),
        _show_fence,
    )


def _show_fence(invocation: Invocation, report: FenceReport) -> int:
    from chromasync.reports import FenceOutcome
    from chromasync.wording.words import duration, moment, plain, plural

    asked_at = moment(report.asked_at)
    if report.outcome is not FenceOutcome.VERIFIED:
        why = plain(report.reason)
        words = f"Not all that was written to the primary before {asked_at} is verified. {why}"
        return show_result(invocation, report, words)
    extent = f"{plural(report.records, 'record')} in {plural(report.collections, 'collection')}"
    took = f"{plural(report.cycles, 'cycle')} and {duration(report.duration_seconds)}"
    return show_result(
        invocation,
        report,
        f"All that was written to the primary before {asked_at} is on the replica:",
        f"{extent}, verified in {took}.",
    )

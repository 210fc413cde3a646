"""The commands: each reads its settings, calls the program, prints, and ends with an exit code."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn

import click

from chromasync import __version__
from chromasync.cli import composition
from chromasync.cli.exits import MEANINGS, ExitCode
from chromasync.cli.invoking import exit_code_of, long_work, prepare, print_out, print_report
from chromasync.cli.options import (
    FiniteRange,
    GroupedHelp,
    Invocation,
    common_options,
    examples,
    output_options,
)
from chromasync.cli.signals import first_signal

if TYPE_CHECKING:
    from chromasync.cli.composition import Program
    from chromasync.cli.jsonout import Report
    from chromasync.cli.progress import TerminalProgress
    from chromasync.reports import StatusSnapshot

SECTIONS = (
    ("Keep the replica identical", ("run", "sync", "fence")),
    ("Look", ("status", "dashboard", "plan", "verify", "advise", "doctor")),
    ("Decide", ("approve", "pause", "resume")),
    ("After the primary failed", ("promote", "restore")),
    ("Try it out", ("demo", "selftest")),
)
QUERIES = 20


class Commands(GroupedHelp, click.Group):
    """The group of all commands; it turns every failure into a sentence and an exit code."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run the command line and exit the process."""
        invocation = Invocation()
        extra |= {"standalone_mode": False, "obj": invocation}
        sys.exit(exit_code_of(lambda: super(Commands, self).main(*args, **extra), invocation))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups by purpose, then the options."""
        for title, names in SECTIONS:
            with formatter.section(title):
                formatter.write_dl([(n, self.commands[n].get_short_help_str(70)) for n in names])
        super().format_options(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        del ctx
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), text) for code, text in MEANINGS.items()])


# ---- commands --------------------------------------------------------------------------------


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="chromasync", message="%(prog)s %(version)s")
@common_options
def program(invocation: Invocation) -> None:
    """Keep a replica ChromaDB identical to its primary, and prove it.

    Settings come from flags, then the environment, then chromasync.toml. Two are enough:
    PRIMARY_URL and REPLICA_URL. The primary is never written to.
    """
    del invocation


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "PRIMARY_URL=http://one:8000 REPLICA_URL=http://two:8000 chromasync run",
        "chromasync run --set SYNC_INTERVAL=60",
    ),
)
@common_options
def run(invocation: Invocation) -> int:
    """Run the service: a cycle every SYNC_INTERVAL seconds.

    The environment sets the role of the process. After Ctrl-C or SIGTERM it finishes its tasks in
    progress; a second signal ends it at once. Log lines go to stderr, as JSON with --json.
    """
    settings = prepare(invocation, service=True)
    stop = threading.Event()
    interrupted = threading.Event()

    def end(number: signal.Signals) -> None:
        if number == signal.SIGINT:
            interrupted.set()
        stop.set()

    with first_signal(end), composition.open_program(settings) as application:
        code = application.run(stop)
    return ExitCode.INTERRUPTED if interrupted.is_set() else code


rebuild_option = click.option(
    "--rebuild",
    metavar="NAME",
    multiple=True,
    help="Build this collection of the replica anew, then replace the old one; may be repeated.",
)


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync sync --primary http://one:8000 --replica http://two:8000",
        "chromasync sync --json | jq .outcome",
    ),
)
@click.option("--full", is_flag=True, help="Read every record again; ignores SYNC_SCRUB_BUDGET.")
@click.option(
    "--adopt",
    is_flag=True,
    help="Take over collections of the replica that are mostly different; overwrites records.",
)
@rebuild_option
@common_options
def sync(invocation: Invocation, *, full: bool, adopt: bool, rebuild: tuple[str, ...]) -> int:
    """Run one cycle and report what it did.

    Beside a running service, the service runs the cycle, at once or after its present one; this
    command shows the progress and the report.

    Only differences are written. Deletes beyond SYNC_MAX_DELETE are held until approved. A
    collection of the replica that is not in the ledger, and whose records are mostly different,
    is left alone until it is approved, or --adopt takes over all such collections.
    """

    def work(app: Program, progress: TerminalProgress) -> Report:
        report = app.sync(progress, full=full, adopt=adopt, rebuild=rebuild)
        app.note_shown(report, watched=sys.stdout.isatty())
        return report

    return long_work(invocation, work, print_report)


@program.command(cls=GroupedHelp, epilog=examples("chromasync plan", "chromasync plan --json"))
@rebuild_option
@common_options
def plan(invocation: Invocation, *, rebuild: tuple[str, ...]) -> int:
    """Show what a cycle would do, without writing anything."""
    return long_work(
        invocation, lambda app, progress: app.plan(progress, rebuild=rebuild), print_report
    )


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync verify",
        "chromasync verify --sample 5",
        "chromasync verify --queries 50",
        "chromasync verify --repair",
    ),
)
@click.option(
    "--sample",
    "sample_percent",
    metavar="PERCENT",
    type=FiniteRange(0, 100, min_open=True),
    default=100.0,
    help="Compare only a random sample of this share of the records.",
)
@click.option(
    "--queries",
    metavar="[N]",
    is_flag=False,
    flag_value=QUERIES,
    default=0,
    type=click.IntRange(0, 10_000),
    help="Also compare the answers of both sides to N queries for each collection (default 20).",
)
@click.option(
    "--repair", is_flag=True, help="Repair differences by a full cycle, then compare again."
)
@common_options
def verify(invocation: Invocation, *, sample_percent: float, queries: int, repair: bool) -> int:
    """Compare both sides record by record.

    State from earlier cycles is not used. Findings start with + (missing on the replica), -
    (extra there), * (changed) or ! (inconclusive: the record changed during the comparison).
    """
    return long_work(
        invocation,
        lambda app, progress: app.verify(
            progress, sample_percent=sample_percent, repair=repair, queries=queries
        ),
        print_report,
    )


@program.command(
    cls=GroupedHelp, epilog=examples("chromasync status", "chromasync status --watch --every 5")
)
@click.option("--watch", is_flag=True, help="Repeat the output until Ctrl-C.")
@click.option(
    "--every",
    metavar="SECONDS",
    type=FiniteRange(0.1, 3600),
    default=2.0,
    help="With --watch: seconds between two outputs (default 2).",
)
@common_options
def status(invocation: Invocation, *, watch: bool, every: float) -> int:
    """Show collections, lag, workers, tasks and holds.

    It reads the state store only, so it works while a server is away. It ends with 0 only if the
    last cycle was completed, no longer ago than SYNC_ALERT_LAG, and every collection is identical.
    With --watch --json, each line is one document.
    """
    settings = prepare(invocation, servers=False, desk=True)
    invocation.endless = watch
    with composition.open_program(settings) as application:
        if not watch:
            report = application.status()
            application.note_shown(report)
            return print_report(invocation, report)
        while True:
            _show_again(invocation, application.status())
            time.sleep(every)


def _show_again(invocation: Invocation, report: StatusSnapshot) -> None:
    """Print a snapshot below or over the previous one; a closed stdout ends the command."""
    if invocation.as_json:
        from chromasync.cli.jsonout import encode, report_document

        sys.stdout.write(encode(report_document(invocation.command, report), one_line=True))
    else:
        from chromasync.cli.page import Page
        from chromasync.telling.render import show

        click.clear()
        show(Page(), report)
    sys.stdout.flush()


@program.command(
    cls=GroupedHelp,
    epilog=examples(
        "chromasync approve documents@3f9a",
        "chromasync approve documents --expect 350",
        "chromasync approve --all",
    ),
)
@click.argument("collections", nargs=-1, metavar="[COLLECTION]...")
@click.option("--all", "everything", is_flag=True, help="Approve everything that is held.")
@click.option(
    "--expect",
    "expected",
    metavar="COUNT",
    type=click.IntRange(min=0),
    help="Approve only if exactly this number of records is held.",
)
@common_options
def approve(
    invocation: Invocation, *, collections: Sequence[str], everything: bool, expected: int | None
) -> int:
    """Approve changes that a guard holds, once.

    `chromasync status` shows each hold with its records, its reason and its digest. The approval
    is for exactly this hold. COLLECTION@DIGEST or --expect select it; without them the number of
    records must be the one that was shown last. The approval ends when the hold changes, and
    after a day. A collection may be given as TENANT/DATABASE/NAME or by its id; this is necessary
    if several collections have its name.
    """
    if collections and everything:
        raise click.UsageError("Give either the names of collections or --all, not both.")
    if not collections and not everything:
        raise click.UsageError("Name the collections to approve, or give --all.")
    settings = prepare(invocation, servers=False, desk=True)
    with composition.open_program(settings) as application:
        approved = application.approve(collections, everything=everything, expected=expected)
    if invocation.as_json:
        from chromasync.cli.jsonout import approval_document, encode

        print_out(lambda: sys.stdout.write(encode(approval_document(approved))))
    elif not invocation.quiet:
        from chromasync.cli.page import Page
        from chromasync.telling.render import show_approval

        print_out(lambda: show_approval(Page(), approved))
    return ExitCode.DONE


@program.command(
    cls=GroupedHelp,
    epilog=examples("chromasync doctor", "chromasync doctor --json", "chromasync doctor --alert"),
)
@click.option("--alert", is_flag=True, help="Send a test message to each receiver of alerts.")
@common_options
def doctor(invocation: Invocation, *, alert: bool) -> int:
    """Check settings, servers and state store.

    It shows every setting and its origin, whether both servers answer, what they can and cannot
    store, and the version of the state store. It changes nothing. With --alert it reports what each
    receiver in SYNC_WEBHOOK_URL and SYNC_ALERT_URLS answers to a test message.
    """
    settings = prepare(invocation, servers=False)
    with composition.open_program(settings) as application:
        report = application.doctor(alert=alert)
    return print_report(invocation, report)


@program.command(cls=GroupedHelp, epilog=examples("chromasync demo", "chromasync demo --keep"))
@click.option("--keep", is_flag=True, help="Leave both servers running, until Ctrl-C.")
@output_options
def demo(invocation: Invocation, *, keep: bool) -> int:
    """Watch two real Chroma servers become and stay identical.

    The demo starts them on free local ports with real text, changes the primary, and shows each
    change on the replica. At the end it removes everything. It takes about a minute.
    """
    from rich.console import Console

    from chromasync.cli.logs import configure_logs
    from chromasync.config import LogFormat, LogLevel

    configure_logs(LogFormat.AUTO, LogLevel.DEBUG if invocation.debug else LogLevel.WARNING)
    console = Console(stderr=invocation.as_json, quiet=invocation.quiet)
    code = composition.play_demo(console, keep=keep)
    if invocation.as_json:
        from chromasync.cli.jsonout import encode, exit_document

        print_out(lambda: sys.stdout.write(encode(exit_document(invocation.command, code))))
    return code


@program.command(
    cls=GroupedHelp,
    epilog=examples("chromasync selftest", "chromasync selftest --timeout 300 --json"),
)
@click.option(
    "--timeout",
    "timeout_seconds",
    metavar="SECONDS",
    type=FiniteRange(1),
    help="Longest total wait (default 120; with a running coordinator, four cycles more).",
)
@click.option(
    "--sqlite",
    is_flag=True,
    help="With servers of its own: store the state in SQLite even if PostgreSQL is installed.",
)
@common_options
def selftest(invocation: Invocation, *, timeout_seconds: float | None, sqlite: bool) -> int:
    """Prove that several processes keep a replica identical.

    It uses the configured servers and state store. With nothing configured, it starts its own. It
    creates small collections on the primary; a coordinator and two workers copy them. It changes
    them, compares both sides, and removes them again. It writes to no other collection of the
    primary. At its start it removes the collections of self-tests that were killed.
    """
    settings = prepare(invocation, servers=False)

    def say(line: str) -> None:
        if not invocation.quiet:
            print_out(lambda: click.echo(line, err=invocation.as_json))

    def interrupt(_: signal.Signals) -> NoReturn:
        raise KeyboardInterrupt

    with first_signal(interrupt):
        report = composition.play_selftest(
            settings, say, timeout_seconds=timeout_seconds, sqlite=sqlite
        )
    if invocation.as_json:
        from dataclasses import asdict

        from chromasync.cli.jsonout import encode, exit_document

        document = exit_document(invocation.command, report.exit_code)
        print_out(lambda: sys.stdout.write(encode(document | asdict(report))))
    return report.exit_code


def main() -> NoReturn:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    program.main(prog_name="chromasync")

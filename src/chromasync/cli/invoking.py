"""What the commands share: settings and logs, long work, output, and the exit code of a failure."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from chromasync.cli import composition
from chromasync.cli.exits import INTERRUPTED, KEPT, ExitCode, explain_failure, silence
from chromasync.cli.signals import first_signal
from chromasync.errors import Stopped

if TYPE_CHECKING:
    from chromasync.cli.composition import Program
    from chromasync.cli.jsonout import Report
    from chromasync.cli.options import Invocation
    from chromasync.cli.progress import TerminalProgress
    from chromasync.config import Settings

R = TypeVar("R")
CLOSED_PIPE = 141
"""The exit code that a shell reports for a program that wrote to a closed pipe."""


def exit_code_of(work: Callable[[], Any], invocation: Invocation) -> int:
    """Do the work of a command; every failure becomes a sentence and an exit code."""
    try:
        code = int(work() or ExitCode.DONE)
    except click.ClickException as error:
        error.show()
        code = ExitCode.USAGE
    except click.exceptions.Exit as leaving:
        code = leaving.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _interrupted(invocation)
    except BrokenPipeError:
        silence(1)
        code = CLOSED_PIPE
    except Exception as error:  # noqa: BLE001 -- the last handler: it shows every error
        code = _failed(error, invocation)
    return code


def _interrupted(invocation: Invocation) -> int:
    click.echo(f"\n{INTERRUPTED}", err=True)
    # an endless command is ended by an interrupt: this is no failure, so no error document
    if not invocation.endless:
        _write_error(Stopped("Interrupted.", untouched=KEPT), ExitCode.INTERRUPTED, invocation)
    return ExitCode.INTERRUPTED


def _failed(error: Exception, invocation: Invocation) -> int:
    code = explain_failure(error, debug=invocation.debug)
    _write_error(error, code, invocation)
    return code


def _write_error(error: Exception, code: ExitCode, invocation: Invocation) -> None:
    if invocation.as_json:
        from chromasync.cli.jsonout import encode, error_document

        print_out(lambda: sys.stdout.write(encode(error_document(invocation.command, error, code))))


def print_out(write: Callable[[], object]) -> None:
    """Write to stdout; a closed pipe is no failure, because the work is done."""
    try:
        write()
        sys.stdout.flush()
    except BrokenPipeError:
        silence(1)


def print_report(invocation: Invocation, report: Report) -> int:
    """Print a report in the chosen form, and give its exit code."""
    if invocation.as_json:
        from chromasync.cli.jsonout import encode, report_document

        print_out(lambda: sys.stdout.write(encode(report_document(invocation.command, report))))
    elif not invocation.quiet:
        from chromasync.cli.page import Page
        from chromasync.telling.render import show

        print_out(lambda: show(Page(), report))
    return report.exit_code


def prepare(
    invocation: Invocation, *, service: bool = False, servers: bool = True, desk: bool = False
) -> Settings:
    """Load the settings and configure the logs.

    A one-off command logs warnings on a terminal, so that a person sees why it takes long;
    elsewhere it logs errors only.

    Args:
        service: the command is the service.
        servers: both URLs must be set.
        desk: the command asks the state store only. Such a command logs nothing but repetitions,
            and a state file is never asked again. So it need not load the library for logs.
    """
    settings = invocation.settings(servers_required=servers)
    if desk and settings.store.path is not None:
        return settings
    from chromasync.cli.logs import configure_logs
    from chromasync.config import LogFormat, LogLevel, Origin

    level, log_format = settings.sync_log_level, settings.sync_log_format
    if not service and settings.origin("SYNC_LOG_LEVEL") is Origin.DEFAULT:
        level = LogLevel.WARNING if sys.stderr.isatty() else LogLevel.ERROR
    if invocation.quiet:
        level = LogLevel.ERROR
    if invocation.debug:
        level = LogLevel.DEBUG
    if service and invocation.as_json:
        log_format = LogFormat.JSON
    configure_logs(log_format, level)
    return settings


def long_work(
    invocation: Invocation,
    work: Callable[[Program, TerminalProgress], R],
    show: Callable[[Invocation, R], int],
    *,
    servers: bool = True,
) -> int:
    """Do long work with a progress bar, print its report by `show`, and give its exit code.

    A termination signal has the effect of Ctrl-C: an orderly stop with exit code 130.

    Args:
        servers: both URLs must be set.
    """
    settings = prepare(invocation, servers=servers)
    from chromasync.cli.progress import TerminalProgress

    def interrupt(_: signal.Signals) -> NoReturn:
        raise KeyboardInterrupt

    with (
        first_signal(interrupt),
        composition.open_program(settings) as application,
        TerminalProgress(quiet=invocation.quiet) as progress,
    ):
        report = work(application, progress)
    return show(invocation, report)

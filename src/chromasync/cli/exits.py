"""Exit codes, and the translation of every failure into one, with a sentence and no traceback."""

from __future__ import annotations

import os
import sys
import traceback
from enum import IntEnum

import click

from chromasync.errors import ChromasyncError
from chromasync.wording.words import plain


class ExitCode(IntEnum):
    """The exit codes of all commands; `meaning` is the sentence of the documentation."""

    DONE = 0
    DIFFERENT = 1
    USAGE = 2
    UNREACHABLE = 3
    PERMANENT = 4
    ANOTHER_LEADS = 5
    DECIDE = 6
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        """One sentence for people."""
        return MEANINGS[self]


MEANINGS = {
    ExitCode.DONE: "Done; both sides are identical as far as the command looks.",
    ExitCode.DIFFERENT: "Differences were found, or a cycle would change something.",
    ExitCode.USAGE: "The command line or a setting is wrong; nothing was started.",
    ExitCode.UNREACHABLE: "A server or the state store was not reachable, retries included.",
    ExitCode.PERMANENT: "Something is held, paused or quarantined, or failed permanently.",
    ExitCode.ANOTHER_LEADS: (
        "Another process leads on this state store, another state store uses this replica, or "
        "another process has the folder open."
    ),
    ExitCode.DECIDE: "Both sides differ, and a person must decide which side is right; nothing was "
    "written there.",
    ExitCode.INTERRUPTED: "Interrupted from the keyboard or by a signal.",
}

KEPT = "Finished work is kept; the next cycle goes on from there."
INTERRUPTED = f"Interrupted. {KEPT}"
REPORT_IT = "This is a defect in chromasync; please report it, with the output of --debug."


def failure_document(error: Exception) -> dict[str, object]:
    """The document that `--json` prints instead of a report when a command fails."""
    if isinstance(error, ChromasyncError):
        kind, what, untouched, hint = (
            type(error).__name__,
            error.what,
            error.untouched,
            error.hint,
        )
    else:
        kind, what, untouched, hint = "Unexpected", _one_line(error), "", REPORT_IT
    return {"kind": kind, "what": what, "untouched": untouched, "hint": hint}


def explain_failure(error: Exception, *, debug: bool) -> ExitCode:
    """Print the error to stderr, and its traceback with `debug`."""
    if debug:
        traceback.print_exception(error, file=sys.stderr)
    if isinstance(error, ChromasyncError):
        click.echo(f"Error: {plain(str(error))}", err=True)
        return ExitCode(error.exit_code)
    click.echo(f"Error: Something unexpected happened: {_one_line(error)} {REPORT_IT}", err=True)
    return ExitCode.PERMANENT


def silence(stream: int) -> None:
    """Discard further output to a closed pipe (file descriptor `stream`)."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream)
    os.close(nowhere)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}." if text else f"{type(error).__name__}."

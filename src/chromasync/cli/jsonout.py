"""The JSON documents that `--json` prints; `documents` makes those of reports.

A failed command has `error` instead of a report.
"""

from __future__ import annotations

from collections.abc import Sequence

from chromasync.cli.exits import failure_document
from chromasync.documents import COMPUTED, Report, encode, head, report_document
from chromasync.model import Hold

__all__ = [
    "COMPUTED",
    "Report",
    "approval_document",
    "encode",
    "error_document",
    "exit_document",
    "report_document",
]


def approval_document(approved: Sequence[Hold]) -> dict[str, object]:
    """The document of `approve`."""
    return {**head("approve", 0), "approved": list(approved)}


def exit_document(command: str, exit_code: int) -> dict[str, object]:
    """The document of a command whose only result is its exit code."""
    return head(command, exit_code)


def error_document(command: str, error: Exception, exit_code: int) -> dict[str, object]:
    """The document of a command that failed."""
    return {**head(command, exit_code), "error": failure_document(error)}

"""Log lines on stderr: readable on a terminal, JSON otherwise."""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING

import structlog

from chromasync.config import LogFormat, LogLevel
from chromasync.events import Event
from chromasync.repeated import Limiter, repeats

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LEVELS = {
    LogLevel.DEBUG: logging.DEBUG,
    LogLevel.INFO: logging.INFO,
    LogLevel.WARNING: logging.WARNING,
    LogLevel.ERROR: logging.ERROR,
}


class CurrentStderr:
    """Writes to the current stderr, so that lines appear above a live progress bar."""

    def write(self, text: str) -> int:
        """Write `text`; returns the number of characters written."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """Flush the buffer."""
        sys.stderr.flush()


def configure_logs(log_format: LogFormat, level: LogLevel) -> None:
    """Send the program's log lines to stderr in `log_format`, from `level` up."""
    on_terminal = sys.stderr.isatty()
    as_json = log_format is LogFormat.JSON or (log_format is LogFormat.AUTO and not on_terminal)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            RetriesInWords(limited=not on_terminal),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *(_json_lines() if as_json else _console_lines(colors=on_terminal)),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(CurrentStderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=False,
    )


class RetriesInWords:
    """Replaces the retry library's log lines by our own.

    Args:
        limited: drop repetitions for the same cause, and log their number later. On a terminal
            every repetition is shown, so that people see progress.
    """

    def __init__(self, *, limited: bool) -> None:
        self._limiter = Limiter() if limited else None

    def __call__(self, logger: object, method: str, event: EventDict) -> EventDict:
        """The log line for people; raises DropEvent for a repetition."""
        del logger, method
        if event.get("event") != "stamina.retry_scheduled":
            return event
        kept = {key: event[key] for key in ("level", "timestamp") if key in event}
        cause = re.sub(r"""^\w+\((['"])(.*)\1,?\)$""", r"\2", str(event["caused_by"]))
        times = 1 if self._limiter is None else self._limiter.count(cause)
        if not times:
            raise structlog.DropEvent
        return {
            **kept,
            "event": Event.TRYING_AGAIN,
            "attempt": event["retry_num"] + 1,
            "in_seconds": event["wait_for"],
            "because": cause,
            **repeats(times),
        }


def _json_lines() -> list[Processor]:
    return [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]


def _console_lines(*, colors: bool) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=colors)]

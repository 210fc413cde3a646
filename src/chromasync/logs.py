"""Where log lines go: to structlog if it is configured, otherwise to the logger `chromasync`.

The command line configures structlog. A program that imports chromasync decides itself: nothing is
set up here, and without a handler of that program nobody sees a line. The standard logger gets the
name of the event and its fields as text, and the fields also as `fields` of the log record.
"""

from __future__ import annotations

import logging
import sys

from chromasync.events import Event

LOGGER = "chromasync"

_standard = logging.getLogger(LOGGER)
_standard.addHandler(logging.NullHandler())  # or else Python prints warnings on stderr


class Log:
    """A logger of the engine; one line has an event and its fields."""

    def debug(self, event: Event, **fields: object) -> None:
        """Log what helps to find a defect."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: Event, **fields: object) -> None:
        """Log what happens in ordinary life."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: Event, **fields: object) -> None:
        """Log what passes by itself, or what a person may want to change."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: Event, **fields: object) -> None:
        """Log a failure."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: Event, **fields: object) -> None:
        """Log a failure with the traceback of the exception that is handled now."""
        self._log(logging.ERROR, event, fields, traceback=True)

    def _log(
        self, level: int, event: Event, fields: dict[str, object], *, traceback: bool = False
    ) -> None:
        if goes_to_structlog():
            import structlog  # noqa: PLC0415 -- loaded already

            method = "exception" if traceback else logging.getLevelName(level).lower()
            getattr(structlog.get_logger(), method)(event, **fields)
        elif _standard.isEnabledFor(level):
            text = " ".join((event, *(f"{name}={value}" for name, value in fields.items())))
            extra = {"fields": fields}
            # the line is of the method's caller
            _standard.log(level, "%s", text, exc_info=traceback, extra=extra, stacklevel=3)


def goes_to_structlog() -> bool:
    """Whether somebody has configured structlog, so that it gets the lines."""
    # who has not loaded it has not configured it, and to load it takes long
    is_configured = getattr(sys.modules.get("structlog"), "is_configured", None)
    return is_configured is not None and bool(is_configured())


def get_logger() -> Log:
    """The logger for one module."""
    return Log()

"""Log lines of repeated requests, where a program imports chromasync.

Requests are repeated by stamina, which tells each repetition to structlog. If nobody has configured
structlog, that prints on stdout, which belongs to the program around us. So our own repetitions are
logged there like everything else; those of the program stay as they were.
"""

from __future__ import annotations

from functools import cache

from stamina.instrumentation import (
    RetryDetails,
    RetryHook,
    StructlogOnRetryHook,
    get_on_retry_hooks,
    set_on_retry_hooks,
)

from chromasync.events import Event
from chromasync.logs import get_logger, goes_to_structlog
from chromasync.repeated import Limiter, repeats

PACKAGE = "chromasync"
log = get_logger()


@cache
def log_own_retries() -> None:
    """Log our own repetitions by `logs`; once in a process, and only in place of the default."""
    hooks = get_on_retry_hooks()
    default = type_of(StructlogOnRetryHook.hook_factory())
    set_on_retry_hooks([_Route(hook) if type_of(hook) == default else hook for hook in hooks])


def type_of(hook: RetryHook) -> tuple[str, str]:
    """The place where a hook is defined; hooks that one factory made have the same."""
    return hook.__module__, getattr(hook, "__qualname__", "")


class _Route:
    """A hook for our own repetitions, which leaves all others to another hook."""

    def __init__(self, others: RetryHook) -> None:
        self._others = others
        self._limiter = Limiter()

    def __call__(self, details: RetryDetails) -> None:
        """Log a repetition, unless the same cause was logged a moment ago."""
        error = details.caused_by
        if goes_to_structlog() or type(error).__module__.partition(".")[0] != PACKAGE:
            self._others(details)
            return
        cause = " ".join(map(str, error.args))  # without what a person should do about it
        if times := self._limiter.count(cause):
            log.warning(
                Event.TRYING_AGAIN,
                attempt=details.retry_num + 1,
                in_seconds=round(details.wait_for, 2),
                because=cause,
                **repeats(times),
            )

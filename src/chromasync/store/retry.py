"""Retries of store methods during a short outage, such as a restart or a lost connection.

A connection may break after COMMIT was sent and before its answer came. Then it is unknown whether
the transaction was committed. So every retried method is idempotent: a second call after a commit
changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from chromasync.store.core import Backend, Core

S = TypeVar("S", bound=Core)
P = ParamSpec("P")
R = TypeVar("R")


def retried(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Retry a method during a short outage; the method is one idempotent transaction."""

    @wraps(method)
    def with_retries(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return retry_while_away(self.backend, lambda: method(self, *args, **kwargs))

    return with_retries


def retry_while_away(backend: Backend, call: Callable[[], R]) -> R:
    """Return what `call` returns; retry it for `backend.retry_seconds` while its error may pass."""
    if backend.retry_seconds <= 0:
        return call()
    # only PostgreSQL is retried, so a store in a file never loads this
    import stamina  # noqa: PLC0415

    for attempt in stamina.retry_context(
        on=lambda error: backend.passes(error.__cause__),
        attempts=None,
        timeout=backend.retry_seconds,
        wait_initial=0.1,
        wait_max=2.0,
        wait_jitter=0.5,
    ):
        with attempt:
            return call()
    raise AssertionError("stamina either returns or raises")

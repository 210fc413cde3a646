"""Lets the threads of this process wait for their turn to ask one server; see `pace`.

A wait ends at once when the process is asked to stop, and when it drains: then only the limit of
requests counts, and a thread that would have to wait for it gives up.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from chromasync.chroma.pace import Begun, Ended, Pace
from chromasync.errors import Stopped
from chromasync.lease import monotonic

LOOK_SECONDS = 0.1
"""Longest sleep before a waiting thread looks whether it may begin, or whether it has to end."""

HURRIED_SECONDS = 1.0
"""Longest wait for the limit of requests when the process is to end."""

_LARGE_PATHS = ("/get", "/add", "/update", "/upsert", "/delete")
_NEVER = threading.Event()


class Turn:
    """One request; how it ended is noted here."""

    def __init__(self, waited_seconds: float) -> None:
        self.waited_seconds = waited_seconds
        self.ended = Ended(0.0, answered=False)

    def answered(self, seconds: float, size: int, rows: int = 0) -> None:
        """Note an answer that began after `seconds`, its bytes, and the records asked for."""
        self.ended = Ended(seconds, size, rows)

    def refused(self, retry_after: float | None) -> None:
        """Note that the server asked to slow down, or did not answer in time."""
        self.ended = Ended(0.0, answered=False, refused=True, retry_after=retry_after)


class Pacer:
    """The pace of one server, shared by all threads of the process; see `ports.Pacing`.

    Args:
        pace: the state.
        clock: seconds on a monotonic clock.
    """

    def __init__(self, pace: Pace | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._pace = pace or Pace(watches=False)
        self._clock = clock
        self._changed = threading.Condition()
        self._hurried = 0
        self.stop = _NEVER

    @property
    def reason(self) -> str:
        """Why requests waited lately; empty if none did."""
        with self._changed:
            return self._pace.reason(self._clock())

    def among(self, processes: int) -> None:
        """Note how many processes share the server."""
        with self._changed:
            self._pace.among(processes)

    def allow(self, per_second: float, seconds: float = math.inf, *, asked_at: float = 0.0) -> None:
        """Allow so many requests a second, for `seconds` from `asked_at` on; then none."""
        with self._changed:
            self._pace.spacing.allow(per_second, asked_at + seconds)

    def rows_at_once(self, path: str) -> int | None:
        """The most records that one read of this path may ask for now; None for no limit."""
        with self._changed:
            return None if self._is_hurried else self._pace.rows_at_once(self._clock(), path)

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Let no thread wait during the block, because the process drains."""
        with self._changed:
            self._hurried += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._hurried -= 1

    @contextmanager
    def turn(self, path: str, admit: Callable[[], None] = lambda: None) -> Iterator[Turn]:
        """Wait until a request may begin; the block sends it.

        Args:
            admit: called while it waits; raises if no request may be sent any more.

        Raises:
            Stopped: the process is to end, and the limit allows no request now.
        """
        begun, waited = self._wait(path, admit)
        turn = Turn(waited)
        try:
            yield turn
        finally:
            with self._changed:
                self._pace.end(begun, self._clock(), turn.ended)
                self._changed.notify_all()

    @property
    def _is_hurried(self) -> bool:
        return self._hurried > 0 or self.stop.is_set()

    def _wait(self, path: str, admit: Callable[[], None]) -> tuple[Begun, float]:
        """The request that may begin now, and how long it waited for that."""
        large = path.endswith(_LARGE_PATHS)
        began_at: float | None = None
        with self._changed:
            while True:
                hurried = self._is_hurried
                now = self._clock()
                delay = self._pace.delay(now, path, large=large, hurried=hurried)
                if delay <= 0:
                    waited = 0.0 if began_at is None else now - began_at
                    return self._pace.begin(now, path, large=large), waited
                if hurried and delay > HURRIED_SECONDS:
                    raise Stopped("It was asked to stop while it waited for its turn to ask.")
                admit()
                began_at = now if began_at is None else began_at
                self._changed.wait(min(delay, LOOK_SECONDS))

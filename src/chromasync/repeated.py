"""Logs repeated failures without filling the log, and logs the recovery.

The first failure is logged at once, and so is each failure for a new reason. The same failure is
logged again every `EVERY_SECONDS` at most, with the number of failures meanwhile. A success in
between does not make the failure new, so an action that fails every other time does not fill the
log, either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from chromasync.events import Event
from chromasync.logs import get_logger

EVERY_SECONDS = 30.0
MOST_TEXTS = 200
"""Most texts that are remembered; old ones are forgotten first."""

log = get_logger()


@dataclass(slots=True)
class _Told:
    """The time when a text was last logged, and the number of repetitions since then."""

    at: float
    since: int = 0


class Limiter:
    """Remembers which texts were logged lately. Thread-safe.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}

    def count(self, text: str) -> int:
        """Repetitions of a text since it was last logged, with this one; 0 means do not log."""
        with self._lock:
            now = self._clock()
            told = self._told.get(text)
            if told is not None and now - told.at < EVERY_SECONDS:
                told.since += 1
                return 0
            if len(self._told) >= MOST_TEXTS:
                self._forget_before(now - EVERY_SECONDS)
            self._told[text] = _Told(now)
            return 1 if told is None else told.since + 1

    def _forget_before(self, instant: float) -> None:
        self._told = {text: told for text, told in self._told.items() if told.at > instant}


class Repeated:
    """One action that is repeated. Thread-safe.

    Args:
        event: the log line of a failure.
        what: the name of the action in the log line of its recovery.
        clock: seconds on a clock that never goes back.
    """

    def __init__(
        self, event: Event, what: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._event = event
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._limiter = Limiter(clock)
        self._failures = 0
        self._failing_since = 0.0
        self._was_told = False

    def failed(self, reason: str, **fields: object) -> None:
        """Log a failure, unless the same one was logged a moment ago.

        Args:
            fields: fields of the log line besides the reason.
        """
        with self._lock:
            if not self._failures:
                self._failing_since = self._clock()
            self._failures += 1
            times = self._limiter.count(reason)
            self._was_told |= times > 0
        if times:
            log.warning(self._event, **fields, reason=reason, **repeats(times))

    def succeeded(self) -> None:
        """Log the recovery, if the failure was logged."""
        with self._lock:
            if not self._was_told:
                return
            after, self._failures, self._was_told = self._failures, 0, False
            seconds = self._clock() - self._failing_since
        log.info(Event.RECOVERED, what=self._what, after=after, seconds=round(seconds, 3))


def repeats(times: int) -> dict[str, int]:
    """The field with the number of repetitions since the last log line; none for a single one."""
    return {"times": times} if times > 1 else {}

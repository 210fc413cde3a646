"""What fails again and again is told without filling the log, and its end is told, too.

The first failure is told at once, and so is each one for a new reason. The same failure is told
again every `EVERY_SECONDS` at most, with how often it happened meanwhile; what succeeds in between
does not make it new, so that what fails every other time does not fill the log, either.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from chromasync.events import Event

EVERY_SECONDS = 30.0
MOST_TEXTS = 200
"""So many texts are remembered; of more, those that came long ago are forgotten."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Told:
    """When a text was told last, and how often it came since."""

    at: float
    since: int = 0


class Limiter:
    """Knows which texts were told lately; safe to be used by several threads.

    Args:
        clock: seconds on a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, _Told] = {}

    def count(self, text: str) -> int:
        """How often a text came since it was told last, this time included; 0 to keep silent."""
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
    """One thing that is done again and again; safe to be used by several threads.

    Args:
        event: what is logged when it fails.
        what: the thing by its name, for the line that says that it succeeds again.
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
        """It failed: tell so, unless that was told a moment ago.

        Args:
            fields: what to tell beside the reason.
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
        """It was done; tell so, if its failure was told."""
        with self._lock:
            if not self._was_told:
                return
            after, self._failures, self._was_told = self._failures, 0, False
            seconds = self._clock() - self._failing_since
        log.info(Event.RECOVERED, what=self._what, after=after, seconds=round(seconds, 3))


def repeats(times: int) -> dict[str, int]:
    """The field that says how often something came since it was told last; none for once."""
    return {"times": times} if times > 1 else {}

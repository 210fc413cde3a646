"""The advice in sentences for those who show it all the time; made at most once a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from chromasync.advice import HISTORY_SECONDS, advise
from chromasync.config import Settings
from chromasync.errors import ChromasyncError
from chromasync.lease import monotonic
from chromasync.model import Measurement
from chromasync.reports import StatusSnapshot

KEPT_SECONDS = 60.0


class CachedAdvice:
    """Gives the latest advice; safe to use from many threads.

    Args:
        look: the newest snapshot; None before the first one.
        measure: the measurements of the last so many seconds.
    """

    def __init__(
        self,
        look: Callable[[], StatusSnapshot | None],
        measure: Callable[[float], Sequence[Measurement]],
        settings: Settings,
    ) -> None:
        self._look = look
        self._measure = measure
        self._settings = settings
        self._lock = threading.Lock()
        self._sentences: list[str] = []
        self._next_at = 0.0

    def sentences(self) -> list[str]:
        """The advice, or why there is none; while it is made, the one before."""
        if self._lock.acquire(blocking=False):
            try:
                self._refresh()
            finally:
                self._lock.release()
        return self._sentences

    def _refresh(self) -> None:
        snapshot = self._look()
        if snapshot is None or monotonic() < self._next_at:
            return
        self._next_at = monotonic() + KEPT_SECONDS
        try:
            report = advise(snapshot, self._measure(HISTORY_SECONDS), self._settings)
        except ChromasyncError as error:
            self._sentences = [str(error)]
        else:
            self._sentences = list(report.sentences)

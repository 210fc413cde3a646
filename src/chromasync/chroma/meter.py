"""Counts the requests of this process to one server: their outcomes, bytes and waiting time."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace

from chromasync.model import Traffic

OK = "ok"
BUSY = "busy"


class Meter:
    """The counts of one server; safe to use from many threads."""

    def __init__(self) -> None:
        self._outcomes: Counter[str] = Counter()
        self._traffic = Traffic()
        self._lock = threading.Lock()

    @property
    def outcomes(self) -> dict[str, int]:
        """Requests so far by outcome (`ok`, `busy`, `unreachable`, `refused`, …)."""
        with self._lock:
            return dict(self._outcomes)

    @property
    def traffic(self) -> Traffic:
        """All requests so far."""
        with self._lock:
            return self._traffic

    def note(self, outcome: str, *, seconds: float, sent: int, received: int) -> None:
        """Count one request with its outcome, its time, and the bytes of both bodies."""
        one = Traffic(
            requests=1,
            refused=outcome == BUSY,
            failed=outcome not in (OK, BUSY),
            bytes_read=received,
            bytes_written=sent,
            seconds=seconds,
        )
        with self._lock:
            self._outcomes[outcome] += 1
            self._traffic += one

    def note_throttled(self, seconds: float) -> None:
        """Count the time that a thread waited before it might send."""
        with self._lock:
            total = self._traffic.throttled_seconds + seconds
            self._traffic = replace(self._traffic, throttled_seconds=total)

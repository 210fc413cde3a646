"""The limits of one request, reduced after refusals by the server."""

from __future__ import annotations

import threading
from dataclasses import dataclass

BODY_BYTES = 12 * 1024 * 1024
SMALLEST_BODY_BYTES = 64 * 1024
ANSWER_BYTES = 12 * 1024 * 1024
"""Parsing takes up to five times as much memory; each worker thread has one answer at a time."""
RECORDS = 5000
QUOTA_RECORDS = 300

JSON_FLOAT_BYTES = 12
REST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class Limit:
    """Most bytes in a body, and most records in a write and in a read."""

    body_bytes: int = BODY_BYTES
    write_records: int = RECORDS
    read_records: int = RECORDS


class Limits:
    """The present limits of one server; they only ever shrink. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = Limit()

    @property
    def now(self) -> Limit:
        """The limits at this instant."""
        return self._now

    def too_large(self, body_size: int) -> None:
        """Note that a body of this size was refused."""
        with self._lock:
            now = self._now
            half = max(SMALLEST_BODY_BYTES, min(now.body_bytes, body_size) // 2)
            self._now = Limit(min(half, now.body_bytes), now.write_records, now.read_records)

    def quota_exceeded(self, *, written: int = 0, read: int = 0) -> bool:
        """Note that a request broke a quota; returns whether a smaller one may succeed."""
        with self._lock:
            now = self._now
            self._now = Limit(
                now.body_bytes,
                QUOTA_RECORDS if written > QUOTA_RECORDS else now.write_records,
                QUOTA_RECORDS if read > QUOTA_RECORDS else now.read_records,
            )
        return max(written, read) > QUOTA_RECORDS

    def rows_of_read(self, dimension: int) -> int:
        """Number of records in one read whose answer stays within the memory limit."""
        fitting = ANSWER_BYTES // (JSON_FLOAT_BYTES * dimension + REST_BYTES)
        return max(1, min(self._now.read_records, fitting))

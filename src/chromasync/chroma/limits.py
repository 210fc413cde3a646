"""The limits of one request, reduced after refusals by the server."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, replace

BODY_BYTES = 12 * 1024 * 1024
SMALLEST_BODY_BYTES = 64 * 1024
ANSWER_BYTES = 12 * 1024 * 1024
"""Parsing takes up to five times as much memory; each worker thread has one answer at a time."""
RECORDS = 5000
QUOTA_RECORDS = 300

JSON_FLOAT_BYTES = 12
REST_BYTES = 2000


_ID_QUOTA = re.compile(r"'ID size .* exceeds limit of (\d+)")
"""What a server says that refuses a request for the length of an id."""


@dataclass(frozen=True, slots=True)
class Limit:
    """Most bytes in a body, and most records in a write and in a read.

    Attributes:
        id_bytes: the longest id that the server can hold; None if nothing is known of it.
    """

    body_bytes: int = BODY_BYTES
    write_records: int = RECORDS
    read_records: int = RECORDS
    id_bytes: int | None = None


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
            self._now = replace(now, body_bytes=min(half, now.body_bytes))

    def quota_exceeded(self, said: str, *, written: int = 0, read: int = 0) -> bool:
        """Note that a request broke a quota; returns whether another request may succeed.

        Args:
            said: the words of the server.
            written, read: the number of records in the request.
        """
        of_ids = _ID_QUOTA.search(said)
        with self._lock:
            before = self._now
            self._now = replace(
                before,
                write_records=QUOTA_RECORDS if written > QUOTA_RECORDS else before.write_records,
                read_records=QUOTA_RECORDS if read > QUOTA_RECORDS else before.read_records,
                id_bytes=before.id_bytes if of_ids is None else int(of_ids[1]),
            )
            learned = self._now.id_bytes != before.id_bytes
        return learned or max(written, read) > QUOTA_RECORDS

    def possible(self, ids: list[str]) -> list[str]:
        """The ids that the server can hold; it refuses requests that name a longer one."""
        most = self._now.id_bytes
        if most is None:
            return ids
        return [one for one in ids if len(one.encode(errors="surrogatepass")) <= most]

    def rows_of_read(self, dimension: int) -> int:
        """Number of records in one read whose answer stays within the memory limit."""
        fitting = ANSWER_BYTES // (JSON_FLOAT_BYTES * dimension + REST_BYTES)
        return max(1, min(self._now.read_records, fitting))

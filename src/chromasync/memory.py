"""Keeps the process within its memory limit: smaller batches first, then fewer threads.

    plenty      reads ask for as many records as fit into BATCH_BYTES
    scarce      each thread has an equal part of the free memory. Reads ask for so few records that
                everything made from one answer fits into that part
    short       more than MEMORY_SHARE of the limit is used: only one thread works (`may_join`), and
                reads are as small as they get

The process may still exceed the limit if a single record is too large for it. Then the system kills
it, and the task is tried again alone (`worker.gate`).
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

BATCH_BYTES = 8_000_000
"""Target size of one answer when there is plenty of memory."""

LEAST_BATCH_BYTES = 250_000
EXPANSION = 8
"""Most bytes in memory for each byte of an answer, while it is parsed, compared and written."""

MEMORY_SHARE = 0.85
"""The part of the limit above which only one thread works, and people are told."""

RETURN_SECONDS = 2.0
"""Least time between two attempts to return freed memory to the system."""


class Memory:
    """The memory of this process and its limit. Thread-safe.

    Args:
        limit_mb: None for no limit.
        threads: worker threads that share the free memory.
        used: bytes in use now; None to ask the system.
    """

    def __init__(
        self,
        limit_mb: float | None = None,
        threads: int = 1,
        used: Callable[[], int] | None = None,
    ) -> None:
        self._most = math.inf if limit_mb is None else limit_mb * 1e6 * MEMORY_SHARE
        self._threads = max(1, threads)
        self._used = used or _resident_bytes
        self._returned_at = -math.inf
        self._lock = threading.Lock()

    @property
    def may_join(self) -> bool:
        """Whether another thread may begin a task beside others."""
        return self._free() > 0

    def batch_bytes(self) -> float:
        """The target size of one answer now."""
        if self._most == math.inf:
            return BATCH_BYTES
        wanted = BATCH_BYTES * EXPANSION * self._threads
        free = self._free()
        if free < wanted:
            self._return_freed()
            free = self._free()
        return max(LEAST_BATCH_BYTES, min(BATCH_BYTES, free / EXPANSION / self._threads))

    def _free(self) -> float:
        return math.inf if self._most == math.inf else self._most - self._used()

    def _return_freed(self) -> None:
        """Return freed memory to the system, which the allocator keeps otherwise."""
        with self._lock:
            if time.monotonic() - self._returned_at < RETURN_SECONDS:
                return
            self._returned_at = time.monotonic()
        if sys.platform == "linux":
            # other C libraries than glibc do not have it, and need it less
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)

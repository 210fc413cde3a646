"""Ends a process that a test started when the test's own process is gone, however it went."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

END_IT = "import os, sys; os.read(0, 1); os.kill(int(sys.argv[1]), 9)"


@contextmanager
def lifeline(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process at the end, or when we are killed: someone else holds a pipe of ours."""
    watch = [sys.executable, "-I", "-S", "-c", END_IT, str(process.pid)]
    with subprocess.Popen(watch, stdin=subprocess.PIPE) as watcher:
        try:
            yield
        finally:
            watcher.kill()  # first, or else it might hit whoever gets the number next
            process.kill()
            process.wait()

"""SIGINT and SIGTERM: the first puts things down in order, a second one ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from chromasync.cli.exits import INTERRUPTED, ExitCode


@contextmanager
def first_signal(act: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call `act` with the first signal while the block runs; it may raise.

    A second one does not wait for anything, such as a server that hangs: every step of a cycle
    may be cut off, so leaving like a killed process loses nothing.
    """
    received = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        if received:
            os.write(2, f"\n{INTERRUPTED}\n".encode())
            os._exit(ExitCode.INTERRUPTED)
        received = True
        act(signal.Signals(number))

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""SIGINT and SIGTERM: the first starts an orderly stop, a second one ends the process at once."""

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

    A second signal ends the process at once, even if a server hangs. Every step of a cycle may be
    interrupted, so an end like that of a killed process loses nothing.
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

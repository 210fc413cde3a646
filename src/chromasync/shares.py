"""Keeps this process's share of SYNC_MAX_REQUESTS_PER_SECOND, on a thread of its own.

The store grants shares, and never more than the limit in all (`store.shares`). The thread asks for
the share again every few seconds, because processes come and go. The share is valid in this process
until `VALID_SECONDS` after the question was sent, and longer in the store. So a process that cannot
reach the store, or that was frozen, sends nothing before its share goes to others.

Between two questions, each process spaces its requests by itself. So in any T seconds, at most
`T * limit` requests are sent, and one more for each process.

A plan, which writes nothing to the store, takes `RESERVE` of the limit, which is never granted. The
few requests of `doctor` are not limited.
"""

from __future__ import annotations

import threading
from typing import Self

from chromasync.errors import StoreError
from chromasync.events import Event
from chromasync.lease import monotonic
from chromasync.ports import Control, Pacing
from chromasync.repeated import Repeated

RESERVE = 0.2
GRANTED_SECONDS = 15.0
VALID_SECONDS = 12.0
ASK_SECONDS = 3.0
SOON_SECONDS = 0.5
"""Time until the next question while the share is smaller than it should be, or was reduced."""


class ShareKeeper:
    """A context manager; within it, `pacer` keeps to this process's share.

    Args:
        store: the state store, for urgent calls.
        holder: this process, see `heartbeat.process_name`.
        limit: requests a second of all processes together.
    """

    def __init__(self, store: Control, holder: str, limit: float, pacer: Pacing) -> None:
        self._store = store
        self._holder = holder
        self._limit = limit * (1 - RESERVE)
        self._pacer = pacer
        self._using = 0.0
        self._valid_until = 0.0
        self._calls = Repeated(Event.RENEWAL_FAILED, "the share of requests")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="share-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._pacer.allow(0.0, 0.0, asked_at=0.0)
        self.ask()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._pacer.allow(0.0, 0.0, asked_at=0.0)
        try:
            self._store.give_up_share(self._holder)
        except StoreError as error:
            self._calls.failed(str(error))  # it expires by itself

    def ask(self) -> float:
        """Ask for the share once; returns the seconds until the next question."""
        asked_at = monotonic()
        before = self._using if asked_at < self._valid_until else 0.0
        granted = self._store.take_share(self._holder, self._limit, before, GRANTED_SECONDS)
        self._pacer.allow(granted, VALID_SECONDS, asked_at=asked_at)
        self._using, self._valid_until = granted, asked_at + VALID_SECONDS
        # what was given up must be offered to the others soon, and what is missing asked for
        is_settled = before == granted > 0
        return ASK_SECONDS if is_settled else SOON_SECONDS

    def _run(self) -> None:
        pause = SOON_SECONDS
        while not self._stop.wait(pause):
            try:
                pause = self.ask()
                self._calls.succeeded()
            except StoreError as error:
                self._calls.failed(str(error))
                pause = SOON_SECONDS

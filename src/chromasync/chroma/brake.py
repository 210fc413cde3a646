"""The brake: detects after a few failures that a replica accepts no writes, and stops writing.

A server may refuse a write because of a record, or because of its own state: its disk is full, it
is read-only, it does not accept our token any more. Reads may still work then. A test of every
single record would need as many failing requests as there are records. So after the first failures
the brake asks a question: does the server accept a write that changes nothing?

    free      every write is sent, and repeated as usual
    in doubt  the last write failed: the next writes are sent once each
    asking    `FAILURES` attempts have failed in a row: a harmless write is sent; if it is accepted,
              the failures were about their records, and the brake is free again
    on        the harmless write was refused, too: nothing is sent, `WritesRefused` is raised; after
              `PAUSE_SECONDS`, longer each time, the harmless write is tried again

If no collection is known for a harmless write, `UNASKED` attempts must fail, and after the pause
the next write takes the place of the harmless one. If the server itself says that it has no space
or may not write, no question is asked. The brake ignores failures of a server that is away or busy,
and refusals for the size of a request.

The caller sends one write at a time, so the state needs no lock of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from chromasync.errors import (
    AccessRefused,
    NotChroma,
    QuotaExceeded,
    RequestRefused,
    ServerError,
    ServerFault,
    TooLarge,
    WritesRefused,
)
from chromasync.lease import monotonic

FAILURES = 4
UNASKED = 12
"""Failed attempts in a row that put the brake on when no harmless write is known."""

PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
OF_ITS_OWN = re.compile(
    r"disk is full|no space left|readonly database|read-only file ?system|disk i/o error",
    re.IGNORECASE,
)
"""Messages that are about the server, not a record; from SQLite and the operating system."""

Ask = Callable[[], bool]
"""Sends a harmless write once; returns False if there is none to send; raises ServerError."""


@dataclass(slots=True)
class Brake:
    """Stops the writes to one server.

    Args:
        place: the name of the server in messages.
        side: the side of the server.
    """

    place: str
    side: str
    _failures: int = 0
    _cause: ServerError | None = None
    _asks_at: float = 0.0
    _pause: float = PAUSE_SECONDS

    @property
    def in_doubt(self) -> bool:
        """Whether the last write failed, so that the next one is sent only once."""
        return self._failures > 0

    def check(self, ask: Ask) -> None:
        """Call before each write.

        Raises:
            WritesRefused: the server takes no writes.
        """
        if self._cause is None:
            return
        if monotonic() < self._asks_at:
            raise self._refusal(self._cause)
        # without a harmless write, the current write takes its place
        if self.probe(ask):
            self.taken()

    def probe(self, ask: Ask) -> bool:
        """Send a harmless write; returns False if there is none to send.

        Raises:
            WritesRefused: the server accepts no writes.
            ServerError: the server is away.
        """
        try:
            return ask()
        except ServerError as error:
            if not _counts(error):
                raise
            self._put_on(error)

    def taken(self) -> None:
        """Note that a write was accepted."""
        self._failures, self._cause, self._pause = 0, None, PAUSE_SECONDS

    def refused(self, error: ServerError, attempts: int, ask: Ask) -> None:
        """Note that a write failed after `attempts` attempts.

        Raises:
            WritesRefused: every other write fails, too.
        """
        if not _counts(error):
            return
        self._failures += attempts
        if isinstance(error, ServerFault) and OF_ITS_OWN.search(error.said):
            self._put_on(error)
        if self._failures >= FAILURES:
            if self.probe(ask):
                self.taken()
            # without a harmless write, a refusal of content may really be about the content
            elif self._failures >= UNASKED and not isinstance(error, RequestRefused):
                self._put_on(error)

    def _put_on(self, error: ServerError) -> NoReturn:
        self._cause = error
        self._asks_at = monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        raise self._refusal(error) from error

    def _refusal(self, cause: ServerError) -> WritesRefused:
        said = f'"{cause.said}"' if cause.said else "it does not say why"
        return WritesRefused(
            f"The {self.place} takes no writes: {said} (status {cause.status}).",
            side=self.side,
            status=cause.status,
            said=cause.said,
        )


def _counts(error: ServerError) -> bool:
    """Whether an error may mean that the server takes no write at all."""
    if isinstance(error, TooLarge | QuotaExceeded):
        return False
    return isinstance(error, RequestRefused | ServerFault | AccessRefused | NotChroma)

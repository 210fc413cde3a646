"""The brake: a replica that takes no write at all is found out after a few, and then spared.

A server may refuse a write because of a record, or because of itself: its disk is full, it was made
read-only, it does not accept our token any more. Reads may go on all the while. Blaming records
one by one would then take as many failing requests as there are records, so the first failures are
followed by a question: is a write that changes nothing taken?

    free      every write is sent, and repeated as usual
    in doubt  the last write failed: the next ones are sent once each
    asking    `FAILURES` attempts have failed in a row: a harmless write is sent; if it is taken,
              the failures were about their records, and the brake is free again
    on        the harmless write was refused too: nothing is sent, `WritesRefused` is raised; after
              `PAUSE_SECONDS`, longer each time, the harmless write is tried again

Where no collection is known to which a harmless write could be sent, `UNASKED` attempts must fail,
and after the pause the write at hand is the question. Where the server itself says that it has no
room or may not write, nothing is asked. A server that is away, busy, or refuses a request for its
size is none of the brake's business.

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
"""Failed attempts in a row before the brake goes on where no harmless write is known."""

PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
OF_ITS_OWN = re.compile(
    r"disk is full|no space left|readonly database|read-only file ?system|disk i/o error",
    re.IGNORECASE,
)
"""What servers say that cannot be about a record; the words are SQLite's and the system's."""

Ask = Callable[[], bool]
"""Sends a harmless write once, and is False where there is none to send; raises ServerError."""


@dataclass(slots=True)
class Brake:
    """Stops the writes to one server.

    Args:
        place: how sentences name the server.
        side: which one it is.
    """

    place: str
    side: str
    _failures: int = 0
    _cause: ServerError | None = None
    _asks_at: float = 0.0
    _pause: float = PAUSE_SECONDS

    @property
    def in_doubt(self) -> bool:
        """Whether the last write failed, so that the next one is not to be repeated."""
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
        # where nothing can be asked, the write at hand is the question
        if self.probe(ask):
            self.taken()

    def probe(self, ask: Ask) -> bool:
        """Ask whether writes are taken; False where there is nothing to ask by.

        Raises:
            WritesRefused: they are not.
            ServerError: the server is away.
        """
        try:
            return ask()
        except ServerError as error:
            if not _counts(error):
                raise
            self._put_on(error)

    def taken(self) -> None:
        """A write was taken."""
        self._failures, self._cause, self._pause = 0, None, PAUSE_SECONDS

    def refused(self, error: ServerError, attempts: int, ask: Ask) -> None:
        """A write failed, after so many attempts.

        Raises:
            WritesRefused: so does every other one.
        """
        if not _counts(error):
            return
        self._failures += attempts
        if isinstance(error, ServerFault) and OF_ITS_OWN.search(error.said):
            self._put_on(error)
        if self._failures >= FAILURES:
            if self.probe(ask):
                self.taken()
            # where nothing can be asked, what speaks of its content may well be about that
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

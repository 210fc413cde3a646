"""Connections on which no step of a request, and no request as a whole, outlasts its limits.

A socket's own timeout holds for one call. A server that sends one byte a second keeps each call
short, and the request alive for ever. So each read and each write here asks the clock first.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from functools import partial
from http.client import HTTPResponse, IncompleteRead
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.response import assert_header_parsing

WRITE_BYTES = 256 * 1024
"""Most bytes that one call writes: TLS has a limit of time for a call, whatever its size."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The seconds that each step of a request may take, and the instant by which all must end.

    Attributes:
        connect: for the connection to one address, and for each step of TLS and proxies after it.
        write: of silence while the request is sent.
        read: of silence while the answer is awaited and read.
        deadline: on the monotonic clock.
    """

    connect: float
    write: float
    read: float
    deadline: float

    def at_most(self, seconds: float) -> float:
        """The seconds that a step may take now; raises TimeoutError when there are none left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        return min(seconds, left)


class Timed(HTTPConnection):
    """A plain connection; `begin` must be called before each request."""

    limits: Limits
    idle_since: float = 0.0

    def begin(self, limits: Limits) -> None:
        """Let these limits hold from now on, and connect if there is no connection yet."""
        self.limits = limits
        self.timeout = limits.at_most(limits.connect)
        if self.is_closed:
            self._answers_within(limits.connect)  # a proxy answers before the server does
            self.connect()
        self._answers_within(limits.read)

    def send(self, data: Any) -> None:
        """Send bytes, however many, as long as the other side goes on taking them."""
        rest = memoryview(data)
        while rest:
            self.sock.settimeout(self.limits.at_most(self.limits.write))
            rest = rest[self.sock.send(rest[:WRITE_BYTES]) :]

    def _answers_within(self, silence: float) -> None:
        # the attribute takes whatever makes an answer from a socket
        made = partial(_TimedResponse, limits=self.limits, silence=silence)
        self.response_class = made  # type: ignore[assignment]


class TimedTls(Timed, HTTPSConnection):
    """A connection with TLS."""


class _TimedResponse(HTTPResponse):
    """An answer; each read of the socket below it has a limit."""

    def __init__(self, sock: Any, *args: Any, limits: Limits, silence: float, **named: Any) -> None:
        super().__init__(sock, *args, **named)
        buffered: Any = self.fp
        self._timed = _TimedReader(buffered.detach(), sock, limits, silence)
        self.fp = io.BufferedReader(self._timed)

    def begin(self) -> None:
        super().begin()
        if self._timed.is_at_end:  # Python takes the end of a connection for that of the headers
            raise IncompleteRead(b"")
        assert_header_parsing(self.msg)  # the library would only log them, with the whole address


class _TimedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: Any, limits: Limits, silence: float) -> None:
        self._raw = raw
        self._sock = sock
        self._limits = limits
        self._silence = silence
        self.is_at_end = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._limits.at_most(self._silence))
        count = self._raw.readinto(buffer)
        self.is_at_end = count == 0
        return count

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()

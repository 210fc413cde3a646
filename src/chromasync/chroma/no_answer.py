"""Why a request got no complete answer, apart from the HTTP library that noticed."""

from __future__ import annotations

from http.client import HTTPException
from typing import TypeVar

from urllib3 import exceptions as library

E = TypeVar("E", bound=BaseException)

LIBRARY_ERRORS = (library.HTTPError, HTTPException, OSError)
"""What the library, and Python's sockets below it, raise when no complete answer comes."""
TUNNEL_REFUSED = "Tunnel connection failed: "
"""How the library begins the words of a proxy that opens no tunnel."""


class NoAnswer(Exception):
    """A request got no complete answer; the text has no header and no path."""


class NotConnected(NoAnswer):
    """No connection; its text is that of the operating system or of the TLS library."""


class NotConnectedInTime(NoAnswer):
    """Nobody accepted the connection in time."""


class NotAnsweredInTime(NoAnswer):
    """The server was silent for too long, or the answer took longer than it may."""


class ConnectionBroke(NoAnswer):
    """The connection ended before the answer did, or what came was not HTTP."""


class ProxyRefused(NoAnswer):
    """A proxy answered and opens no connection; its text is that of the proxy."""


class NotSocks(NoAnswer):
    """What answers in place of a SOCKS proxy does not speak SOCKS."""


class NotUsable(NoAnswer):
    """Another failure; its text is the name of the library's error."""


TIMEOUTS = (NotConnectedInTime, NotAnsweredInTime)


def cause_of(error: BaseException, kind: type[E]) -> E | None:
    """The error of this kind among the causes of an error, or the error itself."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, kind):
        cause = cause.__cause__ or cause.__context__
    return cause


def while_connecting(error: Exception) -> NoAnswer:
    """What an error means that came before there was a connection."""
    if isinstance(error, library.NewConnectionError):  # a ConnectTimeoutError, too
        return NotConnected(str(cause_of(error, OSError) or error))
    if isinstance(error, library.ConnectTimeoutError | TimeoutError):
        return NotConnectedInTime(type(error).__name__)
    if isinstance(error, HTTPException):
        return ConnectionBroke(type(error).__name__)
    if isinstance(error, OSError):
        words = str(error)
        if words.startswith(TUNNEL_REFUSED):
            return ProxyRefused(words.removeprefix(TUNNEL_REFUSED))
        return NotConnected(words)
    return NotUsable(type(error).__name__)


def while_connected(error: Exception) -> NoAnswer:
    """What an error means that came after there was a connection."""
    if isinstance(error, TimeoutError | library.TimeoutError):
        return NotAnsweredInTime(type(error).__name__)
    if isinstance(error, library.ProtocolError | library.SSLError | HTTPException | OSError):
        return ConnectionBroke(type(error).__name__)
    return NotUsable(type(error).__name__)

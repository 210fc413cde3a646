"""The same connections through a SOCKS proxy, for which an extra must be installed (`socks`)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from chromasync.chroma.no_answer import (
    ConnectionBroke,
    NoAnswer,
    NotConnected,
    NotConnectedInTime,
    NotSocks,
    ProxyRefused,
    cause_of,
)
from chromasync.chroma.timed import Timed


def maker(url: str, host: str, port: int, tls: ssl.SSLContext | None) -> Callable[[], Timed]:
    """Makes connections through the proxy at `url`, which looks up the server's name itself."""
    import socks  # noqa: PLC0415 -- an extra that may be missing
    from urllib3.contrib.socks import (  # noqa: PLC0415 -- the same
        SOCKSConnection,
        SOCKSHTTPSConnection,
    )

    class TimedSocks(Timed, SOCKSConnection):
        """A plain connection through the proxy."""

    class TimedSocksTls(Timed, SOCKSHTTPSConnection):
        """A connection with TLS through the proxy."""

    parts = urlsplit(url)
    options: Any = {
        "socks_version": socks.PROXY_TYPE_SOCKS5,
        "proxy_host": parts.hostname,
        "proxy_port": parts.port or 1080,
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "rdns": True,
    }
    if tls is None:
        return lambda: TimedSocks(options, host, port)
    return lambda: TimedSocksTls(options, host, port, ssl_context=tls)


def while_connecting(error: Exception) -> NoAnswer | None:
    """What an error of the SOCKS library means; None for any other error."""
    import socks  # noqa: PLC0415 -- an extra that may be missing

    found = cause_of(error, socks.ProxyError)
    if found is None:
        return None
    if isinstance(found.socket_err, socks.ProxyError):  # it wraps its own errors, too
        found = found.socket_err
    if found.socket_err is None:
        return _protocol_failure(found)
    if isinstance(found.socket_err, TimeoutError):
        return NotConnectedInTime("TimeoutError")
    if isinstance(found, socks.ProxyConnectionError):
        return NotConnected(str(found.socket_err))
    return ConnectionBroke(type(found.socket_err).__name__)


def _protocol_failure(error: Exception) -> NoAnswer:
    """What it means that the proxy said something else than was hoped for."""
    import socks  # noqa: PLC0415 -- an extra that may be missing

    if isinstance(error, socks.SOCKS5AuthError):
        return ProxyRefused(str(error))
    if isinstance(error, socks.SOCKS5Error):
        return ProxyRefused(str(error).partition(": ")[2])  # without the number of the reply
    return NotSocks(str(error))

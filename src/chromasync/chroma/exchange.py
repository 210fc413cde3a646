"""Sends requests to one server over kept connections, and does nothing that was not asked for.

The HTTP library gives connections, TLS, proxies and decoding. Its pool is not used: there, a whole
answer has no limit of time, and an idle connection none of age. Nothing is repeated or redirected
here, no cookie is kept, and nothing is logged.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Self

from urllib3.response import HTTPResponse

from chromasync.chroma import no_answer
from chromasync.chroma.no_answer import NotUsable
from chromasync.chroma.proxies import Proxy
from chromasync.chroma.route import route_to
from chromasync.chroma.timed import Limits, Timed

Answer = HTTPResponse
MOST_IDLE = 32
IDLE_SECONDS = 4.0
"""How long an idle connection is kept. Many servers close it after five seconds, and some routers
forget it, after which a request would wait in vain."""


class Exchange:
    """Thread-safe; threads that ask at the same time have a connection each.

    Args:
        url: of the server; only scheme, host and port count.
        tls: how https is spoken; not needed for http.
        proxy: the way to the server; None for none.
    """

    def __init__(self, url: str, tls: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self._route = route_to(url, tls, proxy)
        self._idle: deque[Timed] = deque()
        self._lock = threading.Lock()
        self._is_closed = False

    def close(self) -> None:
        """Close the idle connections; one in use is closed when its request ends."""
        with self._lock:
            self._is_closed = True
            idle = list(self._idle)
            self._idle.clear()
        for connection in idle:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: Limits,
    ) -> Iterator[Answer]:
        """Send a request and give its answer; the block reads the answer's body.

        Raises:
            NoAnswer: the subclass that fits, also when reading fails in the block.
        """
        connection = self._take()
        answer, is_whole = None, False
        try:
            self._begin(connection, limits)
            is_sent = self._send(connection, method, target, headers, body)
            answer = connection.getresponse()
            yield answer
            is_whole = is_sent and answer.isclosed()
        except no_answer.LIBRARY_ERRORS as error:
            raise no_answer.while_connected(error) from error
        finally:
            if is_whole and not connection.is_closed:
                self._keep(connection)
            else:
                connection.close()
                if answer is not None:
                    answer.close()

    def _begin(self, connection: Timed, limits: Limits) -> None:
        try:
            connection.begin(limits)
        except no_answer.LIBRARY_ERRORS as error:
            raise self._route.failure(error) from error

    def _send(
        self,
        connection: Timed,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> bool:
        """Send a request; whether all of it was sent."""
        try:
            connection.request(
                method,
                self._route.before_target + target,
                body=body,
                headers={**self._route.headers, **headers},
                preload_content=False,
            )
        except TimeoutError:
            raise
        except OSError:
            return False  # the server may have answered before it hung up, for example 413
        except ValueError as error:
            # its text may quote a header, so it must not become a printed cause
            raise NotUsable(type(error).__name__) from None
        return True

    def _take(self) -> Timed:
        """A connection: the last one used if it is still open, or else a new one."""
        with self._lock:
            old = self._old_ones()
            connection = self._idle.pop() if self._idle else None
        for each in old:
            each.close()
        if connection is None:
            return self._route.make()
        if connection.is_connected:
            return connection
        connection.close()  # by the server, or it said something that nobody asked for
        return self._take()

    def _keep(self, connection: Timed) -> None:
        connection.idle_since = time.monotonic()
        with self._lock:
            old = self._old_ones()
            if self._is_closed or len(self._idle) >= MOST_IDLE:
                old.append(connection)
            else:
                self._idle.append(connection)
        for each in old:
            each.close()

    def _old_ones(self) -> list[Timed]:
        """The connections that were idle for too long, which are kept no longer."""
        old: list[Timed] = []
        while self._idle and self._idle[0].idle_since < time.monotonic() - IDLE_SECONDS:
            old.append(self._idle.popleft())
        return old

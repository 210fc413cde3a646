"""The server of the page: a thread with an event loop, beside whatever else the process does."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from chromasync.errors import SettingsError
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.web.site import Site

ENDING_SECONDS = 3
"""Longest time for requests in progress when the process ends."""
WAITING = 64
"""Connections that may wait to be accepted."""

log = get_logger()


@contextmanager
def serving(site: Site, host: str, port: int, *, protected: bool) -> Iterator[str]:
    """Serve a site on a thread during the block; gives its address.

    Args:
        protected: whether the site needs a token, or is for this machine alone.

    Raises:
        SettingsError: nobody can listen at this address.
    """
    with listening(host, port) as listener:
        server = uvicorn.Server(
            uvicorn.Config(
                site.asgi,
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=ENDING_SECONDS,
            )
        )
        thread = threading.Thread(target=server.run, args=([listener],), name="page", daemon=True)
        thread.start()
        url = _url(host, listener.getsockname()[1])
        log.info(Event.PAGE_OPEN, url=url)
        if not protected:
            log.warning(Event.PAGE_UNPROTECTED, url=url)
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(ENDING_SECONDS + 2)


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, closed after the block; port 0 takes a free one.

    Raises:
        SettingsError: the address is not one of this machine, or its port is in use.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=WAITING)
    except OSError as error:
        known = error.errno is not None and error.errno > 0
        reason = os.strerror(error.errno or 0) if known else error.strerror or str(error)
        raise SettingsError(
            f"The page cannot listen at {host} on port {port}: {reason[:1].lower()}{reason[1:]}.",
            untouched="Nothing was started.",
            hint="Set SYNC_HTTP_HOST and SYNC_HTTP_PORT (or PORT) to an address of this machine "
            "and a free port, or leave the port unset to have no page.",
        ) from error
    with listener:
        yield listener


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"

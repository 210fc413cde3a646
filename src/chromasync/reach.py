"""How the program reaches the two servers: connections, and the primary's pace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from chromasync.chroma import ChromaReader, ChromaWriter, Connection, Pace, Pacer
from chromasync.config import Settings
from chromasync.guard import refuse_equal_urls
from chromasync.model import Side
from chromasync.shares import RESERVE


def primary_pacer(settings: Settings) -> Pacer:
    """The pace of requests to the primary, for commands that keep no share of the limit."""
    pacer = Pacer(Pace(settings.sync_primary_share))
    if settings.sync_max_requests_per_second is not None:
        pacer.allow(RESERVE * settings.sync_max_requests_per_second)
    return pacer


def open_servers(
    settings: Settings, connect: Callable[[Side], Connection], stack: ExitStack
) -> tuple[ChromaReader, ChromaWriter]:
    """Primary (read-only) and replica under its own names; `stack` closes them.

    Raises:
        GuardRefusal: PRIMARY_URL and REPLICA_URL are the same.
        SettingsError: one of them is not set.
    """
    refuse_equal_urls(settings)
    primary = stack.enter_context(ChromaReader(connect(Side.PRIMARY), primary_pacer(settings)))
    return primary, stack.enter_context(ChromaWriter(connect(Side.REPLICA)))


def connection_of(settings: Settings, side: Side) -> Connection:
    """The connection settings of `side`; raises SettingsError when its URL is not set."""
    server = settings.server(side)
    return Connection(
        side=side,
        url=server.url,
        headers=server.headers,
        verify=server.tls_verify,
        ca_file=server.ca_file,
        client_cert=server.client_cert,
        timeout_seconds=server.timeout_seconds,
    )

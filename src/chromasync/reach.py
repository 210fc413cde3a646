"""How the program reaches the two servers: connections, and the primary's pace."""

from __future__ import annotations

from chromasync.chroma import Connection, Pace, Pacer
from chromasync.config import Settings
from chromasync.model import Side
from chromasync.shares import RESERVE


def primary_pacer(settings: Settings) -> Pacer:
    """The pace of requests to the primary, for commands that keep no share of the limit."""
    pacer = Pacer(Pace(settings.sync_primary_share))
    if settings.sync_max_requests_per_second is not None:
        pacer.allow(RESERVE * settings.sync_max_requests_per_second)
    return pacer


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

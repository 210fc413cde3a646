"""How the program reaches the two servers: connections, the primary's pace, a missing store."""

from __future__ import annotations

from chromasync.chroma import Connection, Pace, Pacer
from chromasync.config import Settings
from chromasync.errors import SettingsError
from chromasync.model import Side
from chromasync.shares import RESERVE


def no_store(settings: Settings, untouched: str) -> SettingsError:
    """The error of a command that needs a state store where there is none."""
    return SettingsError(
        f"There is no state store at {settings.store.shown}.",
        untouched=untouched,
        hint="Go to the service's folder, or set SYNC_DATA_DIR or DATABASE_URL.",
    )


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

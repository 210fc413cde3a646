"""The doctor: settings, servers and store as they are; trouble is reported, never raised."""

from __future__ import annotations

import platform
from collections.abc import Callable

from chromasync import __version__
from chromasync.chroma import ChromaReader, Connection
from chromasync.config import Settings
from chromasync.errors import ChromasyncError
from chromasync.guard import refuse_same_server
from chromasync.model import Capabilities, Side
from chromasync.reports import Check, DoctorReport, ExaminedServer
from chromasync.store import open_store, store_exists

Connect = Callable[[Side], Connection]


def examine(settings: Settings, connect: Connect) -> DoctorReport:
    """Look at everything that a cycle needs."""
    checks: list[Check] = []
    servers = tuple(_examine_server(side, connect, checks) for side in Side)
    _examine_collections(settings, connect, checks)
    schema_version = _examine_store(settings, checks)
    return DoctorReport(
        version=__version__,
        python_version=platform.python_version(),
        role=settings.role.value,
        checks=tuple(checks),
        servers=servers,
        store=_shown_store(settings),
        schema_version=schema_version,
        settings=tuple(settings.effective()),
    )


def _examine_server(side: Side, connect: Connect, checks: list[Check]) -> ExaminedServer:
    capabilities: Capabilities | None = None
    url = "not set"
    try:
        connection = connect(side)
        url = connection.url
        with ChromaReader(connection) as reader:
            capabilities = reader.capabilities()
        checks.append(Check(side.value, f"answers, and calls itself {capabilities.version}"))
    except ChromasyncError as error:
        checks.append(Check(side.value, str(error), error.exit_code))
    return ExaminedServer(side, url, capabilities)


def _examine_collections(settings: Settings, connect: Connect, checks: list[Check]) -> None:
    """List both sides as a cycle would; skipped when one of them does not answer."""
    if any(not check.ok for check in checks):
        return
    ids: dict[Side, set[str]] = {}
    try:
        for side in Side:
            with ChromaReader(connect(side)) as reader:
                ids[side] = _collection_ids(reader, settings)
        refuse_same_server(ids[Side.PRIMARY], ids[Side.REPLICA])
    except ChromasyncError as error:
        checks.append(Check("collections", str(error), error.exit_code))
        return
    primary, replica = len(ids[Side.PRIMARY]), len(ids[Side.REPLICA])
    checks.append(Check("collections", f"{primary:,} on the primary, {replica:,} on the replica"))


def _collection_ids(reader: ChromaReader, settings: Settings) -> set[str]:
    return {
        collection.id
        for tenant in settings.sync_tenants
        for database in settings.sync_databases or reader.list_databases(tenant)
        for collection in reader.list_collections(tenant, database)
    }


def _examine_store(settings: Settings, checks: list[Check]) -> int | None:
    try:
        if not store_exists(settings.store_url):
            checks.append(Check("state store", "is not there yet; the first cycle makes it"))
            return None
        store = open_store(settings.store_url)
    except ChromasyncError as error:
        checks.append(Check("state store", str(error), error.exit_code))
        return None
    try:
        version = store.schema_version()
        connections = store.connections()
        more = f", {connections}" if connections else ""
        checks.append(Check("state store", f"opens, schema version {version}{more}"))
        return version
    finally:
        store.close()


def _shown_store(settings: Settings) -> str:
    line = next(s for s in settings.effective() if s.name == "DATABASE_URL")
    return line.value

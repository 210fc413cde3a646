"""The doctor: settings, servers and store as they are; trouble is reported, never raised."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile

from chromasync import __version__
from chromasync.chroma import ChromaReader, Connection
from chromasync.config import Settings
from chromasync.cycle.listing import Listing, list_primary, list_replica
from chromasync.errors import ChromasyncError, SettingsError
from chromasync.guard import refuse_equal_urls, refuse_same_server
from chromasync.model import Capabilities, Side
from chromasync.reports import Check, DoctorReport, ExaminedServer
from chromasync.store import no_place, open_store, store_exists

Connect = Callable[[Side], Connection]


def examine(settings: Settings, connect: Connect) -> DoctorReport:
    """Look at everything that a cycle needs."""
    checks: list[Check] = []
    servers = tuple(_examine_server(side, connect, checks) for side in Side)
    _examine_collections(settings, connect, checks)
    _examine_role(settings, checks)
    schema_version = _examine_store(settings, checks)
    return DoctorReport(
        version=__version__,
        python_version=platform.python_version(),
        role=settings.role.value,
        checks=tuple(checks),
        servers=servers,
        store=settings.shown_store_url,
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
    try:
        refuse_equal_urls(settings.primary_url, settings.replica_url)
        with ChromaReader(connect(Side.PRIMARY)) as reader:
            primary = list_primary(reader, settings)
        with ChromaReader(connect(Side.REPLICA)) as reader:
            replica = list_replica(reader, settings, primary)
        refuse_same_server(primary.collections, replica.collections)
    except ChromasyncError as error:
        checks.append(Check("collections", str(error), error.exit_code))
        return
    checks.append(_counted(primary, replica, settings))


def _counted(primary: Listing, replica: Listing, settings: Settings) -> Check:
    """How many collections there are; trouble when there are some and all are left out."""
    total = len(primary.collections)
    wanted = sum(settings.wants_collection(c.name) for c in primary.collections.values())
    chosen = bool(settings.sync_include or settings.sync_exclude)
    share = f", {wanted:,} of them wanted by SYNC_INCLUDE and SYNC_EXCLUDE" if chosen else ""
    detail = f"{total:,} on the primary{share}, {len(replica.collections):,} on the replica"
    if total and not wanted:
        hint = "Nothing would be mirrored; mind that patterns are case-sensitive."
        return Check("collections", f"{detail}. {hint}", SettingsError.exit_code)
    return Check("collections", detail)


def _examine_role(settings: Settings, checks: list[Check]) -> None:
    try:
        settings.check_role()
        checks.append(Check("role", f"{settings.role}, and nothing is missing for it"))
    except ChromasyncError as error:
        checks.append(Check("role", str(error), error.exit_code))


def _examine_store(settings: Settings, checks: list[Check]) -> int | None:
    try:
        if not store_exists(settings.store_url):
            _refuse_unwritable(settings.state_file)
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


def _refuse_unwritable(state_file: Path | None) -> None:
    """Raise SettingsError when no state file can be made where none is yet."""
    if state_file is None:
        return
    try:
        folder = next(place for place in state_file.absolute().parents if place.exists())
        # permissions alone do not tell: of a read-only file system, of root
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise no_place(state_file, str(error.strerror)) from error

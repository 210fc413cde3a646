"""The doctor: examines settings, servers and store; it reports errors and raises none."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

from chromasync import __version__
from chromasync.chroma import ChromaReader, Connection
from chromasync.config import Settings
from chromasync.dryrun import DryRun
from chromasync.errors import ChromasyncError, ReplicaPromoted, SettingsError
from chromasync.guard import refuse_equal_urls, refuse_same_server
from chromasync.marks import Knowledge, Marks, look_at_replica, refuse_if_marked, say_refused
from chromasync.model import DEFAULT_TENANT, Capabilities, Side
from chromasync.plan.listing import Listing, list_primary, list_replica, warn_of_leftovers
from chromasync.plan.pairing import what_is_unmatched
from chromasync.plan.places import guarded_ids, meeting_error, meeting_places
from chromasync.ports import Reader, Store
from chromasync.quiet import Quiet
from chromasync.reach import refuse_shared_role
from chromasync.reports import DECIDE, Check, DoctorReport, ExaminedServer
from chromasync.store import Rehearsed, rehearse_store
from chromasync.targeted import targeted_reader
from chromasync.turned import as_next_cycle_finds

Connect = Callable[[Side], Connection]
OpenStore = Callable[[], Store]


def examine(settings: Settings, connect: Connect, open_store: OpenStore) -> DoctorReport:
    """Examine everything that a cycle needs.

    Args:
        connect: gives the connection of a side.
        open_store: opens the state store, or an empty one if there is none yet. It is not called
            for a store that cannot be used or has an older schema.
    """
    checks: list[Check] = []
    servers = tuple(_examine_server(side, connect, checks) for side in Side)
    answer = all(check.ok for check in checks)
    later: list[Check] = []
    rehearsed = _examine_store(settings, later)
    if answer:
        usable = rehearsed is not None and (rehearsed.is_current or not rehearsed.schema_version)
        _examine_collections(settings, connect, open_store if usable else None, checks)
    _examine_role(settings, checks)
    checks += later
    schema_version = rehearsed.schema_version if rehearsed is not None else 0
    return DoctorReport(
        version=__version__,
        python_version=platform.python_version(),
        role=settings.role.value,
        checks=tuple(checks),
        servers=servers,
        store=settings.store.shown,
        schema_version=schema_version or None,
        settings=tuple(settings.effective()),
    )


def _examine_server(side: Side, connect: Connect, checks: list[Check]) -> ExaminedServer:
    capabilities: Capabilities | None = None
    url = "not set"
    try:
        connection = connect(side)
        url = connection.shown
        with ChromaReader(connection) as reader:
            capabilities = reader.capabilities()
            way = f", through the {reader.proxy}" if reader.proxy else ""
        found = f"answers, and calls itself {capabilities.version}{way}"
        if connection.address:
            found = _of_folder(Path(connection.address))
        checks.append(Check(side.value, found))
    except ChromasyncError as error:
        checks.append(Check(side.value, str(error), error.exit_code))
    return ExaminedServer(side, url, capabilities)


def _of_folder(folder: Path) -> str:
    if not folder.exists():
        return "is a folder that is not there yet; the first cycle makes it"
    return "is a folder that nobody else has open, and a private server on it answers"


def _examine_collections(
    settings: Settings, connect: Connect, open_store: OpenStore | None, checks: list[Check]
) -> None:
    """List both sides as a cycle does, and report what its guards would hold."""
    try:
        refuse_equal_urls(settings)
        with (
            ChromaReader(connect(Side.PRIMARY)) as left,
            ChromaReader(connect(Side.REPLICA)) as bare,
        ):
            right = targeted_reader(bare, settings)
            primary = list_primary(left, settings.scope)
            replica = list_replica(right, settings.scope, primary)
            refuse_same_server(guarded_ids(primary, right, settings), replica.collections)
            errors = [*(gone.error for gone in primary.missing), *_meeting(primary, settings)]
            checks += [Check("collections", str(error), error.exit_code) for error in errors]
            checks += _tenants(left, bare)
            checks.append(_counted(primary, replica, settings))
            checks += _misspelt(primary, settings)
            if open_store is None:
                checks.append(
                    Check("guards", "cannot be checked without an up-to-date state store")
                )
                return
            checks += _examine_next(settings, open_store(), (left, primary), (right, replica))
    except ChromasyncError as error:
        checks.append(Check("collections", str(error), error.exit_code))


def _examine_next(
    settings: Settings,
    store: Store,
    primary: tuple[Reader, Listing],
    replica: tuple[Reader, Listing],
) -> list[Check]:
    """What the next cycle would find, and whether it turns the direction first."""
    left, right = primary[0], replica[0]
    try:
        with as_next_cycle_finds(store, left, right, settings) as (seen, turns):
            checks = [Check("direction", turns)] if turns else []
            if settings.sync_mark:
                checks.append(_examine_marks(settings, seen, primary, replica))
            return [*checks, *_examine_guards(settings, seen, left, right)]
    except ReplicaPromoted as error:
        return [Check("guards", str(error), error.exit_code)]


def _examine_marks(
    settings: Settings,
    store: Store,
    primary: tuple[Reader, Listing],
    replica: tuple[Reader, Listing],
) -> Check:
    """The result of a cycle's check of the marks on both sides."""
    try:
        known = Knowledge.of(store)
        reader, listing = primary
        refuse_if_marked(Marks(reader), listing, known, settings.primary_url)
        look = look_at_replica(Marks(replica[0]), replica[1], listing.databases, known)
    except ChromasyncError as error:
        return Check("mark", str(error), error.exit_code)
    if look.refusal is not None:
        return Check("mark", say_refused(look.refusal))
    for verdict in look.verdicts.values():
        if verdict.error is not None:
            return Check("mark", str(verdict.error), verdict.error.exit_code)
    doubts = [verdict.why for verdict in look.verdicts.values() if verdict.why]
    if doubts:
        return Check("mark", f"{' '.join(doubts)} The next cycle compares every record there.")
    there = any(verdict.found is not None for verdict in look.verdicts.values())
    return Check("mark", "is the one that was left" if there else "none yet, and none was left")


def _examine_guards(
    settings: Settings, store: Store, primary: Reader, replica: Reader
) -> list[Check]:
    """Check the identity of both servers, and list the holds that need a decision."""
    try:
        undecided = DryRun(primary, replica, store, settings).undecided(Quiet())
    except ChromasyncError as error:
        return [Check("guards", str(error), error.exit_code)]
    if not undecided:
        return [Check("guards", "nothing waits for a decision")]
    return [Check("guards", f"{one.name}: {one.reason}.", DECIDE) for one in undecided]


def _tenants(*readers: ChromaReader) -> list[Check]:
    """The tenant of the token, for each server where it stands for the default tenant."""
    return [
        Check(
            reader.side.value,
            f"{DEFAULT_TENANT} means {reader.token_tenant}, the tenant of the token",
        )
        for reader in readers
        if reader.token_tenant
    ]


def _counted(primary: Listing, replica: Listing, settings: Settings) -> Check:
    """The numbers of collections; an error if the filters exclude all of them."""
    total = len(primary.collections)
    wanted = sum(settings.scope.wants(c.name) for c in primary.collections.values())
    chosen = bool(settings.sync_include or settings.sync_exclude)
    share = f", {wanted:,} of them wanted by SYNC_INCLUDE and SYNC_EXCLUDE" if chosen else ""
    detail = f"{total:,} on the primary{share}, {len(replica.collections):,} on the replica"
    detail += "".join(f"; {sentence}" for sentence in warn_of_leftovers(primary, replica))
    if total and not wanted:
        hint = "Nothing would be mirrored; note that patterns are case-sensitive."
        return Check("collections", f"{detail}. {hint}", SettingsError.exit_code)
    return Check("collections", detail)


def _meeting(primary: Listing, settings: Settings) -> list[SettingsError]:
    """The errors of collections that would meet on the replica."""
    wanted = [c for c in primary.collections.values() if settings.scope.wants(c.name)]
    meeting = meeting_places(wanted, settings.sync_target)
    return [meeting_error(place, meeting) for place in sorted(meeting)]


def _misspelt(primary: Listing, settings: Settings) -> list[Check]:
    """Each pattern in SYNC_INCLUDE that matches nothing, unless the primary has no collection."""
    names = [collection.name for collection in primary.collections.values()]
    unmatched = settings.scope.unmatched(names) if names else []
    code = SettingsError.exit_code
    return [Check("SYNC_INCLUDE", what_is_unmatched(pattern), code) for pattern in unmatched]


def _examine_role(settings: Settings, checks: list[Check]) -> None:
    try:
        settings.check_role()
        refuse_shared_role(settings)
        checks.append(Check("role", f"{settings.role}, and nothing is missing for it"))
    except ChromasyncError as error:
        checks.append(Check("role", str(error), error.exit_code))


def _examine_store(settings: Settings, checks: list[Check]) -> Rehearsed | None:
    """Try all operations of a cycle on the store, and roll them back; None if this fails."""
    try:
        found = rehearse_store(settings.store)
    except ChromasyncError as error:
        checks.append(Check("state store", str(error), error.exit_code))
        return None
    checks.append(Check("state store", _described(found)))
    return found


def _described(found: Rehearsed) -> str:
    if not found.schema_version:
        return "is not there yet; the first cycle makes it"
    more = f", {found.connections}" if found.connections else ""
    later = "" if found.is_current else "; the next cycle brings it up to date"
    return f"opens, schema version {found.schema_version}{more}{later}"

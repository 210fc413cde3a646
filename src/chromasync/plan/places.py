"""Decides whether SYNC_TARGET keeps collections apart, from each other and from their copies.

    two collections would meet in one place   an error of those that are not there yet
    both sides are one server, and a copy
    would be mirrored in its turn             the cycle is refused
    one server under two addresses            the cycle is refused

Copies beside the originals are wanted only if both URLs, tokens and headers are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Container
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from chromasync.config import Scope, Settings, Target
from chromasync.errors import (
    AccessRefused,
    GuardRefusal,
    NotFound,
    RequestRefused,
    ServerFault,
    SettingsError,
)
from chromasync.guard import is_one_server, refuse_same_server
from chromasync.model import DEFAULT_TENANT, Collection, Mirror
from chromasync.plan.listing import Listing, Place, place_of
from chromasync.plan.pairing import Match, Pairing, Pairings, building_name
from chromasync.ports import Reader
from chromasync.targeted import bare

REFUSALS = (AccessRefused, NotFound, RequestRefused, ServerFault)
"""Answers of a server, such as Chroma Cloud, to whom asks for a tenant of others."""


def is_beside(settings: Settings) -> bool:
    """Whether the settings ask for copies beside the originals on one server."""
    return not settings.sync_target.is_plain and is_one_server(settings)


def guarded_ids(primary: Listing, replica: Reader, settings: Settings) -> Container[str]:
    """The primary's collections that must not be among the copies on the replica, by id.

    Copies beside the originals are listed on both sides; they are not mirrored themselves.

    Raises:
        GuardRefusal: both sides are one server under two addresses, or a copy on one server would
            be mirrored in its turn.
        ServerUnreachable: the replica is away.
    """
    if settings.sync_target.is_plain:
        return primary.collections
    if not is_beside(settings):
        refuse_same_server(primary.collections, ids_at(primary.databases, bare(replica)))
        return primary.collections
    scope = settings.scope
    mirrored = {i: c for i, c in primary.collections.items() if scope.wants(c.name)}
    # of both clients, because each knows it only if it asked for the default tenant
    token_tenant = primary.token_tenant or bare(replica).token_tenant
    refuse_loop(mirrored.values(), scope, settings.sync_target, token_tenant)
    return mirrored


def ids_at(databases: Iterable[tuple[str, str]], server: Reader) -> set[str]:
    """The collections in these databases of a server; none where it lets nobody look."""
    ids: set[str] = set()
    for place in databases:
        with suppress(*REFUSALS):
            ids |= {collection.id for collection in server.list_collections(*place)}
    return ids


def refuse_loop(
    collections: Iterable[Collection], scope: Scope, target: Target, token_tenant: str = ""
) -> None:
    """Raise when the copy of one of these would be mirrored in its turn on the same server.

    A copy that replaces another one has the name of `building_name` until it is complete.

    Args:
        token_tenant: the tenant that `default_tenant` stands for, so both are one; empty if none.

    Raises:
        GuardRefusal: the template leads to a place that the settings include.
    """
    for collection in sorted(collections, key=place_of):
        tenant, database, name = place_of(collection)
        for known in (name, building_name(collection)):
            place = target.place_of(tenant, database, known)
            if any(scope.includes(t, *place[1:]) for t in _names_of(place[0], token_tenant)):
                raise _loop(f"{tenant}/{database}/{known}", "/".join(place))


def _names_of(tenant: str, token_tenant: str) -> tuple[str, ...]:
    """All names of a tenant on one server."""
    both = (DEFAULT_TENANT, token_tenant)
    return both if token_tenant and tenant in both else (tenant,)


def _loop(source: str, place: str) -> GuardRefusal:
    """The error of a copy that would be mirrored in its turn."""
    return GuardRefusal(
        f"Both sides are one server, and SYNC_TARGET leads {source} to {place}, which is mirrored, "
        "too: copies would be copied again.",
        untouched="Nothing was written to either side.",
        hint="Leave the copies out by SYNC_EXCLUDE or SYNC_DATABASES, also while they are built "
        "(*-copy leaves them out, docs-copy does not), or lead them to another place.",
    )


def meeting_places(collections: Iterable[Collection], target: Target) -> dict[Place, Place]:
    """The places of collections that would meet, each with the common place on the replica."""
    if target.is_plain:
        return {}
    places = {place_of(c): target.place_of(*place_of(c)) for c in collections}
    times = Counter(places.values())
    return {place: there for place, there in places.items() if times[there] > 1}


def take_out_meeting(pairings: Pairings, target: Target) -> list[tuple[Mirror, SettingsError]]:
    """Take collections that would meet out of the pairings; returns them with their error.

    If one of them alone is on the replica already, it stays in the pairings.
    """
    meeting = meeting_places((p.primary for p in pairings.pairings), target)
    if not meeting:
        return []
    owners = Counter(meeting.get(place_of(p.primary)) for p in pairings.pairings if _is_there(p))
    refused = [
        p
        for p in pairings.pairings
        for there in [meeting.get(place_of(p.primary))]
        if there is not None and not (_is_there(p) and owners[there] == 1)
    ]
    keys = {p.mirror.collection_id for p in refused}
    pairings.pairings[:] = [p for p in pairings.pairings if p.mirror.collection_id not in keys]
    return [(p.mirror, meeting_error(place_of(p.primary), meeting)) for p in refused]


def _is_there(pairing: Pairing) -> bool:
    """Whether the replica has the collection, or the one that it replaces."""
    return pairing.match is Match.KEEP or pairing.superseded is not None


def meeting_error(place: Place, meeting: dict[Place, Place]) -> SettingsError:
    """The error of a collection whose place on the replica another one has, too."""
    others = sorted("/".join(p) for p, at in meeting.items() if at == meeting[place] and p != place)
    return SettingsError(
        f"SYNC_TARGET leads {'/'.join(place)} to {'/'.join(meeting[place])}, and "
        f"{' and '.join(others)} as well.",
        untouched="Of these, only one that is there already is mirrored.",
        hint="Give SYNC_TARGET {tenant} or {database} in the name, or rename one of them.",
    )


def refuse_wrong_way(
    mirrors: Sequence[Mirror],
    primary: Mapping[str, Collection],
    replica: Mapping[str, Collection],
    server: Reader,
    settings: Settings,
) -> None:
    """Raise if the settings lead the turned direction elsewhere than to the former primary's data.

    Args:
        mirrors: those from before the turn.
        primary: the collections of the new primary by id.
        replica: those of the former primary by id, as the settings lead to them.
        server: the former primary under its own names.

    Raises:
        SettingsError: it has collections, and none of them is where a copy would be written.
    """
    listed = [m for m in mirrors if m.collection_id in replica]
    if not listed:
        there = ids_at({(m.tenant, m.database) for m in mirrors}, server)
        missed = [m for m in mirrors if m.collection_id in there]
    elif settings.sync_target.is_plain:
        missed = []
    else:
        both = [m for m in listed if m.replica_id in primary]
        missed = [m for m in both if _is_elsewhere(m, primary, replica)]
        missed = missed if len(missed) == len(both) else []
    if missed:
        raise SettingsError(
            f"SYNC_TARGET ({settings.sync_target}), with SYNC_TENANTS and SYNC_DATABASES, does not "
            f"lead back to {'/'.join(place_of(missed[0]))} on the former primary.",
            untouched="The direction was not turned, and nothing was written.",
            hint="Set SYNC_TARGET and SYNC_DATABASES to the way back. If there is none, set "
            "SYNC_DATA_DIR or DATABASE_URL to a new store: it copies to where SYNC_TARGET leads.",
        )


def _is_elsewhere(
    mirror: Mirror, primary: Mapping[str, Collection], replica: Mapping[str, Collection]
) -> bool:
    """Whether a collection's copy would not be written to the collection that it is a copy of."""
    return place_of(primary[mirror.replica_id or ""]) != place_of(replica[mirror.collection_id])


def at_new_places(mirrors: Iterable[Mirror], primary: Mapping[str, Collection]) -> list[Mirror]:
    """The mirrors whose collection has another place on the new primary, with that place.

    Args:
        mirrors: those from before the turn.
        primary: the collections of the new primary by id.
    """
    moved = []
    for mirror in mirrors:
        there = primary.get(mirror.replica_id or "")
        if there is not None and place_of(there) != place_of(mirror):
            tenant, database, name = place_of(there)
            moved.append(mirror.with_primary(tenant=tenant, database=database, name=name))
    return moved

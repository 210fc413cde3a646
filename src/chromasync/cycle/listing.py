"""What both servers hold in the tenants and databases that the settings name."""

from __future__ import annotations

from dataclasses import dataclass, field

from chromasync.config import Settings
from chromasync.errors import NotFound
from chromasync.model import Collection, Mirror
from chromasync.ports import Reader

Place = tuple[str, str, str]
"""Tenant, database and name of a collection."""


def place_of(collection: Collection | Mirror) -> Place:
    """Where a collection stands, or the primary collection of a mirror."""
    return collection.tenant, collection.database, collection.name


@dataclass(slots=True)
class Listing:
    """One side's databases and collections.

    Attributes:
        databases: (tenant, database) pairs that were listed.
        collections: by id.
    """

    databases: list[tuple[str, str]] = field(default_factory=list)
    collections: dict[str, Collection] = field(default_factory=dict)

    def by_place(self) -> dict[Place, Collection]:
        """The collections by tenant, database and name."""
        return {place_of(c): c for c in self.collections.values()}


def list_primary(reader: Reader, settings: Settings) -> Listing:
    """The primary's collections.

    Raises:
        ServerError: any part of the listing failed; a partial listing is never returned.
    """
    listing = Listing()
    for tenant in settings.sync_tenants:
        for database in _databases(reader, settings, tenant):
            _list_database(reader, listing, tenant, database)
    return listing


def _databases(reader: Reader, settings: Settings, tenant: str) -> list[str]:
    """The databases to mirror in a tenant; a name that leads nowhere is a mistake, not a delete."""
    present = reader.list_databases(tenant)
    chosen = present if settings.sync_databases is None else list(settings.sync_databases)
    missing = [database for database in chosen if database not in present]
    if missing or not present:
        what = f"database {missing[0]!r}" if missing else "databases"
        raise NotFound(
            f"The primary has no {what} in tenant {tenant!r}.",
            side=reader.side,
            untouched="Nothing was changed on the replica.",
            hint="Check SYNC_TENANTS and SYNC_DATABASES.",
        )
    return chosen


def list_replica(reader: Reader, settings: Settings, primary: Listing) -> Listing:
    """The replica's collections in the databases of the primary and in its own of those tenants.

    A database that is not there yet is not among those listed; a cycle creates it first.

    Raises:
        ServerError: any part of the listing failed.
    """
    listing = Listing()
    own = [(t, d) for t in settings.sync_tenants for d in _own_databases(reader, t)]
    every = own if settings.sync_databases is None else []
    for tenant, database in dict.fromkeys([*primary.databases, *every]):
        if (tenant, database) in own:
            _list_database(reader, listing, tenant, database)
    return listing


def _own_databases(reader: Reader, tenant: str) -> list[str]:
    try:
        return reader.list_databases(tenant)
    except NotFound:
        return []


def _list_database(reader: Reader, listing: Listing, tenant: str, database: str) -> None:
    listed = reader.list_collections(tenant, database)
    listing.databases.append((tenant, database))
    listing.collections.update((collection.id, collection) for collection in listed)

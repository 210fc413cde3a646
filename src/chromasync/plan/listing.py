"""Lists the collections of both servers in the tenants and databases that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from chromasync.config import UNMADE, Scope
from chromasync.errors import NotFound, SettingsError
from chromasync.model import MARKS_DATABASE, Collection, Mirror, Side
from chromasync.ports import Reader
from chromasync.trials import trial_of

Place = tuple[str, str, str]
"""Tenant, database and name of a collection."""
Owned = Mapping[str, tuple[str, str] | None]
"""Collections of the replica by id, each with the tenant and the database of its original; None if
the primary has that no more."""


def place_of(collection: Collection | Mirror) -> Place:
    """The place of a collection, or of a mirror's primary collection."""
    return collection.tenant, collection.database, collection.name


@dataclass(frozen=True, slots=True)
class Missing:
    """A database that the settings name and the primary lacks; None for all of a tenant."""

    tenant: str
    database: str | None

    def covers(self, tenant: str, database: str) -> bool:
        """Whether a database is missing by this."""
        return tenant == self.tenant and self.database in (None, database)

    @property
    def error(self) -> NotFound:
        """The error of collections there, with its remedy."""
        named = "SYNC_TENANTS" if self.database is None else "SYNC_DATABASES"
        return NotFound(
            self.what,
            side=Side.PRIMARY,
            untouched="Its collections on the replica were left as they are.",
            hint=f"Restore it, or remove it from {named}.",
        )

    @property
    def what(self) -> str:
        """The fact without its consequences."""
        place = "databases" if self.database is None else f"database {self.database!r}"
        return f"The primary has no {place} in tenant {self.tenant!r}."


@dataclass(slots=True)
class Listing:
    """One side's databases and collections.

    Attributes:
        databases: (tenant, database) pairs that were listed.
        collections: by id.
        missing: databases that the settings name and the primary lacks, while it has others;
            neither side is listed there.
        marked: tenants in which this side has the database of the marks; it is not listed itself.
        trials: self-tests that are running, see `trials`.
        leftovers: collections of other self-tests; they are not in `collections`.
        token_tenant: the tenant that the default tenant stands for on the primary; empty if none.
    """

    databases: list[tuple[str, str]] = field(default_factory=list)
    collections: dict[str, Collection] = field(default_factory=dict)
    marked: list[str] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    trials: Container[str] = ()
    leftovers: list[Collection] = field(default_factory=list)
    token_tenant: str = ""

    def tells_of(self, mirror: Mirror) -> bool:
        """Whether the listing would contain a mirror's collection if that existed."""
        return not self.is_leftover(mirror.name) and self.why_untold(mirror) is None

    def is_leftover(self, name: str) -> bool:
        """Whether a collection of this name is the remainder of an earlier self-test."""
        trial = trial_of(name)
        return trial != "" and trial not in self.trials

    def why_untold(self, mirror: Mirror) -> NotFound | None:
        """Why this listing says nothing about a mirror's collection; None if it does."""
        place = mirror.tenant, mirror.database
        return next((gone.error for gone in self.missing if gone.covers(*place)), None)

    def by_place(self) -> dict[Place, Collection]:
        """The collections by tenant, database and name."""
        return {place_of(c): c for c in self.collections.values()}

    def hide(self, ids: Iterable[str]) -> dict[str, Collection]:
        """Take collections out of the listing; returns those that were in it."""
        listed = [i for i in ids if i in self.collections]
        return {i: self.collections.pop(i) for i in listed}


def list_primary(reader: Reader, scope: Scope, trials: Container[str] = ()) -> Listing:
    """The primary's collections, with those of running self-tests, and without other self-tests'.

    A named database or tenant that is missing is a mistake, not a delete. Only its mirrors fail:
    the other databases are listed, and the listing says nothing about the missing one.

    Raises:
        NotFound: the primary has none of the databases that the scope names.
        ServerError: any part of the listing failed; a partial listing is never returned.
    """
    listing = Listing(trials=trials)
    for tenant in scope.tenants:
        present = _without_marks(listing, tenant, reader.list_databases(tenant))
        for database in _databases(scope, tenant, present, listing.missing):
            _list_database(reader, listing, tenant, database, _is_only_one)
    if not listing.databases:
        raise NotFound(
            " ".join(gone.what for gone in listing.missing),
            side=reader.side,
            untouched="Nothing was changed on the replica.",
            hint="Check SYNC_TENANTS and SYNC_DATABASES.",
        )
    listing.token_tenant = reader.token_tenant
    return listing


def _without_marks(listing: Listing, tenant: str, present: list[str]) -> list[str]:
    """A tenant's databases without the database of the marks, which is noted in the listing."""
    if MARKS_DATABASE in present:
        listing.marked.append(tenant)
    return [database for database in present if database != MARKS_DATABASE]


def _databases(scope: Scope, tenant: str, present: list[str], missing: list[Missing]) -> list[str]:
    """The databases to mirror in a tenant; named databases that it lacks go to `missing`."""
    if not present:
        missing.append(Missing(tenant, None))
        return []
    chosen = present if scope.databases is None else list(scope.databases)
    missing += [Missing(tenant, database) for database in chosen if database not in present]
    return [database for database in chosen if database in present]


def list_replica(
    reader: Reader, scope: Scope, primary: Listing, owned: Owned | None = None
) -> Listing:
    """The replica's collections, in the primary's databases and in its own of the same tenants.

    A database that does not exist yet is not listed; a cycle creates it first. A tenant that the
    primary lacks is not listed, either. If several of the primary's databases lead to one of the
    replica (SYNC_TARGET), a collection there is listed under the one whose copy it is, or under
    the one that has a collection of its name.

    Args:
        owned: collections of this program. Of those that the template cannot have made, only
            these are listed.

    Raises:
        ServerError: any part of the listing failed.
    """
    listing = Listing(trials=primary.trials)
    gone = {missing.tenant for missing in primary.missing if missing.database is None}
    own = [
        (tenant, database)
        for tenant in scope.tenants
        if tenant not in gone
        for database in _without_marks(listing, tenant, _own_databases(reader, tenant))
    ]
    every = own if scope.databases is None else []
    owned = owned or {}
    better = partial(_is_better, owned=owned, wanted=primary.by_place())
    for tenant, database in dict.fromkeys([*primary.databases, *every]):
        if (tenant, database) in own:
            _list_database(reader, listing, tenant, database, better)
    listing.hide([i for i, c in listing.collections.items() if _is_unmade(c) and i not in owned])
    return listing


def _is_unmade(collection: Collection) -> bool:
    return collection.name.startswith(UNMADE)


def _is_better(one: Collection, other: Collection, owned: Owned, wanted: Container[Place]) -> bool:
    """Whether a collection is listed as `one`, and not under another database as `other`."""
    source = owned.get(one.id)
    if source is not None:
        return (one.tenant, one.database) == source
    if _is_unmade(one) or _is_unmade(other):
        return not _is_unmade(one)
    return place_of(one) in wanted


def _own_databases(reader: Reader, tenant: str) -> list[str]:
    try:
        return reader.list_databases(tenant)
    except NotFound:
        return []


def _list_database(
    reader: Reader,
    listing: Listing,
    tenant: str,
    database: str,
    better: Callable[[Collection, Collection], bool],
) -> None:
    """Add the collections of a database to a listing.

    Args:
        better: decides if another database listed a collection, too: whether this one is right.
    """
    listed = reader.list_collections(tenant, database)
    listing.databases.append((tenant, database))
    listing.leftovers += [c for c in listed if listing.is_leftover(c.name)]
    for collection in listed:
        if listing.is_leftover(collection.name):
            continue
        other = listing.collections.get(collection.id)
        if other is None or better(collection, other):
            listing.collections[collection.id] = collection


def _is_only_one(one: Collection, other: Collection) -> bool:
    """Whether the template made a collection from `one`, and not from `other`.

    Raises:
        SettingsError: it may have made it from both.
    """
    if _is_unmade(one) or _is_unmade(other):
        return not _is_unmade(one)
    raise SettingsError(
        f"SYNC_TARGET does not tell whether a collection comes from {'/'.join(place_of(other))} "
        f"or from {'/'.join(place_of(one))}.",
        untouched="Nothing was written.",
        hint="Nothing can tell these collections apart on the replica. Stop its server, and start "
        "a new one on a copy of its data folder.",
    )


def warn_of_leftovers(*listings: Listing) -> tuple[str, ...]:
    """A warning if self-tests left collections on one of the sides."""
    count = len({place_of(c) for listing in listings for c in listing.leftovers})
    if not count:
        return ()
    made = f"{count:,} collections that self-tests made are"
    if count == 1:
        made = "1 collection that a self-test made is"
    words = (
        f"{made} ignored. A cycle mirrors the collections of a self-test only while it runs. The "
        "next `chromasync selftest` removes the others."
    )
    return (words,)

"""The replica as SYNC_TARGET leads to it: all other modules see it under the primary's names.

The engine pairs, names and removes collections as if they had the same places on both sides. These
classes translate every place on the way to the server and back, and the names of the marks, which
are those of places. A collection that the template cannot have made is listed under its real name
with `UNMADE` before it; such a name leads to the same collection again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chromasync.config import FROM, Settings, Target
from chromasync.errors import AccessRefused, RequestRefused
from chromasync.model import (
    MARKS_DATABASE,
    Capabilities,
    Change,
    Collection,
    Definition,
    Floats,
    Neighbours,
    Records,
    Scalar,
    Side,
    Traffic,
    mark_place,
)
from chromasync.ports import Pacing, Permit, Reader, Unchanged, Writer


def targeted_reader(server: Reader, settings: Settings) -> Reader:
    """The replica to read, as the settings lead to it."""
    target = settings.sync_target
    if target.is_plain:
        return server
    return TargetedReader(server, target, settings.sync_databases)


def targeted_writer(server: Writer, settings: Settings) -> Writer:
    """The replica to read and write, as the settings lead to it."""
    target = settings.sync_target
    if target.is_plain:
        return server
    return TargetedWriter(server, target, settings.sync_databases)


def bare(server: Reader) -> Reader:
    """The server under its own names."""
    return server.server if isinstance(server, TargetedReader) else server


class TargetedReader:
    """A replica to read under the primary's names; see `ports.Reader`.

    Args:
        server: the replica under its own names.
        target: the template.
        databases: the primary's databases by name. The template tells databases apart if it is
            None.
    """

    def __init__(
        self, server: Reader, target: Target, databases: Sequence[str] | None = None
    ) -> None:
        self.side: Side = server.side
        self.server = server
        self._target = target
        self._databases = databases

    @property
    def pacing(self) -> Pacing:
        """See `ports.Reader`."""
        return self.server.pacing

    @property
    def token_tenant(self) -> str:
        """See `ports.Reader`."""
        return self.server.token_tenant

    def capabilities(self) -> Capabilities:
        """See `ports.Reader`."""
        return self.server.capabilities()

    def traffic(self) -> Traffic:
        """See `ports.Reader`."""
        return self.server.traffic()

    def list_databases(self, tenant: str) -> list[str]:
        """The primary's databases of a tenant whose database on the replica exists."""
        present = self.server.list_databases(self._target.tenant_of(tenant))
        marks = [MARKS_DATABASE] if MARKS_DATABASE in present else []
        return sorted([*self._sources(tenant, present), *marks])

    def _sources(self, tenant: str, present: Sequence[str]) -> set[str]:
        if self._target.tells_databases_apart:
            found = (
                self._target.source_of_database(tenant, database)
                for database in present
                if database != MARKS_DATABASE
            )
            return {database for database in found if database not in (None, MARKS_DATABASE)}
        every = self._databases or ()
        return {d for d in every if self._target.database_of(tenant, d) in present}

    def list_collections(self, tenant: str, database: str) -> list[Collection]:
        """The collections in the replica's database for one of the primary's, by its names."""
        if database == MARKS_DATABASE:
            listed = self.server.list_collections(self._target.tenant_of(tenant), database)
            return [replace(c, tenant=tenant) for c in listed]
        place = self._target.tenant_of(tenant), self._target.database_of(tenant, database)
        return [self._seen(c, tenant, database) for c in self.server.list_collections(*place)]

    def _seen(self, collection: Collection, tenant: str, database: str) -> Collection:
        name = self._target.source_of_name(tenant, database, collection.name)
        return replace(collection, tenant=tenant, database=database, name=name)

    def _real(self, collection: Collection) -> Collection:
        """The collection under the server's own names."""
        place = collection.tenant, collection.database, collection.name
        tenant, database, name = self._target.place_of(*place)
        if collection.database == MARKS_DATABASE:
            return replace(collection, tenant=tenant)
        return replace(collection, tenant=tenant, database=database, name=name)

    def _named(self, collection: Collection, records: Records) -> Records:
        if collection.database != MARKS_DATABASE:
            return records
        return replace(records, ids=self._claims(collection, records.ids))

    def _claims(self, collection: Collection, ids: Sequence[str]) -> list[str]:
        """The ids of records on the server; those of marks are named by the replica's places."""
        if collection.database != MARKS_DATABASE:
            return list(ids)
        before = mark_place(collection.tenant, "")
        return [self._target.claim(collection.tenant, i.removeprefix(before)) for i in ids]

    def same_place(self, home: Collection, ids: Sequence[str], database: str) -> list[str]:
        """Those of the marks' own ids that another database was led to the same place by.

        Args:
            home: the collection of marks.
            ids: as the server has them.
            database: of the primary, in the tenant of `home`.
        """
        own = self._target.claim(home.tenant, database)
        place = own.partition(FROM)[0]
        return [i for i in ids if i != own and i.partition(FROM)[0] == place]

    def read_claims(self, home: Collection, claims: Sequence[str]) -> Records:
        """The records of marks with these ids, as the server has them."""
        return self.server.read(self._real(home), claims, embeddings=False)

    def count(self, collection: Collection) -> int:
        """See `ports.Reader`."""
        return self.server.count(self._real(collection))

    def list_ids(self, collection: Collection, *, offset: int, limit: int) -> list[str]:
        """See `ports.Reader`."""
        return self.server.list_ids(self._real(collection), offset=offset, limit=limit)

    def read_first(self, collection: Collection, limit: int) -> Records:
        """See `ports.Reader`."""
        return self.server.read_first(self._real(collection), limit)

    def read(
        self,
        collection: Collection,
        ids: Sequence[str],
        *,
        embeddings: bool = True,
        most_attempts: int | None = None,
        unchanged: Unchanged | None = None,
    ) -> Records:
        """See `ports.Reader`."""
        claims = self._claims(collection, ids)
        records = self.server.read(
            self._real(collection),
            claims,
            embeddings=embeddings,
            most_attempts=most_attempts,
            unchanged=unchanged,
        )
        if collection.database != MARKS_DATABASE:
            return records
        asked = dict(zip(claims, ids, strict=True))
        return replace(records, ids=[asked[i] for i in records.ids])

    def nearest(self, collection: Collection, vector: Floats, count: int) -> Neighbours:
        """See `ports.Reader`."""
        return self.server.nearest(self._real(collection), vector, count)


class TargetedWriter(TargetedReader):
    """A replica to read and write under the primary's names; see `ports.Writer`."""

    server: Writer

    def __init__(
        self, server: Writer, target: Target, databases: Sequence[str] | None = None
    ) -> None:
        super().__init__(server, target, databases)

    def permitted_by(self, permit: Permit) -> TargetedWriter:
        """See `ports.Writer`."""
        return TargetedWriter(self.server.permitted_by(permit), self._target, self._databases)

    def ensure_database(self, tenant: str, database: str) -> None:
        """Create the replica's database for one of the primary's if it is missing."""
        there = self._target.tenant_of(tenant), database
        if database != MARKS_DATABASE:
            there = there[0], self._target.database_of(tenant, database)
        try:
            self.server.ensure_database(*there)
        except (RequestRefused, AccessRefused) as error:
            raise type(error)(
                f"SYNC_TARGET leads to {'/'.join(there)}, which the replica lets nobody create: "
                f"{error.what}",
                side=self.side,
                status=error.status,
                said=error.said,
                untouched="Nothing was written.",
                hint="Create it there, or name a tenant and a database in SYNC_TARGET that exist.",
            ) from error

    def create_collection(self, definition: Definition) -> Collection:
        """See `ports.Writer`."""
        place = definition.tenant, definition.database, definition.name
        tenant, database, name = self._target.place_of(*place)
        if definition.database == MARKS_DATABASE:
            made = self.server.create_collection(replace(definition, tenant=tenant))
            return replace(made, tenant=definition.tenant)
        real = replace(definition, tenant=tenant, database=database, name=name)
        return self._seen(self.server.create_collection(real), *place[:2])

    def modify_collection(
        self,
        collection: Collection,
        *,
        name: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        """See `ports.Writer`."""
        place = collection.tenant, collection.database
        self.server.modify_collection(
            self._real(collection),
            name=None if name is None else self._target.name_of(*place, name),
            metadata=metadata,
            configuration=configuration,
        )

    def drop_collection(self, collection: Collection) -> None:
        """See `ports.Writer`."""
        self.server.drop_collection(self._real(collection))

    def most_records(self) -> int:
        """See `ports.Writer`."""
        return self.server.most_records()

    def batches(self, records: Records) -> list[Records]:
        """See `ports.Writer`."""
        return self.server.batches(records)

    def change_batches(self, changes: Sequence[Change]) -> list[list[Change]]:
        """See `ports.Writer`."""
        return self.server.change_batches(changes)

    def add(self, collection: Collection, records: Records) -> None:
        """See `ports.Writer`."""
        self.server.add(self._real(collection), self._named(collection, records))

    def upsert(self, collection: Collection, records: Records) -> None:
        """See `ports.Writer`."""
        self.server.upsert(self._real(collection), self._named(collection, records))

    def update(self, collection: Collection, changes: Sequence[Change]) -> None:
        """See `ports.Writer`."""
        self.server.update(self._real(collection), changes)

    def delete(self, collection: Collection, ids: Sequence[str]) -> None:
        """See `ports.Writer`."""
        self.server.delete(self._real(collection), ids)

    def check_writes(self, collection: Collection) -> None:
        """See `ports.Writer`."""
        self.server.check_writes(self._real(collection))

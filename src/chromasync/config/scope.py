"""The part of the primary that is mirrored: tenants, databases and collections, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from chromasync.model import MARKS_DATABASE


@dataclass(frozen=True, slots=True)
class Scope:
    """Names that are mirrored.

    Attributes:
        tenants: names of tenants.
        databases: names of databases in each of them; None for all.
        include: patterns of collections; none of them means all collections.
        exclude: patterns of collections that are left out all the same.
    """

    tenants: tuple[str, ...]
    databases: tuple[str, ...] | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]

    def covers(self, tenant: str, database: str) -> bool:
        """Whether a database is mirrored."""
        named = self.databases is None or database in self.databases
        return tenant in self.tenants and named and database != MARKS_DATABASE

    def wants(self, name: str) -> bool:
        """Whether a collection of this name is mirrored, in a database that is."""
        included = not self.include or any(fnmatchcase(name, g) for g in self.include)
        return included and not any(fnmatchcase(name, g) for g in self.exclude)

    def includes(self, tenant: str, database: str, name: str) -> bool:
        """Whether this collection of this database is mirrored."""
        return self.covers(tenant, database) and self.wants(name)

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """The patterns of `include` that match none of these names; they may be misspelt."""
        known = list(names)
        return [g for g in self.include if not any(fnmatchcase(n, g) for n in known)]

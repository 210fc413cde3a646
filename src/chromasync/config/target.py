"""The place of a collection on the replica: a template of its tenant, database and name; pure.

A template has three parts, such as `{tenant}/{database}/{name}`. The part of the name has `{name}`
exactly once, and no other part has it. So different collections of one database never meet, a
rename on the primary is a rename on the replica, and the name on the primary follows from that on
the replica.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from chromasync.model import MARKS_DATABASE

UNMADE = "/"
"""Prefix of a name on the replica that the template cannot have made; no collection has a `/`."""
SHORTEST = 3
"""Characters of the shortest name of a tenant, a database or a collection."""
FROM = " from "
"""Stands in a claim before the primary's database."""
OWN_WORD = "chromasync"
"""Names with this word mean something to this program."""
KNOWN = ("tenant", "database", "name")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Target:
    """The template; each part is a text with placeholders.

    Attributes:
        tenant: of the tenant; it may have `{tenant}`.
        database: of the database; it may have `{tenant}` and `{database}`.
        name: of the name; it has `{name}`, and may have the others.
    """

    tenant: str = "{tenant}"
    database: str = "{database}"
    name: str = "{name}"

    @classmethod
    def parse(cls, given: object) -> Self:
        """Read a template; raises ValueError with the reason if it cannot be used."""
        if isinstance(given, cls):
            return given
        parts = str(given).strip().split("/")
        if len(parts) != len(KNOWN):
            raise ValueError("it does not have three parts with a / between them")
        for known, part in enumerate(parts, 1):
            _check_part(part, KNOWN[known - 1], KNOWN[:known])
        if "{name}" not in parts[2]:
            raise ValueError("its name has no {name}, so collections would meet")
        if parts[1] == MARKS_DATABASE:
            raise ValueError(f"{MARKS_DATABASE} holds the marks of a replica")
        if OWN_WORD in parts[2]:
            raise ValueError(f"chromasync gives names with {OWN_WORD} to its own collections")
        return cls(*parts)

    @property
    def is_plain(self) -> bool:
        """Whether every collection has the same place on both sides."""
        return self == type(self)()

    @property
    def tells_databases_apart(self) -> bool:
        """Whether databases of one tenant go to different databases."""
        return "{database}" in self.database

    def tenant_of(self, tenant: str) -> str:
        """The tenant on the replica."""
        return _fill(self.tenant, tenant=tenant)

    def database_of(self, tenant: str, database: str) -> str:
        """The database on the replica."""
        return _fill(self.database, tenant=tenant, database=database)

    def name_of(self, tenant: str, database: str, name: str) -> str:
        """The name on the replica of a collection in a database of the primary."""
        if name.startswith(UNMADE):
            return name.removeprefix(UNMADE)
        return _fill(self.name, tenant=tenant, database=database, name=name)

    def place_of(self, tenant: str, database: str, name: str) -> tuple[str, str, str]:
        """Tenant, database and name on the replica."""
        return (
            self.tenant_of(tenant),
            self.database_of(tenant, database),
            self.name_of(tenant, database, name),
        )

    def source_of_database(self, tenant: str, database: str) -> str | None:
        """The primary's database in `tenant` that goes to a database of the replica; None if none.

        Raises:
            ValueError: the template does not tell databases apart.
        """
        if not self.tells_databases_apart:
            raise ValueError("several databases may go to this one")
        return _read_back(self.database, "database", database, tenant=tenant)

    def source_of_name(self, tenant: str, database: str, name: str) -> str:
        """The primary's name of a collection that came from a database; see `UNMADE` if from none.

        Args:
            tenant, database: on the primary.
            name: on the replica.
        """
        found = _read_back(self.name, "name", name, tenant=tenant, database=database)
        return UNMADE + name if found is None else found

    def claim(self, tenant: str, database: str) -> str:
        """What this store writes to on the replica for a database of the primary.

        It is `tenant/database` of the replica as long as that belongs to one database of the
        primary. Otherwise the pattern of the names and the database of the primary follow.
        """
        claimed = f"{self.tenant_of(tenant)}/{self.database_of(tenant, database)}"
        if self.name != "{name}":
            claimed += "/" + self.name_of(tenant, database, "{name}")
        if "{tenant}" in self.tenant and self.tells_databases_apart:
            return claimed
        return f"{claimed}{FROM}{tenant}/{database}"

    def __str__(self) -> str:
        return f"{self.tenant}/{self.database}/{self.name}"


def _check_part(part: str, of: str, known: tuple[str, ...]) -> None:
    """Raise ValueError unless a part may have all of its placeholders and characters."""
    placeholders = _PLACEHOLDER.findall(part)
    literal = _PLACEHOLDER.sub("", part)
    for name in placeholders:
        if name not in KNOWN:
            raise ValueError(f"{{{name}}} is unknown; there are {{tenant}}, {{database}}, {{name}}")
        if name not in known:
            raise ValueError(f"its {of} has {{{name}}}, which belongs into a later part")
    if len(set(placeholders)) < len(placeholders):
        raise ValueError(f"its {of} has a placeholder twice")
    if not _LITERAL.fullmatch(literal):
        raise ValueError(
            f"its {of} has a character other than letters, digits, dot, underscore and hyphen"
        )
    if not placeholders and len(part) < SHORTEST:
        raise ValueError(f"its {of} has fewer than {SHORTEST} characters")
    edges = part[:1] + part[-1:]
    if of == "name" and re.search(r"[._-]", edges):
        raise ValueError("a name begins and ends with a letter or a digit")


def _fill(part: str, **values: str) -> str:
    """A part with values for its placeholders; a value with braces stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], part)


def _read_back(part: str, wanted: str, text: str, **values: str) -> str | None:
    """The value of one placeholder that makes a part to this text; None if no value does."""
    before, _, after = part.partition(f"{{{wanted}}}")
    start, end = _fill(before, **values), _fill(after, **values)
    fits = text.startswith(start) and text.endswith(end) and len(text) > len(start) + len(end)
    return text[len(start) : len(text) - len(end)] if fits else None

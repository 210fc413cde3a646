"""Which collections the page shows, and in which order: a reader's choice, from the query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from chromasync.model import MirrorStatus
from chromasync.reports import CollectionReport
from chromasync.wording.words import full_name

PER_PAGE = 50
ATTENTION = "attention"
"""Stands for all states that are not identical."""
LONGEST_TEXT = 200
STATES = (ATTENTION, *(status.value for status in MirrorStatus))
LAST = float("inf")

SORTS: Mapping[str, Callable[[CollectionReport], Any]] = {
    "name": lambda c: full_name(c.tenant, c.database, c.name).casefold(),
    "primary": lambda c: c.primary_count,
    "replica": lambda c: c.replica_count,
    "state": lambda c: (c.status is MirrorStatus.IDENTICAL, c.status.value),
    "lag": lambda c: -c.identical_as_of.timestamp() if c.identical_as_of else LAST,
    "read": lambda c: -c.chunks.oldest_read_at.timestamp() if c.chunks.oldest_read_at else LAST,
    "changed": lambda c: -c.last_changed_at.timestamp() if c.last_changed_at else LAST,
    "held": lambda c: -(c.held + c.quarantined),
}
"""The orders, by the column that asks for them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a reader wants to see; every value is one of those that exist."""

    text: str = ""
    state: str = ""
    sort: str = "name"
    backwards: bool = False
    page: int = 1

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Choice:
        """The choice in a query; what makes no sense there counts as not given."""
        page = query.get("page", "1")
        return cls(
            text=query.get("text", "")[:LONGEST_TEXT],
            state=query.get("state", "") if query.get("state") in STATES else "",
            sort=query.get("sort", "name") if query.get("sort") in SORTS else "name",
            backwards=query.get("backwards") == "1",
            page=int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1,
        )

    def query(self, **changes: object) -> str:
        """The query of this choice with changes; empty for the first page of everything."""
        other = replace(self, **changes)  # type: ignore[arg-type]
        values = {
            "text": other.text,
            "state": other.state,
            "sort": "" if other.sort == "name" else other.sort,
            "backwards": "1" if other.backwards else "",
            "page": "" if other.page <= 1 else str(other.page),
        }
        return urlencode({name: value for name, value in values.items() if value})

    def sorted_by(self, sort: str) -> str:
        """The query behind a column's heading: its order, or the other way round."""
        return self.query(sort=sort, backwards=self.sort == sort and not self.backwards, page=1)


@dataclass(frozen=True, slots=True)
class Shown:
    """One page of the chosen collections.

    Attributes:
        rows: the collections on it.
        found: how many were chosen.
        total: how many there are.
        page: the page that is shown, from 1.
        pages: how many pages there are.
    """

    rows: Sequence[CollectionReport]
    found: int
    total: int
    page: int
    pages: int


def choose(collections: Sequence[CollectionReport], choice: Choice) -> Shown:
    """The page of collections that a reader asked for."""
    text = choice.text.casefold()
    found = [c for c in collections if _is_chosen(c, text, choice.state)]
    found.sort(key=SORTS["name"])
    found.sort(key=SORTS[choice.sort], reverse=choice.backwards)
    pages = max(1, -(-len(found) // PER_PAGE))
    page = min(max(choice.page, 1), pages)
    rows = found[(page - 1) * PER_PAGE : page * PER_PAGE]
    return Shown(rows, len(found), len(collections), page, pages)


def _is_chosen(collection: CollectionReport, text: str, state: str) -> bool:
    if state == ATTENTION:
        fits = collection.status is not MirrorStatus.IDENTICAL
    else:
        fits = not state or collection.status.value == state
    place = f"{collection.tenant}/{collection.database}/{collection.name}"
    return fits and (not text or text in place.casefold())

"""The page on which reports are written; `cli` has one for terminals, `notebook` one of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


class Page(Protocol):
    """Takes sentences and tables, from top to bottom."""

    def say(self, *sentences: str) -> None:
        """Write sentences on one line; without any, an empty line."""

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table; a column whose heading starts with `>` is right-aligned."""

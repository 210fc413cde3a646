"""What a step of the migrations consists of; see `steps`."""

from __future__ import annotations

from typing import NamedTuple


class Only(NamedTuple):
    """A statement for one kind of database."""

    dialect: str
    statement: str


class Step(NamedTuple):
    """Statements that migrate a store by one version, and the oldest program that may use it."""

    oldest_program: int
    statements: tuple[str | Only, ...]

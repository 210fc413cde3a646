"""The direction of a store's mirror: who is primary, and whether the replica was promoted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class DirectionState(StrEnum):
    """Whether this program may write to the replica."""

    FOLLOWING = "following"
    """The replica follows the primary."""
    PROMOTING = "promoting"
    """Nobody may write; the replica is about to become the primary."""
    PROMOTED = "promoted"
    """The replica is the primary now: applications write to it, and this program does not."""


@dataclass(frozen=True, slots=True)
class Direction:
    """The one row about the direction of a store's mirror.

    Attributes:
        turns: how often the direction was turned, or a promotion was cancelled; part of the mark of
            a promoted replica.
        since_at: when the present state began; None in a store that never promoted.
        by: who promoted, as `user@host`.
        url: the address of the replica that is or was promoted.
        planned: whether it was a switchover, in which nothing is lost.
        writers_until: no process that worked before can write to the replica after this instant.
        identical_as_of: the replica was identical as of this instant; None if that is unknown.
    """

    state: DirectionState = DirectionState.FOLLOWING
    turns: int = 0
    since_at: datetime | None = None
    by: str | None = None
    url: str | None = None
    planned: bool = False
    writers_until: datetime | None = None
    identical_as_of: datetime | None = None

    @property
    def is_following(self) -> bool:
        """Whether this program may write to the replica."""
        return self.state is DirectionState.FOLLOWING

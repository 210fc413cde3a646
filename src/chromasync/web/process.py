"""What the page needs of the program around it: the process of the service, and an operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from chromasync.model import Hold, Side, Vitals


class Process(Protocol):
    """The process of the service in which the page runs."""

    def vitals(self) -> Vitals:
        """Its threads, its duty, and its work so far."""

    def outcomes(self) -> Mapping[Side, Mapping[str, int]]:
        """Its requests to both servers by outcome."""


class Operator(Protocol):
    """Carries out what a person asked for on the page; every method raises ChromasyncError."""

    def pause(self, who: str, reason: str, seconds: float | None) -> None:
        """Pause all processes."""

    def resume(self) -> None:
        """End the pause."""

    def want_cycle(self, who: str) -> None:
        """Ask for a cycle that begins from now on."""

    def approve_set(self, collection_id: str, digest: str) -> Sequence[Hold]:
        """Approve exactly the held set with this digest."""

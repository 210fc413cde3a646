"""A `ports.Progress` that shows nothing."""

from __future__ import annotations


class Quiet:
    """Takes progress and shows nothing."""

    def start(self, activity: str, total: int | None) -> None:
        """Ignore the start of an activity."""

    def advance(self, count: int) -> None:
        """Ignore an advance."""

    def note(self, text: str) -> None:
        """Ignore a remark."""

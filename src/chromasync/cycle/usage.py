"""What the process that leads a cycle uses for it: requests, bytes, and seconds by phase."""

from __future__ import annotations

from chromasync.model import Usage
from chromasync.ports import Reader
from chromasync.timing import Phases


class CycleUsage:
    """Counts from its creation; the workers of this process are included, others are not."""

    def __init__(self, primary: Reader, replica: Reader) -> None:
        self._servers = primary, replica
        self._began = primary.traffic(), replica.traffic()
        self._phases = Phases()

    def begin(self, phase: str) -> None:
        """Begin the next phase of the cycle."""
        self._phases.begin(phase)

    @property
    def usage(self) -> Usage:
        """The usage so far."""
        seconds = self._phases.seconds
        primary, replica = (
            server.traffic() - began
            for server, began in zip(self._servers, self._began, strict=True)
        )
        return Usage(
            seconds=sum(seconds.values()), primary=primary, replica=replica, phase_seconds=seconds
        )

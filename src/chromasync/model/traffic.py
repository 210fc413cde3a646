"""The requests of one process to one server, counted since the process began."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts since the process began; the difference of two is the traffic between them.

    Attributes:
        requests: requests sent, repetitions included.
        refused: answers that asked to slow down (429, 503).
        failed: requests without a usable answer, other than refused ones.
        bytes_read: bytes of answers, uncompressed.
        bytes_written: bytes of request bodies.
        seconds: time that threads waited for answers; several threads wait at the same time.
        throttled_seconds: time that threads waited before they might send.
    """

    requests: int = 0
    refused: int = 0
    failed: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    seconds: float = 0.0
    throttled_seconds: float = 0.0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(*(getattr(self, name) - getattr(other, name) for name in self.__slots__))

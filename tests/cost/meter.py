"""Counts what a cycle costs without a clock: requests, bytes, statements, rows written.

What depends on how long something takes is left out: queries that prove an index (they are repeated
until an approximate index answers), and statements by which threads wait, claim, report that they
live, or record a minute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Engine, event

from chromasync.lab.proxy import RecordingProxy, Request

UNTIMED = re.compile(
    r"BEGIN|SELECT\b.*\bFROM sync_tasks\b"
    r"|.*\b(sync_workers|sync_control|sync_leases|performance_metrics)\b",
    re.DOTALL,
)
"""Statements whose number depends on the time that other things take."""

FIRST_FAULT = 500


class Figures(NamedTuple):
    """What one phase cost; bytes are those of bodies, as we sent and received them."""

    primary_requests: int
    primary_sent: int
    primary_received: int
    replica_requests: int
    replica_sent: int
    replica_received: int
    statements: int
    rows_written: int


@dataclass
class Statements:
    """Statements of all stores of this process, and the rows that they wrote."""

    count: int = 0
    rows: int = 0

    def before(self, connection: Any, cursor: Any, *_: Any) -> None:
        """Remember how many rows this connection has written so far."""
        connection.info["rows_before"] = cursor.connection.total_changes

    def after(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        """Count the statement."""
        if not UNTIMED.match(statement):
            self.count += 1
            self.rows += cursor.connection.total_changes - connection.info["rows_before"]


@contextmanager
def counted_statements() -> Iterator[Statements]:
    """Count the statements of every SQLite store during the block."""
    counted = Statements()
    hooks = (
        ("before_cursor_execute", counted.before),
        ("after_cursor_execute", counted.after),
    )
    for name, hook in hooks:
        event.listen(Engine, name, hook)
    try:
        yield counted
    finally:
        for name, hook in hooks:
            event.remove(Engine, name, hook)


class Wire:
    """What passed one proxy since the last look."""

    def __init__(self, proxy: RecordingProxy) -> None:
        self._proxy = proxy
        self._seen = len(proxy.requests)
        self.faults = 0

    def passed(self) -> tuple[int, int, int]:
        """Requests, bytes sent and bytes received; failures of the server are noted."""
        new = self._proxy.requests[self._seen :]
        self._seen += len(new)
        self.faults += sum((request.status or FIRST_FAULT) >= FIRST_FAULT for request in new)
        told = [request for request in new if _counts(request)]
        return (
            len(told),
            sum(request.body_size for request in told),
            sum(request.response_size for request in told),
        )


def _counts(request: Request) -> bool:
    return not request.path.endswith(("/query", "/heartbeat"))


def figures_of(wires: Sequence[Wire], statements: Statements) -> Figures:
    """All figures since the last look at these wires."""
    primary, replica = (wire.passed() for wire in wires)
    return Figures(*primary, *replica, statements.count, statements.rows)

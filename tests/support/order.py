"""The order of tests: each process begins with its share of those that take longest.

A long test that begins last keeps one process busy while the others have nothing left to do. So
those with the mark `longest` come first in what pytest-xdist gives to each process.
"""

from __future__ import annotations

import pytest


def begin_with_the_longest(items: list[pytest.Item], processes: int) -> None:
    """Put the longest tests in front of each process's part; all others stay in their order."""
    longest = [item for item in items if item.get_closest_marker("longest")]
    others = [item for item in items if not item.get_closest_marker("longest")]
    count, items[:] = len(items), []
    for number in range(processes):
        size = (count - len(items)) // (processes - number)
        mine = longest[number::processes]
        items += mine
        room = max(0, size - len(mine))
        items += others[:room]
        del others[:room]
    items += others


def processes_of(config: pytest.Config) -> int:
    """How many processes share the tests."""
    return int(getattr(config, "workerinput", {}).get("workercount", 1))

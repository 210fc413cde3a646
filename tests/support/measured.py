"""Coverage of the core by the tests that are to reach all of it, within a run of all tests.

`make test` measures so when COVERAGE is set. The measure counts the tests of MEASURED alone, as
`make coverage` does: what only a test with real servers reaches is no quick proof.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import coverage

TESTS = Path(__file__).parents[1]
MEASURED = (TESTS / "unit", TESTS / "property")
FOR_CHILDREN = "COVERAGE_PROCESS_CONFIG"
"""Coverage's own variable: a process that has it measures itself, too."""


class Measured:
    """A plugin that stops the measurement while a test runs that does not count.

    Args:
        measurement: of this process.
    """

    def __init__(self, measurement: coverage.Coverage) -> None:
        self._measurement = measurement
        self._config = os.environ.get(FOR_CHILDREN)
        self._on = True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Measure this test, or not."""
        self._switch(any(item.path.is_relative_to(folder) for folder in MEASURED))
        return (yield)

    def _switch(self, on: bool) -> None:
        if on == self._on:
            return
        self._on = on
        if on:
            self._measurement.start()
        else:
            self._measurement.stop()
        if self._config is None:
            return
        if on:
            os.environ[FOR_CHILDREN] = self._config
        else:
            del os.environ[FOR_CHILDREN]


def measure_what_counts(config: pytest.Config) -> None:
    """Where the run is measured, count the tests of MEASURED alone."""
    if FOR_CHILDREN not in os.environ:
        return
    import coverage

    if (measurement := coverage.Coverage.current()) is not None:
        config.pluginmanager.register(Measured(measurement))

"""The lines of the charts: lag, throughput and cycle time of the last hour, day or week."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MINUTE, HOUR, DAY = 60, 3600, 86_400
SPANS: Mapping[str, tuple[int, int]] = {
    "hour": (HOUR, MINUTE),
    "day": (DAY, 15 * MINUTE),
    "week": (7 * DAY, 2 * HOUR),
}
"""Seconds of each span, and seconds of one step in it."""
KEPT_SECONDS = 10.0
"""All tabs get the same lines for so long."""


class Measured(Protocol):
    """What the charts need of a measurement: of a cycle, or of a process for some time."""

    @property
    def recorded_at(self) -> datetime: ...  # noqa: D102 (as `Measurement` has it)
    @property
    def process_name(self) -> str | None: ...  # noqa: D102
    @property
    def duration_seconds(self) -> float: ...  # noqa: D102
    @property
    def records_read(self) -> int: ...  # noqa: D102
    @property
    def records_written(self) -> int: ...  # noqa: D102
    @property
    def lag_seconds(self) -> float | None: ...  # noqa: D102


Measure = Callable[[float], Sequence[Measured]]
"""Returns the measurements of the last so many seconds, oldest first."""


@dataclass(frozen=True, slots=True)
class Lines:
    """What the charts of one span draw: instants in unix seconds, and values at them."""

    span: str
    from_at: float
    to_at: float
    lag_at: tuple[float, ...] = ()
    lag_seconds: tuple[float, ...] = ()
    rate_at: tuple[float, ...] = ()
    read_per_second: tuple[float, ...] = ()
    written_per_second: tuple[float, ...] = ()
    cycle_at: tuple[float, ...] = ()
    cycle_seconds: tuple[float, ...] = ()


class Charts:
    """Makes the lines for everybody, at most once in a while for each span.

    Args:
        measure: reads the measurements; None where there are none.
    """

    def __init__(self, measure: Measure | None, seconds: float = KEPT_SECONDS) -> None:
        self._measure = measure
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Lines]] = {}

    def lines(self, span: str, now: datetime) -> Lines:
        """The lines of one of SPANS up to `now`, the store's time.

        Raises:
            StoreError: the store cannot be read.
        """
        with self._lock:
            until, lines = self._kept.get(span, (0.0, Lines(span, 0.0, 0.0)))
            if time.monotonic() >= until:
                lines = self._make(span, now)
                self._kept[span] = (time.monotonic() + self._seconds, lines)
            return lines

    def _make(self, span: str, now: datetime) -> Lines:
        seconds, step = SPANS[span]
        measured = [] if self._measure is None else self._measure(seconds)
        return draw(span, measured, now.timestamp(), seconds, step)


def draw(span: str, measured: Sequence[Measured], now: float, seconds: int, step: int) -> Lines:
    """The lines of measurements; throughput is summed over processes and averaged over steps."""
    cycles = [one for one in measured if one.process_name is None]
    lags = [
        (one.recorded_at.timestamp(), one.lag_seconds)
        for one in measured
        if one.lag_seconds is not None
    ]
    working = [one for one in measured if one.process_name is not None] or cycles
    rates = _rates(working, range(int((now - seconds) // step), int(now // step)), step)
    return Lines(
        span,
        now - seconds,
        now,
        lag_at=tuple(at for at, _ in lags),
        lag_seconds=tuple(round(lag, 3) for _, lag in lags),
        rate_at=tuple(rates),
        read_per_second=tuple(round(read / step, 3) for read, _ in rates.values()),
        written_per_second=tuple(round(written / step, 3) for _, written in rates.values()),
        cycle_at=tuple(one.recorded_at.timestamp() for one in cycles),
        cycle_seconds=tuple(round(one.duration_seconds, 3) for one in cycles),
    )


def _rates(measured: Sequence[Measured], steps: range, step: int) -> dict[float, tuple[int, int]]:
    """Records read and written in each step, by the middle of the step; 0 where nothing was done.

    What took longer than a step is spread evenly over its time. A step that is not over is not
    among `steps`, because it would look like a fall.
    """
    read: defaultdict[int, float] = defaultdict(float)
    written: defaultdict[int, float] = defaultdict(float)
    for one in measured:
        end = one.recorded_at.timestamp()
        for place, share in _shares(end - max(one.duration_seconds, 0.001), end, step):
            read[place] += share * one.records_read
            written[place] += share * one.records_written
    if not read:
        return {}
    first, last = max(min(read), steps.start), min(max(read) + 1, steps.stop)
    return {
        (place + 0.5) * step: (round(read[place]), round(written[place]))
        for place in range(first, last)
    }


def _shares(start: float, end: float, step: int) -> list[tuple[int, float]]:
    """The steps that a time covers, each with its share of it."""
    places = range(int(start // step), int(end // step) + 1)
    parts = [(p, min(end, (p + 1) * step) - max(start, p * step)) for p in places]
    return [(place, part / (end - start)) for place, part in parts if part > 0]

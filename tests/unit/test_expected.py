"""The expected time of a plan, against first copies that were measured with real servers.

The copies were measured on two cores that other programs used at the same time: the load was 9 to
15. The plan of each had measured the primary just before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from chromasync.dryrun.expected import Amounts, expected_seconds
from chromasync.model import Traffic
from chromasync.sizing.effort import Load, Writes
from chromasync.sizing.table import load_table

RATES = load_table().rates


class Copy(NamedTuple):
    """A first copy: its records, what its plan read in which time, and how long it took."""

    records: int
    dimension: int
    text_bytes: int
    requests: int
    bytes_read: int
    read_seconds: float
    took_seconds: float


COPIES = [
    Copy(3000, 8, 72000, 9, 400000, 0.2, 2.04),
    Copy(3000, 8, 172000, 9, 500000, 0.18, 2.46),
    Copy(3000, 384, 56000, 9, 12700000, 0.41, 4.8),
    Copy(3000, 384, 156000, 9, 12800000, 0.57, 2.46),
    Copy(3000, 384, 1856000, 9, 14500000, 0.25, 3.47),
    Copy(1000, 384, 4052000, 7, 8300000, 0.11, 2.69),
    Copy(2000, 1536, 116000, 12, 33700000, 0.56, 5.82),
    Copy(2000, 1536, 1216000, 12, 34800000, 0.5, 5.83),
    Copy(3000, 8, 472000, 9, 800000, 0.11, 3.02),
    Copy(9000, 384, 5468000, 15, 43300000, 0.92, 18.05),
    Copy(300, 384, 185600, 7, 1500000, 0.08, 1.71),
    Copy(20000, 3, 380000, 26, 1600000, 0.34, 6.29),
    Copy(3000, 8, 72000, 9, 400000, 0.5, 3.38),
    Copy(3000, 8, 172000, 9, 500000, 0.55, 2.93),
    Copy(3000, 384, 56000, 9, 12700000, 0.62, 6.19),
    Copy(3000, 384, 156000, 9, 12800000, 0.42, 4.86),
    Copy(3000, 384, 1856000, 9, 14500000, 0.3, 3.91),
    Copy(1000, 384, 4052000, 7, 8300000, 0.3, 4.26),
    Copy(2000, 1536, 116000, 12, 33700000, 0.97, 8.14),
    Copy(2000, 1536, 1216000, 12, 34800000, 1.17, 14.77),
    Copy(3000, 8, 472000, 9, 800000, 0.46, 6.85),
]


def amounts_of(copy: Copy) -> Amounts:
    floats = copy.records * copy.dimension
    return Amounts(
        Traffic(requests=copy.requests, bytes_read=copy.bytes_read, seconds=copy.read_seconds),
        read=Load(copy.records, floats),
        sent=Writes(new=Load(copy.records, floats, copy.text_bytes)),
        collections=1,
    )


@pytest.mark.parametrize("copy", COPIES)
def test_the_expected_time_is_right_within_a_factor_of_two(copy: Copy) -> None:
    """For 300 to 20,000 records, 3 to 1,536 dimensions, with and without text."""
    expected = expected_seconds(amounts_of(copy), None, 2, RATES)
    assert copy.took_seconds / 2 <= expected <= copy.took_seconds * 2


def test_a_measured_pace_takes_precedence() -> None:
    """What the replica took in earlier cycles says more than the primary does."""
    amounts = amounts_of(COPIES[-1])
    one, three = (expected_seconds(amounts, pace, 2, RATES) for pace in (1.0, 3.0))
    assert 1.5 * one < three <= 3 * one


def test_more_threads_shorten_reading_but_not_writing() -> None:
    """The replica applies one write after another."""
    reads = replace(amounts_of(COPIES[-1]), sent=Writes())
    assert expected_seconds(reads, 1.0, 4, RATES) < expected_seconds(reads, 1.0, 1, RATES)
    writes = replace(amounts_of(COPIES[-1]), traffic=Traffic())
    one, many = (expected_seconds(writes, 1.0, threads, RATES) for threads in (1, 50))
    assert many > 0.9 * one
    assert expected_seconds(writes, 1.0, 0, RATES) > 0


def test_a_plan_that_does_nothing_takes_hardly_any_time() -> None:
    """Only what each cycle costs."""
    idle = Amounts(Traffic(), Load(), Writes(), 2)
    fixed = (RATES.cycle_ms + 2 * RATES.collection_ms) / 1e3
    assert expected_seconds(idle, None, 2, RATES) == pytest.approx(fixed)

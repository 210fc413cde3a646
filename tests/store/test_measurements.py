"""Measurements of cycles and processes: written, read, merged with age, and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from chromasync.model import CycleStatus, Measurement
from chromasync.store import SqlStore, measurements
from chromasync.store.schema import Later
from chromasync.store.schema_history import metrics
from tests.store.samples import arrange, look

DAY = 86_400.0


def row_of(store: SqlStore, seconds_ago: float, **values: Any) -> None:
    """Insert a row that was recorded some seconds ago."""
    given: dict[str, Any] = {
        "recorded_at": Later(-seconds_ago),
        "cycle_id": 0,
        "duration_seconds": 60.0,
        "records_read": 0,
        "records_written": 0,
        "records_per_second": 0.0,
        "tasks_completed": 0,
        "tasks_failed": 0,
        "primary_document_count": 0,
        "active_workers": 1,
    }
    arrange(store, insert(metrics).values(given | values))


def read_counts(found: list[Measurement]) -> list[int]:
    return [one.records_read for one in found]


def test_measurements_come_oldest_first_and_only_of_the_given_time(store: SqlStore) -> None:
    """Cycles and processes in one list; rows that lie in the future are left out."""
    assert store.measurements(DAY) == []
    row_of(store, 50, records_read=3, process_name="a", row_number=2)
    row_of(store, 99, records_read=2)
    row_of(store, 110, records_read=1, process_name="a", row_number=1)
    row_of(store, 301, records_read=9)
    row_of(store, -60, records_read=9, process_name="a", row_number=3)
    assert read_counts(store.measurements(300)) == [1, 2, 3]


def test_a_row_of_an_older_program_has_zeros_where_it_knows_nothing(store: SqlStore) -> None:
    """Sums are 0, so that they can be added; what is not a sum stays unknown."""
    store.close_cycle(store.open_cycle().id, CycleStatus.COMPLETED, 0)
    new = ("span_seconds", "bytes_read", "primary_requests", "replica_seconds", "phase_seconds")
    unknown = (*new, "lag_seconds", "memory_limit_mb")
    arrange(store, update(metrics).values(dict.fromkeys(unknown)).values(duration_seconds=8))
    (found,) = store.measurements(60)
    assert (found.bytes_read, found.primary_requests, found.replica_seconds) == (0, 0, 0)
    assert (found.lag_seconds, found.memory_limit_mb, found.memory_mb) == (None, None, None)
    assert (found.phase_seconds, found.span_seconds, found.is_cycle) == ({}, 8, True)


def test_many_old_cycles_are_returned_as_the_longest_of_each_group(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest are complete; of the others the peaks stay visible."""
    monkeypatch.setattr(measurements, "DETAILED_CYCLES", 3)
    monkeypatch.setattr(measurements, "OLDER_CYCLES", 2)
    for number, seconds in enumerate((5, 90, 6, 7, 80, 8, 1, 2, 3)):
        row_of(store, 100 - number, duration_seconds=seconds)
    durations = [one.duration_seconds for one in store.measurements(DAY)]
    assert durations == [90, 80, 1, 2, 3]


def test_rates_of_cycles_ignore_the_rows_of_processes(store: SqlStore) -> None:
    """A minute of a process is no cycle, however many there are."""
    row_of(store, 90, records_read=1000, duration_seconds=10, process_name=None)
    for number in range(60):
        row_of(store, 50, records_read=6, process_name="p", row_number=number)
    assert store.records_per_second() == {"read": 100, "write": 100}


def test_the_rows_of_processes_push_no_cycle_out_of_the_history(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest cycles are counted without them."""
    monkeypatch.setattr("chromasync.store.history.KEPT_METRICS", 2)
    for number in range(3):
        row_of(store, 9 * DAY, cycle_id=number)
        for minute in range(20):
            row_of(store, 60, process_name="p", row_number=100 * number + minute)
    assert store.prune_history(keep_seconds=DAY, keep_tasks=10) == 1
    kept = select(metrics.c.cycle_id).where(metrics.c.process_name.is_(None))
    assert look(store, kept.order_by(metrics.c.id)) == [(1,), (2,)]
    assert look(store, select(func.count()).select_from(metrics)) == [(62,)]

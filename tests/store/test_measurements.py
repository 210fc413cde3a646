"""Measurements of cycles and processes: written, read, merged with age, and bounded."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from chromasync.model import ALL_PROCESSES, CycleStatus, Measurement, OpCounts, Traffic, Usage
from chromasync.store import SqlStore, measured, measurements, thinning
from chromasync.store.schema import Later
from chromasync.store.schema_history import metrics
from tests.store.samples import arrange, beat_of, look, planned
from tests.store.test_history import work

DAY = 86_400.0
HOUR = 3600.0
USAGE = Usage(
    seconds=60,
    records_read=600,
    records_written=60,
    tasks_completed=3,
    tasks_failed=1,
    primary=Traffic(requests=7, refused=1, bytes_read=70, bytes_written=9, seconds=12),
    replica=Traffic(
        requests=5, refused=2, bytes_read=9, bytes_written=50, seconds=33, throttled_seconds=4
    ),
    phase_seconds={"tasks": 55.5},
    memory_mb=200,
    memory_limit_mb=500,
    cpu_percent=37.5,
)


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


# ---- a row a minute --------------------------------------------------------------------------


def test_a_minute_of_a_process_is_recorded(store: SqlStore) -> None:
    """Everything that the process counted, each side apart where that matters."""
    store.record_usage("host:1", 0, USAGE)
    (found,) = store.measurements(60)
    assert (found.process_name, found.span_seconds, found.duration_seconds) == ("host:1", 60, 60)
    assert (found.records_read, found.records_written) == (600, 60)
    assert (found.bytes_read, found.bytes_written) == (70, 50)
    assert (found.primary_requests, found.replica_requests, found.refused_requests) == (7, 5, 3)
    waited = (found.primary_seconds, found.replica_seconds, found.throttled_seconds)
    assert waited == (12.0, 33.0, 4.0)
    assert found.phase_seconds == {"tasks": 55.5}
    assert found.cpu_percent == 37.5
    assert (found.memory_mb, found.memory_limit_mb, found.memory_share) == (200, 500, 0.4)
    assert (found.tasks_completed, found.tasks_failed, found.active_workers) == (3, 1, 1)
    assert (found.cycle_id, found.lag_seconds, found.primary_count) == (0, None, 0)
    assert look(store, select(metrics.c.records_per_second)) == [(10,)]


def test_a_row_that_is_written_again_replaces_itself(store: SqlStore) -> None:
    """A process does not know whether a row was written whose answer was lost."""
    store.record_usage("host:1", 3, USAGE)
    store.record_usage("host:2", 3, USAGE)
    store.record_usage("host:1", 3, Usage(120, records_read=1000))
    found = sorted(store.measurements(60), key=lambda one: one.process_name or "")
    assert read_counts(found) == [1000, 600]
    assert (found[0].span_seconds, found[0].bytes_read, found[0].phase_seconds) == (120, 0, {})


def test_the_lag_of_a_minute_goes_on_from_the_newest_cycle(store: SqlStore) -> None:
    """It grows while no cycle closes; it is unknown after one whose lag is unknown."""
    for cycle, seconds_ago, lag in ((1, 500, 7.0), (2, 100, 30.0)):
        row_of(store, seconds_ago, cycle_id=cycle, lag_seconds=lag, primary_document_count=42)
    store.record_usage("p", 0, USAGE)
    found = store.measurements(60)[0]
    assert (found.cycle_id, found.primary_count) == (2, 42)
    assert found.lag_seconds is not None
    assert 130 <= found.lag_seconds < 190
    row_of(store, 0, cycle_id=3)
    store.record_usage("p", 1, USAGE)
    assert [one.lag_seconds for one in store.measurements(60) if one.process_name][-1] is None


def test_a_cycle_that_closed_in_the_future_gives_no_lag(store: SqlStore) -> None:
    """The clock went back meanwhile: a negative lag would be nonsense."""
    row_of(store, -500, lag_seconds=7.0)
    store.record_usage("p", 0, USAGE)
    assert store.measurements(60)[0].lag_seconds is None


def test_the_row_of_a_cycle_has_what_its_leader_used(store: SqlStore) -> None:
    """Beside the sums of its tasks; the memory is that of the process nearest to its limit."""
    beats = (("a", 100.0, None), ("b", 90.0, 100.0), ("c", 300.0, 1000.0))
    for name, memory, limit in beats:
        store.beat(replace(beat_of(name, memory_mb=memory), memory_limit_mb=limit))
    cycle = planned(store, 1)
    work(store, OpCounts(read=50, inserted=5))
    store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
    store.note_usage(cycle.id, replace(USAGE, phase_seconds={"walk": 2, "reconcile": 7}), 12.5)
    (found,) = store.measurements(60)
    assert (found.cycle_id, found.is_cycle, found.active_workers) == (cycle.id, True, 3)
    assert (found.records_read, found.records_written) == (50, 5)
    assert (found.bytes_read, found.replica_requests, found.lag_seconds) == (70, 5, 12.5)
    assert found.phase_seconds == {"walk": 2, "reconcile": 7}
    assert (found.memory_mb, found.memory_limit_mb) == (90, 100)


# ---- thinning --------------------------------------------------------------------------------


def number_at(store: SqlStore, seconds_ago: float, width: int) -> int:
    (instant,) = look(store, select(Later(-seconds_ago)))[0]
    return int(instant.timestamp() // width)


def minute_in(store: SqlStore, number: int, width: int, offset: float, **values: Any) -> None:
    """Insert a process's row at an offset into a numbered interval."""
    at = datetime.fromtimestamp(number * width + offset, UTC)
    given = {"process_name": f"p{offset}", "row_number": number, "span_seconds": 60.0} | values
    row_of(store, 0, recorded_at=at, **given)


def processes(store: SqlStore) -> list[Measurement]:
    return [one for one in store.measurements(99 * DAY) if not one.is_cycle]


def test_old_minutes_become_one_row_of_all_processes(store: SqlStore) -> None:
    """Sums stay sums; lag and memory are the worst, the processor's share is the mean."""
    number = number_at(store, 3 * HOUR + 1200, 600)
    many = {"records_read": 5, "bytes_read": 50, "primary_requests": 2, "replica_seconds": 1.5}
    minute_in(store, number, 600, 60, **many, lag_seconds=9.0, cpu_percent=10, span_seconds=30.0)
    minute_in(
        store, number, 600, 540, **many, cpu_percent=70, memory_usage_mb=80, memory_limit_mb=100
    )
    more = {"phase_seconds": {"tasks": 3.5, "x": 1}, "throttled_seconds": 2.5, "cycle_id": 8}
    minute_in(store, number, 600, 599.5, **more, memory_usage_mb=300, memory_limit_mb=1000)
    assert store.thin_measurements() == 2
    (found,) = processes(store)
    assert found.process_name == f"{ALL_PROCESSES} 10 min"
    assert (found.records_read, found.bytes_read, found.primary_requests) == (10, 100, 4)
    assert (found.replica_seconds, found.throttled_seconds) == (3.0, 2.5)
    assert (found.span_seconds, found.duration_seconds) == (150, 599.5)
    assert (found.lag_seconds, found.cycle_id) == (9, 8)
    assert found.cpu_percent == pytest.approx(50)
    assert (found.memory_mb, found.memory_limit_mb) == (80, 100)
    assert found.phase_seconds == {"tasks": 3.5, "x": 1}
    assert store.thin_measurements() == 0


def test_intervals_are_merged_apart_and_only_when_they_have_ended(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first instant of an interval belongs to it, and the last one before the next, too."""
    due = number_at(store, 3 * HOUR, 600) - 1
    # rows are merged up to the middle of the next interval, however long this test takes
    middle = datetime.fromtimestamp((due + 1) * 600 + 300, UTC)
    (now,) = look(store, select(Later(0)))[0]
    tier = replace(thinning.TIERS[0], age_seconds=(now - middle).total_seconds())
    monkeypatch.setattr(thinning, "TIERS", (tier,))
    for number, offset in ((due - 1, 599.99), (due, 0), (due, 599.99), (due + 1, 0)):
        minute_in(store, number, 600, offset, records_read=1 + number - due)
    assert store.thin_measurements() == 1
    names = [one.process_name for one in processes(store)]
    assert names == [f"{ALL_PROCESSES} 10 min", f"{ALL_PROCESSES} 10 min", "p0"]
    assert read_counts(processes(store)) == [0, 2, 2]


def test_rows_of_ten_minutes_become_hours_and_hours_are_deleted(store: SqlStore) -> None:
    """Nothing of processes is left after 35 days; a cycle's row stays."""
    row_of(store, 40 * DAY, records_read=77)
    hour = number_at(store, 2 * DAY + 2 * HOUR, 3600)
    for minute in range(1, 61):
        minute_in(store, hour, 3600, 60 * minute - 1, records_read=2)
    old = number_at(store, 35 * DAY + 2 * HOUR, 3600)
    minute_in(store, old, 3600, 5, records_read=3)
    kept = number_at(store, 35 * DAY - 2 * HOUR, 3600)
    minute_in(store, kept, 3600, 5, records_read=4)
    assert store.thin_measurements() == 59 + 1
    found = processes(store)
    assert [one.process_name for one in found] == [f"{ALL_PROCESSES} 1 h"] * 2
    assert read_counts(found) == [4, 120]
    assert found[1].span_seconds == found[1].duration_seconds == 3600
    assert look(store, select(metrics.c.records_read).where(measured.IS_CYCLE)) == [(77,)]


def test_a_row_that_turns_up_later_is_added_to_the_merged_one(store: SqlStore) -> None:
    """A clock that went back brings rows of an interval that was merged already."""
    number = number_at(store, 3 * HOUR + 1200, 600)
    for offset, count in ((60, 5), (120, 7)):
        minute_in(store, number, 600, offset, records_read=count)
        store.thin_measurements()
    (found,) = processes(store)
    assert (found.records_read, found.span_seconds) == (12, 120)


def test_the_number_of_rows_is_bounded_for_any_number_of_processes(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recent minutes are merged early when there are too many; the present interval is left."""
    monkeypatch.setattr(thinning, "MOST_SINGLE", 5)
    now = number_at(store, 0, 600)
    for process in range(4):
        minute_in(store, now - 3, 600, 300 + process, records_read=1)
    for process in range(4):
        minute_in(store, now - 2, 600, 300 + process, records_read=10)
    store.thin_measurements()
    assert read_counts(processes(store)) == [4, 10, 10, 10, 10]
    for process in range(8):
        store.record_usage(f"p{process}", now, Usage(60, records_read=100))
    store.thin_measurements()
    rows = processes(store)
    # 8 rows may fall into two intervals, if one ended while they were written
    assert sum(read_counts(rows)) == 4 + 40 + 800
    assert read_counts(rows)[:2] == [4, 40]


def test_rows_from_the_future_are_bounded_too(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were written while the clock was ahead, and no age deletes them."""
    monkeypatch.setattr(thinning, "MOST_SINGLE", 2)
    monkeypatch.setattr(thinning, "MOST_MERGED", 3)
    ahead = number_at(store, -50 * DAY, 600)
    for interval in range(6):
        minute_in(store, ahead + interval, 600, 9, records_read=1)
        minute_in(store, ahead + interval, 600, 19, records_read=1)
    row_of(store, 9, process_name="p", row_number=1)
    row_of(store, 8, process_name="p", row_number=2)
    store.thin_measurements()
    names = look(store, select(metrics.c.process_name, func.count()).group_by("process_name"))
    assert sorted(names) == [(f"{ALL_PROCESSES} 10 min", 3), ("p", 2)]


def test_a_cycle_thins_the_history_at_its_end(store: SqlStore) -> None:
    """The leader prunes after each cycle, so minutes are merged without anybody's help."""
    number = number_at(store, 3 * HOUR + 1200, 600)
    minute_in(store, number, 600, 60)
    minute_in(store, number, 600, 120)
    assert store.prune_history(keep_seconds=DAY, keep_tasks=10) == 1

"""Advice, from recorded histories: the phase, the bottleneck, what to change, and the limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from chromasync.advice_reports import Bottleneck
from chromasync.model import (
    Measurement,
    WorkerStatus,
)
from chromasync.sizing.effort import Load, Writes, write_seconds
from tests.support.histories import (
    CREW,
    DAY,
    FLOATS,
    READING,
    SENT,
    TABLE,
    TEXT,
    advice,
    beat,
    cycle,
    exceeded,
    history,
    minute,
)

# ---- nothing to do ---------------------------------------------------------------------------


def test_a_small_and_calm_deployment_stays_as_it_is() -> None:
    """Phase 0, no sign, no change, and the reason."""
    report = advice(40_000, history(40_000))
    assert report.headline == (
        "Phase 0 fits 40,000 documents: a usual cycle takes 20 s of 300 s. Nothing needs to change."
    )
    assert (report.current_phase, report.recommended_phase) == ("phase 0", "phase 0")
    assert (report.changes, report.rules, exceeded(report)) == ((), (), set())
    assert (report.monthly_cost, report.currency) == (7, "USD")
    assert report.unknown == ()


def test_without_history_it_says_so_plainly() -> None:
    """No recommendation from nothing; each part that is not known is named."""
    report = advice(40_000, [])
    assert not report.is_enough
    assert report.headline == "Not enough history for advice: 0 of 3 cycles have closed."
    assert report.recommended_phase == report.current_phase
    assert (report.bottleneck, report.more_workers_help, report.changes) == (None, None, ())
    assert [words.partition(":")[0] for words in report.unknown] == [
        "How long a usual cycle takes",
        "Growth",
        "Memory",
        "The bottleneck",
    ]


@pytest.mark.parametrize(("count", "enough"), [(2, False), (3, True)])
def test_three_cycles_are_enough(count: int, enough: bool) -> None:
    """One or two may be chance."""
    cycles = [cycle(100.0 * n, 20, 40_000) for n in range(count, 0, -1)]
    assert advice(40_000, cycles).is_enough is enough


# ---- the guide's signs, at and beside their limits -------------------------------------------


@pytest.mark.parametrize(
    ("documents", "phase"), [(99_999, "phase 0"), (100_000, "phase 1"), (100_001, "phase 1")]
)
def test_from_100_000_documents_on_phase_1_prepares(documents: int, phase: str) -> None:
    """Size alone is no need for workers, and the advice says that they are not needed yet."""
    report = advice(documents, history(documents))
    assert report.recommended_phase == phase
    assert ("documents" in exceeded(report)) == (phase == "phase 1")
    if phase == "phase 1":
        assert report.guide_phase == "phase 2 with 2 workers"
        assert report.rules == ("large",)
        assert "more workers are not needed yet" in report.changes[0]


@pytest.mark.parametrize(
    ("growth", "phase"), [(9_990, "phase 0"), (10_000, "phase 1"), (10_010, "phase 1")]
)
def test_from_10_000_new_documents_a_day_on_phase_1_prepares(growth: float, phase: str) -> None:
    """Growth is measured over the whole history."""
    report = advice(50_000, history(50_000, growth=growth))
    assert report.recommended_phase == phase
    assert ("growth_per_day" in exceeded(report)) == (phase == "phase 1")


@pytest.mark.parametrize(("hours", "known"), [(5.99, False), (6.0, True)])
def test_growth_needs_six_hours(hours: float, known: bool) -> None:
    """A burst of an hour says nothing about a day."""
    cycles = [cycle(hours * 3600 + 1, 20, 10), cycle(600, 20, 20), cycle(1, 20, 10_000)]
    growth = {sign.name: sign.value for sign in advice(10_000, cycles).signs}["growth_per_day"]
    assert (growth is not None) == known


@pytest.mark.parametrize(("seconds", "slow"), [(600.0, False), (600.1, True)])
def test_cycles_above_ten_minutes_are_slow(seconds: float, slow: bool) -> None:
    """The guide's limit; ten minutes exactly are not above it."""
    report = advice(50_000, history(50_000, seconds=seconds), SYNC_INTERVAL=7200)
    assert ("cycle_seconds" in exceeded(report)) == slow
    assert ("slow cycles" in report.rules) == slow


@pytest.mark.parametrize(("seconds", "slow"), [(150.0, False), (150.1, True)])
def test_cycles_above_half_of_the_interval_are_slow(seconds: float, slow: bool) -> None:
    """Beyond that, there is no room for a busy day."""
    report = advice(50_000, history(50_000, seconds=seconds))
    assert ("slow cycles" in report.rules) == slow
    assert exceeded(report) == set()


def test_a_first_copy_does_not_count_as_a_usual_cycle() -> None:
    """It takes long once."""
    copy = cycle(
        1000, 5000, 40_000, records_read=40_000, records_written=40_000, bytes_written=40_000 * 2648
    )
    report = advice(40_000, [*history(40_000), copy])
    assert {sign.name: sign.value for sign in report.signs}["cycle_seconds"] == 20


@pytest.mark.parametrize(
    ("memory", "full"), [(0.85 * 512, False), (0.85 * 512 + 0.01, True), (500, True)]
)
def test_memory_consistently_above_85_percent_needs_a_change(memory: float, full: bool) -> None:
    """Of its own limit; the limit itself is not above it. More processes do not help here."""
    report = advice(40_000, history(40_000, memory_mb=memory))
    assert ("memory_share" in exceeded(report)) == full
    assert ("memory" in report.rules) == full
    assert report.recommended_phase == "phase 0"
    if full:
        assert report.changes[0].startswith("Set SYNC_CHUNK_SIZE=500 (now 1000)")
        assert "'standard' with 2,048 MB" in report.changes[1]
        assert "do not make one smaller" in report.changes[1]


@pytest.mark.parametrize(("above", "full"), [(14, False), (15, True), (16, True)])
def test_a_peak_of_memory_is_not_consistent(above: int, full: bool) -> None:
    """Half of the last hour's minutes must be above."""
    rows = history(40_000)
    peaks = [replace(one, memory_mb=500.0) for one in rows[-above:]]
    assert ("memory" in advice(40_000, [*rows[:-above], *peaks]).rules) == full


def test_memory_of_a_process_that_has_ended_does_not_count() -> None:
    """It may have been stopped for that."""
    gone = [minute(60.0 * n, "gone", memory_mb=511.0) for n in range(30, 0, -1)]
    assert "memory" not in advice(40_000, [*history(40_000), *gone]).rules


@pytest.mark.parametrize(
    ("size", "threads", "words"),
    [
        (1000, 2, "SYNC_CHUNK_SIZE=500"),
        (500, 2, "SYNC_CHUNK_SIZE=200"),
        (200, 4, "SYNC_WORKERS=2"),
        (200, 1, "the plan 'standard'"),
    ],
)
def test_less_memory_step_by_step(size: int, threads: int, words: str) -> None:
    """Smaller chunks, then fewer threads, then a larger plan."""
    rows = history(40_000, memory_mb=500.0)
    report = advice(40_000, rows, beat(threads=threads), SYNC_CHUNK_SIZE=size)
    assert words in report.changes[0]


# ---- the bottleneck --------------------------------------------------------------------------


def minutes_with(**values: Any) -> list[Measurement]:
    """Slow cycles, and minutes in which time went as given."""
    return history(200_000, seconds=400.0, **values)


WRITING = write_seconds(Writes(new=Load(1000, 1000 * FLOATS, 1000 * TEXT)), TABLE.rates) / 1000
WRITING += READING
FASTEST_READ, FASTEST_WRITTEN = round(60 / READING), round(60 / WRITING)
"""Records that a server of the table's rates reads or writes in a minute."""


def test_a_replica_that_writes_all_the_time_is_named_and_more_workers_will_not_help() -> None:
    """One write after another: what helps is a faster replica, or a longer interval."""
    rows = minutes_with(
        replica_seconds=110.0, primary_seconds=5.0, cpu_percent=10.0,
        records_read=FASTEST_WRITTEN, records_written=FASTEST_WRITTEN,
        bytes_written=round(FASTEST_WRITTEN * SENT),
    )  # fmt: skip
    report = advice(200_000, rows, *CREW)
    assert (report.bottleneck, report.more_workers_help) == (Bottleneck.REPLICA, False)
    assert report.bottleneck_reason == (
        "The bottleneck is the replica: of the working time, 91% waiting for the replica, 5% "
        "computing, 4% waiting for the primary. A Chroma server on one machine applies one write "
        "after another: more workers will not help."
    )
    assert report.recommended_phase == report.current_phase == "phase 2 with 2 workers"
    assert report.changes == (
        "Give the replica a larger plan: faster processors, a faster disk.",
        (
            "Or set SYNC_INTERVAL=840, so that a cycle takes at most 50% of it. The lag grows "
            "accordingly."
        ),
    )


def test_a_busy_primary_is_named_and_read_less() -> None:
    """Cycles that mostly re-read may re-read less in each."""
    rows = minutes_with(primary_seconds=100.0, replica_seconds=2.0, records_read=FASTEST_READ)
    report = advice(200_000, rows)
    assert (report.bottleneck, report.more_workers_help) == (Bottleneck.PRIMARY, False)
    assert "It is busy all the time: more workers will not help." in report.bottleneck_reason
    assert report.changes[0].startswith("Give the primary a larger plan")
    assert report.changes[1].startswith("Set SYNC_SCRUB_BUDGET=12.5%")
    assert report.recommended_phase == "phase 0"


@pytest.mark.parametrize(("slower", "helps"), [(3.9, False), (4.1, True)])
def test_a_distant_server_is_no_busy_one(slower: float, helps: bool) -> None:
    """If it has little to do for the time that it takes, more workers wait at the same time."""
    rows = minutes_with(
        primary_seconds=100.0, replica_seconds=2.0, records_read=round(FASTEST_READ / slower)
    )
    report = advice(200_000, rows)
    assert (report.bottleneck, report.more_workers_help) == (Bottleneck.PRIMARY, helps)
    if helps:
        assert report.recommended_phase == "phase 2 with 2 workers"
        assert report.changes[0].startswith("Set SYNC_WORKERS=4 first")
        assert report.changes[1].startswith("Switch to phase 1")
        assert report.changes[2] == "Run 2 workers beside the coordinator (now 0)."
        assert report.monthly_cost == 3 * 7


def test_the_own_processor_is_named_and_more_processes_help() -> None:
    """Threads share one processor, so more of them are not advised."""
    rows = minutes_with(primary_seconds=10.0, replica_seconds=5.0, cpu_percent=98.0)
    report = advice(700_000, rows, *CREW)
    assert (report.bottleneck, report.more_workers_help) == (Bottleneck.PROCESSOR, True)
    assert report.recommended_phase == "phase 2 with 3 workers"
    assert report.changes == ("Run 3 workers beside the coordinator (now 2).",)
    assert report.headline == (
        "Phase 2 with 3 workers fits 700,000 documents; now it is phase 2 with 2 workers."
    )


@pytest.mark.parametrize(("throttled", "named"), [(24.9, False), (25.1, True)])
def test_a_throttle_is_named_from_a_fifth_of_the_time_on(throttled: float, named: bool) -> None:
    """More workers would share the same allowance."""
    rows = minutes_with(
        throttled_seconds=throttled, primary_seconds=50.0, replica_seconds=20.0, cpu_percent=50.0
    )
    report = advice(200_000, rows)
    assert (report.bottleneck is Bottleneck.THROTTLE) == named
    if named:
        assert report.more_workers_help is False
        assert "More workers will not help." in report.bottleneck_reason
        assert "SYNC_MAX_REQUESTS_PER_SECOND" in report.changes[0]


@pytest.mark.parametrize(("walk", "named"), [(0.5, False), (0.51, True)])
def test_steps_of_the_leader_alone_are_named(walk: float, named: bool) -> None:
    """Only the leader lists the primary's ids, whatever the number of workers."""
    phases = {"walk": 400 * walk, "reconcile": 400 * (1 - walk)}
    rows = [
        replace(one, phase_seconds=phases) if one.is_cycle else one
        for one in minutes_with(cpu_percent=98.0, primary_seconds=1.0, replica_seconds=1.0)
    ]
    report = advice(200_000, rows)
    assert (report.bottleneck is Bottleneck.LEADER) == named
    assert report.more_workers_help is not named


@pytest.mark.parametrize(("share", "side"), [(0.399, Bottleneck.NONE), (0.401, Bottleneck.PRIMARY)])
def test_the_largest_part_must_be_large_enough(share: float, side: Bottleneck) -> None:
    """If no side stands out, none is blamed, and more workers share what there is."""
    rest = (1 - share) / 2
    rows = minutes_with(
        primary_seconds=60 * share, replica_seconds=60 * rest, cpu_percent=100 * rest
    )
    report = advice(200_000, rows)
    assert report.bottleneck is side
    if side is Bottleneck.NONE:
        assert report.more_workers_help


@pytest.mark.parametrize(("minutes", "known"), [(4, False), (5, True)])
def test_the_bottleneck_needs_five_minutes_of_work(minutes: int, known: bool) -> None:
    """Slow cycles without measured work lead to no guess."""
    rows = [one for one in minutes_with() if one.is_cycle]
    report = advice(200_000, [*rows, *(minute(60.0 * n) for n in range(minutes))])
    assert (report.bottleneck is not None) == known
    if not known:
        assert report.recommended_phase == "phase 0"
        assert any("bottleneck" in words for words in report.unknown)


def test_idle_minutes_do_not_dilute_the_bottleneck() -> None:
    """A minute in which hardly anything was done says nothing about where time goes."""
    busy = minutes_with(primary_seconds=100.0, replica_seconds=2.0, records_read=FASTEST_READ)
    idle = [
        minute(60.0 * n, cpu_percent=3.0, primary_seconds=0.5, replica_seconds=0.5,
               phase_seconds={"tasks": 0.5})
        for n in range(31, 900)
    ]  # fmt: skip
    assert advice(200_000, [*idle, *busy]).bottleneck is Bottleneck.PRIMARY


# ---- re-reads, and too many workers ----------------------------------------------------------


@pytest.mark.parametrize(("days", "rare"), [(7.0, False), (7.1, True)])
def test_rare_re_reads_first_get_a_larger_budget(days: float, rare: bool) -> None:
    """While cycles are short, reading more in each costs no process."""
    report = advice(50_000, history(50_000), reread_seconds=days * DAY)
    assert ("rare re-reads" in report.rules) == rare
    if rare:
        assert report.changes == (
            (
                "Set SYNC_SCRUB_BUDGET=26%, so that every record is read again within 7 days. "
                "Cycles are short enough for that."
            ),
        )


def test_rare_re_reads_beyond_the_budget_need_workers() -> None:
    """Where half of the interval would not do, more workers read more."""
    rows = history(3_000_000, primary_seconds=100.0, replica_seconds=2.0, records_read=1000)
    report = advice(3_000_000, rows, *CREW, reread_seconds=20 * DAY)
    assert report.recommended_phase == "phase 2 with 5 workers"
    assert report.monthly_cost == 6 * 25


def test_never_re_reading_is_a_choice() -> None:
    """A budget of 0 is no problem to solve."""
    report = advice(50_000, history(50_000), reread_seconds=None, SYNC_SCRUB_BUDGET=0)
    assert report.changes == ()


@pytest.mark.parametrize(("seconds", "oversized"), [(50.0, True), (50.1, False)])
def test_more_workers_than_needed_are_named(seconds: float, oversized: bool) -> None:
    """If one process would do it all within half of the interval."""
    report = advice(50_000, history(50_000, seconds=seconds), *CREW)
    assert bool(report.changes) == oversized
    assert report.recommended_phase == "phase 2 with 2 workers"


def test_a_large_deployment_with_short_cycles_needs_no_change() -> None:
    """Five million documents are well served if cycles are short."""
    report = advice(5_000_000, history(5_000_000), *CREW)
    assert report.changes == ()
    assert report.guide_phase == "phase 2 with 5 workers"
    assert report.recommended_phase == "phase 2 with 2 workers"


def test_the_present_phase_follows_from_the_processes() -> None:
    """Dead ones do not count; without any, the settings decide."""
    dead = replace(beat("two", "worker"), status=WorkerStatus.DEAD)
    lone = beat("one", "coordinator")
    assert advice(5, [], lone, dead).current_phase == "phase 1"
    assert advice(5, [], lone, beat("two", "worker")).current_phase == "phase 2 with 1 worker"
    stopped = replace(lone, status=WorkerStatus.STOPPED)
    coordinator = advice(5, [], stopped, SYNC_DISTRIBUTED="true", SYNC_COORDINATOR="true")
    assert coordinator.current_phase == "phase 1"
    assert advice(5, [], stopped).current_phase == "phase 0"

"""Rates and prices: the table, the times that follow, and paces from measurements."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from chromasync.errors import SettingsError
from chromasync.ledger import paging
from chromasync.memory import MEMORY_SHARE
from chromasync.model import Measurement, Traffic
from chromasync.sizing import effort
from chromasync.sizing.effort import (
    LEAST_MEASURED_SECONDS,
    LEAST_PACE,
    MOST_PACE,
    Load,
    Writes,
    pace_of,
    read_seconds,
    slowdown,
    walk_seconds,
    write_seconds,
)
from chromasync.sizing.pace import LEAST_WRITTEN, read_pace, text_per_record, write_pace
from chromasync.sizing.table import load_table, start_text

TABLE = load_table()
RATES = TABLE.rates
NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
THOUSAND = Load(1000, 384_000, 600_000)


# ---- the table -------------------------------------------------------------------------------


def test_the_start_values_are_those_of_the_guide() -> None:
    """Its thresholds, its phases by size, and a chunk size for each."""
    limits = TABLE.thresholds
    assert (limits.documents, limits.memory_share) == (100_000, MEMORY_SHARE)
    assert (limits.cycle_seconds, limits.growth_per_day) == (600, 10_000)
    assert [(p.below_documents, p.workers, p.chunk_size) for p in TABLE.phases] == [
        (100_000, 0, 1000),
        (500_000, 2, 1000),
        (2_000_000, 3, 500),
        (10_000_000, 5, 200),
    ]


@pytest.mark.parametrize(
    ("documents", "workers"),
    [
        (0, 0),
        (99_999, 0),
        (100_000, 2),
        (499_999, 2),
        (500_000, 3),
        (1_999_999, 3),
        (2_000_000, 5),
        (10_000_000, 5),
        (900_000_000, 5),
    ],
)
def test_the_phase_of_a_size(documents: int, workers: int) -> None:
    """A limit belongs to the next phase; beyond the last one, the last one stays."""
    assert TABLE.phase_for(documents).workers == workers


def table_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "table.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_own_table_replaces_single_values(tmp_path: Path) -> None:
    """What it leaves out keeps its start value; a list is replaced as a whole."""
    own = table_file(
        tmp_path,
        "[thresholds]\ndocuments = 5\n[prices]\ncurrency = 'EUR'\n"
        "[[prices.plans]]\nname = 'starter'\nmemory_mb = 512\nmonthly = 1\n"
        "[[prices.plans]]\nname = 'standard'\nmemory_mb = 4096\nmonthly = 2.5\n",
    )
    table = load_table(own)
    assert (table.thresholds.documents, table.thresholds.cycle_seconds) == (5, 600)
    assert (table.prices.currency, table.prices.disk_gb) == ("EUR", 0.25)
    assert [plan.monthly for plan in table.prices.plans] == [1, 2.5]
    assert table.rates == RATES


def test_the_printed_start_values_are_a_table(tmp_path: Path) -> None:
    """A copy without a change means the same."""
    assert load_table(table_file(tmp_path, start_text())) == TABLE


PLANS = "[prices]\nplans = [{name='a', memory_mb=1, monthly=1}, {name='b', memory_mb=2, monthly=1}]"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[thresholds]\ndocumens = 5", "thresholds.documens: Extra inputs"),
        ("[thresholds]\nmemory_share = 1.5", "thresholds.memory_share: Input should be less"),
        ("[thresholds]\ncycle_seconds = 'long'", "thresholds.cycle_seconds: Input should be"),
        ("[rates]\nwrite_record_us = nan", "rates.write_record_us"),
        ("thresholds = 5", "thresholds: Input should be"),
        ("phases = []", "phases: Tuple should have at least 1 item"),
        (PLANS, "names the plan 'starter', which has no price"),
        (PLANS.replace("memory_mb=2", "memory_mb=1"), "ordered by size"),
        ("[[phases]\n", "at line 1"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    """The error names the file, the value, and how to get a right one."""
    path = table_file(tmp_path, text)
    with pytest.raises(SettingsError, match="SYNC_ADVICE_TABLE") as caught:
        load_table(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert "advise --table" in caught.value.hint


def test_phases_out_of_order_are_refused(tmp_path: Path) -> None:
    """Otherwise a phase could never be chosen."""
    phases = tomllib.loads(start_text())["phases"][::-1]
    text = "\n".join(
        ["[[phases]]\n" + "\n".join(f"{k} = {v!r}" for k, v in phase.items()) for phase in phases]
    )
    with pytest.raises(SettingsError, match="ordered by below_documents"):
        load_table(table_file(tmp_path, text))


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A folder or other bytes are no reason for a traceback."""
    path = tmp_path / "bytes.toml"
    path.write_bytes(b"\xff\xfe\x00")
    for place in (tmp_path, path):
        with pytest.raises(SettingsError, match="cannot be used"):
            load_table(place)


# ---- times -----------------------------------------------------------------------------------


def test_times_grow_with_records_dimension_and_text() -> None:
    """Each of them costs something, and twice as much costs twice the time."""
    for seconds in (read_seconds, lambda load, rates: write_seconds(Writes(new=load), rates)):
        least = seconds(Load(1000), RATES)
        assert 0 < least < seconds(Load(1000, 8000), RATES) < seconds(Load(1000, 384_000), RATES)
        assert seconds(Load(1000, 8000, 5), RATES) < seconds(Load(1000, 8000, 500), RATES)
        assert seconds(Load(2000, 16_000, 50), RATES) == pytest.approx(
            2 * seconds(Load(1000, 8000, 25), RATES)
        )


def test_writing_again_is_dearer_and_deleting_is_not_free() -> None:
    """Chroma takes several times longer to write a record again than to insert it."""
    new, again = (write_seconds(w, RATES) for w in (Writes(new=THOUSAND), Writes(again=THOUSAND)))
    assert again == pytest.approx(RATES.rewrite_factor * new)
    part = write_seconds(Writes(parts=Load(1000, 0, 50_000)), RATES)
    deleted = write_seconds(Writes(deleted=1000), RATES)
    assert 0 < deleted < new
    assert 0 < part < new
    everything = Writes(THOUSAND, THOUSAND, Load(1000, 0, 50_000), 1000)
    assert write_seconds(everything, RATES) == pytest.approx(new + again + part + deleted)
    assert everything.records == 4000


def test_a_large_index_is_slower() -> None:
    """By the same amount for each tenfold, from ten thousand records on."""
    assert slowdown(0, RATES) == slowdown(10_000, RATES) == 1
    assert slowdown(1_000_000, RATES) == pytest.approx(1 + 2 * RATES.growth_factor)
    writes = Writes(new=THOUSAND)
    assert write_seconds(writes, RATES, present=999_500) == pytest.approx(
        write_seconds(writes, RATES) * (1 + 2 * RATES.growth_factor)
    )


def test_a_walk_sorts_a_collection_for_each_page() -> None:
    """One large collection takes longer than many small ones of the same total."""
    assert effort.PAGE_IDS == paging.PAGE_IDS
    assert walk_seconds(0, 0, RATES) == 0
    assert walk_seconds(10_000_000, 1, RATES) > 10 * walk_seconds(10_000_000, 100, RATES) / 2
    assert walk_seconds(100_000, 1, RATES) == pytest.approx(
        (100_000 * RATES.id_us * 1e-6) + (100_000 * RATES.sort_ns * 1e-9)
    )


def test_a_pace_needs_a_measurement_and_stays_within_reason() -> None:
    """A few milliseconds say nothing; a stalled machine is not taken for the usual."""
    assert pace_of(LEAST_MEASURED_SECONDS, 0.01) == pytest.approx(LEAST_MEASURED_SECONDS / 0.01)
    assert pace_of(LEAST_MEASURED_SECONDS - 0.001, 0.01) == 1
    assert pace_of(5.0, 0.0) == 1
    assert pace_of(1e9, 1.0) == MOST_PACE
    assert pace_of(1.0, 1e9) == LEAST_PACE


# ---- paces from measurements -----------------------------------------------------------------


def copy_of(records: int, seconds: float, *, text: float = 600.0, read: int = 0) -> Measurement:
    """A cycle that wrote so many records of 384 dimensions."""
    return Measurement(
        NOON,
        records_read=read or records,
        records_written=records,
        bytes_written=round(records * (384 * 16 / 3 + text)),
        phase_seconds={"list": 9.0, "walk": seconds / 4, "reconcile": seconds * 3 / 4},
        duration_seconds=seconds + 9,
    )


def by_table(records: int, text: float = 600.0) -> float:
    return write_seconds(Writes(new=Load(records, 384 * records, text * records)), RATES)


def test_the_pace_of_the_replica_is_that_of_its_copies() -> None:
    """Cycles that mostly read, small ones, and rows of processes say nothing about writes."""
    others = [
        copy_of(LEAST_WRITTEN - 1, 1000),
        copy_of(5000, 1000, read=50_000),
        Measurement(NOON, process_name="p", records_written=9000, bytes_written=9, records_read=1),
    ]
    assert write_pace(others, 384, RATES) is None
    copies = [copy_of(5000, 3 * by_table(5000)), copy_of(500, 3 * by_table(500))]
    assert write_pace([*others, *copies], 384, RATES) == pytest.approx(3, rel=0.01)


def test_the_text_of_a_cycle_without_bytes_is_taken_from_the_others() -> None:
    """Where other processes wrote, the leader's row has few bytes of its own."""
    silent = Measurement(
        NOON,
        records_read=5000,
        records_written=5000,
        phase_seconds={"reconcile": by_table(5000)},
        active_workers=2,
    )
    rows = [
        Measurement(
            NOON, process_name="p", records_written=5000, bytes_written=5000 * (2048 + 600)
        ),
        silent,
    ]
    assert text_per_record(rows, 384, RATES) == pytest.approx(600)
    assert text_per_record([silent], 384, RATES) == 0
    assert write_pace(rows, 384, RATES) == pytest.approx(1, rel=0.01)


def test_updates_without_embeddings_say_nothing_about_size_or_pace() -> None:
    """They send a part of each record."""
    part = Measurement(
        NOON,
        records_read=5000,
        records_written=5000,
        bytes_written=5000 * 90,
        phase_seconds={"reconcile": 5.0},
        active_workers=1,
    )
    assert write_pace([part], 384, RATES) is None
    assert text_per_record([part], 384, RATES) == 0
    assert text_per_record([part, copy_of(500, 1)], 384, RATES) == pytest.approx(600)


def test_reads_show_the_size_of_a_record_where_nothing_was_copied_lately() -> None:
    """The minutes with the smallest answers, because those of walks come on top."""
    answer = 384 * RATES.answer_bytes_per_float + 600
    rows = [
        Measurement(
            NOON, process_name="p", records_read=read, bytes_read=round(read * answer + walk)
        )
        for read, walk in ((5000, 9e7), (5000, 0), (4000, 0), (5000, 8e7), (999, -5e5))
    ]
    assert text_per_record(rows, 384, RATES) == pytest.approx(600, abs=1)
    assert text_per_record(rows[-1:], 384, RATES) == 0


def test_the_pace_of_reads_knows_their_text() -> None:
    """The bytes of the answers beyond the embeddings are text."""
    floats, text = 384_000.0, 600_000.0
    seconds = 2.5 * (read_seconds(Load(1000, floats, text), RATES) + 2 * RATES.request_ms / 1e3)
    answered = round(floats * RATES.answer_bytes_per_float + text)
    traffic = Traffic(requests=2, bytes_read=answered, seconds=seconds)
    assert read_pace(traffic, Load(1000, floats), RATES) == pytest.approx(2.5, rel=0.01)

"""Forecasts, and tables that people bring."""

from __future__ import annotations

from pathlib import Path

import pytest

from chromasync.advice import Asked
from chromasync.errors import SettingsError
from chromasync.model import (
    Measurement,
)
from chromasync.sizing.effort import Load, Writes, write_seconds
from tests.support.histories import (
    DAY,
    FLOATS,
    READING,
    SENT,
    TABLE,
    TEXT,
    advice,
    cycle,
    history,
)

# ---- forecasts -------------------------------------------------------------------------------


def copied(pace: float) -> list[Measurement]:
    """A history with a first copy that took `pace` times what the table says."""
    count = 50_000
    sent = Writes(new=Load(count, count * FLOATS, count * TEXT))
    seconds = pace * write_seconds(sent, TABLE.rates)
    first = cycle(
        1.9 * DAY, seconds, count, records_read=count, records_written=count,
        bytes_written=round(count * SENT), phase_seconds={"reconcile": seconds},
    )  # fmt: skip
    return [*history(count, primary_seconds=60.0, records_read=round(60 / READING)), first]


def test_a_forecast_uses_the_measured_pace() -> None:
    """Twice as slow a replica takes twice as long for its first copy."""
    asked = Asked(1_000_000)
    one, two = (advice(50_000, copied(pace), asked=asked).forecast for pace in (1.0, 2.0))
    assert one is not None
    assert two is not None
    assert two.first_copy_seconds == pytest.approx(2 * one.first_copy_seconds, rel=0.05)
    assert "times the pace of the replica, 2.00 (measured here)" in " ".join(two.rates)


def test_a_forecast_grows_with_the_documents() -> None:
    """Every figure does, and the phase is the guide's."""
    rows = copied(1.0)
    sizes = (100_000, 1_000_000, 10_000_000)
    found = [advice(50_000, rows, asked=Asked(size)).forecast for size in sizes]
    steps = [one for one in found if one is not None]
    assert [one.phase for one in steps] == [
        "phase 2 with 2 workers",
        "phase 2 with 3 workers",
        "phase 2 with 5 workers",
    ]
    for name in ("first_copy_seconds", "cycle_seconds", "state_bytes", "server_memory_mb",
                 "server_disk_gb", "reread_seconds"):  # fmt: skip
        values = [getattr(one, name) for one in steps]
        assert values == sorted(values), name
        assert values[0] < values[-1], name
    costs = [one.monthly_cost for one in steps]
    assert costs[0] is not None
    assert costs[1] is not None
    assert costs[0] < costs[1]


def test_the_costs_of_a_forecast_are_those_of_the_table() -> None:
    """Two servers by their memory, two disks, a database by the state, and the processes."""
    forecast = advice(50_000, copied(1.0), asked=Asked(1_000_000)).forecast
    assert forecast is not None
    # 1 million records of 384 numbers: 300 MB + 1536 MB + 500 MB, in at most 85 % of a plan
    assert forecast.server_memory_mb == pytest.approx(2336, abs=1)
    assert forecast.state_bytes == 75_000_000
    assert [(cost.what.partition(",")[0], cost.monthly) for cost in forecast.costs] == [
        ("primary and replica", 170),
        ("two disks of 6 GB", pytest.approx(2 * forecast.server_disk_gb * 0.25)),
        ("PostgreSQL", 6),
        ("4 processes of chromasync", 100),
    ]
    assert forecast.monthly_cost == pytest.approx(276 + 2 * forecast.server_disk_gb * 0.25)


def test_what_no_plan_can_hold_has_no_price() -> None:
    """Ten million records of 3,072 numbers need more memory than the largest plan has."""
    forecast = advice(50_000, copied(1.0), asked=Asked(10_000_000, dimension=3072)).forecast
    assert forecast is not None
    assert forecast.unpriced == ("two servers with 128 GB of memory",)
    assert forecast.monthly_cost is None


def test_sizes_that_are_asked_for_replace_the_measured_ones() -> None:
    """They change the forecast; the paces are still those of what was measured."""
    rows = copied(1.0)
    asked = Asked(1000, dimension=1536, text_bytes=4000)
    forecast = advice(50_000, rows, asked=asked).forecast
    assert forecast is not None
    assert forecast.rates[0] == "A record has 1,536 numbers and 4,000 bytes of text."
    assert "the pace of the replica, 1.00 (measured here)" in forecast.rates[1]


def test_without_history_a_forecast_says_what_it_assumes() -> None:
    """It is possible all the same: the table's rates, not measured yet."""
    forecast = advice(0, [], asked=Asked(1000)).forecast
    assert forecast is not None
    assert forecast.first_copy_seconds > 0
    assert "(not measured yet)" in forecast.rates[1]


# ---- an own table ----------------------------------------------------------------------------


def test_an_own_table_changes_the_limits_and_the_prices(tmp_path: Path) -> None:
    """As the setting names it."""
    own = tmp_path / "own.toml"
    own.write_text("[thresholds]\ndocuments = 300_000\n[prices]\ncurrency = 'EUR'\n")
    report = advice(200_000, history(200_000), SYNC_ADVICE_TABLE=str(own))
    assert (report.recommended_phase, report.currency) == ("phase 0", "EUR")


def test_a_wrong_own_table_is_an_error(tmp_path: Path) -> None:
    """Not silently the start values."""
    own = tmp_path / "own.toml"
    own.write_text("[threshold]\n")
    with pytest.raises(SettingsError, match="threshold: Extra inputs"):
        advice(5, [], SYNC_ADVICE_TABLE=str(own))

"""The command `advise`: what it prints, what it takes, and what it refuses."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from chromasync.cli.commands import program
from chromasync.model import CycleStatus
from chromasync.sizing.table import start_text
from chromasync.store import SqlStore, open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder without settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("PRIMARY_URL", "REPLICA_URL", "DATABASE_URL", "SYNC_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def ran(folder: Path) -> Path:
    """The same, with a state store that has three closed cycles."""
    data = folder / "chromasync-data"
    data.mkdir()
    store = open_store(data / "chromasync.db")
    for _ in range(3):
        store.close_cycle(store.open_cycle().id, CycleStatus.COMPLETED, 0)
    store.close()
    return data / "chromasync.db"


def advise(*arguments: str) -> Result:
    return CliRunner().invoke(program, ["advise", *arguments])


def document(*arguments: str) -> dict[str, object]:
    result = advise(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_without_a_store_there_is_no_history(folder: Path) -> None:
    """It says so plainly, ends with 0, and leaves no file behind."""
    result = advise()
    assert result.exit_code == 0
    first, *_ = result.stdout.splitlines()
    assert first == "Not enough history for advice: 0 of 3 cycles have closed."
    assert "Not known yet. Growth: needs 6 hours between cycles." in result.stdout
    assert list(folder.iterdir()) == []


def test_advice_is_printed_with_what_it_is_based_on(ran: Path) -> None:
    """The recommendation first, then each sign beside its limit, and the price."""
    result = advise()
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Phase 0 fits 0 documents")
    assert any(line.split() == ["documents", "0", "100,000"] for line in lines)
    assert "Processes of chromasync in phase 0: about 7.00 USD a month." in lines
    assert any(line.startswith("This has been the recommendation since") for line in lines)


def test_a_recommendation_is_recorded_once(ran: Path) -> None:
    """A second look changes nothing, and says since when it is recommended."""
    first, second = document(), document()
    assert first["since"] == second["since"]
    store = open_store(ran)
    (noted,) = store.recommendations(9)
    store.close()
    assert (noted.current_phase, noted.recommended_phase) == ("phase 0", "phase 0")
    assert noted.estimated_monthly_cost == "7.00 USD"
    assert noted.reason.startswith("Phase 0 fits 0 documents")
    assert noted.measured["documents"] == 0


def test_a_forecast_is_printed_with_its_rates(ran: Path) -> None:
    """Time, sizes, each price and their sum, then one sentence for each rate."""
    lines = advise("--at", "2.5M", "--dimension", "1536").stdout.splitlines()
    assert any(line.startswith("With 2,500,000 documents") for line in lines)
    for words in ("first copy", "memory of each server", "all together"):
        assert any(line.startswith(words) for line in lines), words
    assert "A record has 1,536 numbers and 600 bytes of text." in lines
    found = document("--at", "2.5M", "--dimension", "1536")["forecast"]
    assert isinstance(found, dict)
    assert found["documents"] == 2_500_000


@pytest.mark.parametrize(
    ("given", "count"), [("1", 1), ("500k", 500_000), ("10M", 10_000_000), ("1_000", 1000)]
)
def test_counts_may_have_a_unit(ran: Path, given: str, count: int) -> None:
    """As people write them."""
    found = document("--at", given)["forecast"]
    assert isinstance(found, dict)
    assert found["documents"] == count


@pytest.mark.parametrize("given", ["", "0", "-5", "10G", "ten", "1e6", "nan", "0.1", "9" * 16])
def test_a_wrong_count_is_a_usage_error(folder: Path, given: str) -> None:
    """It shows how to write one."""
    result = advise(f"--at={given}")
    assert result.exit_code == 2
    assert "such as 250000, 500k or 10M" in result.stderr


def test_sizes_alone_are_a_usage_error(folder: Path) -> None:
    """They change the forecast only."""
    result = advise("--dimension", "8")
    assert result.exit_code == 2
    assert "--dimension and --text-bytes need --at" in result.stderr


def test_the_table_can_be_printed_and_used(ran: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy, change, and name it: the prices are one's own."""
    printed = advise("--table")
    assert (printed.exit_code, printed.stdout) == (0, start_text())
    assert tomllib.loads(printed.stdout)["thresholds"]["documents"] == 100_000
    own = ran.parent / "own.toml"
    own.write_text(printed.stdout.replace("monthly = 7\n", "monthly = 9.5\n"), encoding="utf-8")
    monkeypatch.setenv("SYNC_ADVICE_TABLE", str(own))
    assert "about 9.50 USD a month" in advise().stdout


def test_a_wrong_table_is_an_error_without_a_traceback(ran: Path) -> None:
    """Exit code 2, with the place of the mistake."""
    own = ran.parent / "own.toml"
    own.write_text("[prices]\ndisk_gb = -1\n", encoding="utf-8")
    result = advise("--set", f"SYNC_ADVICE_TABLE={own}")
    assert result.exit_code == 2
    assert "prices.disk_gb" in result.stderr
    assert "Traceback" not in result.stderr


def test_names_in_the_history_do_not_drive_the_terminal(ran: Path) -> None:
    """Names of an own table are data."""
    own = ran.parent / "own.toml"
    own.write_text('[prices]\ncurrency = "\\u001b[31mUSD"\n', encoding="utf-8")
    result = advise("--set", f"SYNC_ADVICE_TABLE={own}")
    assert "\x1b" not in result.stdout


def test_only_changes_of_the_advice_are_recorded(ran: Path) -> None:
    """A change makes a row, what was measured alone does not."""
    store: SqlStore = open_store(ran)
    document()
    (first,) = store.recommendations(9)
    store.close()
    own = ran.parent / "own.toml"
    own.write_text("[thresholds]\ngrowth_per_day = 5\n", encoding="utf-8")
    document("--set", f"SYNC_ADVICE_TABLE={own}")
    document("--set", "SYNC_DISTRIBUTED=true", "--set", "SYNC_COORDINATOR=true")
    store = open_store(ran)
    assert [one.current_phase for one in store.recommendations(9)] == ["phase 1", "phase 0"]
    assert store.recommendations(9)[1] == first
    store.close()

"""The bench from end to end, with very few records."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.child import FailedMeasurement, peak_rss_mb, run_child

ROOT = Path(__file__).resolve().parents[2]


def run_bench(module: str, folder: Path, *options: str) -> tuple[str, dict[str, Any]]:
    """Run it in a process of its own; its standard output and the JSON it kept."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--out", str(folder), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (file,) = folder.glob("*.json")
    return done.stdout, orjson.loads(file.read_bytes())


@pytest.mark.longest
@pytest.mark.long
def test_the_race_is_run_and_judged(tmp_path: Path) -> None:
    """All contenders finish, ours is identical each time and writes nothing without need."""
    options = ("--records", "200", "--rounds", "1", "--markdown")
    told, results = run_bench("bench", tmp_path, *options)
    (round_,) = results["rounds"]
    for name in ("raw_copy", "naive_copy", "ours_copy", "ours_change"):
        assert round_[name]["fidelity"]["text"] == "identical", name
        assert round_[name]["fidelity"]["records"] == 200
    assert {cycle["read"] for cycle in round_["ours_reread"]["cycles"]} == {200}
    assert {cycle["read"] for cycle in round_["ours_walk"]["cycles"]} == {0}
    assert round_["ours_change"]["cycles"][0]["applied"] == round_["ours_change"]["changed"] == 2
    counted = results["counted"]
    assert [counted["ours"][p]["replica"]["writes"] for p in ("settle", "unchanged", "walk")] == [
        *(0, 0, 0)
    ]
    assert all(counted["ours"][p]["primary"]["writes"] == 0 for p in ("copy", "change", "edits"))
    assert counted["ours"]["fidelity_after_edits"]["identical"]
    assert counted["naive"]["fidelity_after_edits"]["differences"]["extra"] > 0
    assert told.startswith("|  | raw requests | naive loop | chromasync |")


@pytest.mark.longest
@pytest.mark.long
def test_the_memory_of_many_ids_is_measured(tmp_path: Path) -> None:
    """Every phase ends identical and under the limit, in a process of its own."""
    told, results = run_bench("bench.memory", tmp_path, "--records", "6000")
    assert [len(phase.get("cycles", [])) for phase in results["phases"]] == [1, 1, 1, 1, 0]
    assert results["phases"][-1]["same"] == 6000
    assert results["judged"] == "identical"
    assert "6,000 records" in told


def test_a_failed_measurement_says_why() -> None:
    """The error of the measuring process is in the message."""
    with pytest.raises(FailedMeasurement, match="ConnectionRefusedError"):
        run_child("raw read", url="http://127.0.0.1:9", threads=1)


def test_peak_memory_is_of_this_process() -> None:
    """The peak is at least what is resident now, and a child does not inherit it."""
    ballast = bytearray(b"x") * 200_000_000
    assert peak_rss_mb() > 200
    assert len(ballast) == 200_000_000
    child = subprocess.run(
        [sys.executable, "-c", "from bench.child import peak_rss_mb; print(peak_rss_mb())"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert float(child.stdout) < 150

"""The bench from end to end, with very few records."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.child import FailedMeasurement, peak_rss_mb, run_child
from bench.limited import memory_limit

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
    options = ("--records", "200", "--rounds", "1", "--only", "384", "--markdown")
    told, results = run_bench("bench", tmp_path, *options)
    (shape,) = results["shapes"]
    (round_,) = shape["rounds"]
    copies = [round_[name] for name in ("naive_copy", "ours_copy", "ours_change")]
    for run in [*round_["raw_copies"].values(), *copies]:
        assert run["fidelity"]["text"] == "identical"
        assert run["fidelity"]["records"] == 200
    assert list(round_["raw_copies"]) == ["1000", "5461"]
    assert round_["ours_reread"]["primary_cpu_seconds"] > 0
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
def test_growth_is_measured_on_real_servers_and_stand_ins(tmp_path: Path) -> None:
    """Each size has its phases, and the requests that they sent."""
    options = ("--sizes", "400", "--stand-in", "3000")
    told, results = run_bench("bench.growth", tmp_path, *options)
    real, stand_in = ({p["phase"]: p for p in size["phases"]} for size in results["sizes"])
    assert real["unchanged cycle, ids only"]["read"] == 0
    assert [real["status"]["requests"], stand_in["status"]["requests"]] == [0, 0]
    assert min(real[name]["requests"] for name in ("plan", "verify")) > 0
    assert "verify" not in stand_in
    assert "3,000" in told


@pytest.mark.longest
@pytest.mark.long
def test_the_memory_of_many_ids_is_measured(tmp_path: Path) -> None:
    """Every phase ends identical and under the limit, in a process of its own."""
    told, results = run_bench("bench.memory", tmp_path, "--records", "6000")
    assert [len(phase.get("cycles", [])) for phase in results["phases"]] == [1, 1, 1, 1, 0]
    assert results["phases"][-1]["same"] == 6000
    assert results["judged"] == "identical"
    assert "6,000 records" in told


@pytest.mark.longest
@pytest.mark.long
def test_wide_records_are_copied_in_little_memory(tmp_path: Path) -> None:
    """Each phase runs in its limit, and the official client finds both sides identical."""
    options = ("--records", "60", "--large", "3000000", "--limit", "400")
    told, results = run_bench("bench.wide", tmp_path, *options)
    assert [phase["phase"] for phase in results["phases"]][0::2] == ["first copy", "verify"]
    assert [cycle["read"] for phase in results["phases"][:2] for cycle in phase["cycles"]] == [
        61,
        61,
    ]
    assert results["phases"][-1]["same"] == 61
    assert "60 wide records and one of 3 MB" in told
    assert "The official client says: identical." in told


@pytest.mark.longest
@pytest.mark.long
def test_a_mass_delete_is_measured_phase_by_phase(tmp_path: Path) -> None:
    """What is lost is held twice, then deleted, by processes that have a limit."""
    told, results = run_bench("bench.mass", tmp_path, "--records", "5000", "--limit", "400")
    cycles = [phase["cycles"][0] for phase in results["phases"]]
    assert [c["outcome"] for c in cycles] == ["identical", "held", "held", "identical", "identical"]
    left, right = results["counts"]
    assert left == right == 5000 - cycles[3]["deleted"] < 2500
    assert results["phases"][3]["held"] == cycles[3]["deleted"]
    assert "5,000 records" in told


def test_the_limit_of_a_measurement_is_real() -> None:
    """A process that wants more memory than its limit does not get it."""
    takes = "taken = bytearray(b'x') * 300_000_000"
    for megabytes, is_enough in ((200, False), (900, True)):
        with memory_limit(megabytes) as limit:
            done = subprocess.run(
                [sys.executable, "-c", takes],
                preexec_fn=limit.enter,
                check=False,
                capture_output=True,
            )
        assert (done.returncode == 0) == is_enough


def test_a_folder_that_is_no_tree_of_control_groups_limits_nothing(tmp_path: Path) -> None:
    """Files that are made there are no limit, so another one is chosen."""
    with memory_limit(512, groups=tmp_path) as limit:
        assert "RLIMIT_DATA" in limit.kind
    assert list(tmp_path.iterdir()) == []


def test_a_control_group_is_made_where_that_is_allowed(tmp_path: Path) -> None:
    """It gets the limit, no swap, and the child."""
    (tmp_path / "cgroup.subtree_control").write_text("cpu memory")
    with memory_limit(512, groups=tmp_path) as limit:
        (group,) = (path for path in tmp_path.iterdir() if path.is_dir())
        assert limit.kind == "a control group of 512 MB"
        assert (group / "memory.max").read_text() == str(512 * 1024 * 1024)
        limit.enter()
        assert (group / "cgroup.procs").read_text() == str(os.getpid())
        for file in group.iterdir():  # the kernel lets a folder with its own files go
            file.unlink()
    assert not group.exists()


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

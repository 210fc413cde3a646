"""Nothing is configured: the self-test starts servers, and they end with it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.selftest.processes import (
    COMMAND,
    FAILED,
    SCRIPT,
    assert_guide,
    environment,
    processes_of,
    read_until,
    run,
    running,
    spoken,
    until_gone,
)
from tests.support.stage import ROOT


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "store"),
    [((*SCRIPT, "--json"), "postgresql"), ((*COMMAND, "--json", "--sqlite"), "sqlite")],
    ids=["script", "command"],
)
def test_with_nothing_configured_it_passes_and_leaves_nothing(
    arguments: tuple[str, ...], store: str, scratch: Path
) -> None:
    """Both ways to call it, on either store, say the guide's lines with figures that add up."""
    result = run(scratch, *arguments)
    assert result.returncode == 0, spoken(result)
    assert_guide(result.stderr.splitlines())
    document = json.loads(result.stdout)
    assert (document["command"], document["exit_code"]) == ("selftest", 0)
    assert (document["servers"], document["store"]) == ("own", store)
    assert document["coordinator"] == "started"
    assert len(document["workers"]) == 3
    assert len(document["completed_by"]) > 1
    assert sum(document["completed_by"].values()) >= document["tasks_completed"]
    assert document["tasks_created"] == document["tasks_completed"] >= document["chunks"] >= 20
    assert (document["added"], document["updated"], document["deleted"]) == (60, 60, 30)
    assert document["verified"] >= 430
    assert processes_of(scratch) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.long
def test_nothing_outlives_a_self_test_that_was_killed(scratch: Path) -> None:
    """After kill -9, servers and workers end by themselves."""
    with running(scratch, *COMMAND, "--sqlite") as process:
        read_until(process, "Coordinator cycle")
        assert len(processes_of(scratch)) == 5
        process.send_signal(signal.SIGKILL)
        process.wait()
    until_gone(scratch)


@pytest.mark.long
def test_a_process_alone_does_not_prove_that_several_share_the_work(scratch: Path) -> None:
    """Without workers the coordinator does everything, and the self-test says so and fails."""
    prelude = (
        "from chromasync.lab.selftest import acts, story\n"
        "acts.WORKERS, acts.ROUNDS, story.QUICK['sync_interval'] = 0, 1, 0.5\n"
    )
    program = f"{prelude}from chromasync.cli import main\nmain()"
    result = run(scratch, "-c", program, "selftest", "--sqlite")
    assert result.returncode == 4, spoken(result)
    assert "One process did all tasks, so more records are added." in result.stdout
    assert "that several share the work was not shown." in result.stdout
    assert result.stdout.splitlines()[-1] == FAILED
    assert "are held" not in result.stdout
    assert list(scratch.iterdir()) == []


def test_without_chroma_it_says_what_to_install(scratch: Path) -> None:
    """With neither servers configured nor Chroma installed, there is a way out to be read."""
    prelude = "import sys\nsys.modules['chromadb_rust_bindings'] = None\n"
    program = f"{prelude}from chromasync.cli import main\nmain()"
    result = run(scratch, "-c", program, "selftest")
    assert result.returncode == 4
    assert "pip install 'chromasync[demo]'" in result.stdout
    assert result.stdout.splitlines()[-1] == FAILED


def test_the_script_uses_the_source_beside_it_where_nothing_is_installed(scratch: Path) -> None:
    """In a checkout whose package is not installed, the script finds it in `src`."""
    checkout = scratch / "checkout"
    checkout.mkdir()
    shutil.copy(SCRIPT[0], checkout)
    (checkout / "src").symlink_to(ROOT / "src")
    # without `site`, the editable installation of these tests is not seen, but its packages are
    result = subprocess.run(
        [sys.executable, "-S", checkout / Path(SCRIPT[0]).name, "--help"],
        env=environment(scratch, PYTHONPATH=sysconfig.get_path("purelib")),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "selftest [OPTIONS]" in result.stdout


def test_the_script_says_when_its_packages_are_missing(scratch: Path) -> None:
    """Where the dependencies are not installed there is one sentence and no traceback."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-S", *SCRIPT], env=env, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "Install chromasync first" in result.stderr
    assert "Traceback" not in result.stderr

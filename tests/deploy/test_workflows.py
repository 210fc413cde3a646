from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
TOOLS = Path(sys.executable).parent
# Looked up when they were written: each commit is what the action's tag beside it stands for.
KNOWN_ACTIONS = {
    "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2",
    "actions/setup-python@a26af69be951a213d495a4c3e4e4022e16d87065 # v5.6.0",
    "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2",
    "actions/download-artifact@d3f86a106a0bac45b974a628896c90dbdf5c8093 # v4.3.0",
    "pypa/gh-action-pypi-publish@76f52bc884231f62b9a034ebfe128415bbaabdfc # v1.12.4",
}


def workflow(name: str) -> dict[Any, Any]:
    """A workflow; its key `on` is a truth value to YAML."""
    found: dict[Any, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every job of every workflow."""
    for path in FILES:
        yield from workflow(path.name)["jobs"].items()


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a checker to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False)


def make_targets() -> set[str]:
    """What `make` can be asked for."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_files_keep_to_the_schema_of_workflows() -> None:
    """GitHub's published schema accepts every file."""
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    done = run(*checker, "vendor.github-workflows", *FILES)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in FILES] == ["chaos.yml", "ci.yml", "release.yml"]


def test_the_auditor_of_workflows_finds_nothing() -> None:
    """In its strictest mood, without asking the network, it has no finding."""
    done = run(TOOLS / "zizmor", "--offline", "--no-progress", "--persona", "auditor", FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_action_is_a_known_commit() -> None:
    """No tag that someone can move, and no commit that was not looked up."""
    lines = [line for path in FILES for line in path.read_text().splitlines()]
    used = {line.partition("uses: ")[2] for line in lines if "uses: " in line}
    assert used == KNOWN_ACTIONS


def test_nothing_is_permitted_but_what_a_job_needs() -> None:
    """Jobs read the code; the one that publishes may show its identity, and no more."""
    assert all(workflow(path.name)["permissions"] == {} for path in FILES)
    permissions = {name: job["permissions"] for name, job in jobs()}
    assert permissions.pop("publish") == {"id-token": "write"}
    assert all(given == {"contents": "read"} for given in permissions.values())


def test_no_secret_is_read() -> None:
    """Publishing needs no stored token."""
    assert not [path.name for path in FILES if "secrets." in path.read_text()]


def test_the_tests_run_on_each_supported_python() -> None:
    """The oldest and the newest supported versions, and those between."""
    matrix = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_what_is_published_is_what_was_built_and_tested() -> None:
    """One build; the wheel's tests and the publication take its artifact, in this order."""
    release = workflow("release.yml")["jobs"]
    assert release["test"]["needs"] == "build"
    assert release["publish"]["needs"] == "test"
    builds = [name for name, job in release.items() if "-m build" in str(job["steps"])]
    assert builds == ["build"]
    assert "CHROMASYNC_WHEEL" in str(release["test"]["steps"])
    assert "checkout" not in str(release["publish"]["steps"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_make_target_that_is_called_exists(path: Path) -> None:
    """A workflow calls only what the Makefile has."""
    called = set(re.findall(r"\bmake ([a-z-]+)", path.read_text()))
    assert called
    assert called <= make_targets()

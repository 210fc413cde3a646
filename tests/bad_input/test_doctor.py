"""The doctor finds what would stop `run` or `sync`, and tells no secret while it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chromasync.reports import Check, DoctorReport
from tests.support.stage import Stage, run_command

NOBODY = "127.0.0.1:1"
STORE = f"postgresql://{NOBODY}/x"


def examined(stage: Stage, **settings: str) -> DoctorReport:
    """What the doctor says with these settings."""
    with stage.app(**settings) as app:
        return app.doctor()


def trouble(report: DoctorReport) -> Check:
    """The one thing that is wrong."""
    (wrong,) = (check for check in report.checks if not check.ok)
    return wrong


def test_a_healthy_pair_is_well_before_and_after_the_first_cycle(stage: Stage) -> None:
    """Every check passes and leaves nothing behind."""
    before = examined(stage)
    assert [check.name for check in before.checks if not check.ok] == []
    assert before.exit_code == 0
    assert list(stage.folder.iterdir()) == []
    stage.sync()
    after = examined(stage)
    assert after.exit_code == 0
    details = {check.name: check.detail for check in after.checks}
    assert details["collections"] == "1 on the primary, 1 on the replica"


def test_a_worker_without_a_shared_store_is_told(stage: Stage) -> None:
    """As `run` would: exit code 2, and which setting is missing."""
    report = examined(stage, SYNC_DISTRIBUTED="true")
    assert report.exit_code == 2
    assert trouble(report).name == "role"
    assert "DATABASE_URL is not set" in trouble(report).detail
    assert examined(stage, SYNC_DISTRIBUTED="true", SYNC_COORDINATOR="true").exit_code == 0


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/1/chromasync"])
def test_a_state_folder_that_cannot_be_is_told(stage: Stage, tmp_path: Path, place: str) -> None:
    """A file in its place, and a place that takes no files, from root neither."""
    (tmp_path / "file").touch()
    report = examined(stage, SYNC_DATA_DIR=str(tmp_path / place))
    assert report.exit_code == 2
    assert trouble(report).name == "state store"
    assert "There can be no state file at" in trouble(report).detail


@pytest.mark.parametrize("scheme", ["", "sqlite:///"])
def test_a_state_folder_is_not_made(stage: Stage, scheme: str) -> None:
    """Folders that are missing are well, as the first cycle makes them, and stay missing."""
    place = stage.folder / "one" / "two"
    given = (
        {"DATABASE_URL": f"{scheme}{place}/state.db"} if scheme else {"SYNC_DATA_DIR": f"{place}"}
    )
    assert examined(stage, **given).exit_code == 0
    assert list(stage.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["SYNC_TENANTS", "SYNC_DATABASES"])
def test_a_name_that_leads_nowhere_is_told(stage: Stage, name: str) -> None:
    """As `sync` would: exit code 4, and which settings to check."""
    report = examined(stage, **{name: "nope"})
    assert report.exit_code == 4
    assert trouble(report).name == "collections"
    assert "Check SYNC_TENANTS and SYNC_DATABASES." in trouble(report).detail


def test_equal_urls_are_told(stage: Stage) -> None:
    """Even where no collection would give it away."""
    report = examined(stage, REPLICA_URL=stage.servers.primary_proxy.url)
    assert report.exit_code == 4
    assert "are the same" in trouble(report).detail


@pytest.mark.parametrize(
    ("settings", "share", "code"),
    [
        ({"SYNC_INCLUDE": "docs"}, "2 on the primary, 1 of them wanted by", 0),
        ({"SYNC_INCLUDE": "DOCS"}, "2 on the primary, 0 of them wanted by", 2),
        ({"SYNC_EXCLUDE": "*"}, "2 on the primary, 0 of them wanted by", 2),
    ],
)
def test_patterns_that_leave_all_out_are_told(
    stage: Stage, settings: dict[str, str], share: str, code: int
) -> None:
    """How many collections are wanted, and that patterns tell A from a."""
    stage.create("notes")
    report = examined(stage, **settings)
    assert report.exit_code == code
    (check,) = (check for check in report.checks if check.name == "collections")
    assert check.detail.startswith(f"{share} SYNC_INCLUDE and SYNC_EXCLUDE")
    assert ("case-sensitive" in check.detail) == (code != 0)


# ---- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--json",), ("--debug",)], ids=str)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", f"{STORE}?user=u&password=SEKRET"),
        ("DATABASE_URL", f"postgresql://u:SEK/RET@{NOBODY}/x"),
        ("DATABASE_URL", f"postgresql://u:SEK@RET@{NOBODY}/x"),
        ("PRIMARY_URL", f"http://user:SEK/RET@{NOBODY}"),
        ("PRIMARY_URL", f"user:SEKRET@{NOBODY}"),
    ],
)
def test_no_part_of_a_password_is_printed(name: str, value: str, options: tuple[str, ...]) -> None:
    """Neither in a query nor where it was not percent-encoded, whatever is asked for."""
    ended = run_command("doctor", *options, **{name: value})
    assert ended.returncode in {2, 3}
    said = ended.stdout + ended.stderr
    assert name in said
    assert "SEK" not in said
    assert "RET" not in said.replace("SECRET", "")
    if options == ("--json",):
        json.loads(ended.stdout)


def test_a_flag_keeps_its_password_too() -> None:
    """A command that needs no server refuses a bad URL without repeating it."""
    ended = run_command("status", "--primary", f"user:SEKRET@{NOBODY}")
    assert ended.returncode == 2
    assert f"'***@{NOBODY}'" in ended.stderr
    assert "SEKRET" not in ended.stderr + ended.stdout

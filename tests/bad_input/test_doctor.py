"""The doctor finds what would stop `run` or `sync`, and tells no secret while it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import MetaData

from chromasync.config.settings import DATABASE_FILE
from chromasync.errors import ChromasyncError
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.reports import Check, DoctorReport, Outcome
from chromasync.store import migrations, open_store
from chromasync.store.migrations import STEPS
from tests.support.stage import Stage, invoke_command

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


# ---- the state store ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server for the tests of this module."""
    with LocalPostgres(durable=False) as server:
        yield server


STOPPING = {
    "read_only": ("ALTER DATABASE {} SET default_transaction_read_only = on", 3),
    "no_schema": ("ALTER DATABASE {} SET search_path = nowhere", 4),
    "no_rights": ("ALTER ROLE nobody_special LOGIN PASSWORD 'SEKRET'", 4),
}
"""What would stop a cycle on an empty database, and with which exit code."""


@pytest.mark.parametrize("name", STOPPING)
def test_what_would_stop_a_cycle_on_an_empty_database_is_told(
    stage: Stage, postgres: LocalPostgres, name: str
) -> None:
    """As `sync` would: the same words and exit code, before anything was written."""
    statement, code = STOPPING[name]
    url = postgres.database(name)
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        if name == "no_rights":
            admin.execute("CREATE ROLE nobody_special")
            place = url.rpartition("@")[2]
            url = f"postgresql://nobody_special:SEKRET@{place}"
        admin.execute(statement.format(name).encode())
    report = examined(stage, DATABASE_URL=url)
    assert report.exit_code == code
    assert trouble(report).name == "state store"
    assert "defect" not in trouble(report).detail
    with pytest.raises(ChromasyncError) as caught:
        stage.sync(DATABASE_URL=url)
    assert str(caught.value) == trouble(report).detail
    assert caught.value.exit_code == code


def test_how_a_database_writes_its_dates_stops_nothing(
    stage: Stage, postgres: LocalPostgres
) -> None:
    """Well before and after the first cycle, and so is all that reads the store."""
    url = postgres.database("german")
    with psycopg.connect(postgres.url, autocommit=True) as admin:
        admin.execute("ALTER DATABASE german SET DateStyle = 'German'")
    for known in (None, len(STEPS)):
        report = examined(stage, DATABASE_URL=url)
        assert (report.exit_code, report.schema_version) == (0, known)
        assert stage.sync(DATABASE_URL=url).outcome is Outcome.IDENTICAL
    with stage.app(DATABASE_URL=url) as app:
        assert app.status().exit_code == 0


def test_an_older_store_is_told_and_left_as_it_is(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at it must not lock out the programs that still run on it."""
    with monkeypatch.context() as older:
        older.setattr(migrations, "STEPS", STEPS[:1])
        older.setattr(migrations, "metadata", MetaData())
        open_store(stage.folder / DATABASE_FILE).close()
    for _ in range(2):
        report = examined(stage)
        assert (report.exit_code, report.schema_version) == (0, 1)
        (check,) = (check for check in report.checks if check.name == "state store")
        assert check.detail == "opens, schema version 1; the next cycle brings it up to date"


# ---- secrets ---------------------------------------------------------------------------------


@pytest.mark.long
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
    ended = invoke_command("doctor", *options, **{name: value})
    assert ended.returncode in {2, 3}
    said = ended.stdout + ended.stderr
    assert name in said
    assert "SEK" not in said
    assert "RET" not in said.replace("SECRET", "")
    if options == ("--json",):
        json.loads(ended.stdout)


def test_a_flag_keeps_its_password_too() -> None:
    """A command that needs no server refuses a bad URL without repeating it."""
    ended = invoke_command("status", "--primary", f"user:SEKRET@{NOBODY}")
    assert ended.returncode == 2
    assert f"'***@{NOBODY}'" in ended.stderr
    assert "SEKRET" not in ended.stderr + ended.stdout

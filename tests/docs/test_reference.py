from __future__ import annotations

from pathlib import Path

import click
import pytest

from chromasync import errors
from chromasync.cli.commands import program
from chromasync.cli.exits import ExitCode
from chromasync.config.reference import settings_table
from chromasync.cycle.tell import FIGURES
from chromasync.events import Event
from tools.reference import pages, write_pages

DOCS = Path(__file__).parents[2] / "docs"
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")
SETTINGS = (DOCS / "settings.md").read_text(encoding="utf-8")
PUBLISHED_COMMANDS = {
    "run", "sync", "plan", "verify", "status", "approve", "doctor", "demo", "selftest",
    "pause", "resume", "fence", "promote", "restore", "advise",
}  # fmt: skip
PUBLISHED_SETTINGS = {
    "PRIMARY_URL", "REPLICA_URL", "PRIMARY_HEADERS", "REPLICA_HEADERS", "PRIMARY_TOKEN",
    "REPLICA_TOKEN", "PRIMARY_BEARER", "REPLICA_BEARER",
    "SYNC_TENANTS", "SYNC_DATABASES", "SYNC_INCLUDE", "SYNC_EXCLUDE",
    "DATABASE_URL", "SYNC_DATA_DIR", "SYNC_INTERVAL", "SYNC_CHUNK_SIZE", "SYNC_WORKERS",
    "SYNC_MAX_MEMORY_MB", "SYNC_MAX_DELETE", "SYNC_SCRUB_BUDGET", "SYNC_LEASE_SECONDS",
    "SYNC_HTTP_HOST", "SYNC_HTTP_PORT", "SYNC_HTTP_TOKEN", "SYNC_WEBHOOK_URL", "SYNC_ALERT_URLS",
    "SYNC_LOG_FORMAT", "SYNC_LOG_LEVEL", "SYNC_DISTRIBUTED", "SYNC_COORDINATOR",
    "SYNC_COORDINATOR_WORKS", "SYNC_ALERT_LAG",
}  # fmt: skip


def section(command: str) -> str:
    """The part of the reference about one command."""
    return COMMANDS.split(f"## `chromasync {command}`\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("name", sorted(pages()))
def test_generated_pages_are_up_to_date(name: str, tmp_path: Path) -> None:
    """The pages in docs are what `make docs` would write."""
    write_pages(tmp_path)
    assert (DOCS / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(
        encoding="utf-8"
    ), "run `make docs`"


def test_no_published_command_is_missing() -> None:
    """The commands that people's scripts use exist."""
    assert set(program.commands) >= PUBLISHED_COMMANDS


@pytest.mark.parametrize("name", sorted(program.commands))
def test_every_command_documents_its_options(name: str) -> None:
    """Each option of each command stands in its section with what it does, --json among them."""
    text = section(name)
    options = [p for p in program.commands[name].params if isinstance(p, click.Option)]
    assert "--json" in {opt for option in options for opt in option.opts}
    for option in options:
        assert option.help
        assert max(option.opts, key=len) in text
    assert "Examples:" in text


@pytest.mark.parametrize("code", ExitCode)
def test_every_exit_code_is_documented(code: ExitCode) -> None:
    """Each exit code has its row in the reference and its line in the help."""
    assert f"| {int(code)} | {code.meaning} |" in COMMANDS
    assert code.meaning in program.get_help(click.Context(program, terminal_width=200))


def subclasses(kind: type[errors.ChromasyncError]) -> set[type[errors.ChromasyncError]]:
    """`kind` and everything below it."""
    return {kind}.union(*map(subclasses, kind.__subclasses__()))


def test_every_error_ends_with_a_documented_exit_code() -> None:
    """No error class has an exit code that the reference does not explain."""
    assert {kind.exit_code for kind in subclasses(errors.ChromasyncError)} <= set(ExitCode)


def test_no_published_setting_is_missing() -> None:
    """The settings that people's deployments use exist and are documented."""
    names = {info.name for info in settings_table()}
    assert names >= PUBLISHED_SETTINGS
    for name in names:
        assert f"| `{name}` |" in SETTINGS


def test_every_setting_says_what_it_means_and_allows() -> None:
    """No row of the reference is left empty."""
    for info in settings_table():
        assert all((info.group, info.default, info.allowed, info.meaning)), info
        assert info.meaning.endswith(".")


def test_the_table_of_log_lines_is_up_to_date() -> None:
    """The section about logs names every event, in order, and every figure of a cycle's line."""
    text = (DOCS / "deploy.md").read_text(encoding="utf-8").split("\n## Logs\n")[1]
    text = text.split("\n## ")[0]
    _, rows = text.split("| event | when |\n|---|---|\n")
    assert rows.strip().splitlines() == [f"| `{event}` | {event.when} |" for event in Event]
    assert [name for name in FIGURES if f"`{name}`" not in text] == []

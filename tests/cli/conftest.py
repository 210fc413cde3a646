"""A command line whose program is a fake, in an empty folder and a clean environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from chromasync.cli import composition
from chromasync.cli.commands import program
from tests.cli.fakes import FakeProgram

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings of the machine, no file of the working folder, no log setup left behind."""
    for name in list(os.environ):
        if name.startswith(("SYNC_", "PRIMARY_", "REPLICA_")) or name in {"DATABASE_URL", "PORT"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    structlog.reset_defaults()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeProgram:
    """The program behind the commands."""
    standin = FakeProgram()
    monkeypatch.setattr(composition, "open_program", standin.open)
    return standin


@pytest.fixture
def invoke(fake: FakeProgram) -> Invoke:
    """Run a command line whose two URLs are set."""

    def run(*args: str, env: dict[str, str] | None = None) -> Result:
        urls = {"PRIMARY_URL": "http://one:8000", "REPLICA_URL": "http://two:8000"}
        return CliRunner().invoke(
            program, args, env={**urls, **(env or {})}, prog_name="chromasync"
        )

    return run

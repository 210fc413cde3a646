"""The commands of docs/folders.md, run in a folder with a `./chroma`, and what the page says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from chromasync.cli.commands import SECTIONS
from chromasync.config import Settings
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import judge
from tests.support.stage import ROOT, client_of, close_client, fill

TEXT = (ROOT / "docs" / "folders.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ ((?:chromasync|python) .*)$", TEXT, re.MULTILINE)
SERVER = "https://chroma.example.com"
OLD = "http://127.0.0.1:8100"
RECORDS = 120


def run(command: str, folder: Path, servers: dict[str, str]) -> str:
    """What a command of the page says; it ends with 0."""
    for shown, url in servers.items():
        command = command.replace(shown, url)
    program, *arguments = shlex.split(command)
    start = [sys.executable] if program == "python" else [sys.executable, "-m", "chromasync"]
    done = subprocess.run(
        [*start, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.long
def test_every_command_works_in_its_order(tmp_path: Path) -> None:
    """To a server, to a backup that the official client opens, and back from it."""
    with ChromaServer(tmp_path / "chroma") as old, ChromaServer() as new:
        servers = {OLD: old.url, SERVER: new.url}
        client = client_of(old.url, "default_database")
        fill(client.create_collection("docs", embedding_function=None), RECORDS)
        run(next(c for c in COMMANDS if OLD in c), tmp_path, servers)
        copy = client_of(new.url, "default_database")
        assert judge(client, copy).identical
        close_client(client)
        close_client(copy)
        old.kill()
        said = {c: run(c, tmp_path, servers) for c in COMMANDS if OLD not in c}
    python = next(c for c in said if c.startswith("python"))
    assert "docs" in said[python]
    restored = next(c for c in said if "restore" in c)
    assert f"{RECORDS} records in 1 collection" in said[restored]
    assert (tmp_path / "new" / "chroma.sqlite3").is_file()


def test_every_command_is_in_the_table() -> None:
    """The page says of each command of the program whether it takes a folder."""
    table = TEXT.split("\n## Which commands take a folder\n")[1].split("\n\n## ")[0]
    named = set(
        re.findall(r"`(\w+)", "\n".join(re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)))
    )
    commands = {name for _, names in SECTIONS for name in names}
    assert commands - named == {"demo"}  # it has no settings


def test_the_times_are_those_of_the_settings() -> None:
    """A default that is changed in the program is changed here, too."""
    settings = Settings()
    assert settings.alert_lag_seconds == 15 * 60
    assert settings.sync_scrub_budget * settings.sync_interval == 75
    assert "which is 15 minutes by default" in TEXT
    assert "75 seconds\nby default" in TEXT

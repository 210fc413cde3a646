"""How a peer is run: its two commands in one pipe, and what is told when it fails."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import peers


def python(source: str) -> list[str]:
    return [sys.executable, "-c", source]


def test_what_one_command_prints_is_what_the_other_reads() -> None:
    """A pipe whose commands both succeed tells nothing."""
    check = "import sys; assert sys.stdin.read() == 'records\\n'"
    assert peers._piped(python("print('records')"), python(check)) == []


def test_a_command_that_fails_is_told_with_its_words() -> None:
    """The exit codes and the last words of both are kept."""
    (told,) = peers._piped(
        python("raise SystemExit('no lists')"), python("import sys; sys.exit(3)")
    )
    assert told.startswith("ended with 1 and 3: no lists")


def test_a_peer_that_cannot_be_installed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race goes on without it, and one line says so."""
    monkeypatch.setattr(peers, "PYTHON", "no-such-python")
    said: list[str] = []
    assert peers.installed(tmp_path / "peer", said.append) is None
    assert said[-1].endswith("could not be installed here; the race goes on without it")

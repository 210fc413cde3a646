"""The page about operations names everything that it is about."""

from __future__ import annotations

import re
from pathlib import Path

from chromasync.alerts import AlertKind, Rhythm
from chromasync.alerts.delivery import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS
from chromasync.alerts.kinds import ABOUT
from chromasync.alerts.rules import LOST_SECONDS
from chromasync.memory import MEMORY_SHARE

TEXT = (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")
ALERTS = TEXT.split("\n## Alerts\n")[1].split("\n## ")[0]


def rows() -> dict[str, str]:
    """The rows of the table of alerts, by kind."""
    _, _, table = ALERTS.partition("| alert | what it means | what to do |\n|---|---|---|\n")
    lines = table.partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == 3 and all(row) for row in cells)
    return {row[0]: " ".join(row[1:]) for row in cells}


def test_every_alert_has_its_row() -> None:
    """In the order in which they are told."""
    assert list(rows()) == [kind.value for kind in AlertKind]


def test_the_times_are_those_of_the_program() -> None:
    """A number that is changed in the program is changed here, too."""
    words = " ".join(ALERTS.split())
    times = Rhythm().times
    assert (Rhythm().look, times.quiet, times.longest_quiet) == (15, 600, 43_200)
    assert "Every 15 seconds one process looks" in words
    assert "stayed away for ten minutes" in words
    assert "up to twelve hours" in words
    assert (times.repeat, times.spacing, times.longest_spacing) == (86_400, 300, 3600)
    assert "waits for five minutes; the pause doubles up to an hour" in words
    assert (FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS) == (15, 900)
    assert "from 15 seconds to 15 minutes" in words
    assert Rhythm().lease + Rhythm().patience + Rhythm().look < 120
    assert "takes its place within two minutes" in words


def test_the_limits_in_the_table_are_those_of_the_rules() -> None:
    """Share of memory, and how long a condition must last."""
    table = rows()
    assert f"{MEMORY_SHARE:.0%}".replace("%", " %") in table["memory"]
    assert LOST_SECONDS == 3600
    assert "last hour" in table["worker lost"]
    lasting = {kind.value: about.after_seconds for kind, about in ABOUT.items()}
    assert re.search("for a minute", table["memory"])
    assert re.search("for a minute", table["no worker"])
    assert re.search("for two minutes", table["cycle fails"])
    assert (lasting["memory"], lasting["no worker"], lasting["cycle fails"]) == (60, 60, 120)

"""The checked-in figures of `limits.txt`, and what a test says when a cycle costs more or less."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.cost.meter import Figures

FILE = Path(__file__).with_name("limits.txt")
ACCEPT = "CHROMASYNC_ACCEPT_COSTS"
HOW = f"{ACCEPT}=yes .venv/bin/python -m pytest tests/cost"

ABOVE, BELOW = 0.02, 0.10
"""Shares by which a figure may be above or below what is expected."""

SLACK = Figures(0, 200, 200, 0, 200, 200, 2, 2)
"""What a figure may be off beside that: instants and random numbers differ in length."""

HEADING = f"""\
# What each phase of tests/cost may cost. A figure that grows by more than 2 % fails the test. So
# does one that falls by more than 10 %: its limit is to be lowered. After a change that is meant to
# move a figure, write this file again, and say in the commit why:
#   {HOW}
"""


def load() -> dict[str, Figures]:
    """The expected figures of each phase."""
    lines = [line for line in FILE.read_text().splitlines() if line and line[0] != "#"]
    rows = [[cell.strip() for cell in line.split("|")] for line in lines[1:]]
    return {name: Figures(*map(int, cells)) for name, *cells in rows}


def as_text(expected: Mapping[str, Figures]) -> str:
    """The file: one line per phase, in columns."""
    rows = [["phase", *(field.replace("_", " ") for field in Figures._fields)]]
    rows += [[name, *map(str, figures)] for name, figures in expected.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return HEADING + "\n".join(lines) + "\n"


def differences(phase: str, measured: Figures, expected: Figures) -> list[str]:
    """One sentence for each figure that is out of its limits."""
    said = []
    for field, is_now, was, slack in zip(Figures._fields, measured, expected, SLACK, strict=True):
        words = f"{phase}: {field.replace('_', ' ')}"
        if is_now > was + was * ABOVE + slack:
            said.append(f"{words} grew from {was:,} to {is_now:,}.")
        elif is_now < was - was * BELOW - slack:
            said.append(f"{words} fell from {was:,} to {is_now:,}: lower the limit.")
    return said


def check(measured: Mapping[str, Figures]) -> None:
    """Compare with the file, or write the figures there if the environment says so.

    Raises:
        AssertionError: a figure is out of its limits; it says which, and how to accept it.
    """
    expected = load() if FILE.exists() else {}
    if os.environ.get(ACCEPT):
        FILE.write_text(as_text(expected | dict(measured)))
        return
    said = [
        sentence
        for phase, figures in measured.items()
        for sentence in (
            differences(phase, figures, expected[phase])
            if phase in expected
            else [f"{phase}: it is not in {FILE.name}."]
        )
    ]
    assert not said, "\n".join([*said, f"If this is meant, run: {HOW}"])

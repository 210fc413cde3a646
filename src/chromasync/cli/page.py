"""Prints reports: sentences and tables, safe for terminals and for pipes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table

UNBOUNDED = 10_000
"""Width of an output that is no terminal, so that no line is cut or wrapped."""

LONGEST_CELL = 60
"""Widest cell of a table; JSON has the whole text."""


class Page:
    """Prints to stdout; all data is escaped, so that it cannot drive the terminal."""

    def __init__(self, console: Console | None = None) -> None:
        if console is None:
            width = None if sys.stdout.isatty() else UNBOUNDED
            console = Console(width=width, markup=False, highlight=False, emoji=False)
        self._console = console

    def say(self, *sentences: str) -> None:
        """Print sentences on one line; without any, an empty line."""
        self._console.print(" ".join(s for s in sentences if s), soft_wrap=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; a column whose heading starts with `>` is right-aligned."""
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for column in columns:
            right = column.startswith(">")
            table.add_column(column.lstrip(">"), justify="right" if right else "left")
        for row in rows:
            table.add_row(*(shortened(cell, LONGEST_CELL) for cell in row))
        with self._console.capture() as lines:
            self._console.print(table)
        for line in lines.get().splitlines():
            self._console.file.write(f"{line.rstrip()}\n")
        self.say()


def shortened(text: str, most: int) -> str:
    """`text` in at most `most` columns of a terminal; its beginning and its end are kept."""
    if cell_len(text) <= most:
        return text
    head = set_cell_size(text, most // 2).rstrip()
    tail = text[-(most - most // 2 - 1) :]
    while cell_len(head) + cell_len(tail) + 1 > most:
        tail = tail[1:]
    return f"{head}…{tail}"

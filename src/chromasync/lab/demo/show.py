"""The demo's output: sentences, a progress bar on a terminal, results side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

WIDEST = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """One observation on the replica, and whether it was right."""

    sentence: str
    right: bool


Hit = tuple[str, float]
"""A record's id and its distance."""


def _name_of(hit: Hit | None) -> Text:
    return Text("nothing" if hit is None else hit[0])


def _distance_of(hit: Hit | None) -> Text:
    return Text("" if hit is None else f"{hit[1]:.4f}")


class Teller:
    """Prints the story and remembers wrong observations."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.wrong: list[Seen] = []
        self.right_count = 0

    def title(self, text: str) -> None:
        """A heading."""
        self._print("")
        self._print(text, style="bold")

    def say(self, text: str) -> None:
        """One or more sentences."""
        self._print(text, indent="  ")

    def verbatim(self, text: str) -> None:
        """A line to be copied, never wrapped."""
        self.console.print(f"    {text}", markup=False, highlight=False, soft_wrap=True)

    def judge(self, seen: Seen) -> None:
        """Print an observation; wrong ones are kept for the end."""
        if seen.right:
            self.right_count += 1
        else:
            self.wrong.append(seen)
        mark = "ok     " if seen.right else "WRONG  "
        self._print(mark + seen.sentence, indent="  ", hang=len(mark))

    def side_by_side(self, primary: Sequence[Hit], replica: Sequence[Hit]) -> None:
        """The results of both servers, nearest first."""
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="italic")
        for heading in ("    ", "on the primary", "", "on the replica", ""):
            table.add_column(heading, overflow="fold")
        for rank, pair in enumerate(zip_longest(primary, replica), start=1):
            cells = [f(hit) for hit in pair for f in (_name_of, _distance_of)]
            table.add_row(f"   {rank}", *cells)
        self.console.print(table, markup=False, highlight=False)

    def _print(self, text: str, *, indent: str = "", hang: int = 0, style: str = "") -> None:
        wrapped = textwrap.fill(
            text,
            min(self.console.width, WIDEST),
            initial_indent=indent,
            subsequent_indent=indent + " " * hang,
            break_long_words=False,
            break_on_hyphens=False,
        )
        self.console.print(
            wrapped, style=style, markup=False, highlight=False, soft_wrap=True, emoji=False
        )


class Bar:
    """A progress bar for long work; shows nothing without a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def start(self, activity: str, total: int | None) -> None:
        """Begin a new activity and end the previous one."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(activity, total=total)

    def advance(self, count: int) -> None:
        """Count completed steps."""
        if self._task is not None:
            self._progress.advance(self._task, count)

    def note(self, text: str) -> None:
        """Print one sentence."""
        self._progress.console.print(f"  {text}", markup=False, highlight=False)

"""Progress on stderr: a bar with rate and remaining time on a terminal, only notes elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from chromasync.wording.words import number, plain


class CountColumn(ProgressColumn):
    """The number of completed steps, and the total when it is known."""

    def render(self, task: Task) -> Text:
        """The text of this column."""
        done = number(int(task.completed))
        return Text(done if task.total is None else f"{done} of {number(int(task.total))}")


class RateColumn(ProgressColumn):
    """The number of completed steps in a second."""

    def render(self, task: Task) -> Text:
        """The text of this column."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{number(round(speed))}/s")


class TerminalProgress:
    """Shows one activity after the other. Thread-safe.

    Args:
        quiet: show nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, quiet=quiet)
        self._shown = self._console.is_terminal and not quiet
        self._bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            CountColumn(),
            RateColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._activity: TaskID | None = None

    def __enter__(self) -> Self:
        if self._shown:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._bars.stop()

    def start(self, activity: str, total: int | None) -> None:
        """Begin an activity of `total` steps (None when unknown), and end the previous one."""
        if self._activity is not None:
            self._bars.remove_task(self._activity)
        self._activity = self._bars.add_task(plain(activity), total=total)

    def advance(self, count: int) -> None:
        """Count completed steps."""
        if self._activity is not None:
            self._bars.advance(self._activity, count)

    def note(self, text: str) -> None:
        """Print one sentence."""
        self._bars.console.print(plain(text), soft_wrap=True)

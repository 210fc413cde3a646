"""Reports in a notebook: the terminal's tables and sentences as HTML.

The HTML needs no resource, and inherits its colours, so that it is readable on any ground. All data
is escaped. A long table scrolls, and ends with a sentence about the rows that it leaves out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import islice

from chromasync.displayed import html_of
from chromasync.documents import Report
from chromasync.reports import CycleReport, PlanReport, StatusSnapshot, VerifyReport
from chromasync.telling.render import show
from chromasync.wording.words import plain, plural

MOST_ROWS = 500
SENTENCE = "margin: 0.3em 0; max-width: 60em; overflow-wrap: anywhere"
FRAME = "max-height: 32em; overflow: auto; margin: 0.3em 0"
TABLE = "border-collapse: collapse; color: inherit; background: none"
LINE = "border-bottom: 1px solid rgba(128, 128, 128, 0.4)"
CELL = (
    "padding: 0.2em 0.8em 0.2em 0; max-width: 30em; overflow-wrap: anywhere; "
    "color: inherit; background: none"
)


class HtmlPage:
    """Collects the HTML of one report."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def say(self, *sentences: str) -> None:
        """Write sentences as a paragraph."""
        if text := " ".join(filter(None, sentences)):
            self._parts.append(f'<p style="{SENTENCE}">{escape(plain(text))}</p>')

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Write a table; a column whose heading starts with `>` is right-aligned."""
        sides = ["right" if column.startswith(">") else "left" for column in columns]
        all_rows = iter(rows)
        shown = [_row("td", row, sides) for row in islice(all_rows, MOST_ROWS)]
        head = _row("th", [column.lstrip(">") for column in columns], sides)
        self._parts.append(
            f'<div style="{FRAME}"><table style="{TABLE}"><thead>{head}</thead>'
            f"<tbody>{''.join(shown)}</tbody></table></div>"
        )
        if more := sum(1 for _ in all_rows):
            self.say(f"… and {plural(more, 'more row')}; the report has them all.")

    @property
    def html(self) -> str:
        """What was written, as one element."""
        return f'<div class="chromasync">{"".join(self._parts)}</div>'


def _row(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    written = (
        f'<{tag} style="{CELL}; {LINE}; text-align: {side}">{escape(plain(cell))}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f'<tr style="background: none">{"".join(written)}</tr>'


@html_of.register(CycleReport)
@html_of.register(PlanReport)
@html_of.register(VerifyReport)
@html_of.register(StatusSnapshot)
def report_html(report: Report) -> str:
    """The HTML of a report."""
    page = HtmlPage()
    show(page, report)
    return page.html

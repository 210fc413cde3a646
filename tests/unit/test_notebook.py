"""Reports in a notebook: readable, complete, and harmless whatever the names are."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

import chromasync.telling.notebook
from chromasync.displayed import Displayed, html_of
from chromasync.reports import Outcome, VerifyReport
from chromasync.telling.notebook import MOST_ROWS
from tests.cli.fakes import (
    HOLD,
    collection,
    cycle_report,
    empty_snapshot,
    plan_report,
    snapshot,
    verify_report,
)
from tests.web.scenes import HOSTILE, crowded

REPORTS = {
    "cycle": cycle_report(),
    "held cycle": cycle_report(Outcome.HELD),
    "plan": plan_report(),
    "comparison": verify_report(),
    "same": verify_report(different=False),
    "status": snapshot(),
    "empty status": empty_snapshot(),
}
TAGS = {"div", "p", "table", "thead", "tbody", "tr", "th", "td"}


class Reading(HTMLParser):
    """Checks that elements are closed in order, and collects elements, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.cells: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def read(report: Any) -> Reading:
    """The report as a notebook takes it."""
    html = report._repr_html_()
    assert isinstance(html, str)
    return Reading(html)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_a_report_is_plain_html_without_resources(report: Displayed) -> None:
    """Only tables and paragraphs, no script and no link; colours are those of the notebook."""
    reading = read(report)
    assert reading.seen <= TAGS
    assert reading.attributes <= {"class", "style"}
    html = report._repr_html_() or ""
    colours = set(re.findall(r"color: ([^;\"]+)", html))
    assert colours <= {"inherit"}
    assert "url(" not in html


def test_a_cycle_is_a_table_and_its_verdict() -> None:
    """It has the columns and the sentences of the command line."""
    reading = read(cycle_report())
    assert reading.cells[:6] == ["Collection", "Primary", "Replica", "Written", "Deleted", "State"]
    assert reading.cells[6:] == ["docs", "1,234", "1,234", "1,034", "2", "identical"]
    assert reading.words[-1].startswith("Identical as of 2030-01-02 12:00:00 UTC: 1,234 records")


def test_what_is_held_says_how_to_let_it_through() -> None:
    """Holds, quarantined records and warnings are there, too."""
    words = " ".join(read(cycle_report(Outcome.HELD)).words)
    assert f"{HOLD.count} records" in words
    assert "The replica cannot carry array metadata." in words
    assert "\\x1b[31mid" in words


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_do_nothing(name: str) -> None:
    """Markup and control characters of a name are shown, and never obeyed."""
    hostile = collection(name, message=name)
    reading = read(replace(cycle_report(), collections=(hostile,), warnings=(name,)))
    assert reading.seen <= TAGS
    assert reading.attributes <= {"class", "style"}
    assert all(part.isprintable() for part in reading.words)
    findings = tuple(replace(f, record_id=name, what=name) for f in verify_report().findings)
    found = replace(verify_report(), findings=findings)
    assert isinstance(found, VerifyReport)
    assert read(found).seen <= TAGS


def test_a_long_table_ends_with_a_sentence() -> None:
    """Beyond some hundreds of rows it says how many more there are."""
    reading = read(crowded())
    assert len(reading.cells) == 5 * (MOST_ROWS + 1)
    assert any(word.endswith("1,000 more rows; the report has them all.") for word in reading.words)


def test_a_report_without_html_is_shown_as_text() -> None:
    """Where nobody has registered, a notebook falls back to the text of the object."""

    class Other(Displayed):
        pass

    assert Other()._repr_html_() is None
    assert html_of("text") is None
    assert chromasync.telling.notebook.__doc__

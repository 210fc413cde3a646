"""A picture of reports in a notebook, made anew by each run in `build/screenshots`.

With CHROMASYNC_NEW_PICTURE=yes, the one of `docs/python.md` is renewed, too.
"""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import replace
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import chromasync.telling.notebook
from chromasync.model import Cycle, CycleStatus, MirrorStatus, OpCounts
from chromasync.reports import CycleReport, Outcome, VerifiedCollection, VerifyReport
from tests.cli.fakes import NOON, collection, cycle_report
from tests.web.scenes import HOSTILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.needs("chromium")
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "screenshots"
OF_PAGE = ROOT / "docs" / "notebook.png"
WIDTH = 1000
NOTEBOOK = """<!doctype html><meta charset="utf-8"><title>notebook</title><style>
body { margin: 0; padding: 20px; width: 960px; background: GROUND; color: INK;
       font: 14px/1.5 system-ui, sans-serif; }
.cell { display: grid; grid-template-columns: 60px 1fr; gap: 0 12px; margin-bottom: 12px; }
.count { color: #888; font: 13px/1.6 monospace; text-align: right; }
.code { margin: 0; padding: 6px 10px; border: 1px solid #8886; border-radius: 3px;
        font: 13px/1.5 monospace; }
.output { padding: 6px 10px; }
td, th { background: #ff000010; color: #ff0000; }
</style>"""
"""As notebooks look; the last rule must not reach the cells of a report."""
GROUNDS = {"light": ("#ffffff", "#1a1a1a"), "dark": ("#111417", "#e6e6e6")}


def synced() -> CycleReport:
    """A cycle with one collection that was changed, and two that were not."""
    sizes = {"passages": (2500, 40), "products": (12_400, 0), "users": (400, 3)}
    shown = tuple(
        collection(
            name,
            primary_count=count,
            replica_count=count,
            counts=OpCounts(read=count, inserted=new, deleted=2 * (name == "users")),
        )
        for name, (count, new) in sizes.items()
    )
    counts = OpCounts(read=15_300, inserted=43, deleted=2)
    return CycleReport(
        cycle=Cycle(7, NOON, CycleStatus.COMPLETED, NOON + timedelta(seconds=1.4), counts),
        outcome=Outcome.IDENTICAL,
        collections=shown,
        holds=(),
        quarantined=(),
        warnings=(),
        tasks=cycle_report().tasks,
        counts=counts,
        duration_seconds=1.4,
        identical_as_of=NOON,
    )


def verified() -> VerifyReport:
    """A comparison of the same collections."""
    default = ("default_tenant", "default_database")
    found = tuple(
        VerifiedCollection(*default, c.name, c.primary_count, 0, 0, 0, 0, False, 20, 1.0)
        for c in synced().collections
    )
    return VerifyReport(found, (), sample_percent=100.0, duration_seconds=2.1)


def notebook(scheme: str, *cells: tuple[str, Any]) -> str:
    """The HTML of a notebook with these cells: what was typed, and the report it gave."""
    ground, ink = GROUNDS[scheme]
    parts = [
        f'<div class="cell"><div class="count">[{n}]:</div><pre class="code">{escape(code)}</pre>'
        f'<div></div><div class="output">{report._repr_html_()}</div></div>'
        for n, (code, report) in enumerate(cells, 1)
    ]
    return NOTEBOOK.replace("GROUND", ground).replace("INK", ink) + "".join(parts)


def cell_colours(page: Page) -> set[tuple[str, str]]:
    """Ground and ink of all cells, as they are drawn."""
    found = page.evaluate(
        "[...document.querySelectorAll('td, th')].map(cell => {"
        " const drawn = getComputedStyle(cell); return [drawn.backgroundColor, drawn.color]; })"
    )
    return {(ground, ink) for ground, ink in found}


@pytest.mark.long
@pytest.mark.parametrize("scheme", GROUNDS)
def test_a_report_is_readable_on_any_ground(chromium: Browser, scheme: str) -> None:
    """A table takes ink and ground of the notebook; a picture of it is made."""
    pair = 'primary, replica, store="mirror.db"'
    page = chromium.new_page(viewport={"width": WIDTH, "height": 300})
    try:
        page.set_content(
            notebook(
                scheme,
                (f"import chromasync\n\nchromasync.sync({pair})", synced()),
                (f"chromasync.verify({pair}, queries=20)", verified()),
            )
        )
        ink = page.evaluate("getComputedStyle(document.body).color")
        assert cell_colours(page) == {("rgba(0, 0, 0, 0)", ink)}
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"notebook-{scheme}.png"
        page.screenshot(path=path, full_page=True)
    finally:
        page.close()
    assert struct.unpack(">I", path.read_bytes()[16:20]) == (WIDTH,)
    if scheme == "light" and os.environ.get("CHROMASYNC_NEW_PICTURE"):
        shutil.copy(path, OF_PAGE)


@pytest.mark.long
def test_hostile_names_do_nothing_in_a_browser(chromium: Browser) -> None:
    """No name runs, becomes an element, or makes the table wider than the notebook."""
    rows = tuple(collection(name, status=MirrorStatus.ERROR, message=name) for name in HOSTILE)
    page = chromium.new_page(viewport={"width": WIDTH, "height": 300})
    try:
        page.set_content(notebook("light", ("report", replace(synced(), collections=rows))))
        assert page.title() == "notebook"
        assert page.locator(".output img, .output script, .output b").count() == 0
        assert page.locator("tbody tr").count() == len(HOSTILE)
        assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH
    finally:
        page.close()


def test_the_picture_of_the_page_is_small_and_shown() -> None:
    """It is the light one of those above."""
    assert 5_000 < OF_PAGE.stat().st_size < 200_000
    assert "](notebook.png)" in (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert chromasync.telling.notebook.__doc__

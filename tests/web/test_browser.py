"""The page in a real browser: live, pointed at, typed into, and with hostile content."""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from chromasync.errors import ChromasyncError, StoreUnavailable
from chromasync.web.server import serving
from tests.web import scenes
from tests.web.conftest import World
from tests.web.reader import LOOK_SECONDS, PHONE, Reader, overflow, reading, violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.needs("chromium")
PLACE = "document.getElementById('collections').getBoundingClientRect().top"
SCENES = ("quiet", "copying", "held", "dead", "paused", "crowded", "hostile")


class Read(Protocol):
    def __call__(self, **options: Any) -> AbstractContextManager[Reader]: ...


@pytest.fixture
def read(chromium: Browser, world: World) -> Read:
    """Opens readers of the world."""
    return lambda **options: reading(chromium, world, **options)


def wait_for(page: Page, script: str) -> None:
    """Wait until a script says true; the page's policy forbids Playwright's own way to wait."""
    deadline = time.monotonic() + 60
    while not page.evaluate(script):
        assert time.monotonic() < deadline, f"in vain: {script}"
        page.wait_for_timeout(50)


def title_is(text: str) -> str:
    """A script that says whether the first line contains a text."""
    return f"document.querySelector('#hero h1').textContent.includes({text!r})"


def names(page: Page) -> list[str]:
    """The names of the collections on the page, in order."""
    return page.locator("#collections tbody th").all_inner_texts()


def test_the_page_is_live_without_losing_scroll_focus_or_words(read: Read, world: World) -> None:
    """A new state appears without a reload, while a person scrolls and types."""
    world.snapshot = scenes.crowded()
    with read() as reader:
        page = reader.open()
        page.evaluate("window.isStillHere = true")
        box = page.get_by_label("Name contains")
        box.fill("users-00")
        wait_for(page, "document.querySelectorAll('#collections tbody tr').length < 50")
        box.type("0")
        page.evaluate("window.scrollTo(0, 700)")
        place = page.evaluate(PLACE)
        world.snapshot = scenes.held()
        wait_for(page, title_is("4,210 records held"))
        assert page.title().startswith("4,210 records held")
        assert page.evaluate("window.isStillHere") is True
        assert page.evaluate("document.activeElement.id") == "text"
        assert box.input_value() == "users-000"
        assert page.evaluate(PLACE) == pytest.approx(place, abs=2)  # what is read stays in place
        assert page.locator("#told").inner_text() == page.locator("#hero h1").inner_text()
        assert page.locator("canvas").count() == 3


@pytest.mark.long
def test_1500_collections_are_sorted_filtered_and_turned(read: Read, world: World) -> None:
    """Each choice takes effect at once, stays while the page renews itself, and is an address."""
    world.snapshot = scenes.crowded()
    with read() as reader:
        page = reader.open()
        assert len(names(page)) == 50
        page.get_by_role("link", name="Next").click()
        wait_for(page, "document.querySelector('.pages').textContent.includes('page 2 of 30')")
        page.get_by_role("link", name="Primary").press("Enter")
        wait_for(page, "document.querySelector('th[aria-sort=ascending] a').id === 'by-primary'")
        least = page.locator("#collections td[data-label=Primary]").first.inner_text()
        page.get_by_role("link", name="Primary").click()
        wait_for(page, "document.querySelector('th[aria-sort=descending] a') !== null")
        most = page.locator("#collections td[data-label=Primary]").first.inner_text()
        assert int(least.replace(",", "")) < int(most.replace(",", ""))
        page.get_by_label("State").select_option("attention")
        wait_for(page, "document.querySelectorAll('#collections tbody tr').length === 4")
        shown = names(page)
        world.snapshot = replace(world.snapshot, alert_lag_seconds=1.0)
        wait_for(page, title_is("Out of date"))
        assert names(page) == shown
        page.get_by_label("State").select_option("")
        wait_for(page, "document.querySelectorAll('#collections tbody tr').length === 50")
        assert names(reader.open(page.url.removeprefix(reader.url))) == names(page)


@pytest.mark.long
def test_an_answer_to_an_earlier_question_does_not_undo_a_choice(read: Read, world: World) -> None:
    """A page that renews itself while someone chooses keeps the choice, however slow the answer."""
    world.snapshot = scenes.crowded()
    with read() as reader:
        page = reader.open()
        held: list[Route] = []
        page.route("**/live?*", lambda route: held.append(route), times=1)  # noqa: PLW0108
        page.get_by_role("link", name="Next").click()
        while not held:
            page.wait_for_timeout(20)
        page.get_by_label("State").select_option("attention")
        held[0].continue_()
        wait_for(page, "document.querySelectorAll('#collections tbody tr').length === 4")
        assert page.get_by_label("State").input_value() == "attention"


def test_an_approval_confirms_the_counts_and_reaches_the_operator(read: Read, world: World) -> None:
    """By keyboard alone: the dialog says what and how much; exactly this set is approved."""
    world.snapshot = scenes.held()
    with read() as reader:
        page = reader.open()
        page.get_by_role("button", name="Approve 4,210 records").press("Space")
        dialog = page.get_by_role("dialog")
        words = "Approve for products: deleting 4,210 records that the primary no longer has?"
        dialog.get_by_text(words).wait_for()
        assert world.operator.asked == []
        assert violations(page) == []
        dialog.get_by_role("button", name="Cancel").press("Enter")
        dialog.wait_for(state="hidden")
        assert world.operator.asked == []
        page.get_by_role("button", name="Approve 4,210 records").click()
        dialog.get_by_role("button", name="Approve").press("Enter")
        dialog.get_by_text("Approved: products").wait_for()
        hold = scenes.HOLD
        assert world.operator.asked == [("approve", hold.collection_id, hold.set_digest)]
        dialog.get_by_role("button", name="Back to the page").press("Enter")
        dialog.wait_for(state="hidden")


@pytest.mark.long
def test_the_other_buttons_pause_resume_and_sync(read: Read, world: World) -> None:
    """Each asks first; a refusal of the operator is shown in its place."""
    with read() as reader:
        page = reader.open()
        dialog = page.get_by_role("dialog")
        page.get_by_role("button", name="Pause").click()
        dialog.get_by_text("3 active now").wait_for()
        dialog.get_by_label("For").select_option("7200")
        dialog.get_by_label("Reason").fill("a new disk")
        dialog.get_by_role("button", name="Pause").click()
        dialog.get_by_text("All processes pause within seconds for 2 h.").wait_for()
        dialog.get_by_role("button", name="Back").click()
        world.snapshot = scenes.paused()
        page.get_by_role("button", name="Resume").click()
        dialog.get_by_role("button", name="Resume").click()
        dialog.get_by_text("go on within seconds").wait_for()
        dialog.get_by_role("button", name="Back").click()
        world.operator.trouble = ChromasyncError("The store is locked.")
        page.get_by_role("button", name="Sync now").click()
        dialog.get_by_text("over 280,120 records in 8 collections").wait_for()
        dialog.get_by_role("button", name="Begin a cycle").click()
        dialog.get_by_text("The store is locked.").wait_for()
        who = "page@127.0.0.1"
        asked = [("pause", who, "a new disk", 7200.0), ("resume",), ("sync", who)]
        assert world.operator.asked == asked


@pytest.mark.long
def test_hostile_names_do_nothing(read: Read, world: World) -> None:
    """No script of theirs runs, no policy has to step in, and no name breaks the page's width."""
    world.snapshot = scenes.hostile()
    with read(viewport=PHONE) as reader:
        page = reader.open()
        page.get_by_role("button", name="Approve").first.click()
        page.get_by_role("dialog").get_by_text("script").first.wait_for()
        page.reload()
        page.wait_for_load_state("networkidle")
        assert "hacked" not in page.title().replace(scenes.HOSTILE[0], "")
        assert overflow(page) == 0


@pytest.mark.parametrize("width", [320, 390, 768])
def test_nothing_is_wider_than_a_phone(read: Read, world: World, width: int) -> None:
    """No state makes a person scroll sideways."""
    with read(viewport={"width": width, "height": 800}) as reader:
        page = reader.open()
        for scene in ("held", "copying", "dead", "crowded"):
            world.snapshot = getattr(scenes, scene)()
            page.reload()
            assert overflow(page) == 0, scene


def test_charts_are_pointed_at_and_turned_to_another_span(read: Read) -> None:
    """The value under the pointer is told in words, and so is the whole line."""
    with read() as reader:
        page = reader.open()
        lag = page.locator("[data-chart=lag]")
        lag.locator("canvas").wait_for()
        assert lag.get_by_text(re.compile("at most")).count() == 1
        assert re.match(
            "Lag, last hour: .+", lag.locator(".plot").get_attribute("aria-label") or ""
        )
        lag.locator(".u-over").hover()
        value = lag.locator(".u-series .u-value").last
        wait_for(
            page,
            "document.querySelector('[data-chart=lag] .u-series:last-child .u-value')"
            ".textContent.length > 1",
        )
        assert re.search(r"\d+ (s|min)", value.inner_text())
        page.mouse.move(0, 0)
        page.get_by_role("button", name="Week").click()
        wait_for(
            page,
            "document.querySelector('[data-chart=lag] .plot').getAttribute('aria-label')"
            ".startsWith('Lag, last week')",
        )
        assert page.get_by_role("button", name="Week").get_attribute("aria-pressed") == "true"


@pytest.mark.long
def test_a_page_without_scripts_still_shows_everything(read: Read, world: World) -> None:
    """Sorting, filtering and pressing work as plain links and forms."""
    world.snapshot = scenes.held()
    with read(java_script_enabled=False) as reader:
        page = reader.open()
        page.get_by_role("link", name="Replica").click()
        assert names(page)[0] == "users"
        page.get_by_label("Name contains").fill("prod")
        page.get_by_label("Name contains").press("Enter")
        assert names(page) == ["products"]
        page.get_by_role("button", name="Approve 4,210 records").click()
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("Approved: products").wait_for()
        assert [call[0] for call in world.operator.asked] == ["approve"]


@pytest.mark.long
def test_a_page_whose_server_or_store_is_gone_says_so(chromium: Browser, world: World) -> None:
    """It never shows an old state as the present one, and goes on when they are back."""
    with reading(chromium, world, token=None) as reader:
        reader.expects_trouble = True  # the browser complains about refused connections
        page = reader.open()
        world.error = StoreUnavailable("The state store does not answer.")
        page.get_by_text("The state store cannot be read.").wait_for()
        world.error = None
        page.locator("#store-error").wait_for(state="detached")
        page.route("**/live*", lambda route: route.abort())
        page.get_by_text("This page has lost its connection").wait_for()
        page.unroute("**/live*")
        page.get_by_text("This page has lost its connection").wait_for(state="hidden")


def test_the_page_is_light(read: Read, world: World) -> None:
    """A first visit with 1,500 collections costs few requests and little to load."""
    world.snapshot = scenes.crowded()
    with read(token=None) as reader:
        page = reader.open()
        sizes = [request.sizes()["responseBodySize"] for request in reader.requests]
        page.close()
        print(f"{len(sizes)} requests, {sum(sizes):,} bytes")
        assert len(sizes) <= 11
        assert 40_000 < sum(sizes) < 100_000


def polls_of(reader: Reader) -> int:
    """How often tabs have asked for the live part."""
    return sum("/live" in request.url for request in reader.requests)


@pytest.mark.long
def test_ten_tabs_cost_the_store_one_snapshot_a_second(read: Read, world: World) -> None:
    """However many look, and however often: the store is asked once in a while for all."""
    with read(seconds=LOOK_SECONDS) as reader:
        began, looks = time.monotonic(), world.looks
        reader.requests.clear()
        pages = [reader.open(wait=False) for _ in range(10)]
        while polls_of(reader) < 40:
            pages[0].wait_for_timeout(100)
        seconds, polls = time.monotonic() - began, polls_of(reader)
        print(f"{polls} polls of 10 tabs, {world.looks - looks} snapshots, {seconds:.1f} s")
        assert world.looks - looks <= seconds / LOOK_SECONDS + 1


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(read: Read, world: World, scheme: str, width: int) -> None:
    """Contrast, names, roles and order are right in every state, bright or dark, wide or narrow."""
    with read(color_scheme=scheme, viewport={"width": width, "height": 900}) as reader:
        page = reader.open()
        for scene in SCENES:
            world.snapshot = getattr(scenes, scene)()
            page.reload()
            page.wait_for_load_state("networkidle")
            assert violations(page) == [], scene


def test_axe_finds_nothing_in_the_form(chromium: Browser, world: World) -> None:
    """The first thing that a reader meets is accessible, too; and axe would find a fault."""
    site = world.site()
    with serving(site, "127.0.0.1", 0, protected=True) as url:
        page = chromium.new_page()
        page.goto(url)
        assert violations(page) == []
        page.evaluate("document.querySelector('label').remove()")
        assert violations(page) != []
        page.close()

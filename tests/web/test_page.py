"""The page's text, without a browser: what each situation says first, and what it never does."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chromasync.errors import StoreUnavailable
from chromasync.model import CycleStatus, MirrorStatus
from chromasync.reports import StatusSnapshot
from chromasync.web.files import STATIC, address
from chromasync.wording.assessment import Tone, assess
from tests.cli.fakes import NOON, empty_snapshot
from tests.web import scenes
from tests.web.conftest import Ask, World

WEB = STATIC.parent


class Tags(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def failed() -> StatusSnapshot:
    """The newest cycle failed a minute ago."""
    newest = replace(
        scenes.quiet().cycles[0], status=CycleStatus.FAILED, error="The primary gave no answer."
    )
    return replace(scenes.quiet(), cycles=(newest, *scenes.quiet().cycles[1:]))


def jumped() -> StatusSnapshot:
    """The clock went back after the last cycle."""
    return replace(scenes.quiet(), clean_at=NOON + timedelta(hours=1))


def undecided() -> StatusSnapshot:
    """Others wrote to the replica while the primary was away."""
    from chromasync.model import HoldKind

    return replace(scenes.held(), holds=(replace(scenes.HOLD, kind=HoldKind.DIVERGED),))


def limited() -> StatusSnapshot:
    shown = scenes.quiet().collections
    return replace(
        scenes.quiet(), collections=(replace(shown[0], status=MirrorStatus.LIMITED), *shown[1:])
    )


def silent() -> StatusSnapshot:
    shown = scenes.quiet().collections
    dumb = replace(shown[0], status=MirrorStatus.UNANSWERING, message="It returns no record.")
    return replace(scenes.quiet(), collections=(dumb, *shown[1:]))


FIRST_LINES = [
    (scenes.quiet(), Tone.GOOD, "Identical as of 11:56:13 UTC", ""),
    (empty_snapshot(), Tone.WARN, "No cycle has run yet", "Start the service"),
    (scenes.copying(), Tone.BUSY, "the first copy is under way", ""),
    (scenes.held(), Tone.WARN, "4,210 records held: identical as of", "Waiting for a decision"),
    (
        scenes.dead(),
        Tone.BAD,
        "Out of date: identical as of 08:54:40",
        "Start chromasync run again",
    ),
    (scenes.paused(), Tone.WARN, "Paused: identical as of", "chromasync resume"),
    (scenes.crowded(), Tone.BAD, "Not identical: 4 of 1,500 collections failed", "errors below"),
    (silent(), Tone.BAD, "Not answering: 1 of 8 collections", "errors below"),
    (failed(), Tone.WARN, "the last cycle failed", ""),
    (jumped(), Tone.WARN, "Not known to be identical", ""),
    (undecided(), Tone.BAD, "Someone must decide which side is right", "Waiting for a decision"),
    (limited(), Tone.WARN, "as far as possible", "below"),
]


@pytest.mark.parametrize("case", FIRST_LINES, ids=lambda case: case[2])
def test_the_first_line_says_whether_it_is_identical(
    ask: Ask, world: World, case: tuple[StatusSnapshot, Tone, str, str]
) -> None:
    """As of when, or why not, and what to do about it; and it agrees with the exit code."""
    snapshot, tone, title, todo = case
    found = assess(snapshot)
    assert (found.tone, title in found.title, todo in found.todo) == (tone, True, True), found
    assert (snapshot.exit_code == 0) == (tone is Tone.GOOD or snapshot.is_paused)
    world.snapshot = snapshot
    text = ask(token=None).get("/").text
    assert f"<h1>{found.title}</h1>" in text.replace("&#39;", "'")


def test_a_dead_service_says_since_when_nobody_is_alive() -> None:
    """The sentences name the age of the newest cycle and the last sign of life."""
    why = " ".join(assess(scenes.dead()).why)
    assert "No process of chromasync is alive. The last sign of life was 3 h ago." in why
    assert "The newest completed cycle began 3 h 5 min ago" in why


def test_a_page_that_stays_open_grows_old_with_its_store_gone(ask: Ask, world: World) -> None:
    """What was seen last is shown with growing ages, and a banner says why."""
    client = ask(token=None)
    assert client.get("/").status_code == 200
    world.error = StoreUnavailable("The state store does not answer.")
    world.snapshot = replace(world.snapshot, taken_at=NOON + timedelta(hours=9))
    text = client.get("/").text
    assert "The state store cannot be read." in text
    assert "Identical as of" in text
    assert "Nothing is known" in ask(token=None).get("/").text


@pytest.mark.parametrize("width", ["/", "/live"])
def test_hostile_names_are_text_and_nothing_else(ask: Ask, world: World, width: str) -> None:
    """No tag and no attribute comes from a name, and no control character reaches the reader."""
    world.snapshot = scenes.hostile()
    text = ask(token=None).get(width, params={"text": '"><script>x'}).text
    tags = Tags(text).found
    assert not [tag for tag, _ in tags if tag in {"b", "iframe"}]
    assert [attrs["src"] for tag, attrs in tags if tag == "script"] == [
        attrs["src"] for tag, attrs in tags if tag == "script" and attrs.get("src")
    ]
    assert not [name for _, attrs in tags for name in attrs if name.startswith("on")]
    assert not [name for _, attrs in tags for name in attrs if name == "style"]
    assert "javascript:" not in str([a.get("href") for _, a in tags if a.get("href")])
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", text)


def test_the_page_needs_nothing_from_elsewhere(ask: Ask) -> None:
    """Every script, style and picture is a file of ours, kept by the browser under its digest."""
    client = ask(token=None)
    tags = Tags(client.get("/").text).found
    asked = [
        attrs.get("src") or attrs.get("href") or ""
        for tag, attrs in tags
        if tag in {"script", "img", "link"}
    ]
    assert len(asked) >= 8
    for url in asked:
        assert url.startswith("static/")
        answer = client.get(f"/{url}")
        assert (answer.status_code, "immutable" in answer.headers["cache-control"]) == (200, True)


def test_an_address_changes_with_the_file() -> None:
    """So a browser never uses an old script with a new page."""
    assert re.fullmatch(r"static/page\.css\?v=[0-9a-f]{12}", address("page.css"))


def test_foreign_files_have_their_licence_and_version() -> None:
    """Each vendored library says what it is, and under which licence it may be passed on."""
    folder = STATIC / "vendor"
    notes = (folder / "README.md").read_text()
    for path in sorted(folder.glob("*.js")):
        name = path.name.split(".")[0]
        assert (folder / f"{name}.LICENSE").stat().st_size > 300
        assert re.search(rf"`{re.escape(path.name)}`.*\d+\.\d+\.\d+", notes), name


def test_templates_and_scripts_obey_the_policy() -> None:
    """No inline script, style or handler, and nothing that evaluates text."""
    for path in [*WEB.glob("templates/*.html"), *STATIC.glob("*.js")]:
        text = Path(path).read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|\bstyle=|\son\w+=|\|safe", text), path.name
        assert not re.search(r"\beval\(|new Function|innerHTML\s*=|insertAdjacentHTML", text)


def test_a_poll_is_small_with_1500_collections(ask: Ask, world: World) -> None:
    """What a tab asks for every two seconds stays below ten kilobytes on the wire."""
    world.snapshot = scenes.crowded()
    answer = ask(token=None).get("/live", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < 10_000

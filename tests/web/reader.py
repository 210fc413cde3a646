"""A reader of the page: a tab in a real browser, watched for everything that must not happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chromasync.web.server import serving
from chromasync.web.snapshots import LOOK_SECONDS
from tests.web.conftest import TOKEN, World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8")
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 60_000


@dataclass
class Reader:
    """One browser on one served site.

    Attributes:
        url: where the site is.
        complaints: errors of scripts, of the policy, and of the console.
        requests: everything that was asked for.
    """

    world: World
    context: BrowserContext
    url: str
    complaints: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    expects_trouble: bool = False

    def open(self, path: str = "", *, wait: bool = True) -> Page:
        """A tab with the page, after its scripts have run."""
        page = self.context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        page.on("request", self._note)
        page.goto(f"{self.url}{path}")
        if wait:
            page.wait_for_load_state("networkidle")
        return page

    def _note(self, request: Request) -> None:
        self.requests.append(request)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def check(self) -> None:
        """Nothing went wrong, and nothing was asked of anybody else."""
        assert self.expects_trouble or self.complaints == [], self.complaints
        assert [r.url for r in self.requests if not r.url.startswith(self.url)] == []


@contextmanager
def reading(
    browser: Browser,
    world: World,
    *,
    token: str | None = TOKEN,
    viewport: dict[str, int] | None = None,
    seconds: float = 0.0,
    **context: Any,
) -> Iterator[Reader]:
    """Serve the world, and let a reader with the token look at it."""
    with ExitStack() as stack:
        site = world.site(token, seconds=seconds)
        url = stack.enter_context(serving(site, "127.0.0.1", 0, protected=True))
        made = browser.new_context(viewport=viewport or WIDE, **context)  # type: ignore[arg-type]
        stack.callback(made.close)
        reader = Reader(world, made, url)
        if token is not None:
            log_in(reader, token)
        yield reader
        reader.check()


def log_in(reader: Reader, token: str) -> None:
    """Type the token once, as a person does."""
    page = reader.open(wait=False)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(reader.url)
    page.close()


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run().then(found => found.violations)")
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:160] for node in one['nodes']][:3]}"
        for one in found
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    width: int = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
    return max(0, width)


__all__ = ["LOOK_SECONDS", "PHONE", "WIDE", "Reader", "log_in", "overflow", "reading", "violations"]

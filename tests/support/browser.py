"""A headless Chromium of the system for the tests of the page; none of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.programs import PROGRAMS

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
)
KEPT = ("PATH", "HOME", "TMPDIR", "TESTS_OF_CHROMASYNC")


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A browser with a fresh profile, ended afterwards."""
    from playwright.sync_api import sync_playwright

    environment: dict[str, str | float | bool] = {
        name: os.environ[name] for name in KEPT if name in os.environ
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(PROGRAMS["chromium"].find()),
            args=list(FLAGS),
            headless=True,
            env=environment,
        )
        try:
            yield browser
        finally:
            browser.close()

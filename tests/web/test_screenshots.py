"""Pictures of the page in its states, made anew by each run, in `build/screenshots`.

With CHROMASYNC_NEW_PICTURE=yes, the one of the README is renewed, too.
"""

from __future__ import annotations

import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web import scenes
from tests.web.conftest import World
from tests.web.reader import PHONE, WIDE, reading

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.long]
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "screenshots"
OF_README = ROOT / "docs" / "status-page.png"
LARGEST_BYTES = 200_000


@dataclass(frozen=True)
class Picture:
    """One picture: what it shows, how bright, how wide, and whether to its end."""

    name: str
    scene: str
    scheme: str = "light"
    is_phone: bool = False
    whole: bool = True


PICTURES = (
    Picture("quiet-light", "quiet"),
    Picture("quiet-dark", "quiet", "dark"),
    Picture("quiet-phone", "quiet", is_phone=True),
    Picture("first-copy-phone-dark", "copying", "dark", is_phone=True),
    Picture("1500-collections", "crowded", whole=False),
    Picture("held-delete", "held"),
    Picture("dead-service", "dead", whole=False),
    Picture("paused-dark", "paused", "dark", whole=False),
    Picture("readme", "quiet", whole=False),
)


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_made(chromium: Browser, world: World, picture: Picture) -> None:
    """The page is drawn whole, with its charts, in each state, scheme and width."""
    world.snapshot = getattr(scenes, picture.scene)()
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{picture.name}.png"
    viewport = PHONE if picture.is_phone else WIDE
    with reading(chromium, world, viewport=viewport, color_scheme=picture.scheme) as reader:
        page = reader.open()
        page.locator("[data-chart=cycle] canvas").wait_for()
        page.screenshot(path=path, full_page=picture.whole)
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    assert width == viewport["width"]
    assert height >= viewport["height"]
    if picture.name == "readme" and os.environ.get("CHROMASYNC_NEW_PICTURE"):
        shutil.copy(path, OF_README)


def test_the_picture_of_the_readme_is_small_and_shown() -> None:
    """It is one of those above, and loads quickly."""
    assert 10_000 < OF_README.stat().st_size < LARGEST_BYTES
    assert "](docs/status-page.png)" in (ROOT / "README.md").read_text()

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
MARGIN = 8
FONT_SIZE = 14


@dataclass(frozen=True)
class Area:
    """What something takes on the picture, in its own units."""

    left: float
    top: float
    right: float
    bottom: float

    def holds(self, other: Area) -> bool:
        """Whether the other one lies in it, with a margin at both sides."""
        sides = self.left + MARGIN <= other.left and other.right <= self.right - MARGIN
        return sides and self.top <= other.top and other.bottom <= self.bottom

    def meets(self, other: Area) -> bool:
        """Whether both share a point."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def boxes() -> list[Area]:
    """The boxes, without the ground of the whole picture."""
    return [
        Area(x, y, x + float(rect.get("width", 0)), y + float(rect.get("height", 0)))
        for rect in picture().iter(f"{SVG}rect")
        if (x := float(rect.get("x", 0))) and (y := float(rect.get("y", 0)))
    ]


def texts() -> Iterator[tuple[str, Area]]:
    """Each text with its place, which is the same in every font because its length is given."""
    for text in picture().iter(f"{SVG}text"):
        assert text.get("lengthAdjust") == "spacingAndGlyphs", text.text
        x, y, length = (float(text.get(name, "nan")) for name in ("x", "y", "textLength"))
        yield text.text or "", Area(x - length / 2, y - FONT_SIZE, x + length / 2, y)


def picture() -> ET.Element:
    return ET.parse(ROOT / "docs" / "how-it-works.svg").getroot()  # noqa: S314 (our file)


def test_the_words_of_the_picture_stay_inside_their_boxes() -> None:
    """Each text lies in one box, or in none and touches none, whatever the font."""
    around = boxes()
    assert len(around) == 4
    for words, area in texts():
        met = [box for box in around if box.meets(area)]
        assert len(met) <= 1, words
        assert all(box.holds(area) for box in met), words


def test_the_words_of_the_picture_do_not_meet() -> None:
    """No text is written over another."""
    seen: list[tuple[str, Area]] = []
    for words, area in texts():
        assert not [other for other, taken in seen if taken.meets(area)], words
        seen.append((words, area))
    assert len(seen) > 10

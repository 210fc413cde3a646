"""The page of figures is what the checked-in results say, and nothing that was typed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest

from bench import plots
from bench.page import FILE, PAGE, blocks, pictures, take, written


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads(FILE.read_bytes())
    return loaded


def test_the_page_is_what_the_file_says(results: dict[str, Any]) -> None:
    """Every generated part of docs/performance.md is up to date."""
    page = PAGE.read_text()
    assert written(page, blocks(results)) == page, "run: python -m bench.page"


def test_the_plots_are_what_the_file_says(results: dict[str, Any]) -> None:
    """Each plot is up to date, shown on the page, and well-formed."""
    drawn = pictures(results)
    assert len(drawn) == 5
    for name, text in drawn.items():
        assert (PAGE.parent / name).read_text() == text, "run: python -m bench.page"
        assert f"]({name})" in PAGE.read_text()
        ET.fromstring(text)  # noqa: S314 (our own text)


def test_a_page_without_a_place_for_figures_is_refused() -> None:
    """A block that the page lost is told, and not left out."""
    with pytest.raises(ValueError, match="0 blocks named race"):
        written("# A page\n", {"race": "figures"})


def test_new_runs_replace_those_of_the_file(tmp_path: Path, results: dict[str, Any]) -> None:
    """A run that is there is taken, without what no figure needs; the others stay."""
    run = {"machine": {"cores": 2}, "span": [1.0, 2.0], "seconds": 1.23456789}
    (tmp_path / "growth.json").write_bytes(orjson.dumps(run))
    taken = take(tmp_path)
    assert taken["growth"] == {"machine": {"cores": 2}, "seconds": 1.2346}
    assert taken["race"] == results["race"]


def test_values_lie_where_their_axes_say() -> None:
    """The lines of a chart lie in its frame, with equal factors at equal distances."""
    series = {"one": [(1e3, 0.1), (1e5, 1.0), (1e7, 10.0)]}
    root = ET.fromstring(plots.lines("A title", ("x", "y"), series, log=(True, True)))  # noqa: S314 (our own text)
    dots = [
        (float(dot.get("cx", 0)), float(dot.get("cy", 0)))
        for dot in root.iter("{http://www.w3.org/2000/svg}circle")
    ]
    assert dots == sorted(dots)
    assert dots[1][0] - dots[0][0] == pytest.approx(dots[2][0] - dots[1][0], abs=0.2)
    assert dots[0][1] - dots[1][1] == pytest.approx(dots[1][1] - dots[2][1], abs=0.2)
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 < float(text.get("x", 0)) < plots.WIDTH


def test_a_bar_shows_whether_its_goal_is_reached() -> None:
    """A bar that reaches its goal has another colour than one that does not."""
    drawn = plots.bars("Shares", [("good", 0.97, 0.95), ("bad", 0.5, 0.95)])
    assert drawn.count(f'fill="{plots.COLOURS[2]}"') == 1
    assert drawn.count(f'fill="{plots.COLOURS[4]}"') == 1

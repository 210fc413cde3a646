"""Draws line and bar charts as SVG, on a white ground so that they are readable in any theme."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 680, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 40, 50
LEGEND_WIDTH = 190
BAR, GAP, LABELS = 22, 12, 330
COLOURS = ("#1565c0", "#c62828", "#2e7d32", "#6a1b9a", "#b26a00", "#00838f")
INK, FAINT = "#1b1b1b", "#cfd8dc"

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from values to a span of the picture.

    Attributes:
        low: the value at `start`.
        high: the value at `end`.
        log: whether equal factors are equal distances.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies."""
        low, high, here = (self._scaled(v) for v in (self.low, self.high, value))
        return self.start + (here - low) / max(high - low, 1e-9) * (self.end - self.start)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self.log else value

    def ticks(self) -> list[float]:
        """Round values on it, from the lowest to the highest."""
        if self.log:
            first, last = (round(math.log10(v)) for v in (self.low, self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = 10 ** math.floor(math.log10(max(self.high, 1e-9)))
        step = next(s for s in (step / 5, step / 2, step, step * 2) if self.high / s <= 6)
        return [step * n for n in range(int(self.high / step + 1e-6) + 1)]


def _axis(values: Sequence[float], start: float, end: float, *, log: bool) -> Axis:
    if log:
        low, high = (math.log10(max(v, 1e-3)) for v in (min(values), max(values)))
        return Axis(10.0 ** math.floor(low), 10.0 ** math.ceil(high), start, end, log=True)
    return Axis(0.0, max(values) * 1.05, start, end)


def lines(
    title: str,
    axes: tuple[str, str],
    series: Mapping[str, Points],
    *,
    log: tuple[bool, bool] = (False, False),
) -> str:
    """A chart with a line and a dot for each value of each series."""
    xs, ys = ([point[i] for points in series.values() for point in points] for i in (0, 1))
    x = _axis(xs, LEFT, WIDTH - RIGHT - LEGEND_WIDTH, log=log[0])
    y = _axis(ys, HEIGHT - BOTTOM, TOP, log=log[1])
    parts = [*_grid(x, y, axes)]
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = [(x.at(a), y.at(b)) for a, b in sorted(points)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in places]
        parts += _legend(i, name, colour)
    return _picture(title, HEIGHT, parts)


def _grid(x: Axis, y: Axis, axes: tuple[str, str]) -> list[str]:
    parts = []
    for value in x.ticks():
        place = x.at(value)
        parts.append(_line(place, y.start, place, y.end))
        parts.append(_text(place, y.start + 18, _number(value), "middle"))
    for value in y.ticks():
        place = y.at(value)
        parts.append(_line(x.start, place, x.end, place))
        parts.append(_text(x.start - 8, place + 4, _number(value), "end"))
    parts.append(_text((x.start + x.end) / 2, HEIGHT - 12, axes[0], "middle"))
    turned = f'transform="rotate(-90 16 {(y.start + y.end) / 2:.1f})"'
    parts.append(_text(16, (y.start + y.end) / 2, axes[1], "middle", turned))
    return parts


def _legend(i: int, name: str, colour: str) -> list[str]:
    top = TOP + 10 + 20 * i
    left = WIDTH - LEGEND_WIDTH
    return [
        f'<rect x="{left}" y="{top - 9}" width="12" height="10" fill="{colour}"/>',
        _text(left + 18, top, name),
    ]


def bars(title: str, values: Sequence[tuple[str, float, float]]) -> str:
    """A bar for each value, with a mark at its goal."""
    height = TOP + len(values) * (BAR + GAP) + 20
    most = max([1.0, *(value for _, value, _ in values)])
    axis = Axis(0.0, most, LABELS, WIDTH - 70)
    parts = []
    for i, (name, value, goal) in enumerate(values):
        top = TOP + i * (BAR + GAP)
        colour = COLOURS[2] if value >= goal else COLOURS[4]
        width = axis.at(value) - LABELS
        parts += [
            _text(LABELS - 10, top + 16, name, "end"),
            f'<rect x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
            _text(LABELS + width + 6, top + 16, f"{value:.2f}"),
            _line(axis.at(goal), top - 3, axis.at(goal), top + BAR + 3, INK),
        ]
    return _picture(title, height, parts)


def _picture(title: str, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="ui-sans-serif, system-ui, sans-serif" font-size="12">'
    )
    ground = f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>'
    name = f"<title>{escape(title)}</title>"
    heading = _text(LEFT, 22, title, more='font-weight="600" font-size="14"')
    return "\n".join([head, name, ground, heading, *parts, "</svg>"]) + "\n"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = FAINT) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}"'
    return f"<text {' '.join(filter(None, (place, more)))}>{escape(words)}</text>"


def _number(value: float) -> str:
    units: list[tuple[float, Callable[[float], str]]] = [
        (1e6, lambda v: f"{v / 1e6:g} M"),
        (1e4, lambda v: f"{v / 1e3:g} k"),
    ]
    return next((form(value) for limit, form in units if value >= limit), f"{value:g}")

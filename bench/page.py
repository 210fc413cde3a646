"""`python -m bench.page`: writes the figures of docs/performance.md from docs/performance.json.

`--take` first takes the last runs from bench/out into that file. The page's own sentences stay as
they are; what stands between `<!-- name -->` and `<!-- end -->` is written anew, and so are the
plots. A test compares all of it with the file, so no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from bench import plots
from bench.__main__ import OUT
from bench.child import ROOT
from bench.report import (
    COPY_GOAL,
    READ_GOAL,
    Figures,
    as_markdown,
    copy_seconds,
    cycle_seconds,
    rows_of,
    seconds_of,
)
from bench.scaling import PHASES, speedup

PAGE, FILE = ROOT / "docs" / "performance.md", ROOT / "docs" / "performance.json"
RUNS = ("race", "growth", "scaling")
LEFT_OUT = {"examples", "span"}
DIGITS = 4
NOTHING = "Nothing was measured yet."
FULL_ROUNDS, FULL_RECORDS = 5, 20_000
"""A smaller run is no proof."""

MISSED = {
    "first copy": "The replica takes one write after another, and is busy until the end: what is "
    "missing is the start, the read-back of each batch, and CPU shared with both servers.",
    "unchanged, everything": "The walk over the ids comes before the reads, and decoding and "
    "digests take CPU from the server on the same cores.",
    "CPU, everything": "Payloads are parsed and digested for each record that is read.",
    "peak memory": "Several large answers are in memory at once, one a thread.",
}
"""Why a goal is missed, by the beginning of its line."""

Result = Mapping[str, Any]


def take(folder: Path) -> dict[str, Any]:
    """The last runs in a folder, together with those that the file has already."""
    kept: dict[str, Any] = orjson.loads(FILE.read_bytes()) if FILE.exists() else {}
    for name in RUNS:
        if (run := folder / f"{name}.json").exists():
            kept[name] = _slim(orjson.loads(run.read_bytes()))
    return kept


def _slim(value: Any) -> Any:
    """Without what no figure needs, and with fewer digits."""
    match value:
        case dict():
            return {key: _slim(part) for key, part in value.items() if key not in LEFT_OUT}
        case list():
            return [_slim(part) for part in value]
        case float():
            return round(value, DIGITS)
        case _:
            return value


def blocks(results: Result) -> dict[str, str]:
    """The generated parts of the page, by name."""
    makers: dict[str, tuple[str, Callable[[Result], str]]] = {
        "race": ("race", _race),
        "missed": ("race", _missed),
        "growth": ("growth", lambda run: _about(run) + "\n\n" + _growth(run)),
        "scaling": ("scaling", lambda run: _about(run) + "\n\n" + _scaling(run)),
    }
    return {
        name: make(results[of]) if of in results else NOTHING for name, (of, make) in makers.items()
    }


def _about(run: Result) -> str:
    m = run["machine"]
    return (
        f"Measured with chromasync {m['chromasync']} and Python {m['python']} on {m['system']}, "
        f"{m['cores']} cores, {m['memory_gb']} GB."
    )


def _race(run: Result) -> str:
    main, rounds = run["shapes"][0], len(run["shapes"][0]["rounds"])
    told = f"{_about(run)} Rounds: {rounds}."
    if rounds < FULL_ROUNDS or main["records"] < FULL_RECORDS:
        told += (
            " **This was a small run, beside other work.** It shows that the bench works; its "
            "fixed requests weigh too much to judge a speed or a goal by it."
        )
    return told + "\n\n" + as_markdown(rows_of(run))


def _missed(run: Result) -> str:
    lines, shape = [], ""
    for row in rows_of(run):
        if row.what.startswith("**"):
            shape = row.what.strip("*").split("*")[0]
        elif row.reached is False:
            is_now = row.ratio or row.ours
            why = next((w for key, w in MISSED.items() if row.what.startswith(key)), "")
            lines.append(f"* {shape}, {row.what}: {is_now}, the goal is {row.goal}. {why}".strip())
    return "\n".join(lines) or "No goal is missed in this run."


def _growth(run: Result) -> str:
    head = (
        "| records | servers | phase | seconds | own CPU | servers' CPU | peak memory | requests |"
    )
    lines = [head, "| ---: | --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for size in run["sizes"]:
        for phase in size["phases"]:
            is_real = size["servers"] == "real"
            server = f"{phase['server_cpu_seconds']:,.2f} s" if is_real else "-"
            lines.append(
                f"| {size['records']:,} | {size['servers']} | {phase['phase']} "
                f"| {phase['seconds']:,.2f} s | {phase['cpu_seconds']:,.2f} s | {server} "
                f"| {phase['peak_rss_mb']:,.0f} MB | {phase['requests']:,} |"
            )
    return "\n".join(lines)


def _scaling(run: Result) -> str:
    lines = [
        f"{run['records']:,} records in chunks of {run['chunk']}.",
        "",
        "| latency | workers | " + " | ".join(PHASES) + " |",
        "| ---: | ---: | ---: | ---: |",
    ]
    points = run["points"]
    for point in points:
        cells = " | ".join(
            f"{point[what]['seconds']:,.1f} s, {speedup(points, point, what):.2f} times"
            for what in PHASES
        )
        lines.append(f"| {point['latency'] * 1000:.0f} ms | {point['workers']} | {cells} |")
    return "\n".join(lines)


def pictures(results: Result) -> dict[str, str]:
    """The plots, by the name of their file."""
    drawn = {}
    if "race" in results:
        drawn["performance-race.svg"] = _race_plot(results["race"])
    if "growth" in results:
        for key, words in (("cpu_seconds", "own CPU, seconds"), ("peak_rss_mb", "peak memory, MB")):
            name = "cpu" if key == "cpu_seconds" else "memory"
            drawn[f"performance-growth-{name}.svg"] = _growth_plot(results["growth"], key, words)
    if "scaling" in results:
        for what in PHASES:
            name = what.split()[0]
            drawn[f"performance-scaling-{name}.svg"] = _scaling_plot(results["scaling"], what)
    return drawn


def _race_plot(run: Result) -> str:
    values = []
    for shape in run["shapes"]:
        f = Figures(shape)
        copied = f.ratio(f.best_raw, copy_seconds)
        read = f.ratio(seconds_of("raw_read"), cycle_seconds("ours_reread"))
        values.append((f"{shape['name']}: first copy", copied, COPY_GOAL))
        values.append((f"{shape['name']}: everything read again", read, READ_GOAL))
    return plots.bars("Speed, as a share of raw requests (line: goal)", values)


def _growth_plot(run: Result, key: str, words: str) -> str:
    series: dict[str, list[tuple[float, float]]] = {}
    for size in run["sizes"]:
        for phase in size["phases"]:
            series.setdefault(phase["phase"], []).append((size["records"], phase[key]))
    log_y = key == "cpu_seconds"
    return plots.lines(
        f"Growth: {words}", ("records in the collection", words), series, log=(True, log_y)
    )


def _scaling_plot(run: Result, what: str) -> str:
    points = run["points"]
    series: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        name = f"{point['latency'] * 1000:.0f} ms of latency"
        series.setdefault(name, []).append((point["workers"], speedup(points, point, what)))
    axes = ("workers", "times as fast as one")
    return plots.lines(f"Several workers: {what}", axes, series)


def written(page: str, parts: Mapping[str, str]) -> str:
    """The page with its generated parts anew."""
    for name, text in parts.items():
        block = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page, count = block.subn(lambda m, text=text: f"{m[1]}{text}\n{m[2]}", page)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"the page has {count} blocks named {name}")
    return page


def main(arguments: list[str] | None = None) -> int:
    """Write the page, and the file if it is asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--take", action="store_true", help="take the runs in bench/out first")
    parser.add_argument("--out", type=Path, default=OUT, help="folder with the runs")
    options = parser.parse_args(arguments)
    if options.take:
        FILE.write_bytes(orjson.dumps(take(options.out)) + b"\n")
    results = orjson.loads(FILE.read_bytes())
    PAGE.write_text(written(PAGE.read_text(), blocks(results)))
    for name, text in pictures(results).items():
        (PAGE.parent / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

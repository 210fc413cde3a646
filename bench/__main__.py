"""`python -m bench`: run the race, print the table, keep everything measured as JSON."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from pathlib import Path

import psutil
from rich.console import Console

from bench.child import ROOT
from bench.kept import keep, timed_lines
from bench.peers import installed
from bench.report import as_markdown, as_table, is_sound, rows_of
from bench.rounds import Race, run_race, shapes_of
from chromasync import __version__

OUT = ROOT / "bench" / "out"


def main(arguments: list[str] | None = None) -> int:
    """Run the bench; 0 unless ours was not identical or wrote without need."""
    options = _parse(arguments)
    say, started = timed_lines(), time.monotonic()
    shapes = [s for s in shapes_of(options.records) if not options.only or options.only in s.name]
    pipes = installed(OUT / "chromadb-data-pipes", say) if options.peers else None
    race = Race(shapes, options.rounds, options.counted, say, pipes)
    results = run_race(race) | {"machine": machine(), "seconds": time.monotonic() - started}
    rows = rows_of(results)
    name = "race.json"
    keep(options.out, name, results)
    if options.markdown:
        print(as_markdown(rows))
    else:
        width = max(140, Console(stderr=True).width) if not sys.stdout.isatty() else None
        Console(width=width).print(as_table(rows))
    say(f"done; everything measured is in {options.out / name}")
    return 0 if is_sound(results) else 1


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--records", type=int, default=20_000, help="records on the primary")
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender runs")
    parser.add_argument("--only", help="only the shape with these words in its name")
    parser.add_argument("--peers", action="store_true", help="with chromadb-data-pipes")
    parser.add_argument("--counted", type=int, help="records of the counting pass")
    parser.add_argument("--quick", action="store_true", help="2,000 records, one round")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    options = parser.parse_args(arguments)
    if options.quick:
        options.records, options.rounds = 2_000, 1
    if not any((options.only or "") in shape.name for shape in shapes_of(options.records)):
        parser.error("no shape has this name")
    if options.records < 200 or options.rounds < 1:
        parser.error("at least 200 records and one round are needed")
    options.counted = options.counted or max(200, options.records // 10)
    return options


def machine() -> dict[str, object]:
    """What it was measured on."""
    return {
        "chromasync": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
    }


if __name__ == "__main__":
    sys.exit(main())

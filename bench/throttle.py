"""`python -m bench.throttle`: what an application on the primary feels while everything is read.

An application queries the primary in a loop. Meanwhile, in turn: nobody reads; chromasync reads
everything again as it does by default; it does so without throttle; the naive loop copies. Each
ratio compares latencies with those of the same round in which nobody read. Then a first copy is
timed with and without throttle, while nobody queries.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench import raw
from bench.__main__ import OUT
from bench.child import run_child
from bench.foreground import looping
from bench.kept import Say, keep, timed_lines
from bench.records import DIMENSION, make_records
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import collections_of, connect

GOAL = 1.2
"""The most that the 95th percentile may rise."""

QUIET_SECONDS = 6.0
NAIVE_SECONDS = 15.0
ALONE = "nobody reads"
OURS = "chromasync reads everything again"
UNTHROTTLED = "the same without throttle"
NAIVE = "the naive loop copies"
COPY = "first copy"
COPY_UNTHROTTLED = "first copy without throttle"

NICENESS = 10
"""Who reads stands back for the application, as if it had a machine of its own."""

Span = Sequence[float]


@dataclass(slots=True)
class Felt:
    """What the application felt in one phase, in seconds."""

    median: float
    high: float
    queries: int
    seconds: float


@dataclass(slots=True)
class Bench:
    """One primary, one replica, and the phases measured so far."""

    primary: ChromaServer
    replica: ChromaServer
    state: str
    say: Say
    rounds: list[dict[str, Felt]] = field(default_factory=list)
    copies: list[dict[str, float]] = field(default_factory=list)

    @property
    def _both(self) -> dict[str, Any]:
        return {"primary_url": self.primary.url, "replica_url": self.replica.url}

    def run_round(self, number: int) -> None:
        """All phases once."""
        ours = {**self._both, "state": self.state, "budget": 1.0, "niceness": NICENESS}
        phases: dict[str, Callable[[], Span]] = {
            ALONE: _be_quiet,
            OURS: lambda: _span_of(run_child("ours", **ours)),
            UNTHROTTLED: lambda: _span_of(run_child("ours", **ours, share=1.0)),
            NAIVE: self._copy_naively,
        }
        self.rounds.append({})
        for name, work in phases.items():
            self.say(f"round {number}: {name}")
            self.rounds[-1][name] = self._felt_during(work)

    def time_copies(self, number: int) -> None:
        """A first copy with and without throttle, each to an empty replica."""
        self.copies.append({})
        for name, options in ((COPY, {}), (COPY_UNTHROTTLED, {"share": 1.0})):
            self.say(f"round {number}: {name}")
            with ChromaServer() as replica, tempfile.TemporaryDirectory() as state:
                urls = {"primary_url": self.primary.url, "replica_url": replica.url}
                result = run_child("ours", **urls, state=state, **options)
                self.copies[-1][name] = result["cycles"][0]["seconds"]

    def _copy_naively(self) -> Span:
        with ChromaServer() as replica:
            urls = {"primary_url": self.primary.url, "replica_url": replica.url}
            limits = {"longest_seconds": NAIVE_SECONDS, "niceness": NICENESS}
            span: Span = run_child("naive copy", **urls, **limits)["span"]
        return span

    def _felt_during(self, work: Callable[[], Span]) -> Felt:
        collection = collections_of(connect(self.primary.url))["articles"]
        with looping(self.primary.url, str(collection.id), DIMENSION) as loop:
            span = work()
        latencies = loop.latencies(span)
        median, high = np.quantile(latencies, [0.5, 0.95])
        return Felt(float(median), float(high), len(latencies), span[1] - span[0])


def _be_quiet() -> Span:
    began_at = time.monotonic()
    time.sleep(QUIET_SECONDS)
    return [began_at, time.monotonic()]


def _span_of(result: dict[str, Any]) -> Span:
    """The time of the cycle, without the start of the process."""
    span: Span = result["cycles"][0]["span"]
    return span


def measure(records: int, rounds: int, copies: int, say: Say) -> Bench:
    """Fill a primary, copy it once, and run all rounds."""
    with (
        ChromaServer() as primary,
        ChromaServer() as replica,
        tempfile.TemporaryDirectory(prefix="chromasync-bench-") as state,
    ):
        say(f"filling the primary with {records:,} records")
        raw.ingest(primary.url, make_records(records))
        bench = Bench(primary, replica, state, say)
        say("first copy, and the cycle that reads again what was written")
        both = {"primary_url": primary.url, "replica_url": replica.url, "state": state}
        run_child("ours", **both, count=2, budget=1.0)
        for number in range(1, rounds + 1):
            bench.run_round(number)
        for number in range(1, copies + 1):
            bench.time_copies(number)
    return bench


def ratios(bench: Bench, name: str) -> list[float]:
    """How much the 95th percentile rose in each round."""
    return [felt[name].high / felt[ALONE].high for felt in bench.rounds]


def copy_ratio(bench: Bench) -> float:
    """The speed of a first copy with throttle, of that without."""
    return statistics.median(c[COPY_UNTHROTTLED] / c[COPY] for c in bench.copies)


def as_table(bench: Bench) -> Table:
    """One line per phase: medians over the rounds."""
    table = Table(box=box.SIMPLE, title="A query loop on the primary")
    headings = ("meanwhile", "median", "95th percentile", "of quiet", "each round", "took")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for name in (ALONE, OURS, UNTHROTTLED, NAIVE):
        felt = [phases[name] for phases in bench.rounds]
        rose = ratios(bench, name)
        table.add_row(
            name,
            f"{1000 * statistics.median(f.median for f in felt):.1f} ms",
            f"{1000 * statistics.median(f.high for f in felt):.1f} ms",
            f"{statistics.median(rose):.2f}",
            ", ".join(f"{ratio:.2f}" for ratio in rose),
            f"{statistics.median(f.seconds for f in felt):.1f} s",
        )
    return table


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result; 0 if the goal was reached."""
    parser = argparse.ArgumentParser(prog="python -m bench.throttle", description=__doc__)
    parser.add_argument("--records", type=int, default=40_000, help="records on the primary")
    parser.add_argument("--rounds", type=int, default=5, help="how often each phase runs")
    parser.add_argument("--copies", type=int, default=2, help="how often first copies are timed")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    options = parser.parse_args(arguments)
    say = timed_lines()
    bench = measure(options.records, options.rounds, options.copies, say)
    kept = {"rounds": bench.rounds, "copies": bench.copies}
    keep(options.out, f"throttle-{options.records}.json", kept)
    Console(width=140).print(as_table(bench))
    rose = statistics.median(ratios(bench, OURS))
    print(f"The 95th percentile rose {rose:.2f} times with throttle (goal: {GOAL}).")
    if bench.copies:
        print(f"A first copy with throttle has {copy_ratio(bench):.2f} of the speed without.")
    return 0 if rose <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())

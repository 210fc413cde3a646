"""`python -m bench.scaling`: several workers, with latency between them and the servers.

The work is bound by waiting here, as it is across a network: every request to either server takes
so much longer. A coordinator that only plans, PostgreSQL as the store, one thread a worker. What is
timed is the span from the first task's start to the last one's end, as the store has it; of several
rounds, in which all numbers of workers take turns, the shortest of each counts, because whatever
else the machine does only lengthens one. No time limit ends it while tasks are completed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select

from bench.__main__ import OUT, machine
from bench.kept import Say, keep, timed_lines
from chromasync.lab.postgres_server import LocalPostgres
from chromasync.store.schema import tasks
from tests.distributed.fleet import Fleet
from tests.store.samples import look
from tests.support.stage import Servers, Stage, running_servers

SETTINGS = {"SYNC_WORKERS": "1", "SYNC_LEASE_SECONDS": "60", "SYNC_LEAD_SECONDS": "20"}
PHASES = ("first copy", "everything read again")

Span = tuple[int, float]
"""How many tasks, and the seconds from the first start to the last end."""


def span_of_cycle(fleet: Fleet, number: int) -> Span:
    """What a cycle took, as the store has it."""
    mine = tasks.c.cycle_id == number
    first, last, count = func.min(tasks.c.started_at), func.max(tasks.c.completed_at), func.count()
    ((began, ended, total),) = look(fleet.store, select(first, last, count).where(mine))
    return total, (ended - began).total_seconds()


def until(fleet: Fleet, done: Callable[[], bool], what: str) -> None:
    """Wait for something; the fleet's patience is for the time without a completed task."""

    def completed() -> int:
        ((count,),) = look(fleet.store, select(func.count(tasks.c.completed_at)))
        return int(count)

    def moved(before: int) -> bool:
        return done() or completed() > before

    while not done():
        fleet.until(partial(moved, completed()), what)


def measure(
    servers: Servers, postgres: LocalPostgres, workers: int, latency: float, sizes: tuple[int, int]
) -> dict[str, Span]:
    """A first copy and a cycle that reads everything again, by so many workers.

    Args:
        sizes: records, and records in a chunk.
    """
    with tempfile.TemporaryDirectory(prefix="chromasync-scaling-") as folder:
        stage = Stage(servers, Path(folder) / "state")
        try:
            return _measure_on(stage, postgres, workers, latency, sizes)
        finally:
            stage.close()


def _measure_on(
    stage: Stage, postgres: LocalPostgres, workers: int, latency: float, sizes: tuple[int, int]
) -> dict[str, Span]:
    servers, (records, chunk) = stage.servers, sizes
    settings = SETTINGS | {"SYNC_CHUNK_SIZE": str(chunk), "SYNC_INTERVAL": "1"}
    fleet = Fleet(stage, postgres.database(stage.database), **settings)
    try:
        members = [fleet.worker(f"worker-{n}") for n in range(workers)]
        fleet.until_active(*members)
        stage.create("docs", count=records)
        for proxy in (servers.primary_proxy, servers.replica_proxy):
            proxy.latency_seconds = latency
        fleet.coordinator(SYNC_COORDINATOR_WORKS="false", SYNC_SCRUB_BUDGET="100%")
        until(fleet, lambda: len(fleet.store.cycles(9)) > 2, "a copy and a cycle after it")
        spans = [span_of_cycle(fleet, number) for number in (1, 2)]
    finally:
        for proxy in (servers.primary_proxy, servers.replica_proxy):
            proxy.latency_seconds = 0.0
        fleet.close()
    stage.assert_identical()
    return dict(zip(PHASES, spans, strict=True))


def measured(options: argparse.Namespace, say: Say) -> list[dict[str, Any]]:
    """For each latency and number of workers: tasks, and the shortest span of each phase."""
    sizes = (options.records, options.chunk)
    points = []
    with running_servers() as servers, LocalPostgres(durable=False) as postgres:
        for latency in options.latency:
            runs: dict[int, list[dict[str, Span]]] = {n: [] for n in options.workers}
            for number in range(options.rounds):
                for workers in options.workers if number % 2 == 0 else options.workers[::-1]:
                    say(f"{latency * 1000:.0f} ms, {workers} workers, round {number + 1}")
                    runs[workers].append(measure(servers, postgres, workers, latency, sizes))
            points += [_point(latency, workers, done) for workers, done in runs.items()]
    return points


def _point(latency: float, workers: int, runs: list[dict[str, Span]]) -> dict[str, Any]:
    best = {what: min((run[what] for run in runs), key=itemgetter(1)) for what in PHASES}
    point: dict[str, Any] = {"latency": latency, "workers": workers}
    return point | {what: {"tasks": n, "seconds": seconds} for what, (n, seconds) in best.items()}


def speedup(points: list[dict[str, Any]], point: dict[str, Any], what: str) -> float:
    """How many times as fast as the fewest workers at the same latency."""
    same = [other for other in points if other["latency"] == point["latency"]]
    one = min(same, key=itemgetter("workers"))
    return float(one[what]["seconds"] / point[what]["seconds"])


def as_table(points: list[dict[str, Any]]) -> Table:
    """One line per latency and number of workers."""
    table = Table(box=box.SIMPLE)
    for heading in ("latency", "workers", *PHASES):
        table.add_column(heading, justify="right")
    for point in points:
        cells = (
            f"{point[what]['seconds']:.1f} s, {speedup(points, point, what):.2f} times as fast"
            for what in PHASES
        )
        table.add_row(f"{point['latency'] * 1000:.0f} ms", str(point["workers"]), *cells)
    return table


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--records", type=int, default=6000)
    parser.add_argument("--chunk", type=int, default=20)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.0, 0.02, 0.05, 0.1])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 5])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result."""
    options = parse(arguments)
    points = measured(options, timed_lines())
    about = {"machine": machine(), "records": options.records, "chunk": options.chunk}
    keep(options.out, "scaling.json", about | {"points": points})
    Console(width=120).print(as_table(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m bench.scaling`: one worker against four, with latency between them and the servers.

The work is bound by waiting here, as it is across a network: every request to either server takes
50 ms longer. A coordinator that only plans, PostgreSQL as the store, one thread a worker. What is
timed is the span from the first task's start to the last one's end, as the store has it; of several
rounds, in which one and many take turns, the shortest of each counts, because whatever else the
machine does only lengthens one.
"""

from __future__ import annotations

import argparse
import tempfile
from operator import itemgetter
from pathlib import Path

from sqlalchemy import func, select

from chromasync.lab.postgres_server import LocalPostgres
from chromasync.store.schema import tasks
from tests.distributed.fleet import Fleet
from tests.store.samples import look
from tests.support.stage import Servers, Stage, running_servers

SETTINGS = {"SYNC_WORKERS": "1", "SYNC_LEASE_SECONDS": "60", "SYNC_LEAD_SECONDS": "20"}


def span_of_cycle(fleet: Fleet, number: int) -> tuple[int, float]:
    """How many tasks a cycle had, and the seconds from the first start to the last end."""
    mine = tasks.c.cycle_id == number
    first, last, count = func.min(tasks.c.started_at), func.max(tasks.c.completed_at), func.count()
    ((began, ended, total),) = look(fleet.store, select(first, last, count).where(mine))
    return total, (ended - began).total_seconds()


def measure(
    servers: Servers, postgres: LocalPostgres, workers: int, options: argparse.Namespace
) -> dict[str, tuple[int, float]]:
    """A first copy and a cycle that reads everything again, by so many workers."""
    with tempfile.TemporaryDirectory(prefix="chromasync-scaling-") as folder:
        stage = Stage(servers, Path(folder) / "state")
        try:
            return _measure_on(stage, postgres, workers, options)
        finally:
            stage.close()


def _measure_on(
    stage: Stage, postgres: LocalPostgres, workers: int, options: argparse.Namespace
) -> dict[str, tuple[int, float]]:
    servers = stage.servers
    settings = SETTINGS | {"SYNC_CHUNK_SIZE": str(options.chunk), "SYNC_INTERVAL": "1"}
    fleet = Fleet(stage, postgres.database(stage.database), **settings)
    try:
        members = [fleet.worker(f"worker-{n}") for n in range(workers)]
        fleet.until_active(*members)
        stage.create("docs", count=options.records)
        for proxy in (servers.primary_proxy, servers.replica_proxy):
            proxy.latency_seconds = options.latency
        fleet.coordinator(SYNC_COORDINATOR_WORKS="false", SYNC_SCRUB_BUDGET="100%")
        fleet.until(lambda: len(fleet.store.cycles(9)) > 2, "a copy and a cycle after it")
        copy, again = span_of_cycle(fleet, 1), span_of_cycle(fleet, 2)
    finally:
        for proxy in (servers.primary_proxy, servers.replica_proxy):
            proxy.latency_seconds = 0.0
        fleet.close()
    stage.assert_identical()
    return {"first copy": copy, "everything read again": again}


def ratios(options: argparse.Namespace) -> dict[str, float]:
    """How many times as fast many workers are as one, by what they did; says the figures, too."""
    with running_servers() as servers, LocalPostgres(durable=False) as postgres:
        rounds = [
            [measure(servers, postgres, workers, options) for workers in (1, options.workers)]
            for _ in range(options.rounds)
        ]
    one, many = (
        {what: min((r[what] for r in side), key=itemgetter(1)) for what in side[0]}
        for side in zip(*rounds, strict=True)
    )
    for what, (count, seconds) in one.items():
        print(
            f"{what}: {count} tasks, 1 worker {seconds:.1f} s, {options.workers} workers "
            f"{many[what][1]:.1f} s: {seconds / many[what][1]:.2f} times as fast"
        )
    return {what: seconds / many[what][1] for what, (_, seconds) in one.items()}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("--records", type=int, default=6000)
    parser.add_argument("--chunk", type=int, default=20)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    ratios(parse(None))

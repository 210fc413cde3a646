"""`python -m bench.growth`: how cycles and commands grow with the number of records.

Real servers hold records of eight dimensions; the sizes of `--sizes` are copied first. Stand-ins
(`bench.standin`) hold those of `--stand-in`: their ledger is filled directly, and they tell nothing
of what a real server would need. Each phase runs in a process of its own, so its memory is its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from rich import box
from rich.console import Console
from rich.table import Table

from bench.__main__ import OUT, machine
from bench.child import run_child
from bench.edits import spread
from bench.kept import Say, keep, timed_lines
from bench.memory import fill
from bench.servers import cpu_of
from bench.standin import standing_in
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import collections_of, connect

DIMENSION = 8
CHANGES = 100
CHUNK = 1000
PEAK_GOAL_MB = 400
STAND_IN: dict[str, Any] = {"share": 1.0, "mark": False}
"""Stand-ins have no other users to spare, and take no mark."""

Phase = dict[str, Any]
Lose = Callable[[], None]


@contextmanager
def _state() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="chromasync-bench-") as folder:
        yield folder


def on_real_servers(records: int, say: Say) -> dict[str, Any]:
    """All phases with real servers."""
    with _state() as state, ChromaServer() as primary, ChromaServer() as replica:
        say(f"{records:,} records on real servers: filling, and a first copy")
        fill(primary.url, records, say, DIMENSION)
        both = {"primary_url": primary.url, "replica_url": replica.url, "state": state}
        run_child("ours", **both, count=2)

        def lose() -> None:
            many = collections_of(connect(primary.url))["many"]
            ids = many.get(include=[])["ids"]
            many.delete(ids=[ids[row] for row in spread(len(ids), CHANGES)])

        phases = _phases(both, lose, say, server_cpu=lambda: cpu_of(primary) + cpu_of(replica))
    return {"records": records, "servers": "real", "phases": phases}


def on_stand_ins(records: int, say: Say) -> dict[str, Any]:
    """All phases but `verify` with stand-ins, whose ledger is filled directly."""
    ids = {"primary_id": str(uuid.uuid4()), "replica_id": str(uuid.uuid4())}
    with (
        _state() as state,
        standing_in(records, ids["primary_id"]) as primary,
        standing_in(records, ids["replica_id"]) as replica,
    ):
        say(f"{records:,} records on stand-ins: filling the ledger")
        run_child("fill ledger", state=state, records=records, chunk=CHUNK, **ids)
        both = {"primary_url": primary, "replica_url": replica, "state": state} | STAND_IN

        def lose() -> None:
            share = {"share": CHANGES / records}
            httpx2.post(f"{primary}/lose", json=share, timeout=600).raise_for_status()

        phases = _phases(both, lose, say, verify=False)
    return {"records": records, "servers": "stand-in", "phases": phases}


def _phases(
    both: dict[str, Any],
    lose: Lose,
    say: Say,
    *,
    verify: bool = True,
    server_cpu: Callable[[], float] = lambda: 0.0,
) -> list[Phase]:
    """Measure each phase in a process of its own."""
    phases: list[Phase] = []

    def phase(name: str, what: str, **options: Any) -> None:
        say(name)
        before = server_cpu()
        done = run_child(what, **both, **options)
        cycle = done["cycles"][-1] if "cycles" in done else done
        outcome = cycle.get("outcome", "")
        assert outcome in ("", "identical"), (name, outcome)
        phases.append(
            {
                "phase": name,
                "seconds": cycle["seconds"],
                "cpu_seconds": cycle.get("cpu_seconds", done["process_cpu_seconds"]),
                "server_cpu_seconds": server_cpu() - before,
                "peak_rss_mb": done["peak_rss_mb"],
                "requests": cycle["requests"],
                "read": cycle.get("read"),
            }
        )

    phase("unchanged cycle, ids only", "ours", walk_only=True)
    lose()
    phase(f"{CHANGES} scattered deletes", "ours", walk_only=True)
    phase("the cycle after", "ours", walk_only=True)
    phase("plan", "plan", budget=0.0)
    phase("status", "status")
    if verify:
        phase("verify", "verify")
    return phases


def as_table(results: dict[str, Any]) -> Table:
    """One line per phase and size."""
    table = Table(box=box.SIMPLE)
    headings = ("records", "servers", "phase", "seconds", "own CPU", "peak memory", "requests")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i in (1, 2) else "right")
    for size in results["sizes"]:
        for phase in size["phases"]:
            table.add_row(
                f"{size['records']:,}",
                size["servers"],
                phase["phase"],
                f"{phase['seconds']:,.2f} s",
                f"{phase['cpu_seconds']:,.2f} s",
                f"{phase['peak_rss_mb']:,.0f} MB",
                f"{phase['requests']:,}",
            )
    return table


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result; 0 if no process exceeded the memory goal."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_000], help="real servers")
    parser.add_argument("--stand-in", type=int, nargs="*", default=[100_000], help="stand-ins")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    options = parser.parse_args(arguments)
    say = timed_lines()
    sizes = [on_real_servers(records, say) for records in options.sizes]
    sizes += [on_stand_ins(records, say) for records in options.stand_in]
    results = {"machine": machine(), "sizes": sizes}
    keep(options.out, "growth.json", results)
    Console(width=120).print(as_table(results))
    peaks = [phase["peak_rss_mb"] for size in sizes for phase in size["phases"]]
    return 0 if max(peaks, default=0) <= PEAK_GOAL_MB else 1


if __name__ == "__main__":
    sys.exit(main())

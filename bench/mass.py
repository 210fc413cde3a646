"""`python -m bench.mass`: ten million ids in a limit of 512 MB, and the loss of most of them.

Stand-ins serve the records (`bench.standin`), because an official server needs hours for so many.
Our process is the real one, each phase in a fresh process within a real limit. It walks all ids
unchanged. Then the primary loses 60 % of its records. The next two cycles hold their deletion, and
after an approval a cycle deletes them. With `--walk-only`, the primary keeps its records.

Where no control group can be made, RLIMIT_DATA is the limit. It also counts the stacks of threads,
8 MB each, and what the parsers reserve; `--reserve` allows for that. The memory in use is judged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import httpx2
from rich import box
from rich.console import Console
from rich.table import Table

from bench.__main__ import OUT
from bench.child import run_child
from bench.kept import Say, keep, timed_lines
from bench.limited import memory_limit
from bench.standin import DATABASE, TENANT, standing_in

LOST_SHARE = 0.6
SETTINGS: dict[str, Any] = {"budget": 0.0, "share": 1.0, "mark": False}
"""Nothing is read again; stand-ins have no other users to spare, and take no mark."""


def measure(
    records: int, limit_mb: int, chunk: int, say: Say, *, reserve_mb: int, walk_only: bool = False
) -> dict[str, Any]:
    """Run all phases; the result has the peak of each."""
    primary_id, replica_id = str(uuid.uuid4()), str(uuid.uuid4())
    with (
        tempfile.TemporaryDirectory(prefix="chromasync-bench-") as state,
        standing_in(records, primary_id) as primary,
        standing_in(records, replica_id) as replica,
    ):
        say(f"filling the ledger with {records:,} records")
        ids = {"primary_id": primary_id, "replica_id": replica_id}
        run_child("fill ledger", state=state, records=records, chunk=chunk, **ids)
        both = {"primary_url": primary, "replica_url": replica, "state": state}
        phases: list[dict[str, Any]] = []

        def phase(name: str, what: str = "ours") -> None:
            say(name)
            with memory_limit(limit_mb, reserve_mb) as limit:
                options = SETTINGS | {"memory_mb": limit_mb, "enter": limit.enter}
                done = run_child(what, **both, **options)
            phases.append({"phase": name, "limit": limit.kind} | done)

        phase("unchanged, ids only")
        if not walk_only:
            lost = httpx2.post(f"{primary}/lose", json={"share": LOST_SHARE}, timeout=600)
            lost.raise_for_status()
            phase("60 % lost: held")
            phase("60 % lost: held still")
            phase("approved: deleted", "approved")
            phase("unchanged afterwards")
        counts = [_count(primary, primary_id), _count(replica, replica_id)]
    return {"records": records, "limit_mb": limit_mb, "phases": phases, "counts": counts}


def _count(url: str, collection_id: str) -> int:
    path = f"/api/v2/tenants/{TENANT}/databases/{DATABASE}/collections/{collection_id}/count"
    return int(httpx2.get(url + path, timeout=600).json())


def is_sound(results: dict[str, Any]) -> bool:
    """Whether all lost records were held, then deleted, and each phase stayed in its limit."""
    ours, theirs = results["counts"]
    phases = results["phases"]
    outcomes = [phase["cycles"][-1]["outcome"] for phase in phases]
    deleted = sum(phase["cycles"][-1]["deleted"] for phase in phases)
    return bool(
        ours == theirs == results["records"] - deleted
        and outcomes in (["identical"], ["identical", "held", "held", "identical", "identical"])
        and max(phase["peak_rss_mb"] for phase in phases) <= results["limit_mb"]
    )


def as_table(results: dict[str, Any]) -> Table:
    """One line per phase."""
    title = f"{results['records']:,} records in {results['phases'][0]['limit']}"
    table = Table(box=box.SIMPLE, title=title)
    for i, heading in enumerate(("phase", "outcome", "seconds", "CPU seconds", "peak memory")):
        table.add_column(heading, justify="left" if i < 2 else "right")
    for phase in results["phases"]:
        cycle = phase["cycles"][-1]
        table.add_row(
            phase["phase"],
            cycle["outcome"],
            f"{cycle['seconds']:,.1f}",
            f"{phase['process_cpu_seconds']:,.1f}",
            f"{phase['peak_rss_mb']:,.0f} MB",
        )
    return table


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result; 0 if all is deleted within the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.mass", description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--limit", type=int, default=512, help="MB")
    parser.add_argument("--reserve", type=int, default=0, help="MB that RLIMIT_DATA allows beyond")
    parser.add_argument("--chunk", type=int, default=1000, help="records in a chunk")
    parser.add_argument("--walk-only", action="store_true", help="no record is lost")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    options = parser.parse_args(arguments)
    say = timed_lines()
    results = measure(
        options.records,
        options.limit,
        options.chunk,
        say,
        reserve_mb=options.reserve,
        walk_only=options.walk_only,
    )
    keep(options.out, f"mass-{options.records}.json", results)
    Console(width=120).print(as_table(results))
    print("Records left on the two sides: {:,} and {:,}.".format(*results["counts"]))
    return 0 if is_sound(results) else 1


if __name__ == "__main__":
    sys.exit(main())

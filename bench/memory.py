"""`python -m bench.memory`: the memory our process needs for a collection of very many ids.

A million records of four numbers and one metadata key take about twenty minutes, nearly all of
them spent by the two servers. Each phase runs in a process of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.__main__ import OUT
from bench.child import run_child
from bench.kept import Say, keep, timed_lines
from bench.raw import Connection, add_requests, create
from bench.records import Data
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import Judgement, collections_of, connect, judge_page

DIMENSION = 4
BATCH = 5000
LIMIT_MB = 200
JUDGED_PAGES = 10
PAGE = 1000

Phase = dict[str, Any]


def small_records(start: int, count: int, dimension: int = DIMENSION) -> Data:
    """Records `start` to `start + count`, the same each time."""
    rng = np.random.default_rng(start)
    ids = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(count)]
    return Data(
        name="many",
        space="l2",
        ids=ids,
        embeddings=rng.standard_normal((count, dimension)).astype(np.float32),
        documents=[None] * count,
        metadatas=[{"number": start + i} for i in range(count)],
        uris=[None] * count,
    )


def fill(url: str, records: int, say: Say, dimension: int = DIMENSION) -> None:
    """Put the records into an empty server, in requests of 5,000."""
    connection = Connection(url)
    collection_id = create(connection, small_records(0, 0, dimension))
    for start in range(0, records, BATCH):
        data = small_records(start, min(BATCH, records - start), dimension)
        for request in add_requests(collection_id, data, BATCH):
            connection.send(request)
        if start % (20 * BATCH) == 0:
            say(f"filling the primary: {start:,} of {records:,}")
    connection.close()


def measure(records: int, say: Say) -> dict[str, Any]:
    """Fill a primary, then copy, read again, walk and verify, each in a fresh process."""
    with (
        tempfile.TemporaryDirectory(prefix="chromasync-bench-") as state,
        ChromaServer() as primary,
        ChromaServer() as replica,
    ):
        fill(primary.url, records, say)
        both = {"primary_url": primary.url, "replica_url": replica.url, "state": state}
        phases: list[Phase] = []
        for name, what, options in (
            ("first copy", "ours", {}),
            ("second cycle: what was just written is read again", "ours", {}),
            ("unchanged, within the default budget", "ours", {}),
            ("unchanged, ids only", "ours", {"walk_only": True}),
            ("verify, record by record", "verify", {}),
        ):
            say(name)
            phases.append({"phase": name} | run_child(what, **both, **options))
        size = sum(file.stat().st_size for file in Path(state).rglob("*") if file.is_file())
        judgement = _judge_sample(primary.url, replica.url, records)
    return {
        "records": records,
        "phases": phases,
        "state_bytes": size,
        "judged": str(judgement),
        "judged_records": judgement.records,
    }


def _judge_sample(primary_url: str, replica_url: str, records: int) -> Judgement:
    """The official client's opinion of the counts and of some pages of records."""
    ours, theirs = (collections_of(connect(url))["many"] for url in (primary_url, replica_url))
    judgement = Judgement()
    if not records == ours.count() == theirs.count():
        judgement.note("count", f"{ours.count():,} and {theirs.count():,}")
    for start in np.linspace(0, max(0, records - PAGE), JUDGED_PAGES).astype(int):
        ids = ours.get(limit=PAGE, offset=int(start), include=[])["ids"]
        judge_page(ours, theirs, ids, judgement)
    return judgement


def seconds_of(phase: Phase) -> float:
    """Seconds inside our program, opening included."""
    if "cycles" in phase:
        return float(phase["open_seconds"] + sum(c["seconds"] for c in phase["cycles"]))
    return float(phase["open_seconds"] + phase["seconds"])


def is_sound(results: dict[str, Any]) -> bool:
    """Whether every phase stayed under the limit and the replica is identical."""
    outcomes = [c["outcome"] for p in results["phases"] for c in p.get("cycles", ())]
    return (
        all(phase["peak_rss_mb"] <= LIMIT_MB for phase in results["phases"])
        and results["judged"] == "identical"
        and set(outcomes) == {"identical"}
        and results["phases"][-1]["different"] == 0
    )


def as_table(results: dict[str, Any]) -> Table:
    """One line per phase."""
    table = Table(box=box.SIMPLE, title=f"{results['records']:,} records")
    for i, heading in enumerate(("phase", "seconds", "CPU seconds", "peak memory", "goal")):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for phase in results["phases"]:
        table.add_row(
            phase["phase"],
            f"{seconds_of(phase):,.1f}",
            f"{phase['process_cpu_seconds']:,.1f}",
            f"{phase['peak_rss_mb']:,.0f} MB",
            f"≤ {LIMIT_MB} MB",
        )
    return table


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result; 0 if it stayed under the limit and is identical."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="ids on the primary")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    options = parser.parse_args(arguments)
    say = timed_lines()
    results = measure(options.records, say)
    keep(options.out, f"memory-{options.records}.json", results)
    Console().print(as_table(results))
    print(f"State file: {results['state_bytes'] / 1e6:,.0f} MB.")
    print(
        f"The official client compared {results['judged_records']:,} records and both counts: "
        f"{results['judged']}."
    )
    return 0 if is_sound(results) else 1


if __name__ == "__main__":
    sys.exit(main())

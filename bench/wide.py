"""`python -m bench.wide`: wide records, and one of 20 MB, in a real limit of 512 MB.

Records of 1,536 dimensions with documents of 4,000 characters, on official servers. Our process
runs in a real limit: a first copy, a cycle that reads everything again, and `verify`. With several
threads the parsers of JSON reserve more than 512 MB and use little of it, which RLIMIT_DATA counts:
give it a `--reserve` where no control group can be made. The peak of the memory in use is judged.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from bench.__main__ import OUT
from bench.child import run_child
from bench.kept import Say, keep, timed_lines
from bench.limited import memory_limit
from bench.raw import Connection, add_requests, create
from bench.records import Data
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import connect, judge

DIMENSION = 1536
CHARACTERS = 4000
BATCH = 200
LARGE_BYTES = 20_000_000


def wide_records(count: int, large_bytes: int) -> Data:
    """So many wide records, and one with a document of `large_bytes`."""
    rng = np.random.default_rng(3)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz      ", dtype=np.uint8)
    texts: list[str | None] = [
        rng.choice(letters, CHARACTERS).tobytes().decode() for _ in range(count)
    ]
    texts.append(rng.choice(letters, large_bytes).tobytes().decode())
    return Data(
        name="wide",
        space="l2",
        ids=[f"wide-{n:07d}" for n in range(count + 1)],
        embeddings=rng.standard_normal((count + 1, DIMENSION)).astype(np.float32),
        documents=texts,
        metadatas=[{"number": n} for n in range(count + 1)],
        uris=[None] * (count + 1),
    )


def fill(url: str, data: Data) -> None:
    """Put the records into a server, the large one alone."""
    connection = Connection(url)
    collection_id = create(connection, data)
    for request in add_requests(collection_id, data, BATCH):
        connection.send(request)
    connection.close()


def measure(
    records: int, say: Say, *, large_bytes: int, limit_mb: int, reserve_mb: int, threads: int
) -> dict[str, Any]:
    """Copy, read again and verify, each in a process of its own within the limit."""
    with (
        tempfile.TemporaryDirectory(prefix="chromasync-bench-") as state,
        ChromaServer() as primary,
        ChromaServer() as replica,
    ):
        say(f"filling the primary with {records:,} records and a large one")
        fill(primary.url, wide_records(records, large_bytes))
        both = {"primary_url": primary.url, "replica_url": replica.url, "state": state}
        phases: list[dict[str, Any]] = []
        ours: dict[str, Any] = {"memory_mb": limit_mb, "workers": threads}
        for name, what, options in (
            ("first copy", "ours", ours),
            ("everything read again", "ours", ours | {"budget": 1.0}),
            ("verify", "verify", ours),
        ):
            say(name)
            with memory_limit(limit_mb, reserve_mb) as limit:
                done = run_child(what, **both, enter=limit.enter, **options)
            phases.append({"phase": name, "limit": limit.kind} | done)
        judgement = judge(connect(primary.url), connect(replica.url))
    return {
        "records": records,
        "large_bytes": large_bytes,
        "threads": threads,
        "limit_mb": limit_mb,
        "phases": phases,
        "judged": str(judgement),
        "identical": judgement.identical,
    }


def is_sound(results: dict[str, Any]) -> bool:
    """Whether the replica is identical, and each phase stayed in its limit."""
    peaks = [phase["peak_rss_mb"] for phase in results["phases"]]
    verified = results["phases"][-1]
    return bool(
        results["identical"]
        and (verified["same"], verified["different"]) == (results["records"] + 1, 0)
        and max(peaks) <= results["limit_mb"]
    )


def as_table(results: dict[str, Any]) -> Table:
    """One line per phase."""
    limit, threads = results["phases"][0]["limit"], results["threads"]
    large = f"one of {results['large_bytes'] / 1e6:,.0f} MB"
    title = (
        f"{results['records']:,} wide records and {large}, worker threads: {threads}, in {limit}"
    )
    table = Table(box=box.SIMPLE, title=title)
    for i, heading in enumerate(("phase", "seconds", "peak memory")):
        table.add_column(heading, justify="left" if i == 0 else "right")
    for phase in results["phases"]:
        seconds = phase["cycles"][-1]["seconds"] if "cycles" in phase else phase["seconds"]
        table.add_row(phase["phase"], f"{seconds:,.1f}", f"{phase['peak_rss_mb']:,.0f} MB")
    return table


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and keep the result; 0 if the copy is identical and in the limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.wide", description=__doc__)
    parser.add_argument("--records", type=int, default=5000)
    parser.add_argument("--large", type=int, default=LARGE_BYTES, help="bytes of the large record")
    parser.add_argument("--limit", type=int, default=512, help="MB")
    parser.add_argument("--reserve", type=int, default=0, help="MB for RLIMIT_DATA beside")
    parser.add_argument("--threads", type=int, default=1, help="worker threads")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the JSON")
    options = parser.parse_args(arguments)
    say = timed_lines()
    results = measure(
        options.records,
        say,
        large_bytes=options.large,
        limit_mb=options.limit,
        reserve_mb=options.reserve,
        threads=options.threads,
    )
    keep(options.out, f"wide-{options.records}-{options.threads}.json", results)
    Console(width=120).print(as_table(results))
    print(f"The official client says: {results['judged']}.")
    return 0 if is_sound(results) else 1


if __name__ == "__main__":
    sys.exit(main())

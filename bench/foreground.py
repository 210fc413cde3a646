"""`python -m bench.foreground`: an application that sends one query after another to a server.

It runs in a process of its own until its standard input ends. Then it prints when each query was
sent, and how long the answer took.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import orjson

from bench.child import ROOT
from bench.raw import COLLECTIONS, Connection, Request

RESULTS = 10


def queries(collection_id: str, dimension: int, count: int = 200) -> list[Request]:
    """Different queries, the same each time."""
    vectors = np.random.default_rng(11).standard_normal((count, dimension)).astype(np.float32)
    include = ["documents", "metadatas", "distances"]
    return [
        Request(
            f"{COLLECTIONS}/{collection_id}/query",
            orjson.dumps(
                {"query_embeddings": [vector.tolist()], "n_results": RESULTS, "include": include}
            ),
        )
        for vector in vectors
    ]


def ask(url: str, requests: Sequence[Request], stop: threading.Event) -> list[list[float]]:
    """Send the requests again and again; when each was sent, and the seconds it took."""
    connection = Connection(url)
    answers = []
    while not stop.is_set():
        started = time.monotonic()
        connection.send(requests[len(answers) % len(requests)])
        answers.append([started, time.monotonic() - started])
    connection.close()
    return answers


class Loop:
    """A running loop; `answers` are complete when `looping` has ended."""

    def __init__(self) -> None:
        self.answers: list[list[float]] = []

    def latencies(self, span: Sequence[float]) -> list[float]:
        """The latencies of the queries that were sent within a span of `time.monotonic`."""
        return [seconds for at, seconds in self.answers if span[0] <= at < span[1]]


@contextmanager
def looping(url: str, collection_id: str, dimension: int) -> Iterator[Loop]:
    """Run the loop during the block."""
    loop = Loop()
    with subprocess.Popen(
        [sys.executable, "-m", "bench.foreground"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        order = {"url": url, "collection_id": collection_id, "dimension": dimension}
        process.stdin.write(orjson.dumps(order) + b"\n")
        process.stdin.flush()
        process.stdout.readline()  # it has begun
        try:
            yield loop
        finally:
            process.stdin.close()
            loop.answers = orjson.loads(process.stdout.read())


def main() -> None:
    """Run until standard input ends."""
    order = orjson.loads(sys.stdin.buffer.readline())
    requests = queries(order["collection_id"], order["dimension"])
    stop = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.buffer.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    print("begun", flush=True)
    sys.stdout.buffer.write(orjson.dumps(ask(order["url"], requests, stop)))


if __name__ == "__main__":
    main()

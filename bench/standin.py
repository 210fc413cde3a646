"""Stand-ins for two Chroma servers with millions of records, which need no time to be filled.

`python -m bench.standin RECORDS` serves one collection. Every record is computed from its number,
so only one bit a record is kept: whether it is there. The official server needs hours for so many
records; here the memory of *our* process is measured, and that depends on what it is told.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import orjson

from bench.child import ROOT
from chromasync.model import Floats, Records

TENANT, DATABASE, NAME = "default_tenant", "default_database", "many"
VECTOR = (0.75, -0.5)


def id_of(number: int) -> str:
    """The id of a record: its number, and digits that no compression shortens."""
    return f"{number:08x}{blake2b(number.to_bytes(8), digest_size=12).hexdigest()}"


def number_of(record_id: str) -> int:
    """The number of the record with this id."""
    return int(record_id[:8], 16)


def content_of(numbers: Sequence[int]) -> Records:
    """These records, as both servers return them."""
    count = len(numbers)
    vectors: Floats = np.tile(np.asarray(VECTOR, dtype=np.float32), (count, 1))
    return Records(
        ids=[id_of(n) for n in numbers],
        documents=[None] * count,
        metadatas=[{"kind": "many"} for _ in numbers],
        uris=[None] * count,
        embeddings=vectors,
    )


class Many:
    """The records that are there, by number."""

    def __init__(self, count: int) -> None:
        self._there = np.ones(count, dtype=bool)

    @cached_property
    def numbers(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The numbers of all records, in order."""
        return np.flatnonzero(self._there)

    def lose(self, numbers: Sequence[int]) -> None:
        """Delete these records."""
        self._there[list(numbers)] = False
        self.__dict__.pop("numbers", None)

    def has(self, number: int) -> bool:
        """Whether the record is there."""
        return 0 <= number < len(self._there) and bool(self._there[number])

    def lose_scattered(self, share: float) -> None:
        """Delete about this share of all records, all over the collection."""
        chance = np.random.default_rng(13).random(len(self._there))
        self._there &= chance >= share
        self.__dict__.pop("numbers", None)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StandIn

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Stay silent."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        answers: dict[str, Any] = {
            "heartbeat": {"nanosecond heartbeat": 1},
            "version": "1.0.0",
            "healthcheck": {"is_executor_ready": True, "is_log_client_ready": True},
            "pre-flight-checks": {"max_batch_size": 5461, "supports_base64_encoding": True},
            "databases": [{"id": "1", "name": DATABASE, "tenant": TENANT}],
            "collections": [self.server.collection],
            "collections_count": 1,
            "count": len(self.server.many.numbers),
        }
        if path.endswith("/collections") and "offset" in parse_qs(urlsplit(self.path).query):
            answers["collections"] = []
        self._answer(answers.get(path.rpartition("/")[2]))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        given = orjson.loads(body) if body else {}
        match self.path.rpartition("/")[2]:
            case "get":
                self._answer(self.server.get(given))
            case "query":
                self._answer(self.server.query(given))
            case "delete":
                self.server.many.lose([number_of(i) for i in given["ids"]])
                self._answer({"deleted": len(given["ids"])})
            case "lose":
                self.server.many.lose_scattered(given["share"])
                self._answer({})
            case "upsert" | "update" | "add":
                self._answer({})
            case _:
                self._answer(None)

    def _answer(self, value: Any) -> None:
        body = orjson.dumps(value if value is not None else {"error": "NotFound", "message": "no"})
        self.send_response_only(404 if value is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class StandIn(ThreadingHTTPServer):
    """One server with one collection of so many records."""

    daemon_threads = True

    def __init__(self, count: int, collection_id: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.many = Many(count)
        self.collection = {
            "id": collection_id,
            "name": NAME,
            "tenant": TENANT,
            "database": DATABASE,
            "metadata": None,
            "configuration_json": {"hnsw": {"space": "l2"}},
            "dimension": len(VECTOR),
        }

    def get(self, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to a `get` by ids, or by offset and limit."""
        if "ids" in given:
            numbers = [n for n in map(number_of, given["ids"]) if self.many.has(n)]
        else:
            start = given.get("offset", 0)
            numbers = self.many.numbers[start : start + given["limit"]].tolist()
        answer: dict[str, Any] = {"ids": [id_of(n) for n in numbers], "include": given["include"]}
        if given["include"]:
            answer["documents"] = [None] * len(numbers)
            answer["metadatas"] = [{"kind": "many"}] * len(numbers)
            answer["uris"] = [None] * len(numbers)
            answer["embeddings"] = [list(VECTOR)] * len(numbers)
        return answer

    def query(self, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to a query: some records, because all have the same vector."""
        asked = np.asarray(given["query_embeddings"][0])
        numbers = self.many.numbers[: given["n_results"]].tolist()
        distance = float(((asked - np.asarray(VECTOR)) ** 2).sum())
        return {
            "ids": [[id_of(n) for n in numbers]],
            "distances": [[distance] * len(numbers)],
            "embeddings": [[list(VECTOR)] * len(numbers)],
        }


@contextmanager
def standing_in(count: int, collection_id: str) -> Iterator[str]:
    """Run a stand-in in a process of its own; gives its URL."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.standin", str(count), collection_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.terminate()


def main() -> None:
    """Serve until standard input ends."""
    import threading

    server = StandIn(int(sys.argv[1]), sys.argv[2])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()

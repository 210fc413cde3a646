"""The race: contenders one after the other in each round, each on a fresh replica server.

Every other round runs in the reverse order, so that a machine that slows down favours nobody.
Nothing stands between a contender and the servers while the clock runs. What each of them sends is
counted in a pass of its own, through recording proxies, with fewer records.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench import peers, raw
from bench.child import run_child
from bench.edits import change_metadata, edit_everything
from bench.kept import Say
from bench.records import CHARACTERS, DIMENSION, Data, make_records
from bench.servers import with_cpu
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import connect, judge
from chromasync.lab.proxy import RecordingProxy

CHANGED_SHARE = 0.01
READ_THREADS = 2
"""As many as our program has worker threads by default."""
REREADS = 3
WALKS = 7
RAW_BATCHES = (1000, 5461)
"""Records in a raw request: what clients usually send, and the most that the server advertises."""
LARGEST_REQUEST = 30_000_000
"""Bytes of a raw request at most; the server refuses more than 40 MB."""

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shape:
    """Records of one size; `naive` says whether the naive loop takes part."""

    name: str
    records: int
    dimension: int = DIMENSION
    characters: int = CHARACTERS
    naive: bool = False

    @property
    def data(self) -> list[Data]:
        """The records."""
        return make_records(self.records, dimension=self.dimension, characters=self.characters)

    @property
    def batches(self) -> list[int]:
        """Records in a request of each raw contender."""
        each = self.dimension * 6 + self.characters + 400
        return sorted({min(batch, LARGEST_REQUEST // each) for batch in RAW_BATCHES})


def shapes_of(records: int) -> list[Shape]:
    """The realistic records, and fewer of both extremes."""
    return [
        Shape("384 dimensions", records, naive=True),
        Shape("4 dimensions", records, dimension=4, characters=40),
        Shape("1,536 dimensions", max(200, records // 4), dimension=1536, characters=4000),
    ]


@dataclass(frozen=True, slots=True)
class Race:
    """One run of the bench: what it is asked for.

    `pipes` is the program of chromadb-data-pipes, if that is to take part.
    """

    shapes: list[Shape]
    rounds: int
    counted_records: int
    say: Say
    pipes: Path | None = None


def run_race(race: Race) -> Result:
    """Run all rounds and the counting pass; returns plain data, ready for JSON."""
    return {
        "counted_records": race.counted_records,
        "shapes": [_run_shape(race, shape) for shape in race.shapes],
        "counted": _count(race),
    }


def _run_shape(race: Race, shape: Shape) -> Result:
    data = shape.data
    rounds = []
    with ChromaServer() as primary:
        race.say(f"{shape.name}: filling the primary with {shape.records:,} records")
        raw.ingest(primary.url, data)
        for number in range(race.rounds):
            race.say(f"{shape.name}: round {number + 1} of {race.rounds}")
            rounds.append(_run_round(race, shape, number, primary, data))
    about = {"dimension": shape.dimension, "characters": shape.characters}
    return {"name": shape.name, "records": shape.records, "rounds": rounds} | about


def _run_round(
    race: Race, shape: Shape, number: int, primary: ChromaServer, data: list[Data]
) -> Result:
    contenders: list[Callable[[], Result]] = [
        *(partial(_run_raw, shape, batch, primary) for batch in shape.batches),
        *([partial(_run_naive, primary)] if shape.naive else []),
        *([partial(_run_pipes, race.pipes, primary)] if shape.naive and race.pipes else []),
        partial(_run_ours, primary, data),
    ]
    result: Result = {"raw_copies": {}}
    for contend in contenders if number % 2 == 0 else reversed(contenders):
        done = contend()
        result["raw_copies"] |= done.pop("raw_copies", {})
        result |= done
    return result


def _run_raw(shape: Shape, batch: int, primary: ChromaServer) -> Result:
    order = {"records": shape.records, "dimension": shape.dimension, "batch": batch}
    with ChromaServer() as replica:
        copy = with_cpu(
            lambda: run_child("raw copy", url=replica.url, characters=shape.characters, **order),
            primary,
            replica,
        )
        copy["fidelity"] = _fidelity(primary.url, replica.url)
    return {"raw_copies": {str(batch): copy}}


def _run_naive(primary: ChromaServer) -> Result:
    with ChromaServer() as replica:
        both = {"primary_url": primary.url, "replica_url": replica.url}
        copy = with_cpu(lambda: run_child("naive copy", **both), primary, replica)
        copy["fidelity"] = _fidelity(primary.url, replica.url)
        rerun = with_cpu(lambda: run_child("naive copy", **both), primary, replica)
    return {"naive_copy": copy, "naive_rerun": rerun}


def _run_pipes(program: Path, primary: ChromaServer) -> Result:
    with ChromaServer() as replica:
        done = peers.copy(program, primary.url, replica.url)
        return {"pipes_copy": done | {"fidelity": _fidelity(primary.url, replica.url)}}


def _run_ours(primary: ChromaServer, data: list[Data]) -> Result:
    changed = [max(1, round(len(part) * CHANGED_SHARE)) for part in data]
    with ChromaServer() as replica, _state() as state:
        both = {"primary_url": primary.url, "replica_url": replica.url, "state": state}

        def ours(**options: Any) -> Result:
            return with_cpu(lambda: run_child("ours", **both, **options), primary, replica)

        copy = ours()
        copy["fidelity"] = _fidelity(primary.url, replica.url)
        ours()  # reads once more what was just written
        order = {"url": primary.url, "threads": READ_THREADS, "count": REREADS}
        raw_read = with_cpu(lambda: run_child("raw read", **order), primary)
        # what the throttle costs is measured by `bench.throttle`
        reread = ours(count=REREADS, share=1.0)
        walk = ours(count=WALKS, walk_only=True)
        change_metadata(primary.url, data, changed, offset=1)
        change = ours()
        change["changed"] = sum(changed)
        change["fidelity"] = _fidelity(primary.url, replica.url)
    change_metadata(primary.url, data, changed, offset=0)
    return {
        "ours_copy": copy,
        "ours_reread": reread,
        "ours_walk": walk,
        "ours_change": change,
        "raw_read": raw_read,
    }


@contextmanager
def _state() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="chromasync-bench-") as folder:
        yield folder


def _fidelity(primary_url: str, replica_url: str) -> Result:
    judgement = judge(connect(primary_url), connect(replica_url))
    return {
        "identical": judgement.identical,
        "records": judgement.records,
        "differences": dict(judgement.differences),
        "text": str(judgement),
        "examples": judgement.examples,
    }


# ---- counting what is sent -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wires:
    """The two proxies that a contender is measured through."""

    primary: RecordingProxy
    replica: RecordingProxy

    def counted(self, work: Callable[[], Any]) -> Result:
        """Do the work, and say what passed meanwhile."""
        self.primary.reset()
        self.replica.reset()
        work()
        return {
            side: _traffic(wire)
            for side, wire in (("primary", self.primary), ("replica", self.replica))
        }


def _traffic(wire: RecordingProxy) -> dict[str, int]:
    return {
        "requests": len(wire.requests),
        "writes": len(wire.writes()),
        "bytes_sent": wire.bytes_sent,
        "bytes_received": wire.bytes_received,
    }


def _count(race: Race) -> Result:
    """What naive and ours send, and how they stand after edits of every kind."""
    data = make_records(race.counted_records)
    counted: Result = {}
    for name, passes in (("naive", _count_naive), ("ours", _count_ours)):
        race.say(f"counting what {name} sends, {race.counted_records:,} records")
        with ChromaServer() as primary, ChromaServer() as replica:
            raw.ingest(primary.url, data)
            with RecordingProxy(primary.url) as left, RecordingProxy(replica.url) as right:
                counted[name] = passes(Wires(left, right), primary.url, data)
            counted[name]["fidelity_after_edits"] = _fidelity(primary.url, replica.url)
    return counted


def _count_naive(wires: Wires, primary_url: str, data: list[Data]) -> Result:
    both = {"primary_url": wires.primary.url, "replica_url": wires.replica.url}
    phases = {
        "copy": wires.counted(lambda: run_child("naive copy", **both)),
        "unchanged": wires.counted(lambda: run_child("naive copy", **both)),
    }
    edit_everything(primary_url, data)
    return phases | {"edits": wires.counted(lambda: run_child("naive copy", **both))}


def _count_ours(wires: Wires, primary_url: str, data: list[Data]) -> Result:
    with _state() as state:
        both = {"primary_url": wires.primary.url, "replica_url": wires.replica.url, "state": state}
        phases = {
            "copy": wires.counted(lambda: run_child("ours", **both)),
            "settle": wires.counted(lambda: run_child("ours", **both)),
            "unchanged": wires.counted(lambda: run_child("ours", **both)),
            "walk": wires.counted(lambda: run_child("ours", **both, walk_only=True)),
        }
        changed = [max(1, round(len(part) * CHANGED_SHARE)) for part in data]
        change_metadata(primary_url, data, changed, offset=1)
        phases["change"] = wires.counted(lambda: run_child("ours", **both))
        edit_everything(primary_url, data)
        return phases | {"edits": wires.counted(lambda: run_child("ours", **both))}

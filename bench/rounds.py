"""The race: contenders one after the other in each round, each on a fresh replica server.

Nothing stands between a contender and the servers while the clock runs. What each of them sends is
counted in a pass of its own, through recording proxies, with fewer records.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import raw
from bench.child import run_child
from bench.edits import change_metadata, edit_everything
from bench.kept import Say
from bench.records import Data, make_records
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import connect, judge
from chromasync.lab.proxy import RecordingProxy

CHANGED_SHARE = 0.01
READ_THREADS = 2
"""As many as our program has worker threads by default."""
REREADS = 3
WALKS = 7

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Race:
    """One run of the bench: what it is asked for, and everything measured so far."""

    records: int
    rounds: int
    counted_records: int
    say: Say
    results: list[Result] = field(default_factory=list)


def run_race(race: Race) -> Result:
    """Run all rounds and the counting pass; returns plain data, ready for JSON."""
    data = make_records(race.records)
    with ChromaServer() as primary:
        race.say(f"filling the primary with {race.records:,} records")
        raw.ingest(primary.url, data)
        for number in range(1, race.rounds + 1):
            race.results.append(_run_round(race, number, primary.url, data))
    return {
        "records": race.records,
        "counted_records": race.counted_records,
        "rounds": race.results,
        "counted": _count(race),
    }


def _run_round(race: Race, number: int, primary_url: str, data: list[Data]) -> Result:
    round_ = f"round {number} of {race.rounds}"
    race.say(f"{round_}: raw requests")
    with ChromaServer() as replica:
        raw_copy = run_child("raw copy", url=replica.url, records=race.records)
        raw_copy["fidelity"] = _fidelity(primary_url, replica.url)
    race.say(f"{round_}: the naive loop")
    with ChromaServer() as replica:
        naive_copy = run_child("naive copy", primary_url=primary_url, replica_url=replica.url)
        naive_copy["fidelity"] = _fidelity(primary_url, replica.url)
        race.say(f"{round_}: the naive loop again, nothing changed")
        naive_rerun = run_child("naive copy", primary_url=primary_url, replica_url=replica.url)
    race.say(f"{round_}: chromasync")
    ours = _run_ours(primary_url, data)
    return {"raw_copy": raw_copy, "naive_copy": naive_copy, "naive_rerun": naive_rerun} | ours


def _run_ours(primary_url: str, data: list[Data]) -> Result:
    changed = [max(1, round(len(part) * CHANGED_SHARE)) for part in data]
    with ChromaServer() as replica, _state() as state:
        both = {"primary_url": primary_url, "replica_url": replica.url, "state": state}
        copy = run_child("ours", **both)
        copy["fidelity"] = _fidelity(primary_url, replica.url)
        run_child("ours", **both)  # reads once more what was just written
        raw_read = run_child("raw read", url=primary_url, threads=READ_THREADS)
        reread = run_child("ours", **both, count=REREADS)
        walk = run_child("ours", **both, count=WALKS, walk_only=True)
        change_metadata(primary_url, data, changed, offset=1)
        change = run_child("ours", **both)
        change["changed"] = sum(changed)
        change["fidelity"] = _fidelity(primary_url, replica.url)
    change_metadata(primary_url, data, changed, offset=0)
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

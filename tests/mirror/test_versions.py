"""Primaries and replicas of different ages: whatever both can hold propagates, the rest is said.

The official client of today does not speak to every old server, so plain REST is the judge.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from chromasync.model import HoldKind, MirrorStatus
from chromasync.reports import CycleReport, Outcome
from tests.chaos.profile import NIGHTLY
from tests.compat_servers import INSTALLED, command
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage
from tests.support.writes import watched

WITH_CONFIGURATION = ("1.0.20", "1.3.0", "1.3.7", INSTALLED)

_numbers = count()
SPACES = ("cosine", "l2", "ip")
OLD_LONGEST = 63
"""Characters that a collection's name may have before 1.0.20."""
UPWARDS = [("0.6.3", INSTALLED), ("1.0.20", "1.0.20")]
DOWNWARDS = [(INSTALLED, "1.0.0"), (INSTALLED, "0.6.3")]
if NIGHTLY:
    UPWARDS += [("1.0.0", INSTALLED), ("1.3.0", INSTALLED)]
    DOWNWARDS += [(INSTALLED, "1.3.0")]


class Fleet:
    """Running servers by version and side, for the whole module."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._servers: dict[tuple[str, bool], ChromaServer] = {}

    def get(self, version: str, *, second: bool = False) -> ChromaServer:
        """One running server of a version; a second one where both sides have the same."""
        key = version, second
        if key not in self._servers:
            server = ChromaServer(command=command(version))
            self._servers[key] = self._stack.enter_context(server)
        return self._servers[key]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(stack)


class Pair(Stage):
    """A stage between servers of any age, with plain REST on both sides instead of the client."""

    def __init__(
        self, servers: Servers, folder: Path, left: Rest, right: Rest, database: str
    ) -> None:
        self.servers = servers
        self.folder = folder
        self.database = database
        self.overrides = {"SYNC_CHUNK_SIZE": "25"}
        self.left = left
        self.right = right

    def judge(self, *, without_lists: bool = False) -> None:
        """Assert that both sides hold the same collections and records."""
        ours, theirs = self.left.collections(), self.right.collections()
        assert set(ours) == set(theirs)
        for name, collection in ours.items():
            assert space_of(collection) == space_of(theirs[name]), name
            wanted = collection["metadata"] or {}
            held = theirs[name]["metadata"] or {}
            assert {
                k: v for k, v in held.items() if k in wanted or not k.startswith("hnsw:")
            } == wanted
            self.judge_records(name, space_of(collection), without_lists=without_lists)

    def judge_records(self, name: str, space: str, *, without_lists: bool) -> None:
        ours, theirs = self.left.records(name), self.right.records(name)
        assert set(ours) == set(theirs)
        for record_id, record in ours.items():
            held = theirs[record_id]
            assert same_vector(record.embedding, held.embedding, space), record_id
            metadata = {
                k: v
                for k, v in record.metadata.items()
                if not (without_lists and isinstance(v, list))
            }
            assert_same_values(metadata, held.metadata)
            assert (record.document, record.uri) == (held.document, held.uri), record_id

    def cycle(self, outcome: Outcome, **judging: bool) -> CycleReport:
        """One cycle, judged; the one after it sends nothing."""
        report = self.sync()
        assert report.outcome is outcome, report
        self.judge(**judging)
        with watched(self.servers.replica_proxy) as writes:
            again = self.sync()
        assert writes.requests + writes.marks == []
        assert (again.outcome, again.counts.applied) == (outcome, 0)
        return report


def space_of(collection: dict[str, Any]) -> str:
    """The distance that a server uses for a collection, in whichever words it says so."""
    configuration = collection["configuration_json"]
    index = configuration.get("hnsw") or configuration.get("hnsw_configuration") or {}
    metadata = collection["metadata"] or {}
    return str(metadata.get("hnsw:space") or index.get("space") or "l2")


def same_vector(one: list[float], other: list[float], space: str) -> bool:
    """Equal to the bit, but for cosine's own rounding."""
    if space != "cosine":
        return one == other
    return bool(np.abs(np.subtract(one, other)).max() <= 1e-6 * np.linalg.norm(one))


def assert_same_values(wanted: dict[str, Any], held: dict[str, Any]) -> None:
    """Equal keys, values and types; a float may be an ulp off."""
    assert wanted.keys() == held.keys()
    for key, value in wanted.items():
        assert type(held[key]) is type(value), key
        if isinstance(value, float):
            assert math.isclose(value, held[key], rel_tol=1e-15), key
        else:
            assert held[key] == value, key


@contextmanager
def pair(fleet: Fleet, folder: Path, primary: str, replica: str) -> Iterator[Pair]:
    """A pair of servers of these versions; the databases are new, the proxies their own."""
    with ExitStack() as stack:
        first = fleet.get(primary)
        second = fleet.get(replica, second=primary == replica)
        proxies = (
            stack.enter_context(RecordingProxy(first.url, refuse_writes=True)),
            stack.enter_context(RecordingProxy(second.url)),
        )
        # a server that was a replica in an earlier test carries a mark for the place of that one
        database = f"versions{next(_numbers)}"
        left, right = (stack.enter_context(Rest(s.url, database)) for s in (first, second))
        yield Pair(Servers(first, second, *proxies), folder, left, right, database)
        assert proxies[0].writes() == []


def create(side: Rest, version: str, name: str, space: str) -> None:
    """A collection of this distance, in the words that this version understands."""
    if version in WITH_CONFIGURATION:
        side.create(name, configuration={"hnsw": {"space": space, "max_neighbors": 8}})
    else:
        side.create(name, metadata={"hnsw:space": space, "hnsw:M": 8, "topic": "birds"})


def fill(side: Rest, name: str, count: int = 60, start: int = 0) -> None:
    """Records with every kind of content that every version can hold."""
    numbers = range(start, start + count)
    rng = np.random.default_rng(start)
    side.write(
        "add",
        name,
        ids=[f"r{n}" for n in numbers],
        embeddings=rng.standard_normal((count, 6)).astype(np.float32).tolist(),
        documents=[f"the text of {n}" for n in numbers],
        metadatas=[{"n": n, "f": n / 7, "s": str(n), "b": n % 2 == 0} for n in numbers],
        uris=[f"file:///{n}" for n in numbers],
    )


def change(side: Rest, name: str) -> None:
    """Every kind of change that every version knows."""
    side.write("update", name, ids=["r1"], metadatas=[{"n": 1.0, "s": None, "new": True}])
    side.write("update", name, ids=["r2"], documents=["rewritten"])
    side.write("update", name, ids=["r3"], embeddings=[[0.5] * 6])
    side.write("update", name, ids=["r4"], documents=[""], uris=["file:///moved"])
    side.write("delete", name, ids=["r5", "r40"])
    side.write("delete", name, ids=["r6"])
    side.write("add", name, ids=["r6"], embeddings=[[2.0] * 6], metadatas=[{"k": "bare"}])
    fill(side, name, 3, start=100)


@pytest.mark.long
@pytest.mark.parametrize(("primary", "replica"), UPWARDS)
def test_everything_that_both_can_hold(
    fleet: Fleet, tmp_path: Path, primary: str, replica: str
) -> None:
    """What one server holds arrives on the same or a newer one, and goes on arriving."""
    with pair(fleet, tmp_path, primary, replica) as stage:
        for space in SPACES:
            create(stage.left, primary, f"by-{space}", space)
            fill(stage.left, f"by-{space}")
        assert stage.cycle(Outcome.IDENTICAL).counts.inserted == 180
        for space in ("cosine", "l2"):
            change(stage.left, f"by-{space}")
        metadata = {**(stage.left.collections()["by-ip"]["metadata"] or {}), "k": 1}
        stage.left.modify("by-ip", new_name="renamed", new_metadata=metadata)
        counts = stage.cycle(Outcome.IDENTICAL).counts
        assert (counts.inserted, counts.deleted, counts.replaced) == (6, 4, 2)
        assert counts.updated == 8


@pytest.mark.long
@pytest.mark.parametrize(("primary", "replica"), DOWNWARDS)
def test_what_an_older_replica_can_hold(
    fleet: Fleet, tmp_path: Path, primary: str, replica: str
) -> None:
    """All but lists arrives, what is left out is said in words, and nothing is sent twice."""
    with pair(fleet, tmp_path, primary, replica) as stage:
        for space in SPACES:
            create(stage.left, primary, f"by-{space}", space)
            fill(stage.left, f"by-{space}")
        assert stage.cycle(Outcome.IDENTICAL).counts.inserted == 180
        for space in SPACES:
            change(stage.left, f"by-{space}")
        assert stage.cycle(Outcome.IDENTICAL).counts.applied == 30
        lists = [{"tags": ["a", "b"], "n": -1}, {"n": [1, 2]}]
        stage.left.write("update", "by-l2", ids=["r7", "r8"], metadatas=lists)
        report = stage.cycle(Outcome.LIMITED, without_lists=True)
        assert_said(stage, report, "by-l2", "2 records", "lists")
        stage.left.write("update", "by-l2", ids=["r7"], metadatas=[{"tags": ["c"]}])
        assert stage.cycle(Outcome.LIMITED, without_lists=True).counts.applied == 0
        stage.left.write("update", "by-l2", ids=["r7", "r8"], metadatas=[{"tags": "a"}, {"n": 1}])
        assert stage.cycle(Outcome.IDENTICAL).counts.updated == 2


@pytest.mark.parametrize("replica", ["1.0.0", "0.6.3"])
def test_a_definition_that_an_older_replica_cannot_hold(
    fleet: Fleet, tmp_path: Path, replica: str
) -> None:
    """The description of an embedding function is left out in words; the records are all there."""
    with pair(fleet, tmp_path, INSTALLED, replica) as stage:
        stage.left.create(
            configuration={
                "hnsw": {"space": "ip", "ef_construction": 55},
                "embedding_function": {"type": "known", "name": "default", "config": {}},
            }
        )
        fill(stage.left, "docs")
        report = stage.cycle(Outcome.LIMITED)
        assert_said(stage, report, "docs", "embedding function")


@pytest.mark.long
@pytest.mark.parametrize("replica", ["1.0.0", "0.6.3"])
def test_the_longest_name_of_an_older_replica_is_created_again(
    fleet: Fleet, tmp_path: Path, replica: str
) -> None:
    """The name under which the new one is built fits the older server, too."""
    name = "a." * 31 + "z"
    assert len(name) == OLD_LONGEST
    with pair(fleet, tmp_path, INSTALLED, replica) as stage:
        for each in (name, "other", "more"):
            create(stage.left, INSTALLED, each, "cosine")
            fill(stage.left, each)
        stage.cycle(Outcome.IDENTICAL)
        stage.left.drop(name)
        create(stage.left, INSTALLED, name, "l2")
        fill(stage.left, name, start=200)
        report = stage.sync()
        assert (report.counts.inserted, report.counts.deleted) == (60, 0)
        assert [(h.kind, h.count, h.unconfirmed) for h in report.holds] == [
            (HoldKind.REPLACE, 60, True)
        ]
        counts = stage.cycle(Outcome.IDENTICAL).counts
        assert (counts.inserted, counts.deleted) == (0, 60)


def test_an_old_primary_by_the_words_of_its_time(fleet: Fleet, tmp_path: Path) -> None:
    """The settings of an index that 0.6.3 keeps as metadata work on a server of today."""
    with pair(fleet, tmp_path, "0.6.3", INSTALLED) as stage:
        legacy = {"hnsw:space": "cosine", "hnsw:construction_ef": 77, "hnsw:search_ef": 33}
        stage.left.create(metadata={**legacy, "hnsw:M": 9, "topic": "birds"})
        fill(stage.left, "docs")
        stage.cycle(Outcome.IDENTICAL)
        index = stage.right.collections()["docs"]["configuration_json"]["hnsw"]
        assert (index["space"], index["ef_construction"]) == ("cosine", 77)
        assert (index["ef_search"], index["max_neighbors"]) == (33, 9)


@pytest.mark.long
@pytest.mark.parametrize("renamed", [False, True])
def test_an_old_primary_that_no_longer_tells_its_distance(
    fleet: Fleet, tmp_path: Path, renamed: bool
) -> None:
    """Its index keeps it, whatever the metadata says: nothing is copied, and the words are told."""
    with pair(fleet, tmp_path, "1.0.0", INSTALLED) as stage:
        create(stage.left, "1.0.0", "docs", "ip")
        fill(stage.left, "docs")
        stage.cycle(Outcome.IDENTICAL)
        stage.left.modify(
            "docs", new_metadata={"k": 1}, **({"new_name": "moved"} if renamed else {})
        )
        for _ in range(2):
            report = stage.sync()
            assert report.counts.applied == 0
        name = "moved" if renamed else "docs"
        assert set(stage.right.collections()) == {name}
        assert space_of(stage.right.collections()[name]) == "ip"
        if space_of(stage.left.collections()[name]) != "ip":
            assert_said(stage, report, name, "both indexes use ip")


def assert_said(stage: Pair, report: CycleReport, name: str, *words: str) -> None:
    """The report says in words what is left out, the status that something is."""
    for collections in (report.collections, stage.status().collections):
        (found,) = (c for c in collections if c.name == name)
        assert found.status is MirrorStatus.LIMITED
    (found,) = (c for c in report.collections if c.name == name)
    for word in words:
        assert word in found.message

"""Which distance is live: asked of the index, so that a replica answers as its primary does.

Collections are made with every mixture of words, edited afterwards, and served again after a
restart. What is compared are answers to queries, never what a collection says of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from chromasync.plan.distance import NEIGHBOURS
from chromasync.reports import Outcome
from tests.compat_servers import INSTALLED, command
from tests.mirror.test_versions import Pair
from tests.support.rest import Rest
from tests.support.stage import Servers, client_of, close_client
from tests.support.writes import watched

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

DATABASE = "distances"
DIMENSION = 6
COUNT = 40
Words = dict[str, Any]
Answers = dict[str, tuple[list[str], list[float]]]

IN_METADATA: dict[str, Words] = {
    "words-absent": {},
    "words-meta-cosine": {"metadata": {"hnsw:space": "cosine"}},
    "words-meta-ip": {"metadata": {"hnsw:space": "ip"}},
    "words-meta-l2": {"metadata": {"hnsw:space": "l2", "owner": "b"}},
}
IN_BOTH: dict[str, Words] = {
    "words-conf-cosine": {"configuration": {"hnsw": {"space": "cosine"}}},
    "words-conf-ip": {"configuration": {"hnsw": {"space": "ip"}}},
    "words-conf-l2": {"configuration": {"hnsw": {"space": "l2"}}},
    "words-meta-ip-conf-cosine": {
        "metadata": {"hnsw:space": "ip"},
        "configuration": {"hnsw": {"space": "cosine"}},
    },
    "words-meta-cosine-conf-l2": {
        "metadata": {"hnsw:space": "cosine"},
        "configuration": {"hnsw": {"space": "l2"}},
    },
    "words-meta-cosine-conf-other": {
        "metadata": {"hnsw:space": "cosine"},
        "configuration": {"hnsw": {"ef_search": 200}},
    },
    "words-meta-other-conf-ip": {
        "metadata": {"hnsw:search_ef": 20},
        "configuration": {"hnsw": {"space": "ip"}},
    },
    "words-meta-cosine-conf-empty": {
        "metadata": {"hnsw:space": "cosine"},
        "configuration": {"hnsw": {}},
    },
    "words-meta-cosine-conf-function": {
        "metadata": {"hnsw:space": "cosine"},
        "configuration": {"embedding_function": {"type": "legacy"}},
    },
    "words-meta-cosine-spann-l2": {
        "metadata": {"hnsw:space": "cosine"},
        "configuration": {"spann": {"space": "l2"}},
    },
    "words-spann-ip": {"configuration": {"spann": {"space": "ip"}}},
}
PRIMARIES = {
    "0.6.3": IN_METADATA,
    "0.6.3 upgraded": IN_METADATA,
    "1.0.20": IN_METADATA | IN_BOTH,
    INSTALLED: IN_METADATA | IN_BOTH,
}


class Ends:
    """Both servers in folders of their own, so that they can be started again."""

    def __init__(self, folder: Path, version: str, stack: ExitStack) -> None:
        self.folder = folder
        self.version = version
        self.stack = stack
        self.primary = self._start("primary", version)
        self.replica = self._start("replica", INSTALLED)
        self.proxies = (
            stack.enter_context(RecordingProxy(self.primary.url, refuse_writes=True)),
            stack.enter_context(RecordingProxy(self.replica.url)),
        )

    def _start(self, name: str, version: str, port: int | None = None) -> ChromaServer:
        server = ChromaServer(self.folder / name, command=command(version), port=port)
        return self.stack.enter_context(server)

    def restart(self, version: str | None = None) -> None:
        """Stop both and serve their folders again, the primary's by this version."""
        self.version = version or self.version
        ports = [int(s.url.rpartition(":")[2]) for s in (self.primary, self.replica)]
        self.primary.stop()
        self.replica.stop()
        self.primary = self._start("primary", self.version, ports[0])
        self.replica = self._start("replica", INSTALLED, ports[1])

    @contextmanager
    def pair(self) -> Iterator[Pair]:
        """The program between them."""
        with Rest(self.primary.url, DATABASE) as left, Rest(self.replica.url, DATABASE) as right:
            servers = Servers(self.primary, self.replica, *self.proxies)
            yield Pair(servers, self.folder / "state", left, right, DATABASE)

    def assert_same_answers(self, *names: str) -> None:
        """Whatever is asked of one side, the other one gives the same ids and distances."""
        ours = answers(self.primary.url, self.version)
        theirs = answers(self.replica.url, INSTALLED)
        assert ours.keys() == theirs.keys()
        assert set(names) <= ours.keys()
        wrong = {n: (ours[n], theirs[n]) for n in ours if not same(ours[n], theirs[n])}
        assert wrong == {}


def rows(start: int = 0, count: int = COUNT) -> list[list[float]]:
    """Vectors of all lengths but one."""
    random = np.random.default_rng(start)
    found: list[list[float]] = (random.standard_normal((count, DIMENSION)) * 3).tolist()
    return found


QUERY = rows(99, 1)[0]


def add(left: Rest, name: str, start: int = 0) -> None:
    """Add records."""
    ids = [f"r{n}" for n in range(start, start + COUNT)]
    left.write("add", name, ids=ids, embeddings=rows(start))


def create(left: Rest, table: dict[str, Words], *, filled: bool = True) -> list[str]:
    """Create what the server takes; the names of those that it took."""
    made = []
    for name, words in table.items():
        try:
            left.create(name, **words)
        except AssertionError:  # it refuses such words
            continue
        made.append(name)
        if filled:
            add(left, name)
    return made


def answers(url: str, version: str) -> Answers:
    """The answers of all collections to one query: by the official client, where it speaks so."""
    if version == "0.6.3":
        with Rest(url, DATABASE) as rest:
            return {name: asked_plainly(rest, name) for name in rest.collections()}
    client = client_of(url, DATABASE)
    try:
        found: Answers = {}
        for name in [c.name for c in client.list_collections()]:
            collection = client.get_collection(name, embedding_function=None)
            got = collection.query(
                query_embeddings=np.array([QUERY], np.float32), n_results=4, include=["distances"]
            )
            found[name] = got["ids"][0], list((got["distances"] or [[]])[0])
        return found
    finally:
        close_client(client)


def asked_plainly(rest: Rest, name: str) -> tuple[list[str], list[float]]:
    """The same over plain REST."""
    body = {"query_embeddings": [QUERY], "n_results": 4, "include": ["distances"]}
    got = rest.call("POST", f"/collections/{rest.id_of(name)}/query", body)
    return got["ids"][0], got["distances"][0]


def same(one: tuple[list[str], list[float]], other: tuple[list[str], list[float]]) -> bool:
    """Most ids are the same, and their distances differ by rounding alone.

    An index is approximate: it depends on the order of its records, so one may miss a neighbour.
    Another distance would change every number.
    """
    ours, theirs = dict(zip(*one, strict=True)), dict(zip(*other, strict=True))
    shared = ours.keys() & theirs.keys()
    if len(ours) != len(theirs) or 2 * len(shared) < len(ours):
        return False
    near = [(ours[i], theirs[i]) for i in shared]
    return all(np.isclose(a, b, rtol=1e-4, atol=1e-5) for a, b in near)


def edit(left: Rest, names: list[str]) -> None:
    """Each collection's metadata is replaced: without a distance, or with another one."""
    for number, name in enumerate(names):
        other: dict[str, Any] = {"owner": "team a"}
        if number % 2:
            other["hnsw:space"] = "l2" if "cosine" in name else "cosine"
        left.modify(name, new_metadata=other)


@pytest.mark.parametrize("primary", PRIMARIES)
def test_the_replica_answers_like_the_primary(primary: str, tmp_path: Path) -> None:
    """First copy, edits of the words alone, and a restart of both servers."""
    with ExitStack() as stack:
        ends = Ends(tmp_path, primary.partition(" ")[0], stack)
        with ends.pair() as pair:
            names = create(pair.left, PRIMARIES[primary])
        assert len(names) >= 4
        if primary == "0.6.3 upgraded":
            ends.restart(INSTALLED)
        with ends.pair() as pair:
            assert pair.sync().outcome is not Outcome.FAILED
            ends.assert_same_answers(*names)
            edit(pair.left, names)
            with watched(ends.proxies[1]) as writes:
                for _ in range(2):
                    assert pair.sync().outcome is not Outcome.FAILED
            assert writes.to_records == [], "an edit of words copies nothing"
            ends.assert_same_answers(*names)
            found = [f.what for f in pair.verify().findings if "distance is" in f.what]
            assert found == []
        ends.restart()
        ends.assert_same_answers(*names)
        with ends.pair() as pair:
            pair.sync()
            ends.assert_same_answers(*names)


def test_first_records_settle_what_words_could_not(tmp_path: Path) -> None:
    """Empty collections of an upgraded database, whose words were edited before any record came."""
    with ExitStack() as stack:
        ends = Ends(tmp_path, "0.6.3", stack)
        with ends.pair() as pair:
            names = create(pair.left, IN_METADATA, filled=False)
            edit(pair.left, names)
        ends.restart(INSTALLED)
        with ends.pair() as pair:
            pair.sync()
            for name in names:
                add(pair.left, name)
            for _ in range(2):
                assert pair.sync().outcome is not Outcome.FAILED
            ends.assert_same_answers(*names)


def test_an_unchanged_pair_is_asked_nothing_again(tmp_path: Path) -> None:
    """One question for each collection that is new, on either side."""
    with ExitStack() as stack:
        ends = Ends(tmp_path, INSTALLED, stack)
        with ends.pair() as pair:
            for proxy in ends.proxies:
                proxy.keep_bodies = True
            names = create(pair.left, IN_METADATA)
            pair.sync()
            pair.sync()
            assert questions(ends) == 2 * len(names)
            pair.sync()
            pair.plan()
            assert questions(ends) == 2 * len(names)


def questions(ends: Ends) -> int:
    """How often an index was asked for its distance; whether it answers is asked otherwise."""
    sent = [request for proxy in ends.proxies for request in proxy.requests]
    few = f'"n_results":{NEIGHBOURS}'.encode()
    return sum(r.path.endswith("/query") and few in r.body.replace(b" ", b"") for r in sent)


def test_verify_compares_what_is_live(tmp_path: Path) -> None:
    """The words of both sides are the same, and their indexes are not."""
    with ExitStack() as stack:
        ends = Ends(tmp_path, INSTALLED, stack)
        with ends.pair() as pair:
            for side, space in ((pair.left, "cosine"), (pair.right, "ip")):
                side.create("docs", metadata={"hnsw:space": space})
                side.modify("docs", new_metadata={"owner": "a"})
                add(side, "docs")
            report = pair.verify()
            assert [c.definition_differs for c in report.collections] == [True]
            assert any("The distance is ip instead of cosine." in f.what for f in report.findings)
            assert report.exit_code == 1

"""Whether an index answers, and whether two of them answer alike."""

from __future__ import annotations

import random

import numpy as np
import pytest

from chromasync.answers import NEIGHBOURS, AnswerCheck, compare_answers, why_silent
from chromasync.errors import AccessRefused, NotChroma, ServerError
from chromasync.lab.fake import Call, FakeServer
from chromasync.model import Collection, Floats, Neighbours, Side, Space
from chromasync.plan.distance import ask_distance
from tests.support.ledgers import joined, names, record

NAN = float("nan")


def answer(**distances: float) -> Neighbours:
    """An answer with these records, the nearest first."""
    return Neighbours(
        list(distances), list(distances.values()), np.zeros((len(distances), 2), dtype=np.float32)
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "overlap", "wrong"),
    [
        (answer(a=0, b=1), answer(a=0, b=1), 1.0, ()),
        (answer(a=0, b=1), answer(a=1e-5, b=1.0005), 1.0, ()),
        (answer(a=0, b=1), answer(a=0, c=2), 0.5, ()),
        (answer(a=0, b=1), answer(a=0, c=1), 1.0, ()),
        (answer(a=0, b=1), answer(a=0.5, b=1), 1.0, ("a",)),
        (answer(a=0, b=NAN), answer(a=0, b=NAN), 1.0, ()),
        (answer(a=0), answer(), 0.0, ()),
        (answer(), answer(), 1.0, ()),
    ],
    ids=["same", "rounding", "other", "tie", "distance", "none", "silent", "empty"],
)
def test_two_answers(
    ours: Neighbours, theirs: Neighbours, overlap: float, wrong: tuple[str, ...]
) -> None:
    """Ids that both name must have one distance; of ties, each side may name others."""
    compared = compare_answers(ours, theirs)
    assert (compared.overlap, compared.wrong) == (overlap, wrong)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(Side.REPLICA)


@pytest.fixture
def home(server: FakeServer) -> Collection:
    """Forty records that lie in all directions."""
    made = server.make()
    vectors = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    server.put(made, joined(*[record(f"r{n}", embedding=vectors[n]) for n in range(40)]))
    return made


class Deaf(FakeServer):
    """An index that finds nothing but the last records, as one that is behind."""

    def nearest(self, collection: Collection, vector: Floats, count: int) -> Neighbours:
        """Only the last ten."""
        found = super().nearest(collection, vector, 1000)
        late = [row for row, record_id in enumerate(found.ids) if int(record_id[1:]) >= 30][:count]
        return Neighbours(
            [found.ids[row] for row in late],
            [found.distances[row] for row in late],
            found.embeddings[late],
        )


def test_a_sound_index_is_not_silent(server: FakeServer, home: Collection) -> None:
    """Each record is found by its own vector."""
    assert why_silent(server, home, ["r1", "r2", "r3"], Space.L2) == ""


def test_vectors_that_are_all_lost_are_told(server: FakeServer, home: Collection) -> None:
    """One that is lost is mended or set aside as a record; where all are, it is the index."""
    server.broken.unreadable = {"r2"}
    assert why_silent(server, home, ["r1", "r2", "r3"], Space.L2) == ""
    server.broken.unreadable = {"r1", "r2", "r3"}
    assert "is lost" in why_silent(server, home, ["r1", "r2", "r3"], Space.L2)


def test_a_collection_that_was_emptied_meanwhile_is_not_silent(
    server: FakeServer, home: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last records go between the read and the query."""
    nothing = Neighbours([], [], np.zeros((0, 3), dtype=np.float32))
    monkeypatch.setattr(server, "nearest", lambda *_: nothing)
    assert "returns no record although it has 40" in why_silent(server, home, ["r1"], Space.L2)
    monkeypatch.setattr(server, "count", lambda _: 0)
    assert why_silent(server, home, ["r1"], Space.L2) == ""


@pytest.mark.parametrize("kind", [AccessRefused, NotChroma])
def test_who_may_not_ask_knows_nothing(
    server: FakeServer, home: Collection, kind: type[ServerError]
) -> None:
    """A token or a proxy lets reads through, and no query."""

    def refuse(call: Call) -> None:
        if call.name == "nearest":
            raise kind("No.", side="replica")

    server.on_request(refuse)
    assert why_silent(server, home, ["r1"], Space.L2) == ""
    assert ask_distance(server, server._shared.collections[home.id]) is None


def test_an_index_that_is_behind_is_told() -> None:
    """It answers, and finds none of what it is asked for; by dot product that proves nothing."""
    server = Deaf(Side.REPLICA)
    home = server.make()
    vectors = np.random.default_rng(1).standard_normal((40, 3)).astype(np.float32)
    server.put(home, joined(*[record(f"r{n}", embedding=vectors[n]) for n in range(40)]))
    assert "does not find" in why_silent(server, home, ["r1", "r2", "r3"], Space.L2)
    assert why_silent(server, home, ["r1", "r2", "r3"], Space.IP) == ""
    assert why_silent(server, home, ["r31", "r1", "r2"], Space.L2) == "", "one was found"


def test_vectors_that_cannot_be_asked_for_prove_nothing(server: FakeServer) -> None:
    """Zeros have no angle, and the largest numbers overflow."""
    home = server.make()
    odd = np.array([[0, 0, 0], [3e38, 1, 1]], dtype=np.float32)
    server.put(home, joined(*[record(f"r{n}", embedding=odd[n]) for n in range(2)]))
    before = len(server.calls)
    assert why_silent(server, home, names(2), Space.COSINE) == ""
    assert [call.name for call in server.calls[before:]] == ["read"]


def test_both_sides_are_asked_the_same(server: FakeServer, home: Collection) -> None:
    """What one side lacks lowers the overlap, and is a finding when it is much."""
    check = AnswerCheck(server, server, home, home)
    check.run(8, 40, random.Random(1))
    assert (check.asked, check.overlap, check.findings) == (8, 1.0, [])
    other = server.make("other")
    server.put(other, server.read(home, [f"r{n}" for n in range(NEIGHBOURS)]))
    check = AnswerCheck(server, server, home, other)
    check.run(8, 40, random.Random(1))
    assert check.overlap is not None
    assert check.overlap < 0.9
    assert len(check.findings) == 1

"""Which distance an index has, told by one answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from chromasync.lab.fake import FakeServer
from chromasync.model import Collection, Floats, KnownDistance, Neighbours, Side, Space
from chromasync.plan.distance import Distances, ask_distance, judge_distance, words_of
from chromasync.plan.listing import Listing
from tests.support.ledgers import joined, record


def filled(server: FakeServer, space: Space, rows: Floats) -> Collection:
    """A collection with these vectors, as the server lists it."""
    made = server.make(space=space)
    server.put(
        made, joined(*[record(f"r{n}", embedding=row) for n, row in enumerate(rows.tolist())])
    )
    return server._shared.collections[made.id]


def rows(length: float, count: int = 20, dimension: int = 8) -> Floats:
    """Vectors of one length."""
    made = np.random.default_rng(5).standard_normal((count, dimension))
    made *= length / np.linalg.norm(made, axis=1, keepdims=True)
    found: Floats = made.astype(np.float32)
    return found


@pytest.mark.parametrize("space", Space)
@pytest.mark.parametrize("length", [1e-6, 1 / 3, 1.0, 3.0, 1e6])
@pytest.mark.parametrize("dimension", [1, 8, 1536])
def test_every_distance_is_told(space: Space, length: float, dimension: int) -> None:
    """Whatever the length of the vectors, one record may be enough."""
    server = FakeServer(Side.PRIMARY)
    made = filled(server, space, rows(length, 3, dimension))
    assert ask_distance(server, made) is space


def test_what_cannot_be_told_is_unknown() -> None:
    """Nothing there, and an answer that fits no formula."""
    server = FakeServer(Side.PRIMARY)
    empty = server.make()
    assert ask_distance(server, empty) is None
    query = np.ones(2, dtype=np.float32)
    found = Neighbours(["a"], [17.0], np.ones((1, 2), dtype=np.float32))
    assert judge_distance(query, found) is None
    zeros = filled(server, Space.COSINE, np.zeros((3, 8), dtype=np.float32))
    assert ask_distance(server, zeros) is None, "a server says 1 of them, as by dot product"
    nothing = Neighbours(["a"], [float("nan")], np.zeros((1, 2), dtype=np.float32))
    assert judge_distance(query, nothing) is None


def asked(server: FakeServer) -> int:
    return sum(call.name == "nearest" for call in server.calls)


def told(server: FakeServer, distances: Distances, made: Collection) -> Space | None:
    """What a listing of this collection says of its index."""
    listing = Listing(collections={made.id: made})
    distances.tell(listing, server, lambda _: True)
    return listing.collections[made.id].live


def test_it_is_asked_once_and_again_when_its_words_change() -> None:
    """What is remembered goes with the id, and with what the collection says of itself."""
    server = FakeServer(Side.PRIMARY)
    made = filled(server, Space.IP, rows(2.0))
    first = Distances()
    assert told(server, first, made) is Space.IP
    (learned,) = first.learned
    assert learned == KnownDistance(made.id, Space.IP, words_of(made))
    second = Distances({made.id: learned})
    assert told(server, second, made) is Space.IP
    assert (asked(server), second.learned) == (1, [])
    edited = replace(made, metadata={"hnsw:space": "l2"})
    assert told(server, second, edited) is Space.IP
    assert asked(server) == 2


def test_an_index_that_is_not_as_it_was_asked_for_is_told() -> None:
    """Building it again would end as this did, so what was asked for stays what is compared."""
    server = FakeServer(Side.REPLICA)
    made = filled(server, Space.L2, rows(2.0))
    distances = Distances({made.id: KnownDistance(made.id, Space.COSINE, b"")})
    assert told(server, distances, made) is Space.COSINE
    assert (distances.misbuilt, distances.learned) == ({made.id: Space.L2}, [])

"""Which records a sample of a comparison takes."""

from __future__ import annotations

import numpy as np
import pytest

from chromasync.config import load_settings
from chromasync.lab.fake import FakeServer
from chromasync.model import Records, Side
from chromasync.quiet import Quiet
from chromasync.verify import Verifier

IDS = [f"r{n}" for n in range(1000)]
RECORDS = Records(
    IDS, [None] * 1000, [{} for _ in IDS], [None] * 1000, np.ones((1000, 2), np.float32)
)


class Pair:
    """Two servers with the same collections of 1000 records."""

    def __init__(self, *names: str) -> None:
        urls = {"PRIMARY_URL": "http://primary:1", "REPLICA_URL": "http://replica:2"}
        self.settings = load_settings(flags=urls)
        self.primary, self.replica = FakeServer(Side.PRIMARY), FakeServer()
        for server in (self.primary, self.replica):
            self.collections = [server.make(name) for name in names]
            for collection in self.collections:
                server.put(collection, RECORDS)

    def verifier(self) -> Verifier:
        return Verifier(self.primary, self.replica, self.settings)

    def sampled(self, verifier: Verifier, percent: float) -> list[str]:
        """The ids that one comparison reads, collection after collection."""
        before = len(self.replica.calls)
        report = verifier.verify(Quiet(), percent)
        found = [i for call in self.replica.calls[before:] for i in call.ids]
        assert sum(c.same for c in report.collections) == len(found)
        return found


@pytest.fixture
def pair() -> Pair:
    """Two equal servers with one collection."""
    return Pair("docs")


def test_every_run_samples_other_records(pair: Pair) -> None:
    """What one run leaves out, another one looks at: nothing stays unseen for ever."""
    first, second = (pair.sampled(pair.verifier(), 50) for _ in range(2))
    assert set(first) != set(second)
    seen = set(first).union(second, *(pair.sampled(pair.verifier(), 50) for _ in range(48)))
    assert seen == set(IDS)


def test_the_comparison_after_a_repair_samples_the_same_records(pair: Pair) -> None:
    """One run looks at the same records twice, whatever came, went or moved in between."""
    verifier = pair.verifier()
    first = pair.sampled(verifier, 30)
    for server in (pair.primary, pair.replica):
        (collection,) = server.list_collections("default_tenant", "default_database")
        server.remove(collection, IDS[:100])
        server.put(collection, RECORDS.take(range(50)))
    second = pair.sampled(verifier, 30)
    assert second != first
    assert sorted(second) == sorted(set(first) - set(IDS[50:100]))


def test_collections_are_sampled_independently() -> None:
    """The same ids in two collections are not chosen or left out together."""
    pair = Pair("one", "two")
    found = pair.sampled(pair.verifier(), 50)
    twice = len(found) - len(set(found))
    assert 150 < twice < 350


@pytest.mark.parametrize(("percent", "least", "most"), [(100, 1000, 1000), (20, 120, 280)])
def test_a_sample_has_its_share(pair: Pair, percent: float, least: int, most: int) -> None:
    """As many records as asked for, give or take; all of them by default."""
    assert least <= len(pair.sampled(pair.verifier(), percent)) <= most

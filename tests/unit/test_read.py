"""Reading by id, around what a server cannot give."""

from __future__ import annotations

import numpy as np
import pytest

from chromasync import memory
from chromasync.errors import RequestRefused, ServerFault, ServerUnreachable
from chromasync.lab.fake import Call, FakeServer
from chromasync.model import Collection, Records, Side
from chromasync.reconcile import read as reading
from chromasync.reconcile.read import LARGEST_BATCH, ReadBatch, RecordReader, answer_bytes
from tests.support.ledgers import joined, names, record


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(Side.PRIMARY)


@pytest.fixture
def home(server: FakeServer) -> Collection:
    made = server.make()
    server.put(made, joined(*[record(i, f"text of {i}") for i in names(40)]))
    return made


def ids_of(batch: ReadBatch) -> list[str]:
    return [i for piece in batch.pieces for i in piece.ids]


def test_all_records_come_in_one_piece(server: FakeServer, home: Collection) -> None:
    """A read that works is one request, and what is not there is in no piece."""
    batch = RecordReader(server).read(home, ["r3", "ghost", "r1"])
    assert (batch.asked, ids_of(batch), batch.unreadable) == (["r3", "ghost", "r1"],
                                                              ["r1", "r3"], {})  # fmt: skip
    assert len(server.calls) == 1


def test_nothing_asked_is_no_request(server: FakeServer, home: Collection) -> None:
    """Without ids the server is left alone."""
    reader = RecordReader(server)
    assert list(reader.batches(home, [])) == []
    assert reader.read(home, []) == ReadBatch([])
    assert server.calls == []


def test_a_record_without_its_embedding_stands_alone(server: FakeServer, home: Collection) -> None:
    """The one record that cannot be given is named with the server's words; all others come."""
    server.broken.unreadable = {"r7"}
    batch = RecordReader(server).read(home, names(40))
    assert sorted(ids_of(batch)) == sorted(set(names(40)) - {"r7"})
    assert batch.unreadable == {"r7": "Error finding id r7"}


def test_without_embeddings_nothing_is_lost(server: FakeServer, home: Collection) -> None:
    """What only lacks its embedding can be read without."""
    server.broken.unreadable = {"r7"}
    batch = RecordReader(server).read(home, names(40), embeddings=False)
    assert (len(ids_of(batch)), batch.unreadable) == (40, {})
    assert all(piece.embeddings is None for piece in batch.pieces)


def test_a_record_that_went_meanwhile_is_not_unreadable(
    server: FakeServer, home: Collection
) -> None:
    """A failure that raced a delete: the record is simply not there any more."""
    server.broken.unreadable = {"r7"}

    def delete_meanwhile(call: Call) -> None:
        if [seen.ids for seen in server.calls].count(("r7",)) == 2:
            server.remove(home, ["r7"])

    server.on_request(delete_meanwhile)
    batch = RecordReader(server).read(home, names(40))
    assert len(ids_of(batch)) == 39
    assert batch.unreadable == {}


@pytest.mark.parametrize("failure", [ServerFault, RequestRefused])
@pytest.mark.parametrize("embeddings", [True, False])
def test_a_record_that_fails_in_every_way_may_still_be_there(
    server: FakeServer,
    home: Collection,
    failure: type[ServerFault | RequestRefused],
    embeddings: bool,
) -> None:
    """When not even its payload can be read it is unreadable, never taken for deleted."""

    def fail(call: Call) -> None:
        if "r7" in call.ids:
            raise failure("broken page", side="primary")

    server.on_request(fail)
    batch = RecordReader(server).read(home, names(40), embeddings=embeddings)
    assert (len(ids_of(batch)), batch.unreadable) == (39, {"r7": "broken page"})


def test_a_server_that_gives_nothing_is_an_error(server: FakeServer, home: Collection) -> None:
    """When every record fails, the server's own error is raised instead of a long list."""
    server.broken.unreadable = set(names(40))
    with pytest.raises(ServerFault, match="Error finding id"):
        RecordReader(server).read(home, names(40))


def test_an_unreachable_server_is_not_asked_again(server: FakeServer, home: Collection) -> None:
    """What is no fault of a record goes to the caller at once."""

    def away(call: Call) -> None:
        raise ServerUnreachable("away", side="primary")

    server.on_request(away)
    with pytest.raises(ServerUnreachable):
        list(RecordReader(server).batches(home, names(40)))
    assert len(server.calls) == 1


def sizes(server: FakeServer) -> list[int]:
    return [len(call.ids) for call in server.calls]


def test_batches_follow_the_size_of_the_records(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first guess is by the dimension; then answers stay near the aim, in order, all ids."""
    monkeypatch.setattr(memory, "BATCH_BYTES", 20_000)
    reader = RecordReader(server)
    small = server.make("small")
    server.put(small, joined(*[record(i) for i in names(200)]))
    batches = list(reader.batches(small, names(200)))
    assert [i for batch in batches for i in batch.asked] == names(200)
    assert sizes(server)[0] == 20_000 // reading.FIRST_GUESS_BYTES
    assert sizes(server)[1] == 20_000 // (reading.BYTES_PER_RECORD + 3 * reading.BYTES_PER_FLOAT)
    server.calls.clear()
    large = server.make("large", dimension=1_000)
    server.put(large, Records(["a", "b"], ["x" * 50_000, ""], [{}, {}], [None, None],
                              np.zeros((2, 1_000), dtype=np.float32)))  # fmt: skip
    list(reader.batches(large, ["a", "b"]))
    assert sizes(server) == [1, 1]


def test_batches_have_a_largest_size(server: FakeServer, home: Collection) -> None:
    """However small the records are, a batch is bounded."""
    reader = RecordReader(server)
    list(reader.batches(home, names(40)))
    server.calls.clear()
    list(reader.batches(home, names(3 * LARGEST_BATCH)))
    assert sizes(server) == [LARGEST_BATCH] * 3


def test_sizes_are_learned_quickly_upwards_and_slowly_downwards(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch of large records shrinks the next at once; small ones let it grow by and by."""
    monkeypatch.setattr(memory, "BATCH_BYTES", 100_000)
    home = server.make()
    texts = [*["x" * 9_800] * 60, *[""] * 400]
    server.put(home, Records(names(460), list(texts), [{}] * 460, [None] * 460,
                             np.zeros((460, 1), dtype=np.float32)))  # fmt: skip
    list(RecordReader(server).batches(home, names(460)))
    asked = sizes(server)
    assert asked[0] == 50
    assert asked[1] < 11
    assert sum(asked) == 460
    assert asked[2:-1] == sorted(asked[2:-1])
    assert asked[-2] > 3 * asked[1]


def test_what_an_answer_weighs() -> None:
    """Floats, texts, keys and values all count; nothing is forgotten, nothing counted twice."""
    bare = Records(["a"], [None], [{}], [None], None)
    base = answer_bytes(bare)
    assert answer_bytes(record("a", embedding=[1, 2, 3])) == base + 3 * reading.BYTES_PER_FLOAT
    full = Records(["a"], ["1234"], [{"key": "value", "n": 1, "l": ["x"] * 5}], ["12"], None)
    assert answer_bytes(full) == base + 4 + (3 + 5) + (1 + 8) + (1 + 5) + 2

"""Apply and verify: the smallest writes, read back until nothing differs or nothing helps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from chromasync import faultpoints
from chromasync.errors import LeaseLost, RequestRefused, ServerFault, ServerUnreachable
from chromasync.lab.fake import MODERN, Call, FakeServer
from chromasync.ledger.digest import replica_digests
from chromasync.model import Collection, Records, Space
from chromasync.reconcile.apply import ROUNDS, Applied, Applier, describe_left
from chromasync.reconcile.diff import Differ, Whole
from chromasync.reconcile.origin import Held, Nothing, found
from chromasync.reconcile.read import RecordReader
from tests.support.ledgers import joined, names, record


class Replica:
    """A replica with one collection, and the applier that writes to it."""

    def __init__(self, space: Space = Space.L2) -> None:
        self.server = FakeServer()
        self.home: Collection = self.server.make(space=space)
        reader = RecordReader(self.server)
        self.applier = Applier(self.server, reader, self.home, Differ(space))

    def holds(self, *parts: Records) -> None:
        self.server.put(self.home, joined(*parts))

    def apply(self, wanted: Records, absent: set[str] | None = None) -> Applied:
        return self.applier.apply(wanted, absent or set())

    @property
    def names(self) -> list[str]:
        """The requests by name."""
        return [call.name for call in self.server.calls]

    def returns(self, *ids: str) -> dict[str, bytes]:
        """The digests of these records as they are now."""
        now = self.server.contents(self.home)
        digests = replica_digests(now)
        return {i: digests.row(now.ids.index(i)) for i in ids}

    def assert_equals(self, wanted: Records) -> None:
        found = self.server.contents(self.home)
        assert sorted(found.ids) == sorted(wanted.ids)
        rows = [found.ids.index(i) for i in wanted.ids]
        found = found.take(rows)
        assert found.documents == wanted.documents
        assert found.metadatas == wanted.metadatas
        assert found.uris == wanted.uris
        assert found.embeddings is not None
        assert wanted.embeddings is not None
        np.testing.assert_array_equal(found.embeddings, wanted.embeddings)


@pytest.fixture
def replica() -> Replica:
    return Replica()


def test_equal_records_are_read_once_and_never_written(replica: Replica) -> None:
    """A compare that finds nothing sends nothing."""
    wanted = joined(record("a", "d", {"k": 1}), record("b"))
    replica.holds(record("b"), record("a", "d", {"k": 1}))
    done = replica.apply(wanted)
    assert done == Applied(seen=replica.returns("a", "b"))
    assert replica.names == ["read"]


def test_nothing_wanted_is_nothing_done(replica: Replica) -> None:
    """No records, no request."""
    empty = record("a").take([])
    assert replica.apply(empty) == Applied()
    assert replica.names == []


def test_records_known_to_be_absent_are_inserted_unasked(replica: Replica) -> None:
    """They are written first and read back once."""
    wanted = joined(*[record(i, "d", {"k": i}) for i in names(5)])
    done = replica.apply(wanted, set(names(5)))
    assert (done.inserted, done.different) == (set(names(5)), set(names(5)))
    assert replica.names == ["add", "read"]
    assert done.seen == replica.returns(*names(5))
    replica.assert_equals(wanted)


def test_a_record_that_was_there_after_all_is_mended(replica: Replica) -> None:
    """An insert merges into what nobody knew of; the read-back finds and removes the rest."""
    replica.holds(record("a", "old", {"left": 1, "k": 2}, "u"))
    wanted = record("a", "new", {"k": 3})
    done = replica.apply(wanted, {"a"})
    assert (done.inserted, done.updated, done.refused) == ({"a"}, set(), {})
    assert replica.names == ["add", "read", "update", "read"]
    replica.assert_equals(wanted)


def test_only_the_fields_that_differ_are_sent(replica: Replica) -> None:
    """A change of payload goes as an update without embedding; missing ones are inserted."""
    replica.holds(record("a", "d", {"k": 1}), record("b", "d"), record("c"))
    wanted = joined(record("a", "d", {"k": 2}), record("b", "d"), record("new"))
    done = replica.apply(wanted)
    assert (done.inserted, done.updated, done.different) == ({"new"}, {"a"}, {"a", "new"})
    assert done.written == {"a", "new"}
    assert [(call.name, call.ids) for call in replica.server.writes] == [
        ("add", ("new",)),
        ("update", ("a",)),
    ]


def test_a_document_that_became_null_is_replaced(replica: Replica) -> None:
    """It takes a delete and an insert, in this order."""
    replica.holds(record("a", "old", {"k": 1}, "u"), record("b"))
    wanted = joined(record("a", None, {"k": 2}), record("b"))
    done = replica.apply(wanted)
    assert (done.replaced, done.inserted, done.updated) == ({"a"}, set(), set())
    assert [call.name for call in replica.server.writes] == ["delete", "upsert"]
    replica.assert_equals(wanted)


def test_a_record_that_the_replica_cannot_give_is_replaced(replica: Replica) -> None:
    """A lost embedding is mended by deleting and inserting the record."""
    replica.holds(*[record(i) for i in names(3)])
    replica.server.broken.unreadable = {"r1"}

    def healed(call: Call) -> None:
        if call.name == "upsert":
            replica.server.broken.unreadable = set()

    replica.server.on_request(healed)
    wanted = joined(*[record(i) for i in names(3)])
    done = replica.apply(wanted)
    assert done.replaced == {"r1"}
    assert [call.ids for call in replica.server.writes] == [("r1",), ("r1",)]
    replica.assert_equals(wanted)


def test_a_record_that_vanished_meanwhile_is_inserted(replica: Replica) -> None:
    """An update of a record that someone deleted does nothing; the next round inserts it."""
    replica.holds(record("a", "old"))

    def vanish(call: Call) -> None:
        if call.name == "update":
            replica.server.remove(replica.home, ["a"])

    replica.server.on_request(vanish)
    wanted = record("a", "new")
    done = replica.apply(wanted)
    assert (done.updated, done.inserted, done.refused) == ({"a"}, set(), {})
    replica.assert_equals(wanted)


@pytest.mark.parametrize("kind", ["insert", "update", "replace"])
def test_a_refused_record_does_not_hold_up_the_others(replica: Replica, kind: str) -> None:
    """It is named with the reason, and absent just when it is not on the replica."""
    ids = names(6)
    if kind != "insert":
        replica.holds(*[record(i, "old") for i in ids])
    replica.server.broken.refused = {"r2"}
    document = None if kind == "replace" else "new"
    done = replica.apply(joined(*[record(i, document) for i in ids]))
    assert done.refused == {"r2": "Record 'r2' is refused."}
    assert done.written == set(ids) - {"r2"}
    present = set(replica.server.contents(replica.home).ids)
    assert done.absent == ({"r2"} if "r2" not in present else set())
    assert ("r2" in present) is (kind == "update")
    assert done.different == set(ids)
    # what it holds of the refused one is what was seen before
    assert done.seen == replica.returns(*present)


@pytest.mark.parametrize(("kind", "words"), [
    ("insert", "it is not there after a write that the server accepted"),
    ("update", "document differs"),
])  # fmt: skip
def test_a_write_that_does_not_stick_is_refused_in_the_end(
    replica: Replica, kind: str, words: str
) -> None:
    """After a few rounds the record is set aside, with what still differs, the rest is done."""
    if kind == "update":
        replica.holds(record("a", "old"), record("b", "old"))
    replica.server.broken.forgotten = {"a"}
    done = replica.apply(joined(record("a", "new"), record("b", "new")))
    reason = f"the replica's server does not keep it as written: {words}"
    assert done.refused == {"a": reason}
    assert done.absent == ({"a"} if kind == "insert" else set())
    assert len([name for name in replica.names if name == "read"]) == ROUNDS
    assert len(replica.server.writes) == ROUNDS - 1


def test_a_record_that_stays_unreadable_is_set_aside_for_now(replica: Replica) -> None:
    """When even a new insert cannot be read back, the server failed, which may pass."""
    replica.holds(record("a"), record("b", "old"))
    replica.server.broken.unreadable = {"a"}
    done = replica.apply(joined(record("a"), record("b", "new")))
    assert done.refused == {
        "a": "the replica's server does not keep it as written: it cannot return it"
    }
    assert (done.failed, done.absent, done.updated) == ({"a"}, set(), {"b"})
    assert done.seen == replica.returns("b")


@pytest.mark.parametrize(("error", "failed"), [(ServerFault, {"a"}), (RequestRefused, set())])
def test_a_fault_is_told_from_a_refusal(
    replica: Replica, error: type[ServerFault | RequestRefused], failed: set[str]
) -> None:
    """A record at which the server failed is named as such; what it refused is not."""
    replica.holds(record("a", "old"), record("b", "old"))

    def fail(call: Call) -> None:
        if call.name == "update" and "a" in call.ids:
            raise error("no", side="replica")

    replica.server.on_request(fail)
    done = replica.apply(joined(record("a", "new"), record("b", "new")))
    assert (done.refused, done.failed, done.updated) == ({"a": "no"}, failed, {"b"})


def test_what_others_wrote_is_left_alone(replica: Replica) -> None:
    """Each record that differs is asked about, with what is there; a no keeps every write off."""
    replica.holds(record("a", "old"), record("b", "old"), record("same"), record("lost"))
    replica.server.broken.unreadable = {"lost"}
    asked: dict[str, Held] = {}

    def may_write(record_id: str, held: Held) -> bool:
        asked[record_id] = held
        return record_id == "b"

    wanted = joined(*[record(i, "new") for i in "abc"], record("same"), record("lost"))
    done = replica.applier.apply(wanted, set(), may_write)
    assert asked == {
        "a": found(record("a", "old")),
        "b": found(record("b", "old")),
        "c": Nothing.MISSING,
        "lost": Nothing.UNREADABLE,
    }
    assert done.foreign == {"a", "c", "lost"}
    assert done.different == {"a", "b", "c", "lost"}
    assert (done.updated, done.refused) == ({"b"}, {})
    assert {i for call in replica.server.writes for i in call.ids} == {"b"}
    assert done.seen == replica.returns("a", "b", "same")


def test_what_was_written_is_not_asked_about_again(replica: Replica) -> None:
    """The rounds after the first mend our own write, whatever the answer would be then."""
    replica.holds(record("a", "old"))
    replica.server.broken.forgotten = {"a"}
    asked: list[str] = []

    def may_write(record_id: str, held: Held) -> bool:
        asked.append(record_id)
        return True

    done = replica.applier.apply(record("a", "new"), set(), may_write)
    assert (asked, done.foreign, list(done.refused)) == (["a"], set(), ["a"])
    assert done.seen == replica.returns("a")


def test_leftovers_have_words() -> None:
    """What remains is told by its fields, or as not being there."""
    assert describe_left(Whole.REPLACE) == "document differs"
    assert "not there" in describe_left(Whole.INSERT)


def test_batches_are_no_larger_than_the_server_takes() -> None:
    """Inserts and changes are cut to the server's limit, and all of them arrive."""
    replica = Replica()
    replica.server._capabilities = type(MODERN)(
        **{name: getattr(MODERN, name) for name in MODERN.__slots__} | {"max_batch_size": 2}
    )
    wanted = joined(*[record(i, "d") for i in names(5)])
    done = replica.apply(wanted, set(names(5)))
    assert len(done.inserted) == 5
    changed = joined(*[record(i, "e") for i in names(5)])
    assert len(replica.apply(changed).updated) == 5
    assert [len(call.ids) for call in replica.server.writes] == [2, 2, 1, 2, 2, 1]
    replica.assert_equals(changed)


@pytest.mark.parametrize("error", [LeaseLost("over"), ServerUnreachable("x", side="replica")])
def test_other_errors_end_the_work(replica: Replica, error: Exception) -> None:
    """A lost lease or an unreachable server is nobody's fault and goes up at once."""
    replica.holds(record("a", "old"))

    def fail(call: Call) -> None:
        if call.name == "update":
            raise error

    replica.server.on_request(fail)
    with pytest.raises(type(error)):
        replica.apply(record("a", "new"))
    assert len(replica.server.writes) == 1


def test_a_replica_that_takes_nothing_is_an_error(replica: Replica) -> None:
    """When every record is refused, the server's error is raised, and nobody is quarantined."""
    ids = names(40)
    replica.server.broken.refused = set(ids)
    with pytest.raises(RequestRefused):
        replica.apply(joined(*[record(i) for i in ids]), set(ids))


def test_every_write_can_be_the_last(replica: Replica) -> None:
    """Tests can stop the work after each kind of write; a second attempt makes it whole."""
    replica.holds(record("a", "old"), record("b", "old"))
    wanted = joined(record("a", None), record("b", "new"), record("c"))
    passed: list[str] = []
    with faultpoints.injected(passed.append):
        replica.apply(wanted)
    assert passed == [faultpoints.MID_WRITE] * 4
    for stop_at in range(1, 5):
        other = Replica()
        other.holds(record("a", "old"), record("b", "old"))
        with pytest.raises(LeaseLost), faultpoints.injected(stopping(stop_at)):
            other.apply(wanted)
        other.apply(wanted)
        other.assert_equals(wanted)


def stopping(nth: int) -> Callable[[str], None]:
    """Raises at the nth point."""
    left = [nth]

    def hook(point: str) -> None:
        left[0] -= 1
        if not left[0]:
            raise LeaseLost(point)

    return hook

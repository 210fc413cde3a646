"""The mark in a cycle between two servers in memory: what comes between, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from chromasync.cycle import marks as marking
from chromasync.cycle import waiting
from chromasync.errors import (
    AccessRefused,
    AnotherStore,
    GuardRefusal,
    LeaseLost,
    ServerUnreachable,
    Stopped,
)
from chromasync.lab.fake import Call, FakeServer
from chromasync.marks import MarkKeeper, Marks
from chromasync.model import MARKS_DATABASE, CycleStatus, MarkRow, Side
from chromasync.plan.mark import Mark, parse_mark
from chromasync.reports import Outcome
from chromasync.store import SqlStore
from tests.support.house import CHUNK, House, house_of
from tests.support.ledgers import names

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]

TENANT = "default_tenant"
SPOT = (TENANT, "default_database")
PLACE = "/".join(SPOT)


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    with house_of(store) as house:
        yield house


def mark_on(server: FakeServer) -> Mark:
    """The mark that stands on a server."""
    (home,) = server.list_collections(TENANT, MARKS_DATABASE)
    contents = server.contents(home)
    assert contents.ids == [PLACE]
    return parse_mark(contents.documents[0])


def leave(server: FakeServer, mark: Mark) -> None:
    """Put a mark on a server, as somebody else would."""
    Marks(server).write(server, {SPOT: mark})


def known(house: House) -> MarkRow:
    return house.store.marks()[PLACE]


def once(house: House, name: str, act: Callable[[], None]) -> None:
    """Do something when the primary is asked this for the first time."""

    def hook(call: Call) -> None:
        if call.name == name:
            house.primary.on_request(None)
            act()

    house.primary.on_request(hook)


def test_each_cycle_that_writes_leaves_another_mark(house: House) -> None:
    """The store knows it, and one that changes nothing leaves it and asks for one record more."""
    house.fill(CHUNK)
    house.sync()
    first = mark_on(house.replica)
    assert (first.cycle_id, first.final, first.nonce) == (1, True, known(house).nonce)
    assert known(house).written
    house.sync()  # what the first one wrote is read once more
    before = len(house.replica.calls)
    assert house.sync().warnings == ()
    asked = house.replica.calls[before:]
    assert [call for call in asked if PLACE in call.ids] == [Call("read", (PLACE,))]
    assert mark_on(house.replica) == first
    house.fill(CHUNK, "new")
    house.sync()
    assert mark_on(house.replica).cycle_id > 1
    assert mark_on(house.replica).nonce == known(house).nonce


def test_a_mark_that_comes_between_ends_the_cycle(house: House) -> None:
    """Another store that began after we had looked: nothing is written beside it."""
    house.fill(CHUNK)
    house.sync()
    house.fill(CHUNK, "new")
    other = replace(mark_on(house.replica), store_id="other", nonce="other")
    once(house, "list_ids", lambda: leave(house.replica, other))
    with pytest.raises(AnotherStore):
        house.sync()
    assert mark_on(house.replica) == other
    assert len(house.replica.contents(house.copy())) == CHUNK
    assert house.store.cycles(1)[0].status is CycleStatus.FAILED
    with pytest.raises(AnotherStore):
        house.sync()
    assert known(house).met_nonce == other.fingerprint
    leave(house.replica, replace(other, released=True))
    report = house.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert "no longer active there" in report.warnings[0]
    assert len(house.replica.contents(house.copy())) == 2 * CHUNK


def test_a_mark_that_comes_between_ends_a_cycle_of_other_workers(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker elsewhere that refuses to write keeps nobody waiting for long."""
    monkeypatch.setattr(waiting, "STALL_SECONDS", 0.0)
    monkeypatch.setattr(SqlStore, "active_workers", lambda _: 1)
    with house_of(store) as house:
        house.fill(CHUNK)
        house.sync()
        other = replace(mark_on(house.replica), store_id="other", nonce="other")
    with house_of(store, threads=0) as planner:
        planner.primary, planner.replica = house.primary, house.replica
        planner.marks = MarkKeeper(house.replica)
        house.fill(CHUNK, "new")
        once(planner, "list_ids", lambda: leave(house.replica, other))
        with pytest.raises(AnotherStore):
            planner.sync()


def test_a_replica_restored_within_a_cycle(house: House) -> None:
    """A server that comes back with an older folder is not vouched for at the cycle's end."""
    house.fill(CHUNK)
    house.sync()
    before = mark_on(house.replica)
    house.fill(CHUNK, "new")

    def restored(call: Call) -> None:
        if call.name == "read" and "new0" in call.ids:
            house.replica.on_request(None)
            leave(house.replica, before)

    house.replica.on_request(restored)
    with pytest.raises(AnotherStore, match="restored"):
        house.sync()
    house.replica.on_request(None)
    assert "an older copy" in house.sync().warnings[0]


def test_a_doubt_outlives_a_cycle_that_ends_early(house: House) -> None:
    """Whatever happens after the look, what was doubtful is compared before it is identical."""
    house.fill(CHUNK)
    house.sync()
    house.sync()
    (home,) = house.replica.list_collections(TENANT, MARKS_DATABASE)
    house.replica.drop_collection(home)
    once(house, "list_ids", house.stop.set)
    with pytest.raises(Stopped):
        house.sync()
    assert all(head.replica.suspect for head in house.store.chunk_heads(house.home.id))
    assert {mirror.replica_walked_at for mirror in house.store.mirrors()} == {None}


def test_a_cycle_that_ends_early_leaves_a_last_mark(house: House) -> None:
    """What it wrote is vouched for by a mark that no copy from the middle has."""
    house.fill(3 * CHUNK)
    late = names(3 * CHUNK)[-1]

    def away(call: Call) -> None:
        if late in call.ids:
            raise ServerUnreachable("The primary is away.", side=Side.PRIMARY)

    house.primary.on_request(away)
    with pytest.raises(ServerUnreachable):
        house.sync()
    assert len(house.replica.contents(house.copy())) == 2 * CHUNK
    assert mark_on(house.replica).final
    assert mark_on(house.replica).nonce == known(house).nonce


def test_a_long_cycle_shows_that_it_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes its mark again while it waits for its workers."""
    monkeypatch.setattr(marking, "refresh_seconds", lambda _: 0.0)
    house.fill(CHUNK)
    go_on = threading.Event()

    def slow(call: Call) -> None:
        marks = [c for c in house.replica.calls if c == Call("upsert", (PLACE,))]
        if call.name == "upsert" and call.ids == (PLACE,) and len(marks) >= 2:
            go_on.set()
        if call.name == "read" and set(call.ids) & set(names(CHUNK)):
            assert go_on.wait(60)

    house.replica.on_request(slow)
    assert house.sync().outcome is Outcome.IDENTICAL
    assert go_on.is_set()


def test_marks_that_may_not_be_read_are_told(house: House) -> None:
    """The cycle goes on without them, and says what is not noticed."""
    house.fill(CHUNK)
    house.sync()

    def refuse(call: Call) -> None:
        if PLACE in call.ids:
            raise AccessRefused("No.", side=Side.REPLICA, status=403)

    house.replica.on_request(refuse)
    house.fill(CHUNK, "new")
    report = house.sync()
    (warning,) = report.warnings
    assert "stores no mark" in warning
    assert report.outcome is Outcome.IDENTICAL
    house.replica.on_request(None)
    assert house.sync().warnings == ()


def test_a_marked_primary_is_refused(house: House) -> None:
    """Before anything is written, to the replica or the store's ledger."""
    house.fill(CHUNK)
    house.sync()
    writable = FakeServer(Side.REPLICA)
    writable._shared = house.primary._shared
    leave(writable, mark_on(house.replica))
    with pytest.raises(GuardRefusal, match="swapped"):
        house.sync()


def test_a_process_releases_its_own_marks_only(house: House) -> None:
    """A worker leaves alone what it wrote for its leader, and nobody touches a newer mark."""
    house.fill(CHUNK)
    house.sync()
    mark = mark_on(house.replica)
    keeper = MarkKeeper(house.replica)
    keeper.write({SPOT: mark}, lambda: 60.0)
    keeper.release("someone else", lambda: 60.0)
    assert not mark_on(house.replica).released
    leave(house.replica, replace(mark, nonce="newer"))
    keeper.release(mark.holder, lambda: 60.0)
    assert not mark_on(house.replica).released
    leave(house.replica, mark)
    keeper.release(mark.holder, no_more)
    assert not mark_on(house.replica).released
    keeper.release(mark.holder, lambda: 60.0)
    assert mark_on(house.replica).released


def no_more() -> float:
    """The permit of a process that does not lead any more."""
    raise LeaseLost("It does not lead.")

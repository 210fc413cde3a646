"""Life events that once led past the guards, each in one process on servers in memory.

`tests/mirror` and `tests/distributed` play one of each kind on real servers.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import update

from chromasync.errors import ServerFault
from chromasync.lab.fake import Call, FakeServer
from chromasync.model import Collection, HoldKind, MirrorStatus, Side
from chromasync.store.schema import Later
from chromasync.store.schema_servers import deployment
from tests.store.samples import arrange
from tests.support.house import House
from tests.support.ledgers import joined, names, record
from tests.unit.life import (
    approve,
    collections,
    kinds,
    named,
    plan,
    primary_dies,
    record_of,
    replica_ids,
)

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]


# ---- a returning primary -------------------------------------------------------------------------


def play_failover(house: House, outage: Callable[[House], None]) -> Collection:
    """The drill: the primary is away, the application goes on with the replica."""
    house.fill(300)
    house.sync()
    outage(house)
    copy = named(house.replica, "things")
    house.replica.put(copy, joined(*map(record, names(40, "app"))))
    house.replica.put(copy, record_of("r3", "edited after the failover"))
    house.replica.remove(copy, ["r7"])
    return copy


def unwatched(house: House) -> None:
    """An outage that nobody watched: the process was down for a day."""
    arrange(house.store, update(deployment).values(primary_seen_at=Later(-86_400)))


@pytest.mark.parametrize("outage", [primary_dies, unwatched])
@pytest.mark.long
def test_a_returning_primary_overwrites_nothing(
    house: House, outage: Callable[[House], None]
) -> None:
    """Added, edited and deleted records stay as the application left them, however often."""
    copy = play_failover(house, outage)
    before = house.replica.contents(copy)
    house.fill(20, "late")
    assert plan(house)["things"]
    for _ in range(3):
        report = house.sync()
        after = house.replica.contents(copy)
        assert (after.ids, after.documents) == (before.ids, before.documents)
        assert kinds(house) == [HoldKind.DIVERGED]
        (hold,) = report.holds
        assert hold.count == 42
        assert "the replica has 40 (app0, app1, app2, …) records" in hold.reason
        assert "1 (r3) were changed" in hold.reason
        assert "1 (r7) were deleted" in hold.reason
        assert "the primary has 21 " in hold.reason
    states = {c.name: c.status for c in report.collections}
    assert states["things"] is MirrorStatus.DIVERGED
    assert states["steady"] is MirrorStatus.IDENTICAL


def test_an_approval_takes_the_primary_s_side_once(house: House) -> None:
    """What only the replica has goes, what differs is overwritten; the next divergence is held."""
    copy = play_failover(house, primary_dies)
    house.sync()
    approve(house)
    house.sync()
    assert replica_ids(house) == set(names(300))
    assert house.replica.contents(copy).documents[3] == record("r3").documents[0]
    assert kinds(house) == []
    primary_dies(house)
    house.replica.put(copy, record("again"))
    house.sync()
    assert kinds(house) == [HoldKind.DIVERGED]


def test_an_approval_does_not_cover_what_came_after_it(house: House) -> None:
    """The application writes once more: that was not shown to the person who approved."""
    copy = play_failover(house, primary_dies)
    house.sync()
    approve(house)
    house.replica.put(copy, record("unseen"))
    house.sync()
    assert kinds(house) == [HoldKind.DIVERGED]
    assert "unseen" in replica_ids(house)


def test_an_outage_without_foreign_writes_changes_nothing(house: House) -> None:
    """The primary was away, and nobody touched the replica: the cycle goes on as always."""
    house.fill(300)
    house.sync()
    primary_dies(house)
    house.fill(30, "new")
    house.primary.remove(house.home, ["r5"])
    house.primary.put(house.home, record_of("r9", "edited on the primary"))
    house.sync()
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == set(names(300)) - {"r5"} | set(names(30, "new"))
    assert house.store.deployment().away_since is None


def test_a_record_that_both_sides_got_alike_is_no_divergence(house: House) -> None:
    """The application wrote it to the replica, and then to the primary when it came back."""
    copy = play_failover(house, primary_dies)
    house.primary.put(house.home, house.replica.contents(copy))
    house.primary.remove(house.home, ["r7"])
    house.sync()
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == set(house.primary.contents(house.home).ids)


def test_collections_diverge_as_well(house: House) -> None:
    """New, dropped, renamed and redefined ones of the replica are held after an outage."""
    house.fill(30)
    house.sync()
    primary_dies(house)
    new = house.replica.make("by-the-application")
    house.replica.put(new, record())
    house.replica.unmake(named(house.replica, "still"))
    house.replica.modify_collection(named(house.replica, "quiet"), name="louder")
    house.replica.modify_collection(named(house.replica, "things"), metadata={"owner": "app"})
    for _ in range(2):
        house.sync()
        held = {h.collection_name for h in house.store.holds() if h.kind is HoldKind.DIVERGED}
        assert held == {"by-the-application", "still", "quiet", "things"}
        there = {c.name for c in collections(house.replica)}
        assert there == {"things", "steady", "louder", "by-the-application"}
        assert named(house.replica, "things").metadata == {"owner": "app"}
    approve(house)
    for _ in range(2):
        house.sync()
    assert {c.name for c in collections(house.replica)} == {"things", "steady", "still", "quiet"}


def test_a_collection_that_vanished_while_the_replica_went_on_is_kept(house: House) -> None:
    """The stale primary does not list it; what the application added to its copy stays."""
    house.fill(30)
    house.sync()
    house.replica.put(named(house.replica, "things"), record("app"))
    house.primary.unmake(house.home)
    for _ in range(3):
        house.sync()
        assert HoldKind.DIVERGED in kinds(house)
        assert replica_ids(house) == {*names(30), "app"}


def test_a_small_foreign_change_beside_a_healthy_primary_is_drift(house: House) -> None:
    """A changed and a lost record are mended; an added one is held, it may be somebody's."""
    house.fill(30)
    house.sync()
    copy = named(house.replica, "things")
    house.replica.put(copy, record_of("r3", "edited by hand"))
    house.replica.remove(copy, ["r7"])
    house.replica.put(copy, joined(record("by-hand"), record("by-hand-too")))
    house.sync()
    house.sync()
    assert kinds(house) == [HoldKind.SURPLUS]
    assert replica_ids(house) == {*names(30), "by-hand", "by-hand-too"}
    assert house.replica.contents(copy).documents[3] == record("r3").documents[0]


# ---- a primary that is not what it was -----------------------------------------------------------


def other_primary(house: House) -> FakeServer:
    """A staging server: the same names, other ids, and a few records more."""
    staging = FakeServer(Side.PRIMARY)
    for collection in collections(house.primary):
        there = staging.make(collection.name)
        staging.put(there, house.primary.contents(collection))
        staging.put(there, joined(*map(record, names(7, "staging"))))
    return staging


def test_another_server_at_the_primary_s_address_changes_nothing(house: House) -> None:
    """Not a record, a name or a collection, until someone accepts it."""
    house.fill(60)
    house.sync()
    before = {c.name: house.replica.contents(c).ids for c in collections(house.replica)}
    house.primary = other_primary(house)
    house.reconnect()
    writes = len(house.replica.writes)
    assert plan(house) == {"primary": True}
    for _ in range(2):
        report = house.sync()
        assert [h.kind for h in report.holds] == [HoldKind.OTHER_PRIMARY]
    assert len(house.replica.writes) == writes
    assert {c.name: house.replica.contents(c).ids for c in collections(house.replica)} == before


def test_a_primary_restored_from_an_older_copy_deletes_nothing(house: House) -> None:
    """Its newest records are on the replica alone, and its older content overwrites nothing."""
    house.fill(300)
    house.sync()
    house.fill(90, "since")
    house.primary.put(house.home, record_of("r1", "edited since"))
    house.sync()
    house.sync()
    house.primary.remove(house.home, names(90, "since"))
    house.primary.put(house.home, record("r1"))
    assert plan(house)["things"]
    for _ in range(2):
        house.sync()
        assert kinds(house) == [HoldKind.OLDER_PRIMARY]
        assert replica_ids(house) == {*names(300), *names(90, "since")}
        assert house.replica.contents(named(house.replica, "things")).documents[1] == "edited since"
    approve(house)
    house.sync()
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == set(names(300))


def restore(house: House, *, before_sync: bool = False, elsewhere: bool = False) -> None:
    """The drill: 90 records are lost to a restore, and the application goes on with the primary."""
    house.fill(300)
    house.sync()
    house.fill(90, "since")
    house.sync()
    house.primary.remove(house.home, names(90, "since"))
    if not before_sync:
        house.sync()
    house.fill(20, "later")
    if elsewhere:
        house.primary.put(named(house.primary, "steady"), record("later"))
    house.sync()


@pytest.mark.long
@pytest.mark.parametrize("before_sync", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_restored_primary_that_goes_on_deletes_nothing_either(
    house: House, before_sync: bool, elsewhere: bool
) -> None:
    """Records that come after the restore are no proof that the older ones were deleted."""
    restore(house, before_sync=before_sync, elsewhere=elsewhere)
    for _ in range(3):
        house.sync()
        assert kinds(house) == [HoldKind.OLDER_PRIMARY]
        assert replica_ids(house) == {*names(300), *names(90, "since"), *names(20, "later")}
    assert plan(house)["things"]
    approve(house)
    house.sync()
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == {*names(300), *names(20, "later")}


def test_a_restored_primary_that_fails_at_first_deletes_nothing_either(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it could not be walked, what came elsewhere proves nothing."""
    house.fill(300)
    house.sync()
    house.fill(90, "since")
    house.sync()
    house.primary.remove(house.home, names(90, "since"))
    house.primary.put(named(house.primary, "steady"), record("later"))

    counted = house.primary.count

    def count(collection: Collection) -> int:
        if collection.id == house.home.id:
            raise ServerFault("The primary failed.", side=Side.PRIMARY)
        return counted(collection)

    with monkeypatch.context() as failing:
        failing.setattr(house.primary, "count", count)
        house.sync()
    for _ in range(3):
        house.sync()
        assert kinds(house) == [HoldKind.OLDER_PRIMARY]
        assert set(names(90, "since")) <= replica_ids(house)


def test_a_hold_of_an_older_primary_ends_when_the_records_are_back(house: House) -> None:
    """A newer copy was restored, or someone put them back."""
    restore(house)
    house.fill(90, "since")
    house.sync()
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == {*names(300), *names(90, "since"), *names(20, "later")}


def test_a_collection_that_a_restore_undid_is_kept(house: House) -> None:
    """It is newer than all that survived, so it may be the only copy; for as long as it takes."""
    house.fill(30)
    house.sync()
    newest = house.primary.make("newest")
    house.primary.put(newest, joined(*map(record, names(30, "new"))))
    house.sync()
    primary_dies(house)
    house.primary.unmake(newest)
    for _ in range(3):
        house.sync()
        assert kinds(house) == [HoldKind.OLDER_PRIMARY]
        house.primary.put(house.home, record(f"later-{_}"))
        assert replica_ids(house, "newest") == set(names(30, "new"))
    assert plan(house)["newest"]
    approve(house)
    for _ in range(2):
        house.sync()
    assert kinds(house) == []
    assert replica_ids(house, "newest") == set()


def test_a_primary_restored_in_the_middle_of_a_cycle_deletes_nothing(house: House) -> None:
    """Its ids were walked before, and its records are read afterwards."""
    house.fill(300)
    house.sync()
    house.fill(90, "since")
    house.sync()
    restored: list[str] = []

    def restore_before_a_read(call: Call) -> None:
        if call.name == "read" and not restored:
            restored.extend(names(90, "since"))
            house.primary.remove(house.home, restored)

    house.primary.on_request(restore_before_a_read)
    house.sync(full=True)
    house.primary.on_request(None)
    assert restored
    house.fill(20, "later")
    for _ in range(2):
        house.sync()
        assert HoldKind.OLDER_PRIMARY in kinds(house)
        assert set(names(90, "since")) <= replica_ids(house)


def test_what_goes_in_the_middle_of_a_cycle_goes_with_the_next_one(house: House) -> None:
    """Its walk saw the records, so they are no part of what it judged."""
    house.fill(300)
    house.sync()
    house.fill(30, "newer")
    house.sync()

    removed: list[str] = []

    def remove_before_a_read(call: Call) -> None:
        if call.name == "read" and not removed:
            removed.extend(names(10))
            house.primary.remove(house.home, removed)

    house.primary.on_request(remove_before_a_read)
    house.sync(full=True)
    house.primary.on_request(None)
    assert set(names(10)) <= replica_ids(house)
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == {*names(300), *names(30, "newer")} - set(names(10))


def test_the_newest_records_that_were_replaced_go(house: House) -> None:
    """As an application does that writes its newest document anew; nobody was away."""
    house.fill(300)
    house.sync()
    house.fill(12, "draft")
    house.sync()
    house.primary.remove(house.home, names(12, "draft"))
    house.fill(11, "final")
    house.sync()
    assert kinds(house) == []
    assert replica_ids(house) == {*names(300), *names(11, "final")}


@pytest.mark.long
def test_newest_records_that_were_deleted_on_purpose_go(house: House) -> None:
    """Something that came later is still there, so the primary did not go back in time."""
    house.fill(300)
    house.sync()
    house.fill(20, "mistake")
    house.sync()
    house.primary.put(named(house.primary, "steady"), record("later"))
    house.sync()
    house.primary.remove(house.home, names(20, "mistake"))
    house.sync()
    assert replica_ids(house) == set(names(300))

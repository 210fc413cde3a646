"""Cycles whose collections go to other places on the replica, or beside the originals."""

from __future__ import annotations

from typing import Any

import pytest

from chromasync.errors import AccessRefused, AnotherStore, GuardRefusal, SettingsError
from chromasync.lab.fake import FakeServer
from chromasync.marks import Marks
from chromasync.model import (
    MARKS_DATABASE,
    Collection,
    HoldKind,
    MirrorStatus,
    Side,
)
from chromasync.plan.listing import Place, list_primary
from chromasync.plan.pairing import building_name
from chromasync.plan.places import refuse_wrong_way
from chromasync.reports import Outcome, PlannedAction
from chromasync.status import take_snapshot
from chromasync.store import SqlStore
from tests.support.house import house_of
from tests.support.ledgers import joined, names, record
from tests.support.targets import (
    BESIDE,
    COPIES,
    DATABASE,
    HR,
    TENANT,
    counts,
    fill,
    led_to,
    one_server,
    plan,
    restarted,
    verify,
)

pytestmark = pytest.mark.usefixtures("impatient")


def test_a_life_at_another_place(store: SqlStore) -> None:
    """First copy, changes, a rename, a drop and a new copy: all of it where the template leads."""
    with led_to(store, COPIES) as house:
        planned = plan(house)
        assert [p.action for p in planned.collections] == [PlannedAction.CREATE] * 2
        assert house.sync().outcome is Outcome.IDENTICAL
        things = ("cloud", f"{DATABASE}-copies", f"{TENANT}.things")
        people = ("cloud", "hr-copies", f"{TENANT}.people")
        assert counts(house.replica) == {things: 25, people: 5}
        assert verify(house).exit_code == 0
        house.primary.change(house.home, name="wares")
        fill(house, house.home, 27)
        before = {c.id for c in house.replica._shared.collections.values()}
        assert house.sync().counts.inserted == 2
        wares = ("cloud", f"{DATABASE}-copies", f"{TENANT}.wares")
        assert counts(house.replica) == {wares: 27, people: 5}
        assert {c.id for c in house.replica._shared.collections.values()} == before
        seen = take_snapshot(house.store, house.settings)
        assert [(c.database, c.name) for c in seen.collections] == [
            (DATABASE, "wares"),
            ("hr", "people"),
        ]
        (gone,) = house.primary.list_collections(*HR)
        for extra in range(3):
            fill(house, house.primary.make(f"more{extra}"), 1)
        house.sync()
        house.primary.unmake(gone)
        assert [hold.kind for hold in house.sync().holds] == [HoldKind.DROP]
        assert house.sync().counts.deleted == 5
        assert people not in counts(house.replica)


def test_a_collection_made_anew_takes_its_place(store: SqlStore) -> None:
    """It is built beside the old one, under a name that the template made, too."""
    with led_to(store, BESIDE, SYNC_MAX_DELETE="100%") as house:
        house.sync()
        house.primary.unmake(house.home)
        house.home = house.primary.make("things")
        house.primary.put(house.home, joined(*map(record, names(30, "new"))))
        report = house.sync()
        built = [name for _, _, name in counts(house.replica) if ".chromasync-" in name]
        assert all(name.endswith("-copy") for name in built)
        assert len(built) == 1
        while report.outcome is not Outcome.IDENTICAL:
            for hold in house.store.holds():
                house.store.approve(hold)
            report = house.sync()
        assert counts(house.replica) == {
            (TENANT, DATABASE, "things-copy"): 30,
            (*HR, "people-copy"): 5,
        }


def test_what_is_there_already_is_adopted(store: SqlStore) -> None:
    """A collection at the place of a copy is compared, and one elsewhere is left alone."""
    with led_to(store, BESIDE) as house:
        there = house.replica.make("things-copy")
        house.replica.put(there, joined(*map(record, names(25))))
        other = house.replica.make("things")
        house.replica.put(other, joined(*map(record, names(3))))
        actions = {p.name: p.action for p in plan(house).collections}
        assert actions == {"things": PlannedAction.ADOPT, "people": PlannedAction.CREATE}
        report = house.sync()
        assert (report.outcome, report.counts.inserted) == (Outcome.IDENTICAL, 5)
        assert counts(house.replica)[TENANT, DATABASE, "things"] == 3


def test_a_change_of_the_names_renames(store: SqlStore) -> None:
    """With another template in the same database, nothing is copied again."""
    with led_to(store, BESIDE) as house:
        house.sync()
        restarted(house, "{tenant}/{database}/copy.{name}")
        report = house.sync()
        assert (report.outcome, report.counts.applied) == (Outcome.IDENTICAL, 0)
        assert set(counts(house.replica)) == {
            (TENANT, DATABASE, "copy.things"),
            (*HR, "copy.people"),
        }
        assert "Every record there is compared." in report.warnings[0]


def test_a_change_of_the_database_copies_anew(store: SqlStore) -> None:
    """The former copies stay where they are, until somebody removes them."""
    with led_to(store, BESIDE) as house:
        house.sync()
        before = counts(house.replica)
        restarted(house, "{tenant}/{database}-2/{name}")
        assert house.sync().outcome is Outcome.IDENTICAL
        assert counts(house.replica) == before | {
            (TENANT, f"{DATABASE}-2", "things"): 25,
            (TENANT, "hr-2", "people"): 5,
        }
        assert house.sync().counts.applied == 0


# ---- collections that meet --------------------------------------------------------------------


def merged(store: SqlStore, **flags: str) -> Any:
    databases = f"{DATABASE},hr"
    return led_to(store, "{tenant}/all/{name}", SYNC_DATABASES=databases, **flags)


def test_collections_that_would_meet_are_errors(store: SqlStore) -> None:
    """None of them is written, the others are mirrored, and plan and verify say the same."""
    with merged(store) as house:
        fill(house, house.primary.make("things", place=HR), 7)
        (failure, second) = plan(house).failures
        assert f"leads {TENANT}/{DATABASE}/things to {TENANT}/all/things" in failure
        assert f"and {TENANT}/hr/things as well" in failure
        assert f"and {TENANT}/{DATABASE}/things as well" in second
        report = house.sync()
        assert report.exit_code == 4
        assert counts(house.replica) == {(TENANT, "all", "people"): 5}
        states = {(m.database, m.name): m.status for m in house.store.mirrors()}
        assert states == {
            (DATABASE, "things"): MirrorStatus.ERROR,
            ("hr", "things"): MirrorStatus.ERROR,
            ("hr", "people"): MirrorStatus.IDENTICAL,
        }
        assert take_snapshot(house.store, house.settings).exit_code == 4
        assert len(verify(house).failures) == 2


def test_the_one_that_is_there_goes_on(store: SqlStore) -> None:
    """A newcomer to its place is an error; when the first one goes, the newcomer follows it."""
    with merged(store, SYNC_MAX_DELETE="100%") as house:
        for extra in range(4):
            fill(house, house.primary.make(f"more{extra}"), 1)
        assert house.sync().outcome is Outcome.IDENTICAL
        newcomer = house.primary.make("things", place=HR)
        house.primary.put(newcomer, joined(*map(record, names(7, "new"))))
        fill(house, house.home, 26)
        report = house.sync()
        assert (report.exit_code, report.counts.applied) == (4, 1)
        assert counts(house.replica)[TENANT, "all", "things"] == 26
        states = {(m.database, m.name): m.status for m in house.store.mirrors()}
        assert states[DATABASE, "things"] is MirrorStatus.IDENTICAL
        assert states["hr", "things"] is MirrorStatus.ERROR
        house.primary.unmake(house.home)
        for _ in range(4):
            report = house.sync()
            for hold in house.store.holds():
                house.store.approve(hold)
        assert report.outcome is Outcome.IDENTICAL
        assert counts(house.replica)[TENANT, "all", "things"] == 7
        assert not any(".chromasync-" in name for _, _, name in counts(house.replica))


# ---- beside the originals ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "flags", "place"),
    [
        (BESIDE, {"SYNC_EXCLUDE": "*-copy"}, (TENANT, DATABASE, "{}-copy")),
        ("{tenant}/copies/{name}", {"SYNC_DATABASES": DATABASE}, (TENANT, "copies", "{}")),
    ],
)
def test_copies_beside_the_originals(
    store: SqlStore, target: str, flags: dict[str, str], place: Place
) -> None:
    """The copies follow on the same server, and nothing else is touched."""
    tenant, database, name = place
    with one_server(store, target, **flags) as house:
        mine = house.primary.make(name.format("mine"), place=(tenant, database))
        house.primary.put(mine, joined(*map(record, names(4))))
        for count in (25, 30):
            fill(house, house.home, count)
            assert house.sync().outcome is Outcome.IDENTICAL
            assert verify(house).exit_code == 0
        assert plan(house).is_idle
        house.primary.change(house.home, name="wares")
        assert house.sync().outcome is Outcome.IDENTICAL
        assert counts(house.primary) == {
            (TENANT, DATABASE, "wares"): 30,
            (tenant, database, name.format("wares")): 30,
            (tenant, database, name.format("mine")): 4,
        }
        assert house.sync().counts.applied == 0


def test_an_applications_own_copy_is_held(store: SqlStore) -> None:
    """It has the name of a copy and half of its records, so any other adoption would be made."""
    with one_server(store, BESIDE, SYNC_EXCLUDE="*-copy") as house:
        mine = house.primary.make("things-copy", place=(TENANT, DATABASE))
        house.primary.put(mine, joined(*map(record, names(20))))
        before = repr(house.primary.contents(mine))
        assert [c.held for c in plan(house).collections] == [True]
        for _ in range(2):
            assert house.sync().outcome is Outcome.HELD
        assert [hold.kind for hold in store.holds()] == [HoldKind.ADOPTION]
        assert repr(house.primary.contents(mine)) == before


def test_a_turn_must_lead_back(store: SqlStore) -> None:
    """Nothing listed where the originals are is a wrong template, and not a lost server."""
    with led_to(store, "{tenant}/{database}-copy/{name}") as house:
        house.sync()
        mirrors = store.mirrors()
        with pytest.raises(SettingsError, match="does not lead back to default_tenant/"):
            refuse_wrong_way(mirrors, {}, {}, house.primary, house.settings)
        home = {house.home.id: house.home}
        refuse_wrong_way(mirrors, {}, home, house.primary, house.settings)
        refuse_wrong_way(mirrors, {}, {}, FakeServer(), house.settings)


@pytest.mark.parametrize(
    ("target", "place"),
    [
        (BESIDE, f"{TENANT}/{DATABASE}/things-copy"),
        ("{tenant}/copies-{database}/{name}", f"{TENANT}/copies-{DATABASE}/things"),
    ],
)
def test_a_copy_that_would_be_copied_again_is_refused(
    store: SqlStore, target: str, place: str
) -> None:
    """Before the first write; plan and verify refuse it, too."""
    with one_server(store, target) as house:
        for act in (house.sync, lambda: plan(house), lambda: verify(house)):
            with pytest.raises(GuardRefusal, match="copies would be copied again") as caught:
                act()
            assert f"to {place}, which is mirrored, too" in caught.value.what
        assert counts(house.primary) == {(TENANT, DATABASE, "things"): 25}


def test_a_copy_that_would_be_copied_while_it_is_built_is_refused(store: SqlStore) -> None:
    """The exact name of a copy does not leave out the one that replaces it later."""
    with one_server(store, BESIDE, SYNC_EXCLUDE="things-copy") as house:
        with pytest.raises(GuardRefusal, match="copies would be copied again") as caught:
            house.sync()
        built = building_name(house.home)
        assert f"leads {TENANT}/{DATABASE}/{built} to" in caught.value.what
        assert f"{TENANT}/{DATABASE}/{built}-copy, which is mirrored" in caught.value.what
        assert counts(house.primary) == {(TENANT, DATABASE, "things"): 25}
    with one_server(store, BESIDE, SYNC_INCLUDE="things") as house:
        assert house.sync().outcome is Outcome.IDENTICAL


@pytest.mark.parametrize("side", [Side.PRIMARY, Side.REPLICA])
def test_a_copy_under_the_other_name_of_its_tenant_is_refused(store: SqlStore, side: Side) -> None:
    """On Chroma Cloud, default_tenant and the tenant of the token are one."""
    leads = {Side.PRIMARY: (TENANT, "cloud"), Side.REPLICA: ("cloud", TENANT)}
    tenant, other = leads[side]
    target = f"{other}/{{database}}/{{name}}-copy"
    with one_server(store, target, SYNC_TENANTS=tenant) as house:
        house.primary.make(place=(tenant, DATABASE))
        before = counts(house.primary)
        asked = house.primary if side is Side.PRIMARY else house.replica
        asked.token_tenant = "cloud"
        for act in (house.sync, lambda: plan(house), lambda: verify(house)):
            with pytest.raises(GuardRefusal, match=f"to {other}/.*copies would be copied again"):
                act()
        assert counts(house.primary) == before


def test_a_restore_must_know_where_a_collection_came_from(store: SqlStore) -> None:
    """Seen as a primary, a replica lists each copy under the one database that it is from."""
    flags = {"SYNC_DATABASES": f"{DATABASE},hr"}
    with led_to(store, "{tenant}/all/{database}.{name}", **flags) as house:
        house.sync()
        seen = list_primary(house.seen, house.settings.scope)
        places = {place for place in seen.by_place() if not place[2].startswith("/")}
        assert places == {(TENANT, DATABASE, "things"), (*HR, "people")}
        restarted(house, "{tenant}/all/{name}")
        with pytest.raises(SettingsError, match="does not tell whether a collection comes from"):
            list_primary(house.seen, house.settings.scope)


@pytest.mark.parametrize("apart", [{"REPLICA_URL": "http://other:1"}, {"REPLICA_TOKEN": "b"}])
def test_one_server_under_two_addresses_or_tokens_is_refused(
    store: SqlStore, apart: dict[str, str]
) -> None:
    """Nobody asked for copies on the primary's server; that it has another place is no reason."""
    flags = {"SYNC_EXCLUDE": "*-copy"} | apart
    with one_server(store, BESIDE, **flags) as house:
        for act in (house.sync, lambda: plan(house), lambda: verify(house)):
            with pytest.raises(GuardRefusal, match="lead to one server") as caught:
                act()
            assert "the same address as both URLs" in caught.value.hint
        assert counts(house.primary) == {(TENANT, DATABASE, "things"): 25}


def test_a_server_that_shows_only_its_own_tenants_is_another_one(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Chroma Cloud: it lets nobody look into the primary's tenant."""
    listed = FakeServer.list_collections

    def refuse(server: FakeServer, tenant: str, database: str) -> list[Collection]:
        if server.side is Side.REPLICA and tenant != "cloud":
            raise AccessRefused("This tenant is another one's.", side=Side.REPLICA, status=403)
        return listed(server, tenant, database)

    monkeypatch.setattr(FakeServer, "list_collections", refuse)
    with led_to(store, COPIES) as house:
        assert house.sync().outcome is Outcome.IDENTICAL


# ---- marks, and a server that has its own rules ------------------------------------------------


def test_each_place_has_its_own_mark(store: SqlStore) -> None:
    """Stores that come to different places of one replica know each other's marks apart."""
    with led_to(store, "{tenant}/a-{database}/{name}") as house:
        house.sync()
        (home,) = house.replica.list_collections(TENANT, MARKS_DATABASE)
        assert set(house.replica.contents(home).ids) == {
            f"{TENANT}/a-{DATABASE}",
            f"{TENANT}/a-hr",
        }
        assert [*Marks(house.seen).read([HR])] == [HR]
        assert [*Marks(house.replica).read([HR])] == []
        assert [*Marks(house.replica).of_copies([(TENANT, "a-hr")])] == [(TENANT, "a-hr")]


def test_two_stores_at_one_place_are_noticed(store: SqlStore, tmp_path: Any) -> None:
    """Also if the place is named by one, and made of the primary's database by the other."""
    from chromasync.store import open_store

    other = open_store(tmp_path / "other.db")
    flags = {"SYNC_DATABASES": DATABASE}
    with led_to(store, "{tenant}/copies/{name}", **flags) as house:
        house.sync()
        with led_to(other, "{tenant}/copies/{name}", **flags) as second:
            second.replica = house.replica
            second.reconnect()
            with pytest.raises(AnotherStore):
                second.sync()
    other.close()


def test_stores_of_different_databases_at_one_place_are_noticed(
    store: SqlStore, tmp_path: Any
) -> None:
    """Each has a mark of its own there; one whose collections have other names is let in."""
    from chromasync.store import open_store

    with led_to(store, "{tenant}/copies/a.{name}", SYNC_DATABASES=DATABASE) as house:
        house.sync()
        before = counts(house.replica)
        others = {"{tenant}/copies/a.{name}": False, "{tenant}/copies/b.{name}": True}
        for number, (target, is_let_in) in enumerate(others.items()):
            other = open_store(tmp_path / f"{number}.db")
            with led_to(other, target, SYNC_DATABASES=HR[1]) as second:
                second.replica = house.replica
                second.reconnect()
                if is_let_in:
                    assert second.sync().outcome is Outcome.IDENTICAL
                else:
                    with pytest.raises(AnotherStore):
                        second.sync()
                    assert counts(house.replica) == before
            other.close()
        assert house.sync().outcome is Outcome.IDENTICAL


def test_a_replica_of_a_template_is_no_primary(store: SqlStore, tmp_path: Any) -> None:
    """Another store that is given it as its primary sees the mark, whatever led there."""
    from chromasync.store import open_store

    with led_to(store, "{tenant}/copies/{name}", SYNC_DATABASES=DATABASE) as house:
        house.sync()
    other = open_store(tmp_path / "other.db")
    with house_of(other, SYNC_DATABASES="copies") as second:
        second.primary = house.replica
        second.primary.side = Side.PRIMARY
        second.reconnect()
        with pytest.raises(GuardRefusal, match=f"left its mark in {TENANT}/copies"):
            second.sync()
    other.close()


def test_a_server_that_creates_no_tenant_is_named(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Chroma Cloud: the error says where SYNC_TARGET leads, and what to do."""

    def refuse(_: FakeServer, tenant: str, database: str) -> None:
        raise AccessRefused("The replica refuses this.", side=Side.REPLICA, status=403)

    monkeypatch.setattr(FakeServer, "ensure_database", refuse)
    with led_to(store, COPIES) as house, pytest.raises(AccessRefused) as caught:
        house.sync()
    assert "SYNC_TARGET leads to cloud/" in caught.value.what
    assert "name a tenant and a database in SYNC_TARGET that exist" in caught.value.hint

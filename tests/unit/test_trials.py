"""What self-tests left behind: to a cycle, a plan and a status it is not there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chromasync.dryrun import DryRun
from chromasync.lab.fake import FakeServer
from chromasync.model import Collection, Hold, HoldKind, MirrorStatus
from chromasync.plan.listing import list_primary
from chromasync.quiet import Quiet
from chromasync.reports import Outcome
from chromasync.status import take_snapshot
from chromasync.store import SqlStore
from chromasync.trials import PREFIX, new_trial, trial_of
from chromasync.verify import Verifier
from tests.support.house import House, house_of
from tests.support.ledgers import joined, names, record

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]

TRIAL = new_trial()
WARNING = (
    "1 collection that a self-test made is ignored. A cycle mirrors the collections of a self-test "
    "only while it runs. The next `chromasync selftest` removes the others."
)


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """A collection of five records, identical on both sides."""
    with house_of(store) as house:
        house.fill(5)
        assert house.sync().outcome is Outcome.IDENTICAL
        yield house


def put(server: FakeServer, name: str, count: int = 3) -> Collection:
    made = server.make(name)
    server.put(made, joined(*[record(i) for i in names(count)]))
    return made


def live(house: House, *, alive: bool = True) -> None:
    house.store.keep_trial(TRIAL, "someone", 60.0 if alive else 0.0)


def assert_left_alone(house: House, before: list[Collection]) -> None:
    """Three cycles, a plan and a status know nothing of it but the warning."""
    for _ in range(3):
        report = house.sync()
        assert (report.outcome, report.holds) == (Outcome.IDENTICAL, ())
        assert (report.counts.applied, report.warnings) == (0, (WARNING,))
        assert [c.name for c in report.collections] == ["things"]
    assert house.replica.list_collections("default_tenant", "default_database") == before
    planned = DryRun(house.primary, house.replica, house.store, house.settings).plan(Quiet())
    assert (planned.exit_code, planned.warnings) == (0, (WARNING,))
    verified = Verifier(house.primary, house.replica, house.settings).verify(Quiet())
    assert (verified.exit_code, verified.warnings) == (0, (WARNING,))
    snapshot = take_snapshot(house.store, house.settings)
    assert snapshot.exit_code == 0
    assert [c.name for c in snapshot.collections] == ["things"]


def on_replica(house: House) -> list[Collection]:
    return house.replica.list_collections("default_tenant", "default_database")


@pytest.mark.parametrize(
    ("name", "trial"),
    [
        (f"{PREFIX}0123abcd-l2", f"{PREFIX}0123abcd-"),
        (f"{PREFIX}0123abcd-l2.chromasync-0123456789ab", f"{PREFIX}0123abcd-"),
        (f"{PREFIX}0123abcd", ""),
        (f"{PREFIX}0123ABCD-l2", ""),
        (f"{PREFIX}results", ""),
        (f"my-{PREFIX}0123abcd-l2", ""),
        ("docs", ""),
        ("", ""),
    ],
)
def test_a_collection_of_a_trial_is_known_by_its_name(name: str, trial: str) -> None:
    """The prefix alone is not enough: people may call a collection so, too."""
    assert trial_of(name) == trial
    assert trial_of(f"{new_trial()}cosine") != ""


@pytest.mark.parametrize("side", ["primary", "replica"])
def test_what_was_left_on_one_side_is_left_alone(house: House, side: str) -> None:
    """Neither copied nor surplus, though the store never knew of it."""
    put(getattr(house, side), f"{TRIAL}l2")
    assert_left_alone(house, on_replica(house))


@pytest.mark.parametrize("left", ["both", "primary", "replica"])
def test_what_was_mirrored_while_the_trial_lived_is_left_alone_after_it(
    house: House, left: str
) -> None:
    """Whatever its clean-up had removed when it was killed: nothing vanished, nothing is held."""
    made = put(house.primary, f"{TRIAL}l2", 300)
    live(house)
    report = house.sync()
    assert (report.outcome, report.counts.inserted) == (Outcome.IDENTICAL, 300)
    if left == "replica":
        house.primary._shared.collections.pop(made.id)
    if left == "primary":
        (copy,) = (c for c in on_replica(house) if c.name == made.name)
        house.replica.drop_collection(copy)
    live(house, alive=False)
    assert_left_alone(house, on_replica(house))
    mirror = house.store.mirror(made.id)
    assert mirror is not None
    assert (mirror.status, mirror.primary.missing_cycles) == (MirrorStatus.IDENTICAL, 0)


def test_records_that_were_deleted_as_it_was_killed_are_not_held(house: House) -> None:
    """Its clean-up empties a collection before it drops it: no guard looks at that."""
    made = put(house.primary, f"{TRIAL}l2", 300)
    live(house)
    house.sync()
    house.primary.remove(made, names(300))
    live(house, alive=False)
    assert_left_alone(house, on_replica(house))


def test_a_trial_that_is_seen_again_goes_on(house: House) -> None:
    """A process that was frozen for a while: its mirror is kept, and nothing is copied anew."""
    made = put(house.primary, f"{TRIAL}l2")
    for alive in (True, False, True):
        live(house, alive=alive)
        report = house.sync()
        assert report.outcome is Outcome.IDENTICAL
    assert report.counts.applied == 0
    house.primary.put(made, record("new"))
    assert house.sync().counts.inserted == 1


def test_what_counts_as_most_collections_does_not_count_leftovers(house: House) -> None:
    """Two of three are most of them, however many a trial has left behind."""
    for name in ("one", "two", *(f"{TRIAL}{n}" for n in range(5))):
        put(house.primary, name)
    live(house)
    house.sync()
    live(house, alive=False)
    for collection in house.primary.list_collections("default_tenant", "default_database"):
        if collection.name in ("one", "two"):
            house.primary._shared.collections.pop(collection.id)
    for _ in range(3):
        assert {hold.collection_name for hold in house.sync().holds} == {"one", "two"}
    assert len(on_replica(house)) == 8


def test_a_hold_that_an_older_cycle_left_is_not_shown(house: House) -> None:
    """Nobody has to approve what no cycle would do."""
    left = put(house.replica, f"{TRIAL}l2")
    house.store.save_hold(Hold(left.id, left.name, HoldKind.SURPLUS_COLLECTION, 3, "surplus"))
    assert take_snapshot(house.store, house.settings).holds == ()
    assert_left_alone(house, on_replica(house))


def test_a_listing_has_the_trials_that_live(house: House) -> None:
    """And no others; whoever names none gets none."""
    other = new_trial()
    for name in (f"{TRIAL}l2", f"{other}l2"):
        put(house.primary, name)
    for trials, listed in ((set(), 1), ({TRIAL}, 2), ({TRIAL, other}, 3)):
        listing = list_primary(house.primary, house.settings.scope, trials)
        assert (len(listing.collections), len(listing.leftovers)) == (listed, 3 - listed)

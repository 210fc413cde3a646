"""A cycle that was cut off leaves doubt: what is called identical then was compared."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.dryrun import DryRun
from chromasync.errors import ServerUnreachable
from chromasync.lab.fake import Call, FakeServer
from chromasync.model import Collection, MirrorStatus, Side
from chromasync.quiet import Quiet
from chromasync.reports import Outcome
from chromasync.store import SqlStore, open_store
from tests.support.house import CHUNK, House, house_of
from tests.support.ledgers import joined, names, record
from tests.support.properties import examples

pytestmark = [pytest.mark.usefixtures("impatient"), pytest.mark.slower]

WRITES = ("add", "upsert", "update", "delete")


@pytest.fixture
def house(store: SqlStore) -> Iterator[House]:
    """No mark tells of restored copies, and nothing is read again unless someone doubts it."""
    with house_of(store, SYNC_SCRUB_BUDGET="0", SYNC_MARK="off") as house:
        yield house


def put(house: House, ids: list[str], text: str) -> None:
    house.primary.put(house.home, joined(*[record(i, text) for i in ids]))


def cut_off(house: House, writes: int, names_of: tuple[str, ...] = WRITES) -> bool:
    """One cycle in which the replica dies at its n-th write; whether it came to that."""
    left = [writes]

    def die(call: Call) -> None:
        left[0] -= call.name in names_of
        if left[0] <= 0:
            raise ServerUnreachable("killed", side=Side.REPLICA)

    house.replica.on_request(die)
    try:
        house.sync()
    except ServerUnreachable:
        return True
    finally:
        house.replica.on_request(None)
    return False


def backup(house: House) -> Any:
    return copy.deepcopy(house.replica._shared.records)


def restore(house: House, saved: Any) -> None:
    """The replica's server goes on with an older copy of its folder."""
    house.replica._shared.records.clear()
    house.replica._shared.records.update(copy.deepcopy(saved))


def contents(server: FakeServer, home: Collection) -> dict[str, tuple[Any, ...]]:
    records = server.contents(home)
    assert records.embeddings is not None
    return {
        record_id: (
            records.embeddings[n].tolist(),
            records.documents[n],
            records.metadatas[n],
            records.uris[n],
        )
        for n, record_id in enumerate(records.ids)
    }


def assert_equal(house: House) -> None:
    assert contents(house.replica, house.copy()) == contents(house.primary, house.home)


def test_a_replica_restored_while_a_copy_was_under_way_is_compared_whole(house: House) -> None:
    """What was updated in place since its backup is found, though ids and counts cannot tell."""
    old, new = names(50), names(80, "n")
    put(house, old, "a")
    house.sync()
    saved = backup(house)
    put(house, old[:20], "b")
    assert house.sync().outcome is Outcome.IDENTICAL
    put(house, new, "c")
    assert cut_off(house, 4)
    restore(house, saved)
    report = house.sync()
    assert (report.outcome, report.counts.updated) == (Outcome.IDENTICAL, 20)
    assert "did not finish it" in report.collections[0].message
    assert_equal(house)
    house.sync()
    assert house.sync().counts.read == 0, "the doubt is settled"


def restore_in_the_middle(house: House, writes: int) -> None:
    """The replica is restored from an older copy after a cycle was cut off at its n-th write."""
    put(house, names(50), "a")
    house.sync()
    saved = backup(house)
    put(house, names(20), "b")
    house.sync()
    put(house, names(30, "n"), "c")
    assert cut_off(house, writes)
    restore(house, saved)


def test_nothing_that_was_known_before_the_cut_is_left_out(house: House) -> None:
    """The first write is cut off: count and ids are those of the backup, whose records are old."""
    restore_in_the_middle(house, writes=1)
    assert house.sync().outcome is Outcome.IDENTICAL
    assert_equal(house)


def test_a_plan_takes_the_same_decision(house: House) -> None:
    """It compares what a cycle would compare."""
    restore_in_the_middle(house, writes=3)
    parts = (house.primary, house.replica, house.store, house.settings)
    (planned,) = DryRun(*parts).plan(Quiet()).collections
    counts = house.sync().counts
    assert (planned.create, planned.update) == (counts.inserted, counts.updated)
    assert counts.updated == 20


@pytest.mark.parametrize("status", [MirrorStatus.ERROR, MirrorStatus.SYNCING])
def test_a_count_that_changed_is_noticed_whatever_the_status(
    house: House, status: MirrorStatus
) -> None:
    """A cycle that was closed left a count, also where it was not clean."""
    put(house, names(30), "a")
    house.sync()
    if status is MirrorStatus.ERROR:
        house.replica.broken.refused.update(names(3, "bad"))
    saved = backup(house)
    put(house, names(10), "b")
    put(house, names(5, "n"), "b")
    house.sync()
    (mirror,) = house.store.mirrors()
    house.store.save_mirror(replace(mirror, status=status))
    restore(house, saved)
    assert house.sync().outcome is Outcome.IDENTICAL
    assert_equal(house)


def test_missing_ids_cast_doubt_on_everything(house: House) -> None:
    """As many came as went since the backup, so only the walk of the ids tells."""
    put(house, names(50), "a")
    house.sync()
    saved = backup(house)
    put(house, names(20), "b")
    house.primary.remove(house.home, names(50)[-5:])
    put(house, names(5, "n"), "b")
    for _ in range(3):
        house.sync()
    restore(house, saved)
    report = house.sync(full=False)
    assert report.counts.read == 0, "until its ids are walked nobody can know"
    (mirror,) = house.store.mirrors()
    house.store.save_mirror(replace(mirror, replica_walked_at=None))
    house.sync()
    house.sync()
    got, wanted = contents(house.replica, house.copy()), contents(house.primary, house.home)
    assert {i: got.get(i) for i in wanted} == wanted


def test_new_records_that_others_put_on_both_sides_are_compared(house: House) -> None:
    """What the replica has already is not sent again; the plan knows it, too."""
    put(house, names(10), "a")
    house.sync()
    put(house, names(40, "n"), "b")
    there = joined(*[record(i, "b") for i in names(30, "n")])
    house.replica.put(house.copy(), there)
    parts = (house.primary, house.replica, house.store, house.settings)
    (planned,) = DryRun(*parts).plan(Quiet()).collections
    report = house.sync()
    assert (planned.create, planned.update) == (10, 0)
    assert (report.outcome, report.counts.inserted, report.counts.updated) == (
        Outcome.IDENTICAL,
        10,
        0,
    )
    assert_equal(house)


def test_a_first_copy_that_is_cut_off_again_and_again_gets_on(house: House) -> None:
    """Nothing is copied twice but what was in hand, and both sides are read once more, not more."""
    ids = names(40 * CHUNK)
    put(house, ids, "a")
    cuts = 0
    while cut_off(house, 6, ("add",)):
        cuts += 1
        assert cuts < 40, "each of them gets on"
    assert cuts > 4
    written = [i for call in house.replica.calls if call.name == "add" for i in call.ids]
    read = [i for call in house.primary.calls if call.name == "read" for i in call.ids]
    assert len(written) <= len(ids) + 2 * CHUNK * cuts
    assert len(read) <= 2 * len(ids) + 3 * CHUNK * cuts
    assert_equal(house)


kinds = st.sampled_from(["add", "update", "remove"])
changes = st.lists(st.tuples(kinds, st.integers(0, 59)), max_size=12)


def apply(house: House, made: list[tuple[str, int]], text: str) -> None:
    there = set(contents(house.primary, house.home))
    for kind, number in made:
        record_id = f"r{number}"
        if kind == "remove" and record_id in there and len(there) > 5:
            house.primary.remove(house.home, [record_id])
            there.discard(record_id)
        elif (kind == "add") is (record_id not in there) and kind != "remove":
            put(house, [record_id], text)
            there.add(record_id)


@pytest.mark.timeout(600)
@examples(8)
@given(changes, changes, st.integers(1, 8), st.booleans(), st.booleans())
@pytest.mark.long
def test_what_is_called_identical_after_a_cut_is_so(
    since: list[tuple[str, int]],
    during: list[tuple[str, int]],
    writes: int,
    restored: bool,
    synced: bool,
) -> None:
    """Whatever changed since the backup and in the cycle that was cut off, wherever that was."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "state.db")
        with house_of(store, SYNC_MAX_DELETE="100%") as house:
            put(house, names(30), "a")
            house.sync()
            saved = backup(house)
            apply(house, since, "b")
            if synced:
                house.sync()
            put(house, names(3, "new"), "c")
            apply(house, during, "d")
            if cut_off(house, writes) and restored:
                restore(house, saved)
            for _ in range(3):
                report = house.sync()
                got, wanted = (
                    contents(house.replica, house.copy()),
                    contents(house.primary, house.home),
                )
                if report.outcome is Outcome.IDENTICAL:
                    assert got == wanted
            assert {i: got.get(i) for i in wanted} == wanted
        store.close()

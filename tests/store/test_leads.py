"""Leadership, and the term check of everything that only a leader writes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import update

from chromasync.errors import LeaseLost
from chromasync.model import (
    CycleStatus,
    Deletion,
    DeletionKind,
    Deployment,
    Hold,
    HoldKind,
    Kept,
    KnownDistance,
    MarkRow,
    Removal,
    Side,
    Space,
    TaskCounts,
    Term,
)
from chromasync.store import SqlStore
from chromasync.store.schema import Later, leases
from tests.store.conftest import Opener
from tests.store.samples import COLLECTION, OTHER, arrange, chunk_of, claim_one, planned, task_for
from tests.support.ledgers import mirror_of

Write = Callable[[SqlStore], object]

GUARDED: dict[str, Write] = {
    "save_mirror": lambda s: s.save_mirror(mirror_of(COLLECTION, "t", "d", "n")),
    "save_mirrors": lambda s: s.save_mirrors([mirror_of(COLLECTION, "t", "d", "n")]),
    "forget_mirror": lambda s: s.forget_mirror(COLLECTION),
    "forget_chunks": lambda s: s.forget_chunks(COLLECTION),
    "save_chunks": lambda s: s.save_chunks([chunk_of(["a"])]),
    "distrust": lambda s: s.distrust(COLLECTION),
    "replace_surplus": lambda s: s.replace_surplus(COLLECTION, [["a"]]),
    "finish_deletion": lambda s: s.finish_deletion(
        Deletion(1, COLLECTION, DeletionKind.GONE, None, ["a"]), []
    ),
    "add_tasks": lambda s: s.add_tasks(1, [task_for(1)]),
    "cancel_tasks": lambda s: s.cancel_tasks("no"),
    "open_cycle": lambda s: s.open_cycle(),
    "close_cycle": lambda s: s.close_cycle(1, CycleStatus.COMPLETED, 0),
    "save_hold": lambda s: s.save_hold(Hold(COLLECTION, "n", HoldKind.DROP, 1, "r")),
    "clear_hold": lambda s: s.clear_hold(COLLECTION, HoldKind.DROP),
    "end_approvals": lambda s: s.end_approvals({COLLECTION}),
    "move_ledger": lambda s: s.move_ledger(COLLECTION, OTHER),
    "save_deployment": lambda s: s.save_deployment(Deployment("x")),
    "remember_ids": lambda s: s.remember_ids(1, {COLLECTION: Side.PRIMARY}),
    "note_removal": lambda s: s.note_removal(1, Removal(COLLECTION, 1, whole=False)),
    "save_kept": lambda s: s.save_kept(Kept(COLLECTION, "t", "d", "n")),
    "forget_kept": lambda s: s.forget_kept(COLLECTION),
    "save_distances": lambda s: s.save_distances([KnownDistance(COLLECTION, Space.L2, b"")]),
    "forget_distances": lambda s: s.forget_distances(()),
    "save_mark": lambda s: s.save_mark(MarkRow("t/d")),
}
"""All that only the leader may write."""


def led(store: SqlStore, holder: str = "one") -> SqlStore:
    """A view of the store under a new term of `holder`."""
    term = store.take_lead(holder, 60)
    assert term is not None
    return store.led_by(term)


def lapse(store: SqlStore, seconds: float = -1) -> None:
    """Let the leader's lease end so many seconds from now."""
    arrange(store, update(leases).values(expires_at=Later(seconds)))


def test_one_leads_and_the_others_wait(opener: Opener) -> None:
    """The first to ask leads; asking again extends the same term."""
    one, two = opener(), opener()
    assert one.take_lead("one", 60) == Term("one", 1)
    assert two.take_lead("two", 60) is None
    assert one.take_lead("one", 60) == Term("one", 1)


def test_an_expired_lead_passes_on_with_a_higher_number(store: SqlStore) -> None:
    """Each change of holder raises the number, whoever comes back later included."""
    store.take_lead("one", 60)
    lapse(store)
    assert store.take_lead("two", 60) == Term("two", 2)
    assert store.take_lead("one", 60) is None
    lapse(store)
    assert store.take_lead("one", 60) == Term("one", 3)


def test_asking_again_makes_the_lead_last(store: SqlStore) -> None:
    """A holder that comes back before anyone else goes on with its term."""
    store.take_lead("one", 60)
    lapse(store)
    assert store.take_lead("one", 60) == Term("one", 1)
    assert store.take_lead("two", 60) is None


def test_a_lead_that_was_given_up_is_free_at_once(store: SqlStore) -> None:
    """The next holder need not wait, and the number is not lost."""
    term = store.take_lead("one", 3600)
    assert term is not None
    store.give_up_lead(term)
    assert store.take_lead("two", 60) == Term("two", 2)
    store.give_up_lead(term)
    assert store.take_lead("three", 60) is None


def test_a_lead_that_reaches_too_far_ahead_is_expired(store: SqlStore) -> None:
    """When the clock stepped back, a dead leader does not block for that long."""
    view = led(store)
    lapse(store, 3600)
    with pytest.raises(LeaseLost):
        view.open_cycle()
    assert store.take_lead("two", 60) == Term("two", 2)


@pytest.mark.parametrize("write", GUARDED.values(), ids=GUARDED)
@pytest.mark.parametrize("end", ["expired", "succeeded", "given up"])
def test_a_leader_whose_term_ended_cannot_write(store: SqlStore, write: Write, end: str) -> None:
    """Every write of a led view is refused once the term is over, however it ended."""
    view = led(store)
    if end == "given up":
        store.give_up_lead(Term("one", 1))
    else:
        lapse(store)
    if end == "succeeded":
        store.take_lead("two", 60)
    with pytest.raises(LeaseLost):
        write(view)


@pytest.mark.parametrize("write", GUARDED.values(), ids=GUARDED)
def test_a_leader_whose_term_holds_can_write(store: SqlStore, write: Write) -> None:
    """The same writes go through while the term holds, and without any term at all."""
    store.open_cycle()
    write(led(store))
    write(store)


def test_a_refused_write_leaves_nothing_behind(store: SqlStore) -> None:
    """The check and the write are one transaction."""
    view = led(store)
    cycle = planned(store, 1)
    lapse(store)
    with pytest.raises(LeaseLost):
        view.cancel_tasks("no")
    with pytest.raises(LeaseLost):
        view.save_chunks([chunk_of(["x"])])
    assert store.task_counts(cycle.id) == TaskCounts(pending=1)
    assert len(store.chunk_heads(COLLECTION)) == 1


def test_a_led_view_reads_and_works_without_its_term(store: SqlStore) -> None:
    """Reading and a worker's own writes are not the leader's; closing a view closes nothing."""
    view = led(store)
    planned(store, 1)
    lapse(store)
    task = claim_one(view)
    view.release_tasks([task])
    view.close()
    assert len(view.chunk_heads(COLLECTION)) == 1


def test_who_leads_is_known_to_all(store: SqlStore) -> None:
    """Nobody leads before the first term, after the lead was given up, and when it ran out."""
    assert store.leader() is None
    term = store.take_lead("one", 60)
    assert term is not None
    assert store.leader() == term
    store.give_up_lead(term)
    assert store.leader() is None
    assert store.take_lead("two", 60) is not None
    arrange(store, update(leases).values(expires_at=Later(-1)))
    assert store.leader() is None

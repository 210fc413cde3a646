"""When a self-test may take collections away, and which; the parts that need no server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from chromasync.lab.selftest import lifetime
from chromasync.lab.selftest.cleanup import StillAtWork, _between_cycles, find_over
from chromasync.lab.selftest.lifetime import (
    CLOCK_SLACK_SECONDS,
    LIFE_SECONDS,
    is_ours,
    kept_alive,
    mark,
    may_be_in_use,
)
from chromasync.model import Collection, Cycle, CycleStatus
from chromasync.store import SqlStore, open_store
from chromasync.store.schema import Later, leases
from chromasync.trials import new_trial
from chromasync.worker.heartbeat import process_name
from tests.store.samples import arrange
from tests.support.ledgers import mirror_of

TRIAL = new_trial()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A fresh state store."""
    store = open_store(tmp_path / "state.db")
    yield store
    store.close()


def made(trial: str = TRIAL, *, ago: float = 0.0, lasts: float = 100.0) -> Collection:
    """A collection that a self-test made so many seconds ago."""
    metadata = mark(lasts) | {"made_at": int(time.time() - ago)}
    return Collection("id", f"{trial}l2", "t", "d", metadata)


# ---- which ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ago", "in_use"),
    [
        (0, True),
        (90, True),
        (110 + CLOCK_SLACK_SECONDS, False),
        (10 - CLOCK_SLACK_SECONDS, True),
        (-10 - CLOCK_SLACK_SECONDS, False),
    ],
)
def test_a_mark_says_for_how_long_a_collection_may_be_in_use(ago: float, in_use: bool) -> None:
    """Until its self-test is over at the latest; a mark from the future says nothing."""
    assert may_be_in_use(made(ago=ago)) is in_use
    assert is_ours(made(ago=ago))


def test_a_collection_without_a_mark_is_of_an_older_program_or_not_ours() -> None:
    """It is in nobody's use; without the maker's name it is never touched."""
    older = Collection("id", f"{TRIAL}l2", "t", "d", {"made_by": "chromasync selftest"})
    assert (is_ours(older), may_be_in_use(older)) == (True, False)
    assert not is_ours(Collection("id", f"{TRIAL}l2", "t", "d", {"made_by": "me"}))


def test_what_a_living_self_test_made_is_never_over(store: SqlStore) -> None:
    """Neither one of this store, however old, nor one of another store while it may be at work."""
    store.keep_trial(TRIAL, "someone", 60)
    assert find_over(store, [made(ago=1e6)]) == set()
    assert find_over(store, [made(new_trial())]) == set()


def test_what_is_left_of_a_trial_makes_it_over(store: SqlStore) -> None:
    """A lease that ran out, a mirror, or a collection whose time has come: each is enough."""
    lapsed, mirrored, listed = new_trial(), new_trial(), new_trial()
    store.keep_trial(lapsed, "someone", 0.0)
    store.save_mirror(mirror_of("c1", "t", "d", f"{mirrored}cosine"))
    store.save_mirror(mirror_of("c2", "t", "d", "docs"))
    assert find_over(store, [made(listed, ago=1e6)]) == {lapsed, mirrored, listed}
    # what this store knows of decides, not the mark
    assert find_over(store, [made(lapsed), made(mirrored)]) == {lapsed, mirrored}


def test_a_self_test_keeps_itself_alive_for_as_long_as_it_runs(store: SqlStore) -> None:
    """Its lease is of this process, and ends by itself soon when nobody renews it."""
    with kept_alive(store, TRIAL):
        assert store.live_trials() == {TRIAL}
        arrange(store, update(leases).values(expires_at=Later(LIFE_SECONDS)))
        assert store.live_trials() == {TRIAL}
    assert store.live_trials() == {TRIAL}, "the clean-up ends it"
    arrange(store, update(leases).values(expires_at=Later(-0.1)))
    assert store.live_trials() == set()


def test_the_lease_of_a_self_test_is_renewed(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a thread, until the self-test ends, and not after that."""
    monkeypatch.setattr(lifetime, "LIFE_SECONDS", 0.3)
    renewed = threading.Semaphore(0)
    keep_trial = SqlStore.keep_trial

    def keep(store: SqlStore, trial: str, holder: str, seconds: float) -> None:
        keep_trial(store, trial, holder, seconds)
        renewed.release()

    monkeypatch.setattr(SqlStore, "keep_trial", keep)
    with kept_alive(store, TRIAL):
        for _ in range(3):
            assert renewed.acquire(timeout=60)
    assert not [t for t in threading.enumerate() if t.name == "trial-keeper"]


# ---- when ----------------------------------------------------------------------------------------


def led_by_another(store: SqlStore) -> Cycle:
    """Somebody else leads, and is in the middle of a cycle."""
    assert store.take_lead(process_name(), 60)
    return store.open_cycle()


def test_while_nobody_leads_it_takes_the_lead(store: SqlStore) -> None:
    """And gives it back, whatever happened; a cycle that nobody ends is not waited for."""
    store.open_cycle()
    with _between_cycles(store, 0.0) as led:
        assert led is not store
        assert store.take_lead("someone", 1) is None
    assert store.take_lead("someone", 1) is not None


def test_the_cycle_at_work_is_waited_for_and_no_later_one(store: SqlStore) -> None:
    """A later one leaves the collections alone, so it may go on meanwhile."""
    cycle = led_by_another(store)
    looked = threading.Event()
    entered = threading.Event()

    def end() -> None:
        looked.wait()
        assert not entered.is_set()
        store.close_cycle(cycle.id, CycleStatus.COMPLETED, 0)
        store.open_cycle()

    thread = threading.Thread(target=end)
    thread.start()
    take_lead = store.take_lead

    def look(holder: str, seconds: float) -> object:
        looked.set()
        return take_lead(holder, seconds)

    store.take_lead = look  # type: ignore[method-assign, assignment]
    with _between_cycles(store, 60.0) as same:
        entered.set()
        assert same is store
    thread.join()


def test_a_cycle_that_does_not_end_keeps_the_collections_where_they_are(store: SqlStore) -> None:
    """To take them away under it would make it fail over a collection that is none of it."""
    led_by_another(store)
    with (
        pytest.raises(StillAtWork, match="The next self-test removes them"),
        _between_cycles(store, 0.0),
    ):
        raise AssertionError("it must not come here")

"""The control row: pauses, and requests for a cycle, in both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from chromasync.store import SqlStore


def test_nothing_is_asked_at_first(store: SqlStore) -> None:
    """A new store is not paused, and nobody wants a cycle."""
    row = store.control()
    assert not row.is_paused(store.now())
    assert not row.has_request


def test_a_pause_lasts_until_someone_resumes(store: SqlStore) -> None:
    """It names who paused and why; a second one replaces it."""
    store.pause("me@here", "disk swap", 60)
    row = store.pause("you@there", "")
    assert (row.paused_by, row.pause_reason, row.paused_until) == ("you@there", "", None)
    assert row.is_paused(store.now() + timedelta(days=400))
    store.resume()
    assert not store.control().is_paused(store.now())


def test_the_orders_are_the_row_as_of_now(store: SqlStore) -> None:
    """One query tells whether a pause is in force, by the store's clock alone."""
    assert not store.orders().paused
    row = store.pause("me@here", "", 60)
    before, orders, after = store.now(), store.orders(), store.now()
    assert orders.row == row
    assert before <= orders.at <= after
    assert orders.paused
    assert orders.seconds_left is not None
    assert 0 < orders.seconds_left <= 60
    store.pause("me@here", "")
    assert store.orders().seconds_left is None


def test_a_pause_ends_by_itself(store: SqlStore) -> None:
    """Nobody has to clear a pause that was given an end."""
    row = store.pause("me@here", "", 60)
    assert row.is_paused(store.now())
    assert not row.is_paused(store.now() + timedelta(seconds=61))


def test_a_request_waits_for_a_cycle_that_begins_after_it(store: SqlStore) -> None:
    """A request during a cycle is not served by that cycle."""
    first = store.want_cycle("me@here")
    store.begin_wanted(first, 7)
    assert not store.control().has_request
    second = store.want_cycle("you@there", full=True)
    row = store.control()
    assert second > first
    assert row.has_request
    assert row.wanted_full
    assert (row.begun_number, row.begun_cycle) == (first, 7)


def test_a_request_for_everything_is_served_once(store: SqlStore) -> None:
    """It is remembered through a later request for less, and forgotten with its cycle."""
    store.want_cycle("me@here", full=True)
    number = store.want_cycle("you@there")
    assert store.control().wanted_full
    store.begin_wanted(number, 7)
    assert not store.control().wanted_full


def test_a_request_that_came_while_the_cycle_opened_stays(store: SqlStore) -> None:
    """The leader notes the number that it saw, not the newest one."""
    seen = store.want_cycle("me@here")
    store.want_cycle("you@there", full=True)
    store.begin_wanted(seen, 7)
    row = store.control()
    assert row.has_request
    assert row.wanted_full
    store.begin_wanted(seen - 1, 6)  # an older note changes nothing
    assert store.control() == row


def test_requests_at_the_same_time_are_all_served(store: SqlStore) -> None:
    """No request is lost, whether it shares its number with another or not."""
    with ThreadPoolExecutor(4) as threads:
        asked = list(threads.map(lambda n: store.want_cycle(f"{n}@here", full=n == 2), range(8)))
    row = store.control()
    assert max(asked) == row.wanted_number
    assert row.wanted_full

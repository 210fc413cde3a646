"""Which ids come out of pages when the collection changes between two of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from chromasync.ledger import paging
from chromasync.ledger.paging import stitched
from tests.support.ledgers import names

SIZE = 100
Change = Callable[[list[str]], None]


class Listing:
    """A server's ids; `changes` befall them before the answer of that number.

    Args:
        cap: ids in one answer at most.
    """

    def __init__(
        self, ids: Sequence[str], changes: dict[int, Change] | None = None, cap: int = 10**9
    ) -> None:
        self.ids = list(ids)
        self.changes = changes or {}
        self.cap = cap
        self.asked: list[tuple[int, int]] = []

    def ask(self, offset: int, limit: int) -> list[str]:
        """The server's answer."""
        self.changes.get(len(self.asked), list)(self.ids)
        self.asked.append((offset, limit))
        assert len(self.asked) < 1_000, "it never ends"
        return self.ids[offset : offset + min(limit, self.cap)]

    def walk(self, size: int = SIZE) -> list[str]:
        """All ids that come out, in order; no list of them is empty."""
        found = list(stitched(self.ask, len(self.ids), size))
        assert all(found)
        return [i for ids in found for i in ids]


def delete(*numbers: int) -> Change:
    """Some records go."""
    gone = {f"r{n}" for n in numbers}

    def change(ids: list[str]) -> None:
        ids[:] = [i for i in ids if i not in gone]

    return change


def move(*numbers: int) -> Change:
    """Some records are deleted and added again."""

    def change(ids: list[str]) -> None:
        delete(*numbers)(ids)
        ids.extend(f"r{n}" for n in numbers)

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(ids: list[str]) -> None:
        for each in changes:
            each(ids)

    return change


@pytest.mark.parametrize("cap", [10**9, 100, 30, 2, 1])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 350])
def test_a_collection_at_rest_comes_once_in_order(count: int, cap: int) -> None:
    """Whatever the server's own pages are."""
    assert Listing(names(count), cap=cap).walk() == names(count)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 350, 1000])
def test_a_collection_at_rest_costs_no_more_requests(count: int) -> None:
    """As many as plain paging takes; each page repeats a few ids."""
    listing = Listing(names(count))
    listing.walk()
    assert len(listing.asked) == count // SIZE + 1
    assert all(limit <= SIZE + paging.OVERLAP for _, limit in listing.asked)


@pytest.mark.parametrize("gone", [1, 5, 16, 17, 40, 99, 100])
@pytest.mark.parametrize("cap", [10**9, 100])
def test_deletes_behind_the_cursor_hide_nothing(gone: int, cap: int) -> None:
    """As many ids slip to the page before as were deleted; all come, and none twice."""
    at_second = Listing(names(350), {1: delete(*range(gone))}, cap)
    assert at_second.walk() == names(350)
    at_third = Listing(names(350), {2: delete(*range(30, 30 + gone))}, cap)
    assert at_third.walk() == names(350)


@pytest.mark.parametrize("cap", [10**9, 100])
def test_deletes_between_any_two_pages_hide_nothing(cap: int) -> None:
    """The last ids seen may be among them."""
    changes = {n: delete(99 * n, 99 * n - 1, 100 * n - 1, 3 * n, 200 + n) for n in range(1, 9)}
    listing = Listing(names(900), changes, cap)
    found = listing.walk()
    assert len(found) == len(set(found))
    assert set(listing.ids) <= set(found)


def test_all_that_was_seen_may_be_deleted() -> None:
    """Then the rest begins at the start."""
    listing = Listing(names(350), {2: delete(*range(200))})
    assert listing.walk() == names(350)


def test_more_may_be_deleted_than_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids come from the start again, so that none is missed, and once only."""
    monkeypatch.setattr(paging, "REMEMBERED", 50)
    listing = Listing(names(900), {4: delete(*range(100, 350)), 9: delete(*range(500, 600))})
    found = listing.walk()
    assert set(listing.ids) <= set(found)
    assert max(found.count(i) for i in set(found)) == 2


@pytest.mark.parametrize("unseen", [1, 5, 50])
@pytest.mark.parametrize("gone", [0, 3, 30])
def test_ids_that_moved_to_the_end_do_not_pass_for_the_last_ones_seen(
    unseen: int, gone: int
) -> None:
    """Deleted and added again, the last ids seen may even stand where they stood."""
    again = range(299 - max(0, gone - unseen), 300)
    change = both(delete(*range(gone)), move(*again), move(*reversed(again)))
    listing = Listing(names(300 + unseen), {3: change})
    found = listing.walk()
    assert set(found) == set(names(300 + unseen))
    assert len(found) == len(set(found))


def test_what_is_added_meanwhile_comes_at_the_end() -> None:
    """New ids lie behind the cursor's way."""
    listing = Listing(names(250), {1: lambda ids: ids.extend(["x", "y"])})
    assert listing.walk() == [*names(250), "x", "y"]


@pytest.mark.parametrize("cap", [10**9, 90])
def test_what_another_shard_inserts_before_the_cursor_repeats_nothing(cap: int) -> None:
    """Ids that shift right were seen."""
    listing = Listing(names(350), {2: lambda ids: ids.__setitem__(slice(7, 7), ["x", "y"])}, cap)
    found = listing.walk()
    assert found == names(350)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("cap", [10**9, 70])
def test_a_server_without_any_order_comes_to_an_end(
    seed: int, cap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer in another order: what may be unseen is the walk's to find out."""
    monkeypatch.setattr(paging, "REMEMBERED", 150)
    chance = random.Random(seed)
    listing = Listing(names(800), dict.fromkeys(range(1_000), chance.shuffle), cap)
    assert set(listing.walk()) <= set(names(800))
    assert len(listing.asked) < 400
